"""Taking in a report, whoever brings it: it is merged into an open event of the same thing, or opens one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from libs.ids import short_id
from services.management import stated, store_events, store_types
from services.management.catalogue.book import lost
from services.management.model_loop import LOOP_DEFAULT
from services.management.model_merge import can_match, matches
from services.management.model_report import merge_report, open_event, opening_step, route, unknown_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.tx import Tx
    from libs.zones import ZoneTree
    from services.management.catalogue.book import LoopBook
    from services.management.deadlines.book import Book
    from services.management.model import Event, EventType
    from services.management.model_report import Report


class TakenIn(NamedTuple):
    """The event that now stands for the report, and whether it did before."""

    event: Event
    merged: bool


class Intake:
    """The way of a report into an event of this node."""

    def __init__(self, node: str, loops: LoopBook, zones: Callable[[], ZoneTree], book: Book) -> None:
        """`loops` must have LOOP_DEFAULT, which events of unknown types follow."""
        self._book = book
        self._node = node
        self._loops = loops
        self._zones = zones

    async def take(self, tx: Tx, report: Report, *, actor: str, event_type: EventType | None = None) -> TakenIn:
        """Merge or open, and state it. The report's zone must be one that this node handles.

        Give `event_type` when it was looked up already. A type that the catalogue does not have opens an event with a
        flag: no report is lost. Raises WrongState when the node lost the loop of the type.
        """
        event_type = event_type or await store_types.get_type(tx.conn, report.type)
        event_type = event_type or unknown_type(report.type, LOOP_DEFAULT)
        if can_match(event_type.merge, report.place):
            await store_events.take_turns(tx.conn, event_type.name)
            event = await self._merge(tx, report, event_type, actor)
            if event is not None:
                return TakenIn(event, merged=True)
        return TakenIn(await self._open(tx, report, event_type, actor), merged=False)

    async def _merge(self, tx: Tx, report: Report, event_type: EventType, actor: str) -> Event | None:
        found = await store_events.candidates(
            tx.conn, self._node, event_type.name, event_type.merge, report.place, report.occurred_at
        )
        for match in matches(event_type, report.place, report.occurred_at, found):
            event = await store_events.lock(tx.conn, match.candidate.name)
            if event is None or not event.is_open:  # closed since we looked
                continue
            event, step = merge_report(event, report, match.explanation, actor=actor, now=tx.now)
            await store_events.merge(tx.conn, event, step, report)
            stated.merged(tx, event, report)
            return event
        return None

    async def _open(self, tx: Tx, report: Report, event_type: EventType, actor: str) -> Event:
        loop = await self._loops.named(tx.conn, event_type.loop)
        if loop is None:
            raise lost(event_type.name, event_type.loop)
        event = open_event(
            report,
            event_type,
            loop,
            route(event_type, report.zone, self._zones()),
            node=self._node,
            name=f"zones/{report.zone}/events/{tx.now.year}-{short_id()}",
            now=tx.now,
        )
        self._book.keep(event_type)
        event = await self._book.opened(tx.conn, event)
        event = await store_events.insert(tx.conn, event, opening_step(event, actor=actor), report)
        stated.opened(tx, event, report)
        return event
