"""Taking in a report, whoever brings it: it is merged into an open event of the same thing, or opens one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from libs.errors import Invalid
from libs.ids import short_id
from services.management import stated, store_candidates, store_events, store_types
from services.management.catalogue import store_components
from services.management.catalogue.book import lost
from services.management.catalogue.model_components import misnamed, owner_of
from services.management.merging import store_suggestions
from services.management.model import Doubt, Flag, ReportKind, flagged
from services.management.model_loop import LOOP_DEFAULT
from services.management.model_merge import can_match, judge
from services.management.model_report import (
    Standing,
    covering,
    merge_report,
    open_event,
    opening_step,
    route,
    unknown_type,
)
from services.management.routing import store_history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from libs.db import Connection
    from libs.tx import Tx
    from libs.zones import ZoneTree
    from services.management.catalogue.book import LoopBook
    from services.management.catalogue.model_components import ComponentType
    from services.management.deadlines.book import Book
    from services.management.model import Event, EventType
    from services.management.model_component import Component
    from services.management.model_merge import Judged, Match
    from services.management.model_report import Report, Routing


class TakenIn(NamedTuple):
    """The event that now stands for the report, and whether it did before."""

    event: Event
    merged: bool


async def find(conn: Connection, node: str, event_type: EventType, report: Report) -> Judged:
    """Return the open events of the node that a report is of by the policy of its type, and those that it may be of."""
    types = await store_candidates.family(conn, event_type)
    candidates = await store_candidates.candidates(conn, node, event_type, types, report)
    return judge(event_type, report, candidates)


class _Named(NamedTuple):
    """The type of a component that was named, None when it has no say, and the rule that naming it breaks, if any."""

    type: ComponentType | None = None
    problem: str = ""


async def _named(conn: Connection, component: Component | None, event_type: EventType) -> _Named:
    if component is None:
        return _Named()
    found = await store_components.get(conn, component.type)
    problem = misnamed(found, component.type, event_type.name)
    return _Named(None if problem else found, problem)


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
        flag, and so does a component that does not fit, unless an officer can name it better: no report is lost.
        Raises Invalid for that, and WrongState when the node lost the loop of the type.
        """
        event_type = event_type or await store_types.get_type(tx.conn, report.type)
        event_type = event_type or unknown_type(report.type, LOOP_DEFAULT)
        named = await _named(tx.conn, report.component, event_type)
        if named.problem and report.kind is ReportKind.OFFICER:
            raise Invalid("component.type", named.problem)
        if not can_match(event_type.merge, report.place, report.component):
            return TakenIn(await self._open(tx, report, event_type, named, actor), merged=False)
        await store_candidates.take_turns(tx.conn, event_type.merge.family or event_type.name)
        found = await find(tx.conn, self._node, event_type, report)
        event = await self._merge(tx, report, found.matches, actor)
        if event is not None:
            return TakenIn(event, merged=True)
        event = await self._open(tx, report, event_type, named, actor)
        await store_suggestions.add(tx.conn, event, found.suggestions, tx.now)
        return TakenIn(event, merged=False)

    async def _merge(self, tx: Tx, report: Report, matches: Iterable[Match], actor: str) -> Event | None:
        for match in matches:
            event = await store_events.lock(tx.conn, match.candidate.name)
            if event is None or not event.is_open:  # closed since we looked
                continue
            event, step = merge_report(event, report, match.explanation, actor=actor, now=tx.now)
            await store_events.merge(tx.conn, event, step, report)
            stated.merged(tx, event, report)
            return event
        return None

    async def _open(self, tx: Tx, report: Report, event_type: EventType, named: _Named, actor: str) -> Event:
        loop = await self._loops.named(tx.conn, event_type.loop)
        if loop is None:
            raise lost(event_type.name, event_type.loop)
        if named.problem:
            doubt = Flag(Doubt.COMPONENT_UNKNOWN, "component.type", named.problem)
            report = replace(report, flags=flagged(report.flags, doubt))
        routing = await self._route(tx.conn, event_type, report.zone, tx.now, named.type)
        event = open_event(
            report,
            event_type,
            loop,
            routing,
            node=self._node,
            name=f"zones/{report.zone}/events/{tx.now.year}-{short_id()}",
            now=tx.now,
        )
        self._book.keep(event_type)
        event = await self._book.opened(tx.conn, event)
        event = await store_events.insert(tx.conn, event, opening_step(event, actor=actor), report)
        stated.opened(tx, event, report)
        return event

    async def route(
        self, conn: Connection, event_type: EventType, zone: str, now: datetime, component: Component | None
    ) -> Routing:
        """Choose the organisation by the owners of a component and the routes of a type, as they decide now.

        A component of which this type of event cannot be reported has no say. Asks the database only for components and
        for routes with conditions.
        """
        return await self._route(conn, event_type, zone, now, (await _named(conn, component, event_type)).type)

    async def _route(
        self, conn: Connection, event_type: EventType, zone: str, now: datetime, named: ComponentType | None
    ) -> Routing:
        tree = self._zones()
        routes = covering(event_type, zone, tree)
        shifts = {each.organisation for each in routes if each.on_duty_only}
        capacities = {each.organisation: each.open_events_max for each in routes if each.open_events_max}
        owned = named is not None and owner_of(named, zone, tree) is not None
        if owned or (not shifts and not capacities):
            return route(event_type, zone, tree, component=named)
        calendars = await self._book.calendars(conn)
        usual = calendars.named(event_type.calendar)
        off_duty = frozenset(each for each in shifts if not calendars.of(each, otherwise=usual).is_working(now))
        most = max(capacities.values(), default=0)
        counted = await store_history.open_events(conn, self._node, capacities, most=most) if capacities else {}
        return route(event_type, zone, tree, Standing(off_duty, counted), named)
