"""Calendars: put, read back, refused with field and rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Forbidden, Invalid, NotFound
from quintet.management.v1 import calendars_pb2 as pb
from services.management.deadlines.book import Book
from services.management.deadlines.tests.calendars import CHINA, shipped

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

ADMIN = "people/admin"


async def put(node: Node, calendar: pb.Calendar, subject: str = ADMIN) -> pb.PutCalendarResponse:
    response: pb.PutCalendarResponse = await node.call("PutCalendar", pb.PutCalendarRequest(calendar=calendar), subject)
    return response


def changed(**changes: Any) -> pb.Calendar:
    calendar = shipped("cn")
    for field in changes:
        calendar.ClearField(field)  # type: ignore[arg-type]
    calendar.MergeFrom(pb.Calendar(**changes))
    return calendar


async def test_the_shipped_calendars_come_back_as_they_are_written(city: Node) -> None:
    for version, country in enumerate(("cn", "sf"), 1):
        first = await put(city, shipped(country))
        assert (first.changed, first.calendar.version) == (True, version)
        got = await city.call("GetCalendar", pb.GetCalendarRequest(name="calendars/default"), "people/resident.01")
        assert got.calendar == first.calendar
        again = await put(city, shipped(country))
        assert (again.changed, again.calendar) == (False, first.calendar)
    earlier = pb.GetCalendarRequest(name="calendars/default", version=1)
    assert (await city.call("GetCalendar", earlier, ADMIN)).calendar.timezone == "Asia/Shanghai"
    with pytest.raises(NotFound):
        await city.call("GetCalendar", pb.GetCalendarRequest(name="calendars/default", version=3), ADMIN)


async def test_around_the_clock_is_always_there(city: Node) -> None:
    listed: list[str] = []
    token = ""
    await put(city, shipped("cn"))
    await put(city, changed(name="calendars/Abc"))
    while True:
        page = await city.call("ListCalendars", pb.ListCalendarsRequest(page_size=1, page_token=token), ADMIN)
        listed += [calendar.name for calendar in page.calendars]
        token = page.next_page_token
        if not token:
            break
    assert listed[0] == "calendars/always"
    assert sorted(listed) == ["calendars/Abc", "calendars/always", "calendars/default"]
    always = (await city.call("GetCalendar", pb.GetCalendarRequest(name="calendars/always"), ADMIN)).calendar
    assert [(hours.opens, hours.closes) for hours in always.week[0].hours] == [("00:00", "24:00")]
    assert len(always.week[0].days) == 7


def hours(opens: str, closes: str) -> pb.WorkingHours:
    return pb.WorkingHours(opens=opens, closes=closes)


MONDAY = [pb.WEEKDAY_MONDAY]
HOLIDAY, WORKDAY = pb.SPECIAL_DAY_KIND_HOLIDAY, pb.SPECIAL_DAY_KIND_WORKDAY


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"name": "calendars/always"}, "calendar.name", "built in"),
        ({"timezone": "Asia/Nowhere"}, "calendar.timezone", "IANA"),
        ({"organisations": ["organisations/a", "organisations/a"]}, "calendar.organisations", "twice"),
        (
            {"special_days": [], "week": [pb.WeekHours(days=MONDAY, hours=[hours("09:00", "09:30")])]},
            "calendar.week", "60 minutes",
        ),
        (
            {"special_days": [], "week": [pb.WeekHours(days=MONDAY, hours=[hours("12:00", "09:00")])]},
            "calendar.week", "close after",
        ),
        (
            {"special_days": [],
             "week": [pb.WeekHours(days=MONDAY, hours=[hours("09:00", "12:00"), hours("11:00", "13:00")])]},
            "calendar.week", "11:00 lies before 12:00",
        ),
        (
            {"week": [pb.WeekHours(days=[pb.WEEKDAY_UNSPECIFIED], hours=[hours("09:00", "12:00")])]},
            "calendar.week[0].days[0]", "weekday",
        ),
        (
            {"week": [pb.WeekHours(days=MONDAY * 2, hours=[hours("09:00", "12:00")])]},
            "calendar.week[0].days[1]", "MONDAY stands in the week twice",
        ),
        (
            {"special_days": [pb.SpecialDays(first_day="2026-02-30", kind=HOLIDAY)]},
            "calendar.specialDays[0].firstDay", "2026-02-30 is not a day",
        ),
        (
            {"special_days": [pb.SpecialDays(first_day="2026-02-02", last_day="2026-02-01", kind=HOLIDAY)]},
            "calendar.specialDays[0].lastDay", "before firstDay",
        ),
        (
            {"special_days": [pb.SpecialDays(first_day="2026-02-02", last_day="2046-02-01", kind=HOLIDAY)]},
            "calendar.specialDays", "3660 days",
        ),
        (
            {"special_days": [pb.SpecialDays(first_day="2026-02-02", kind=HOLIDAY, hours_of=pb.WEEKDAY_MONDAY)]},
            "calendar.specialDays[0].hours", "empty for a holiday",
        ),
        (
            {"special_days": [pb.SpecialDays(first_day="2026-02-02", kind=WORKDAY)]},
            "calendar.specialDays[0].hours", "one of the two",
        ),
        (
            {"special_days": [pb.SpecialDays(first_day="2026-02-02", kind=WORKDAY, hours_of=pb.WEEKDAY_SUNDAY)]},
            "calendar.specialDays[0].hoursOf", "has hours for",
        ),
        (
            {"special_days": [pb.SpecialDays(first_day=d, last_day="2026-02-05", kind=HOLIDAY)
                              for d in ("2026-02-03", "2026-02-01")]},
            "calendar.specialDays[0].firstDay", "other special days too",
        ),
    ],
)  # fmt: skip
async def test_a_fault_names_field_and_rule(city: Node, changes: dict[str, Any], field: str, rule: str) -> None:
    with pytest.raises(Invalid) as caught:
        await put(city, changed(**changes))
    assert any(found == field and rule in said for found, said in caught.value.violations)


async def test_an_organisation_has_one_calendar(city: Node) -> None:
    works = ["organisations/public-works"]
    await put(city, changed(name="calendars/works", organisations=works))
    with pytest.raises(Invalid) as caught:
        await put(city, changed(name="calendars/others", organisations=works))
    assert caught.value.violations[0][0] == "calendar.organisations"
    await put(city, changed(name="calendars/works"))
    await put(city, changed(name="calendars/others", organisations=works))


async def test_only_who_may_change_the_whole_node_puts_calendars(city: Node) -> None:
    for subject in ("people/supervisor", "people/admin.d10"):
        with pytest.raises(Forbidden):
            await put(city, shipped("cn"), subject)


async def test_a_process_reads_calendars_once_and_learns_of_changes(city: Node) -> None:
    kept = Book()

    async def ready() -> str:
        calendars = await city.transactions.read(kept.calendars)
        return calendars.named("calendars/default").calendar.name

    async def refreshed() -> bool:
        return await city.transactions.read(kept.refresh)

    assert await ready() == "calendars/always"
    await put(city, shipped("cn"))
    assert await ready() == "calendars/always"  # by another process: not before the next look
    assert await refreshed()
    assert not await refreshed()
    calendars = await city.transactions.read(kept.calendars)
    default = calendars.named("calendars/gone")
    assert (default.calendar.name, default.calendar.special_days) == ("calendars/default", CHINA.special_days)
    assert calendars.of("organisations/x", default) is default
