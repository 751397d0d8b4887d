"""Writing hand-overs: a turn, its step of the event, and the facts that tell of both, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.management.v1 import facts_pb2
from services.management import stated, store_events
from services.management.handover import store_handovers
from services.management.handover.convert_handovers import handover_pb
from services.management.handover.model import WAITING, Handover, Terms
from services.management.handover.model_turns import supersede
from services.management.routing import store_history

if TYPE_CHECKING:
    from libs.tx import Tx
    from services.management.deadlines.book import Book
    from services.management.handover.model_turns import Turn
    from services.management.model import Event


class Trail:
    """The hand-overs of this node's own events. The events given to it are locked."""

    def __init__(self, book: Book) -> None:
        self._book = book

    async def terms(self, tx: Tx, event: Event) -> Terms:
        """Return what the deadlines of an event's hand-overs go by."""
        event_type = await self._book.type_of(tx.conn, event)
        return Terms(await self._book.calendars(tx.conn), event_type.calendar)

    async def earlier(self, tx: Tx, event: Event) -> list[Handover]:
        """Return the hand-overs of an event so far. What its event has overtaken ends first."""
        found = []
        for handover in await store_handovers.of_event(tx.conn, event.name):
            gone = event.organisation != handover.from_organisation or not event.is_open
            found.append(await self.supersede(tx, event, handover) if gone and _waits(handover) else handover)
        return found

    async def take(self, tx: Tx, before: Event, turn: Turn) -> Handover:
        """Store a turn and state it: the event's step first, then the hand-over that explains it."""
        event = turn.event
        if event.organisation != before.organisation:
            # The step goes on in other hands; the business clock is not touched.
            event = await self._book.handed(tx.conn, event)
            store_history.correct(tx, before, turn.step)
        if turn.handover.version == 1:
            await store_handovers.insert(tx.conn, turn.handover)
        else:
            await store_handovers.update(tx.conn, turn.handover)
        await store_events.update(tx.conn, event, turn.step)
        stated.advanced(tx, event, turn.step)
        _state(tx, turn.handover)
        return turn.handover

    async def supersede(self, tx: Tx, event: Event | None, handover: Handover) -> Handover:
        """End a hand-over that has lost its object."""
        after = supersede(event, handover)
        await store_handovers.update(tx.conn, after)
        _state(tx, after)
        return after


def _waits(handover: Handover) -> bool:
    return handover.state in WAITING


def _state(tx: Tx, handover: Handover) -> None:
    told = handover_pb(handover, tx.now)
    tx.publish(facts_pb2.HandoverChanged(handover=told), zone=handover.zone, key=handover.event)
    if handover.to_node:
        tx.publish(facts_pb2.HandoverAcross(handover=told), zone=handover.zone, key=handover.event)
    tx.audit(f"management.handovers.{handover.state}", handover.name, to=handover.to_organisation)
