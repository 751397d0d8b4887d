"""Moving an event: what its old home does in one transaction, and what its new home does when it hears of that.

The old home locks the event, ends what stands open about it, names the new home, and states EventMoved: its last word.
The new home goes on from there. While the fact is on its way nobody can change the event, which is what keeps it whole.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from quintet.management.v1 import facts_pb2
from services.management import convert, stated, store_events, store_joint, store_types
from services.management.catalogue import store_loops
from services.management.deadlines.model_clocks import reckoned, step_reckoned
from services.management.deadlines.model_exceptions import Kind
from services.management.handover import store_handovers
from services.management.handover.model import WAITING
from services.management.model import StepAction
from services.management.tiers import store_moves
from services.management.tiers.convert_tiers import clocks_pb, completed
from services.management.tiers.model import Move, give_up, take_up

if TYPE_CHECKING:
    from libs.tx import Tx
    from services.management.catalogue.book import LoopBook
    from services.management.deadlines.book import Book
    from services.management.deadlines.ledger import Ledger
    from services.management.handover.trail import Trail
    from services.management.model import Event

ACTOR = "services/management"


class Moving:
    """Moves events from this node, and to it."""

    def __init__(self, loops: LoopBook, book: Book, ledger: Ledger, trail: Trail) -> None:
        self._loops = loops
        self._book = book
        self._ledger = ledger
        self._trail = trail

    async def give_up(self, tx: Tx, event: Event, moved: Move, loop_definition: str, *, above: bool) -> Event:
        """Move a locked event of this node to another, above this one or below; return it as it left."""
        for handover in await store_handovers.of_event(tx.conn, event.name):
            if handover.state in WAITING:
                await self._trail.supersede(tx, None, handover)
        after, step = give_up(event, moved, tx.now)
        await store_events.update(tx.conn, replace(after, node=event.node), step)
        await store_moves.move(tx.conn, replace(after, node=event.node), moved.to_node, above=above)
        shares = await store_joint.list_sub_orders(tx.conn, event.id) if event.shares else []
        event_type = await self._book.type_of(tx.conn, event)
        message = facts_pb2.EventMoved(
            event=convert.event_pb(after, shares=shares),
            step=convert.step_pb(step),
            from_node=event.node,
            to_node=moved.to_node,
            **_cause(moved),
            step_at=convert.time_pb(event.step_at),
            suggestion=event.suggestion,
            clocks=clocks_pb(event.clocks),
            type=convert.type_pb(event_type) if event_type.version else None,
            loop_definition=loop_definition,
        )
        tx.publish(message, zone=event.zone, key=event.name)
        tx.audit("management.events.give_up", event.name, to=moved.to_node, revision=after.revision)
        return after

    async def take_up(self, tx: Tx, message: facts_pb2.EventMoved, moved: Move) -> Event:
        """Go on with an event that moved here; it stands here as its old home left it."""
        mirrored = await store_events.lock(tx.conn, message.event.name)
        if mirrored is None:
            raise ValueError(f"{message.event.name} moved here and is not known")
        event = await self._with_rules(tx, completed(mirrored, message), message)
        await store_moves.complete(tx.conn, event)
        event_type, calendars = await self._book.type_of(tx.conn, event), await self._book.calendars(tx.conn)
        after, step = take_up(event, moved, tx.now)
        anew = reckoned(after, event_type, calendars)
        same = anew.deadlines.due_at == after.deadlines.due_at or not after.is_open
        after = anew if same else step_reckoned(after, event_type, calendars)
        await store_events.update(tx.conn, after, step)
        stated.advanced(tx, after, step)
        if same:
            return after
        # The calendars of this node count from now on: what that changes stands in the ledger.
        effect = await self._ledger.record(tx, after, Kind.CALENDAR, "", actor=ACTOR)
        return effect.event

    async def _with_rules(self, tx: Tx, event: Event, message: facts_pb2.EventMoved) -> Event:
        """Return an event with the loop and the type by which it was opened, as this node keeps them."""
        node = f"nodes/{message.from_node}"
        loop, loop_version = message.event.loop, 0
        if message.loop_definition:
            loop_version = await store_loops.carry(tx.conn, loop, message.loop_definition, actor=node, now=tx.now)
            await self._loops.refresh(tx.conn)
        type_version = 0
        if message.HasField("type"):
            type_version = await store_types.carry(tx.conn, convert.type_of(message.type), actor=node, now=tx.now)
        return replace(event, loop=loop, loop_version=loop_version, type_version=type_version)


def _cause(moved: Move) -> dict[str, str]:
    return {"handover" if moved.action is StepAction.MOVE else "take_over": moved.cause}
