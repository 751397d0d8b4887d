"""Periods, and charts that show what they are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Invalid
from services.management.reports.model_chart import COLUMNS_HEIGHT, WIDTH, ceiling, columns, rows
from services.management.reports.model_report import Kind, Period, edges, period_of

SF = ZoneInfo("America/Los_Angeles")
NOW = datetime(2026, 3, 11, 18, 0, tzinfo=UTC)  # a Wednesday


@pytest.mark.parametrize(
    ("kind", "day", "start", "hours"),
    [
        (Kind.DAILY, "", "2026-03-10T07:00+00:00", 24),
        (Kind.DAILY, "2026-03-08", "2026-03-08T08:00+00:00", 23),  # clocks go forward
        (Kind.WEEKLY, "", "2026-03-02T08:00+00:00", 167),
        (Kind.WEEKLY, "2026-02-25", "2026-02-23T08:00+00:00", 168),
    ],
)
def test_a_report_is_about_whole_days_of_the_city(kind: Kind, day: str, start: str, hours: int) -> None:
    period = period_of(kind, day, SF, NOW)
    assert (period.start.isoformat(timespec="minutes"), period.end - period.start) == (start, timedelta(hours=hours))


@pytest.mark.parametrize("day", ["2026-03-11", "2026-13-01", "9999-12-31"])
def test_a_day_that_is_not_over_or_none_is_refused(day: str) -> None:
    with pytest.raises(Invalid, match="day"):
        period_of(Kind.DAILY, day, SF, NOW)


@given(st.integers(0, 6 * 366 * 24 * 60), st.integers(1, 366 * 24))
def test_the_stretches_of_a_period_follow_upon_each_other(minutes: int, hours: int) -> None:
    start = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    period = Period(start, start + timedelta(hours=hours))
    parts = edges(period, SF)
    assert (parts[0].start, parts[-1].end) == period
    assert all(before.end == after.start for before, after in pairwise(parts))
    assert all(part.start < part.end for part in parts)
    assert len(parts) <= 64


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=60))
def test_columns_are_as_high_as_their_values_and_stay_on_the_page(values: list[tuple[int, int]]) -> None:
    chart = columns([str(place) for place in range(len(values))], [list(each) for each in zip(*values, strict=True)])
    top = ceiling(max(max(pair) for pair in values))
    assert top >= max(max(pair) for pair in values)
    room = chart.rules[-1] - chart.rules[0]
    drawn = [value for series in zip(*values, strict=True) for value in series if value]
    for bar, value in zip(chart.bars, drawn, strict=True):
        assert bar.height == pytest.approx(room * value / top)
        assert bar.x >= 0
        assert bar.x + bar.width <= WIDTH + 1e-6
        assert bar.y + bar.height == pytest.approx(chart.rules[-1])
    assert chart.height == COLUMNS_HEIGHT


def test_rows_write_their_values() -> None:
    chart = rows(["甲", "B"], [4, 2])
    assert [word.text for word in chart.words] == ["甲", "4", "B", "2"]
    assert chart.bars[0].width == pytest.approx(2 * chart.bars[1].width)
