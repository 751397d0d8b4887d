"""Moving reports from one event to another: the rows, the facts and the audit entries, in one transaction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from libs.errors import Reason, WrongState
from libs.ids import short_id
from services.management import stated, store_events, store_types
from services.management.authority import authority
from services.management.catalogue.book import lost
from services.management.merging import store_reports, store_suggestions
from services.management.merging.model_moving import REPORTS_MOVED_MAX, merge_events, opening, split_off
from services.management.model import Doubt, Flag, flagged
from services.management.model_loop import LOOP_DEFAULT
from services.management.model_report import open_event, unknown_type
from services.management.stated import Origin
from services.management.tiers import store_moves

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.tx import Tx
    from libs.zones import ZoneTree
    from services.management.catalogue.book import LoopBook
    from services.management.deadlines.book import Book
    from services.management.intake import Intake
    from services.management.merging.model_moving import Merged, Standing
    from services.management.model import Event
    from services.management.model_report import Report


class Mover:
    """Merges and splits events of this node. The events given to it are locked."""

    def __init__(self, node: str, loops: LoopBook, zones: Callable[[], ZoneTree], book: Book, intake: Intake) -> None:
        self._node = node
        self._loops = loops
        self._zones = zones
        self._book = book
        self._intake = intake

    async def merge(self, tx: Tx, event: Event, into: Event, *, reason: str, actor: str) -> Merged:
        """Merge an event into another. Raises like `merge_events`, and WrongState for one that was taken over.

        What is suggested of the two counts as right. The facts about the reports come before the one that the event
        ended, so that nobody sees a request without an event that is open.
        """
        await _check_not_taken_over(tx, event)
        reports = await store_reports.reports(tx.conn, event, limit=REPORTS_MOVED_MAX + 1)
        done = merge_events(event, into, reports, reason=reason, actor=actor, now=tx.now)
        for moved in done.moved:
            await store_reports.move(tx.conn, event, moved)
            origin = Origin(moved.before.moves + 1, event.name, done.event.revision)
            stated.merged(tx, moved.event, moved.before.said, origin)
        await store_events.update(tx.conn, done.event, done.step)
        await store_reports.put_standing(tx.conn, done.event)
        stated.advanced(tx, done.event, done.step)
        await store_suggestions.accept_between(tx.conn, event, into, actor=actor, reason=reason, now=tx.now)
        return done

    async def split(self, tx: Tx, event: Event, report: Standing, *, reason: str, actor: str) -> tuple[Event, Event]:
        """Give a report an event of its own; return that, and the one that stood for it.

        Raises like `split_off`, and WrongState for an event that was taken over.
        """
        await _check_not_taken_over(tx, event)
        said = await self._placed(tx, report.said)
        name = f"zones/{said.zone}/events/{tx.now.year}-{short_id()}"
        moved = split_off(event, report, name, reason=reason, actor=actor, now=tx.now)
        opened = await self._opened(tx, said, name, split_from=event.name)
        opened = await store_reports.open_for(tx.conn, opened, opening(opened, moved), event, report)
        await store_events.update(tx.conn, moved.event, moved.step)
        await store_reports.put_standing(tx.conn, moved.event)
        stated.advanced(tx, moved.event, moved.step)
        stated.opened(tx, opened, said, Origin(report.moves + 1, event.name, moved.event.revision))
        return opened, moved.event

    async def _placed(self, tx: Tx, said: Report) -> Report:
        """Return a report in a zone that this node handles: another may have got its own meanwhile."""
        tree = self._zones()
        who = await authority(tx.conn, tree, tree.canonical(said.zone))
        if who.ours:
            return replace(said, zone=tree.canonical(said.zone))
        text = f"reported in {said.zone}, which {who.node or 'another node'} handles now"
        return replace(said, zone=who.nearest, flags=flagged(said.flags, Flag(Doubt.ZONE_DELEGATED, "zone", text)))

    async def _opened(self, tx: Tx, said: Report, name: str, *, split_from: str) -> Event:
        event_type = await store_types.get_type(tx.conn, said.type) or unknown_type(said.type, LOOP_DEFAULT)
        loop = await self._loops.named(tx.conn, event_type.loop)
        if loop is None:
            raise lost(event_type.name, event_type.loop)
        routing = await self._intake.route(tx.conn, event_type, said.zone, tx.now, said.component)
        event = open_event(said, event_type, loop, routing, node=self._node, name=name, now=tx.now)
        self._book.keep(event_type)
        return await self._book.opened(tx.conn, replace(event, split_from=split_from))


async def _check_not_taken_over(tx: Tx, event: Event) -> None:
    """Raise WrongState for an event that came from another node.

    What that node's residents reported would go to an event of which that node is not told.
    """
    if await store_moves.was_moved(tx.conn, event.id):
        text = f"{event.name} was taken over: its reports stay with it"
        raise WrongState(Reason.TAKEN_OVER, text, name=event.name)
