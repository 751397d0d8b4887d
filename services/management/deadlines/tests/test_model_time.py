"""The arithmetic of working time: by example where people know the answer, by property everywhere else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.management.deadlines.model_calendar import ALWAYS, Calendar, Hours
from services.management.deadlines.model_time import Span, WorkingTime, joined
from services.management.deadlines.tests.calendars import CHINA, NIGHTS, OFFICE, SAN_FRANCISCO

CALENDARS = [WorkingTime(calendar) for calendar in (CHINA, SAN_FRANCISCO, NIGHTS, ALWAYS)]
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(text: str, zone: str = "Asia/Shanghai") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


times = st.sampled_from(CALENDARS)
instants = st.integers(0, 365 * 24 * 3600).map(lambda seconds: FIRST + timedelta(seconds=seconds))
amounts = st.integers(0, 40 * 24 * 60).map(lambda minutes: timedelta(minutes=minutes))
pauses = st.lists(
    st.tuples(instants, st.integers(0, 20 * 24 * 3600)).map(lambda p: Span(p[0], p[0] + timedelta(seconds=p[1]))),
    max_size=4,
)


@pytest.mark.parametrize(
    ("start", "hours", "due"),
    [
        ("2026-06-22 09:00", 3, "2026-06-22 12:00"),  # the end of the morning, not the start of the afternoon
        ("2026-06-22 11:00", 2, "2026-06-22 14:00"),  # lunch does not count
        ("2026-06-22 20:00", 1, "2026-06-23 10:00"),  # asked at night, counted from the morning
        ("2026-06-18 17:00", 2, "2026-06-22 10:00"),  # over the Dragon Boat Festival and its weekend
        ("2026-05-08 17:00", 2, "2026-05-09 10:00"),  # a Saturday made up for Labour Day
        ("2026-09-30 17:00", 9, "2026-10-08 18:00"),  # over National Day to the end of the next working day
        ("2026-01-02 10:00", 1, "2026-01-04 10:00"),  # a Sunday made up for New Year
    ],
)
def test_deadlines_in_china(start: str, hours: int, due: str) -> None:
    assert WorkingTime(CHINA).add(at(start), timedelta(hours=hours)) == at(due)


def test_a_skipped_hour_is_no_working_time_and_a_repeated_one_counts_twice() -> None:
    week = ((Hours(0, 4 * 60),),) * 7
    nights = WorkingTime(Calendar("calendars/n", "America/Los_Angeles", week))
    spring, autumn = at("2026-03-08", "America/Los_Angeles"), at("2026-11-01", "America/Los_Angeles")
    assert nights.between(spring, spring + 20 * HOUR) == 3 * HOUR
    assert nights.between(autumn, autumn + 20 * HOUR) == 5 * HOUR
    assert nights.add(spring, 2 * HOUR) == at("2026-03-08 03:00", "America/Los_Angeles")


def test_hours_that_open_or_close_in_the_skipped_hour_end_where_it_begins() -> None:
    week = ((Hours(60, 150), Hours(165, 240)),) * 7
    nights = WorkingTime(Calendar("calendars/n", "America/Los_Angeles", week))
    changed = at("2026-03-08 03:00", "America/Los_Angeles")
    assert nights.day(changed.date()) == (Span(changed - HOUR, changed), Span(changed, changed + HOUR))


@given(times, instants, amounts, amounts, pauses)
def test_adding_is_additive_and_monotonic(
    time: WorkingTime, start: datetime, first: timedelta, second: timedelta, stops: list[Span]
) -> None:
    halfway = time.add(start, first, stops)
    assert time.add(halfway, second, stops) == time.add(start, first + second, stops) or not second
    assert start <= halfway <= time.add(start, first + second, stops)


@given(times, instants, instants, instants, pauses)
def test_time_between_adds_up(
    time: WorkingTime, first: datetime, second: datetime, third: datetime, stops: list[Span]
) -> None:
    early, middle, late = sorted((first, second, third))
    parts = time.between(early, middle, stops), time.between(middle, late, stops)
    assert sum(parts, timedelta()) == time.between(early, late, stops)
    assert time.between(late, early, stops) == timedelta()


@given(times, instants, amounts, pauses)
def test_adding_and_measuring_undo_each_other(
    time: WorkingTime, start: datetime, amount: timedelta, stops: list[Span]
) -> None:
    assert time.between(start, time.add(start, amount, stops), stops) == amount


@given(times, instants, amounts, pauses)
def test_no_deadline_lies_in_a_pause_or_out_of_hours(
    time: WorkingTime, start: datetime, amount: timedelta, stops: list[Span]
) -> None:
    due = time.add(start, amount, stops)
    if not amount:
        return
    just_before = due - timedelta(microseconds=1)
    assert time.is_working(just_before)
    assert not any(stop.start <= just_before < stop.end for stop in stops)
    special = time.calendar.special(just_before.astimezone(time.zone).date())
    assert special is None or time.calendar.hours(special.first)


@given(times, instants, amounts, pauses, pauses)
def test_a_pause_never_brings_a_deadline_forward(
    time: WorkingTime, start: datetime, amount: timedelta, stops: list[Span], more: list[Span]
) -> None:
    assert time.add(start, amount, stops) <= time.add(start, amount, [*stops, *more])


@given(pauses)
def test_joined_spans_are_in_order_and_apart(stops: list[Span]) -> None:
    found = joined(stops)
    assert all(span.start < span.end for span in found)
    assert all(before.end < after.start for before, after in pairwise(found))
    assert {stop.start for stop in stops if stop.end > stop.start} >= {span.start for span in found}


def test_what_is_kept_in_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.management.deadlines.model_time.DAYS_KEPT_MAX", 10)
    time = WorkingTime(Calendar("calendars/c", "Asia/Shanghai", (OFFICE,) * 7))
    assert time.between(FIRST, FIRST + timedelta(days=100)) == 100 * 8 * HOUR
    assert len(time._days) == 10
