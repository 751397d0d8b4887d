"""When events are due and why, over a real channel."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from libs.errors import Forbidden, Invalid, NotFound
from quintet.management.v1 import calendars_pb2, deadlines_pb2
from quintet.management.v1 import management_pb2 as pb
from services.management.convert import time_pb
from services.management.deadlines.tests.calendars import shipped
from services.management.tests.samples import WORKS
from services.management.tests.story import OFFICER, walk

if TYPE_CHECKING:
    from services.management.tests.conftest import MakeNode, Node

ADMIN = "people/admin"
LAMP = "eventTypes/lamp"
SF = ZoneInfo("America/Los_Angeles")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=SF).astimezone(UTC)


async def put_calendar(node: Node, calendar: calendars_pb2.Calendar) -> None:
    await node.call("PutCalendar", calendars_pb2.PutCalendarRequest(calendar=calendar), ADMIN)


async def put_type(node: Node, hours: int = 12, **more: Any) -> None:
    values: dict[str, Any] = {
        "name": LAMP,
        "loop": "loops/seven-step",
        "deadline": pb.Allowance(minutes=hours * 60),
        "step_deadlines": [
            pb.StepDeadline(state="collected", allowance=pb.Allowance(minutes=30, around_the_clock=True)),
            pb.StepDeadline(state="dispatched", allowance=pb.Allowance(minutes=240)),
        ],
        "routes": [pb.Route(zone="us-ca-sf", organisation=WORKS)],
    } | more
    await node.call("PutEventType", pb.PutEventTypeRequest(event_type=pb.EventType(**values)), ADMIN)


async def opened(node: Node, occurred_at: datetime) -> pb.Event:
    request = pb.OpenEventRequest(
        parent="zones/us-ca-sf-d6", type=LAMP, description="Dark", occurred_at=time_pb(occurred_at)
    )
    event: pb.Event = (await node.call("OpenEvent", request, OFFICER)).event
    return event


async def deadlines(node: Node, name: str, subject: str = OFFICER) -> deadlines_pb2.GetEventDeadlinesResponse:
    request = deadlines_pb2.GetEventDeadlinesRequest(name=name)
    response: deadlines_pb2.GetEventDeadlinesResponse = await node.call("GetEventDeadlines", request, subject)
    return response


async def test_a_deadline_over_a_long_weekend_is_explained_in_both_languages(city: Node) -> None:
    city.clock.set(at("2026-02-13 15:00"))  # the Friday before Presidents' Day
    await put_calendar(city, shipped("sf"))
    await put_type(city)
    event = await opened(city, at("2026-02-13 15:00"))
    due = at("2026-02-18 09:00")  # two hours on Friday, nine on Tuesday, one on Wednesday
    assert event.due_at == event.first_due_at == time_pb(due)
    told = await deadlines(city, event.name)
    clock = told.business
    assert (clock.due_at, clock.calendar, clock.calendar_version) == (time_pb(due), "calendars/default", 1)
    assert [(deadlines_pb2.SkippedKind.Name(each.kind), each.days, each.title.en) for each in clock.skipped] == [
        ("SKIPPED_KIND_NIGHTS", 1, ""),
        ("SKIPPED_KIND_WEEKLY", 2, ""),
        ("SKIPPED_KIND_HOLIDAY", 1, "Presidents' Day"),
    ]
    assert clock.explanation.text.en == (
        "Due Wednesday 18 February 2026 09:00 because 12 h of working time count from Friday 13 February 2026 15:00 by "
        "the calendar “San Francisco city offices”, version 1; skipped: 1 night, 2 rest days, Presidents' Day (1 day)."
    )
    assert clock.explanation.text.zh == (
        "截止时间为2026年2月18日（星期三）09:00：自2026年2月13日（星期五）15:00起计工作时间12小时，"
        "按“旧金山市政府工作日历”第1版计时；跳过1个夜间、休息日2天、总统日1天。"
    )
    assert (clock.state, clock.overdue) == (deadlines_pb2.CLOCK_STATE_RUNNING, False)
    assert told.step.explanation.text.en == (
        "Due Friday 13 February 2026 23:30 because 30 min count from Friday 13 February 2026 23:00 around the clock."
    )


async def test_lateness_is_read_at_the_moment_of_the_question(city: Node) -> None:
    city.clock.set(at("2026-02-13 15:00"))
    await put_calendar(city, shipped("sf"))
    await put_type(city)
    event = await opened(city, at("2026-02-13 15:00"))
    city.clock.set(at("2026-02-14 12:00"))
    resting = (await deadlines(city, event.name)).business
    assert (resting.state, resting.counted_min, resting.left_min) == (deadlines_pb2.CLOCK_STATE_RESTING, 120, 600)
    city.clock.set(at("2026-02-19 10:00"))
    late = (await deadlines(city, event.name)).business
    assert (late.overdue, late.left_min, late.late_min) == (True, 0, 8 * 60 + 2 * 60)
    await walk(city, event.name, "file", "dispatch", "dispose", "feed_back", "verify")
    city.clock.advance(timedelta(days=10))
    closed = (await deadlines(city, event.name)).business
    assert (closed.state, closed.overdue, closed.late_min) == (deadlines_pb2.CLOCK_STATE_STOPPED, True, 600)


async def test_a_step_counts_by_the_calendar_of_who_has_it(city: Node) -> None:
    city.clock.set(at("2026-02-13 20:00"))
    nights = shipped("sf")
    nights.name = "calendars/nights"
    nights.organisations.append(WORKS)
    nights.week[0].hours[0].opens, nights.week[0].hours[0].closes = "18:00", "24:00"
    await put_calendar(city, shipped("sf"))
    await put_calendar(city, nights)
    await put_type(city)
    event = await opened(city, at("2026-02-13 20:00"))
    assert event.step_due_at == time_pb(at("2026-02-13 20:30"))
    event = await walk(city, event.name, "file")
    assert not event.HasField("step_due_at")
    city.clock.advance(timedelta(hours=1))
    event = await walk(city, event.name, "dispatch")
    assert event.step_due_at == time_pb(at("2026-02-17 19:00"))  # three hours on Friday, one on Tuesday evening
    clock = (await deadlines(city, event.name, "people/handler.works")).step
    assert (clock.calendar, clock.organisation) == ("calendars/nights", WORKS)
    with pytest.raises(Forbidden):
        await deadlines(city, event.name, "people/handler.parks")
    with pytest.raises(NotFound):
        await deadlines(city, "zones/us-ca-sf/events/none")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"calendar": "calendars/none"}, "eventType.calendar"),
        ({"step_deadlines": [pb.StepDeadline(state="nowhere", allowance=pb.Allowance(minutes=1))]},
         "eventType.stepDeadlines"),
        ({"step_deadlines": [pb.StepDeadline(state="filed", allowance=pb.Allowance(minutes=n)) for n in (1, 2)]},
         "eventType.stepDeadlines"),
        ({"deadline": None}, "eventType.deadline"),
    ],
)  # fmt: skip
async def test_a_type_that_cannot_be_reckoned_by_is_refused(city: Node, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        await put_type(city, **changes)
    assert caught.value.violations[0][0] == field


async def test_the_tier_above_sees_the_deadlines_and_who_can_explain_them(make_node: MakeNode) -> None:
    child, city = await make_node("sf-d10", root="us-ca-sf-d10"), await make_node("sf", "us-ca-sf-d10")
    child.clock.set(at("2026-02-13 15:00"))
    await put_type(child, routes=[pb.Route(zone="us-ca-sf-d10", organisation=WORKS)])
    request = pb.OpenEventRequest(parent="zones/us-ca-sf-d10", type=LAMP, description="Dark")
    name = (await child.call("OpenEvent", request, OFFICER)).event.name
    event = await walk(child, name, "file", "dispatch")
    await child.report_to(city)
    above = (await city.call("GetEvent", pb.GetEventRequest(name=name), OFFICER)).event
    assert (above.due_at, above.first_due_at, above.step_due_at) == (
        event.due_at,
        event.first_due_at,
        event.step_due_at,
    )
    told = await deadlines(city, name)
    assert (told.business.due_at, told.step.due_at) == (event.due_at, event.step_due_at)
    assert "sf-d10" in told.business.explanation.text.en
    assert "sf-d10" in told.business.explanation.text.zh
    assert not told.business.overdue
    city.clock.advance(timedelta(hours=12, seconds=1))
    assert (await deadlines(city, name)).business.overdue
