"""The servicer of DeadlineService."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from libs.access import current_caller
from quintet.common.v1 import common_pb2
from quintet.management.v1 import deadlines_pb2 as pb
from quintet.management.v1.deadlines_pb2_grpc import DeadlineServiceServicer
from services.management import store_events
from services.management.convert import allowance_pb, explanation_pb, time_pb
from services.management.deadlines import store_exceptions, texts
from services.management.deadlines.convert_exceptions import entry_pb
from services.management.deadlines.explaining import explained
from services.management.deadlines.model_clocks import business_clock, step_clock
from services.management.deadlines.model_exceptions import Entry, Kind
from services.management.deadlines.model_reading import ClockState, Reading, SkippedKind, ended_at, minutes, read
from services.management.model import Explanation
from services.management.service_base import READ, missing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection
    from libs.tx import Transactions
    from services.management.deadlines.book import Book
    from services.management.deadlines.model_clocks import Clock
    from services.management.model import Event
    from services.management.service_base import Context

_STATES = {
    ClockState.RUNNING: pb.CLOCK_STATE_RUNNING,
    ClockState.RESTING: pb.CLOCK_STATE_RESTING,
    ClockState.STOPPED: pb.CLOCK_STATE_STOPPED,
    ClockState.PAUSED: pb.CLOCK_STATE_PAUSED,
}
_SKIPPED = {
    SkippedKind.NIGHTS: pb.SKIPPED_KIND_NIGHTS,
    SkippedKind.WEEKLY: pb.SKIPPED_KIND_WEEKLY,
    SkippedKind.HOLIDAY: pb.SKIPPED_KIND_HOLIDAY,
}
_UTC = ZoneInfo("UTC")


class DeadlineServicer(DeadlineServiceServicer):
    """Explains the deadlines of one node's events, and tells those of others."""

    def __init__(self, transactions: Transactions, book: Book) -> None:
        self._transactions = transactions
        self._book = book

    async def GetEventDeadlines(
        self, request: pb.GetEventDeadlinesRequest, _context: Context
    ) -> pb.GetEventDeadlinesResponse:
        async def look(conn: Connection) -> tuple[Event, list[Clock | None], list[Entry]]:
            found = await store_events.get(conn, request.name)
            if found is None:
                raise missing(request.name)
            event = found[0]
            return event, await self._clocks(conn, event), await store_exceptions.effects(conn, event.name)

        event, (business, step), entries = await self._transactions.read(look)
        current_caller().require(READ, zone=event.zone, organisation=event.handlers)
        now = self._transactions.clock.now()
        response = pb.GetEventDeadlinesResponse(read_at=time_pb(now), changes=[entry_pb(each) for each in entries])
        if event.node != self._transactions.node:
            _elsewhere(response, event, now)
            return response
        due = event.deadlines
        extensions = [entry for entry in entries if entry.kind is Kind.EXTENSION]
        if business is not None and due.due_at is not None:
            reading = read(business, event, due.due_at, now=now, ended_at=ended_at(event))
            response.business.CopyFrom(_clock_pb(reading, event, extensions, first_due_at=due.first_due_at))
        if step is not None and due.step_due_at is not None:
            own = [entry for entry in extensions if (entry.decided_at or entry.asked_at) >= step.since]
            reading = read(step, event, due.step_due_at, now=now, ended_at=None)
            response.step.CopyFrom(_clock_pb(reading, event, own, organisation=event.organisation))
        return response

    async def _clocks(self, conn: Connection, event: Event) -> list[Clock | None]:
        """Return the business and the step clock by the versions of the calendars with which they were reckoned."""
        event_type, calendars = await self._book.type_of(conn, event), await self._book.calendars(conn)
        found: list[Clock | None] = []
        clocks = event.clocks
        for clock, name, version in (
            (business_clock(event, event_type, calendars), clocks.calendar, clocks.calendar_version),
            (step_clock(event, event_type, calendars), clocks.step_calendar, clocks.step_calendar_version),
        ):
            own = clock and replace(clock, time=await self._book.version(conn, name, version)) if name else clock
            found.append(own)
        return found


def _clock_pb(reading: Reading, event: Event, extensions: Sequence[Entry], **more: Any) -> pb.EventClock:
    calendar = reading.clock.time.calendar
    first_due_at: datetime | None = more.get("first_due_at")
    return pb.EventClock(
        since=time_pb(reading.clock.since),
        due_at=time_pb(reading.due_at),
        first_due_at=time_pb(first_due_at),
        allowance=allowance_pb(reading.clock.allowance),
        calendar=calendar.name,
        calendar_version=calendar.version,
        organisation=more.get("organisation", ""),
        state=_STATES[reading.state],
        counted_min=minutes(reading.counted),
        left_min=minutes(reading.left),
        overdue=reading.overdue,
        late_min=minutes(reading.late),
        skipped=[
            pb.Skipped(
                kind=_SKIPPED[each.kind],
                days=each.days,
                title=common_pb2.LocalText(zh=each.title_zh, en=each.title_en),
            )
            for each in reading.skipped
        ],
        explanation=explanation_pb(explained(reading, event, extensions)),
    )


def _elsewhere(response: pb.GetEventDeadlinesResponse, event: Event, now: datetime) -> None:
    """Fill in what is known of another node's event: when it is due, not why."""
    due = event.deadlines
    at = ended_at(event)
    if due.due_at is not None:
        response.business.CopyFrom(_told(event, due.due_at, at or now, stopped=at is not None))
        response.business.MergeFrom(pb.EventClock(first_due_at=time_pb(due.first_due_at)))
    if due.step_due_at is not None:
        response.step.CopyFrom(_told(event, due.step_due_at, now, stopped=False))
        response.step.organisation = event.organisation


def _told(event: Event, due_at: datetime, at: datetime, *, stopped: bool) -> pb.EventClock:
    text = texts.both(texts.DUE_ELSEWHERE, due=texts.moment(due_at, _UTC), node=texts.plain(event.node))
    return pb.EventClock(
        due_at=time_pb(due_at),
        state=pb.CLOCK_STATE_STOPPED if stopped else pb.CLOCK_STATE_UNSPECIFIED,
        overdue=at > due_at,
        explanation=explanation_pb(Explanation(event.type, *text)),
    )
