"""What happens to events because time passes, and because a calendar changed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from quintet.management.v1 import calendars_pb2, facts_pb2, management_pb2
from quintet.management.v1 import exceptions_pb2 as pb
from services.management.catalogue.book import LoopBook
from services.management.convert import time_of, time_pb
from services.management.deadlines.book import Book
from services.management.deadlines.clockwork import CALENDARS_KNOWN_AFTER, ClockTask
from services.management.deadlines.ledger import Ledger
from services.management.deadlines.tests.calendars import shipped
from services.management.deadlines.tests.test_deadlines import at, deadlines, opened, put_calendar
from services.management.deadlines.tests.test_exceptions import (
    EXTENSION,
    SUSPENSION,
    ask,
    decide,
    dispatched,
    got,
    listed,
)
from services.management.tests.samples import LOOPS, WORKS
from services.management.tests.story import walk

if TYPE_CHECKING:
    from datetime import datetime

    from services.management.tests.conftest import MakeNode, Node

BUSINESS, STEP = management_pb2.CLOCK_KIND_BUSINESS, management_pb2.CLOCK_KIND_STEP
LADDER = {
    "reminders": [
        management_pb2.Reminder(clock=BUSINESS, offset_min=-120, role="handler"),
        management_pb2.Reminder(clock=BUSINESS, offset_min=60, role="supervisor"),
    ],
    "escalations": [
        management_pb2.Escalation(
            clock=BUSINESS, after_min=30, role="leader", tier=management_pb2.ESCALATION_TIER_ORGANISATION
        ),
        management_pb2.Escalation(
            clock=BUSINESS, after_min=600, role="supervisor", tier=management_pb2.ESCALATION_TIER_ABOVE
        ),
    ],
}


async def turn(node: Node, to: datetime) -> None:
    node.clock.set(to)
    book = Book()
    await ClockTask(node.transactions, book, Ledger(LoopBook(LOOPS.values()), book)).turn()


async def told(node: Node, name: str) -> list[Any]:
    """Return what the clock task stated about an event, in order."""
    kinds = (facts_pb2.DeadlineReminder, facts_pb2.DeadlineMissed, facts_pb2.EventEscalated)
    return [m for fact, m in await node.stated() if isinstance(m, kinds) and fact.key == name]


async def test_reminders_and_the_ladder_are_told_once_each_at_their_time(city: Node) -> None:
    event = await dispatched(city, **LADDER, step_deadlines=[])  # due on Wednesday at nine
    await turn(city, at("2026-02-18 06:59"))
    assert await told(city, event.name) == []
    await turn(city, at("2026-02-18 07:00"))
    (reminder,) = await told(city, event.name)
    assert (reminder.role, reminder.offset_min, reminder.organisation) == ("handler", -120, WORKS)
    assert reminder.due_at == event.due_at
    await turn(city, at("2026-02-18 09:30"))
    await turn(city, at("2026-02-18 09:31"))
    missed, escalated = (await told(city, event.name))[1:]
    assert isinstance(missed, facts_pb2.DeadlineMissed)
    assert (missed.clock, missed.due_at, missed.status) == (BUSINESS, event.due_at, "dispatched")
    assert isinstance(escalated, facts_pb2.EventEscalated)
    assert (escalated.role, escalated.tier) == ("leader", management_pb2.ESCALATION_TIER_ORGANISATION)
    (entry,) = await listed(city, event=event.name)
    assert (entry.name, entry.kind, entry.state) == (
        escalated.exception, pb.EXCEPTION_KIND_ESCALATION, pb.EXCEPTION_STATE_RECORDED,
    )  # fmt: skip
    assert "超时30分钟" in entry.reason
    assert "30 minutes late" in entry.reason
    await turn(city, at("2026-02-19 09:00"))
    assert [type(each).__name__ for each in (await told(city, event.name))[3:]] == [
        "DeadlineReminder",
        "EventEscalated",
    ]
    assert (await got(city, event.name)).due_at == event.due_at


async def test_who_was_away_is_not_reminded_of_what_is_missed_already(city: Node) -> None:
    event = await dispatched(city, **LADDER, step_deadlines=[])
    await turn(city, at("2026-02-18 09:00"))
    assert [type(each).__name__ for each in await told(city, event.name)] == ["DeadlineMissed"]


async def test_a_deadline_that_moves_is_told_of_anew(city: Node) -> None:
    event = await dispatched(city, **LADDER, step_deadlines=[])
    await turn(city, at("2026-02-18 07:00"))
    entry = await ask(city, event.name, EXTENSION, minutes=180)
    await decide(city, entry.name)
    await turn(city, at("2026-02-18 09:59"))
    assert len(await told(city, event.name)) == 1
    await turn(city, at("2026-02-18 10:00"))
    assert [each.due_at for each in await told(city, event.name)] == [event.due_at, time_pb(at("2026-02-18 12:00"))]


async def test_a_closed_event_is_left_alone(city: Node) -> None:
    event = await dispatched(city, **LADDER)
    await walk(city, event.name, "dispose", "feed_back", "verify")
    await turn(city, at("2026-03-18 07:00"))
    assert await told(city, event.name) == []


async def test_each_step_has_a_deadline_to_miss(city: Node) -> None:
    event = await dispatched(city)  # to be disposed of by Tuesday at ten
    await turn(city, at("2026-02-17 10:00"))
    (missed,) = await told(city, event.name)
    assert (missed.clock, missed.due_at, missed.organisation) == (STEP, event.step_due_at, WORKS)


async def test_a_suspension_ends_by_itself_and_the_ledger_says_when(make_node: MakeNode) -> None:
    child, city = await make_node("sf-d10", root="us-ca-sf-d10"), await make_node("sf", "us-ca-sf-d10")
    child.clock.set(at("2026-02-13 15:00"))
    await put_calendar(child, shipped("sf"))
    name = (
        await child.call(
            "OpenEvent",
            management_pb2.OpenEventRequest(
                parent="zones/us-ca-sf-d10", type="eventTypes/graffiti", description="Tags"
            ),
            "people/duty-officer",
        )
    ).event.name
    await walk(child, name, "file", "dispatch")
    until = at("2026-02-17 10:00")
    await decide(child, (await ask(child, name, SUSPENSION, "people/dispatcher", until=time_pb(until))).name)
    due = (await got(child, name)).due_at
    await child.report_to(city)
    assert time_of(await got(city, name), "suspended_until") == until
    await turn(child, at("2026-02-17 10:03"))
    after = await got(child, name)
    assert (after.HasField("suspended_until"), after.due_at) == (False, due)
    await child.report_to(city)
    above = await got(city, name)
    assert (above.HasField("suspended_until"), above.due_at) == (False, due)
    (entry,) = await listed(city)
    assert (entry.state, time_of(entry, "ended_at")) == (pb.EXCEPTION_STATE_ENDED, until)


async def test_what_nobody_decides_lapses(city: Node) -> None:
    event = await dispatched(city)
    entry = await ask(city, event.name, EXTENSION, minutes=60)
    await turn(city, at("2026-02-15 14:59"))
    assert (await listed(city))[0].state == pb.EXCEPTION_STATE_ASKED
    await turn(city, at("2026-02-15 15:00"))
    (lapsed,) = await listed(city)
    assert (lapsed.name, lapsed.state, lapsed.decided_by) == (entry.name, pb.EXCEPTION_STATE_LAPSED, "")
    await ask(city, event.name, EXTENSION, minutes=60)


def with_holiday(day: str) -> calendars_pb2.Calendar:
    calendar = shipped("sf")
    calendar.special_days.add(first_day=day, kind=calendars_pb2.SPECIAL_DAY_KIND_HOLIDAY)
    return calendar


async def test_a_new_holiday_moves_the_deadlines_of_open_events_and_the_ledger_says_why(city: Node) -> None:
    event = await dispatched(city)
    closed = await opened(city, at("2026-02-13 15:00"))
    await walk(city, closed.name, "file", "dispatch", "dispose", "feed_back", "verify")
    await put_calendar(city, with_holiday("2026-02-18"))
    await turn(city, at("2026-02-13 15:01"))
    after = await got(city, event.name)
    assert time_of(after, "due_at") == at("2026-02-19 09:00")
    (entry,) = await listed(city)
    assert (entry.event, entry.kind, entry.asked_by) == (
        event.name, pb.EXCEPTION_KIND_CALENDAR, "services/management",
    )  # fmt: skip
    assert "the calendar “San Francisco city offices” changed to version 2" in entry.explanation.text.en
    assert "工作日历“旧金山市政府工作日历”改为第2版" in entry.explanation.text.zh
    assert (await got(city, closed.name)).due_at == closed.due_at
    assert (await deadlines(city, closed.name)).business.calendar_version == 1
    await turn(city, at("2026-02-13 15:01"))
    assert len(await listed(city)) == 1


async def test_what_another_process_reckoned_by_the_old_calendar_is_found(city: Node) -> None:
    await dispatched(city)
    await put_calendar(city, with_holiday("2026-02-18"))
    await turn(city, at("2026-02-13 15:00"))
    late = await opened(city, at("2026-02-13 15:00"))

    async def old_process(tx: Any) -> None:
        await tx.conn.execute("UPDATE events SET due_at = first_due_at - interval '1 day' WHERE name = $1", late.name)

    await city.transactions.run(old_process)
    await turn(city, at("2026-02-13 15:00") + CALENDARS_KNOWN_AFTER)
    assert (await got(city, late.name)).due_at == late.due_at
    settled = await city.rows("SELECT settled = revision AS settled FROM calendar_revision")
    assert settled[0]["settled"]


@pytest.mark.parametrize("replicas", [3])
async def test_replicas_do_not_tell_twice(city: Node, replicas: int) -> None:
    events = [await dispatched(city)] + [await opened(city, at("2026-02-13 15:00")) for _ in range(14)]
    city.clock.set(at("2026-02-25 09:00"))
    books = [Book() for _ in range(replicas)]
    tasks = [ClockTask(city.transactions, book, Ledger(LoopBook(LOOPS.values()), book)) for book in books]
    await asyncio.gather(*(task.turn() for task in tasks))
    for event in events:
        found = [(each.clock, each.due_at.seconds) for each in await told(city, event.name)]
        assert len(found) == len(set(found)) == 2
