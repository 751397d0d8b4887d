"""Writing the ledger: an entry, what it does to its event, and the facts that tell of both, in one transaction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from libs.ids import short_id
from quintet.management.v1 import facts_pb2
from services.management import stated, store_events
from services.management.deadlines import store_exceptions
from services.management.deadlines.convert_exceptions import entry_pb
from services.management.deadlines.explaining import change_explained
from services.management.deadlines.model_exceptions import Effect, Entry, Kind, Rules, ended, record, recorded

if TYPE_CHECKING:
    from datetime import datetime

    from libs.tx import Tx
    from services.management.catalogue.book import LoopBook
    from services.management.deadlines.book import Book
    from services.management.model import Event


class Ledger:
    """The ledger of this node's own events. The events given to it are locked."""

    def __init__(self, loops: LoopBook, book: Book) -> None:
        self._loops = loops
        self._book = book

    async def rules(self, tx: Tx, event: Event) -> Rules:
        """Return what an event goes by. Raises WrongState when the node lost its loop."""
        loop = await self._loops.of(tx.conn, event)
        return Rules(loop, await self._book.type_of(tx.conn, event), await self._book.calendars(tx.conn))

    async def add(self, tx: Tx, event: Event, entry: Entry) -> None:
        """Store a new entry that has no effect yet, and state it. Raises WrongState while one of its kind waits."""
        await store_exceptions.insert(tx.conn, entry)
        state(tx, event, entry)

    async def settle(self, tx: Tx, event: Event, entry: Entry) -> None:
        """Store an entry that came to an end without an effect, and state it."""
        await store_exceptions.update(tx.conn, entry)
        state(tx, event, entry)

    async def take_effect(self, tx: Tx, effect: Effect, rules: Rules, *, new: bool) -> Entry:
        """Store an effect and state it: the event's change first, then the entry that explains it."""
        entry = replace(effect.entry, explanation=change_explained(effect.entry, effect.event, rules))
        if new:
            await store_exceptions.insert(tx.conn, entry)
        else:
            await store_exceptions.update(tx.conn, entry)
        await store_events.update(tx.conn, effect.event, effect.step)
        voided = entry.kind is Kind.VOID
        stated.advanced(tx, effect.event, effect.step, answer=effect.event.answer if voided else "")
        state(tx, effect.event, entry)
        return entry

    async def record(
        self,
        tx: Tx,
        event: Event,
        kind: Kind,
        reason: str,
        *,
        actor: str,
        role: str = "",
        asked_at: datetime | None = None,
    ) -> Effect:
        """Record what takes effect without a decision, now. Raises WrongState for what is not possible."""
        rules = await self.rules(tx, event)
        entry = recorded(event, kind, reason, name=new_name(event), actor=actor, now=asked_at or tx.now, role=role)
        effect = record(event, rules, entry, actor=actor, now=tx.now)
        told = await self.take_effect(tx, effect, rules, new=True)
        return Effect(effect.event, effect.step, told)

    async def resume(self, tx: Tx, event: Event, reason: str, *, actor: str) -> Entry:
        """End the suspension of an event before its time. Raises WrongState when it is not suspended."""
        suspension = event.clocks.suspension
        effect = await self.record(tx, event, Kind.RESUMPTION, reason, actor=actor)
        await self.end(tx, effect.event, suspension, tx.now)
        return effect.entry

    async def end(self, tx: Tx, event: Event, suspension: str, at: datetime) -> None:
        """Mark the entry of a suspension as over."""
        entry = await store_exceptions.get(tx.conn, suspension)
        if entry is not None:
            await self.settle(tx, event, ended(entry, at))


def new_name(event: Event) -> str:
    return f"{event.name}/exceptions/{short_id()}"


def state(tx: Tx, event: Event, entry: Entry) -> None:
    """State an entry as it is now, with its audit entry."""
    message = facts_pb2.ExceptionChanged(exception=entry_pb(entry), zone=event.zone, node=event.node)
    tx.publish(message, zone=event.zone, key=event.name)
    tx.audit(f"management.exceptions.{entry.state}", entry.name, kind=entry.kind, revision=event.revision)
