"""The load to expect of shifts: history read by shift, forecast, put into words."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from libs.errors import Reason, WrongState
from quintet.management.v1 import analysis_pb2 as pb
from services.management.analysis import store_places, texts
from services.management.analysis.model_forecast import HISTORY_WEEKS, HISTORY_WEEKS_MIN, forecast
from services.management.analysis.model_rise import Window
from services.management.convert import explanation_pb, time_pb
from services.management.model import Explanation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

    from libs.tx import Transactions
    from services.management.analysis.model_forecast import Forecast
    from services.management.analysis.places import Area

SHIFT_STARTS_H = (0, 8, 16)
WEEK_DAYS = 7
RULE = "analyses/load-forecast"


async def load(
    transactions: Transactions, area: Area, starts_h: Sequence[int], zone: ZoneInfo
) -> pb.ForecastLoadResponse:
    """Return the forecast of seven days. Raises WrongState for too short a history."""
    # A day of shifts begins with its first shift: what has not begun is forecast, not history.
    today = (transactions.clock.now().astimezone(zone) - timedelta(hours=starts_h[0])).date()
    first = today - timedelta(weeks=HISTORY_WEEKS)
    edges = [
        datetime.combine(first + timedelta(days=day), time(hour), zone)
        for day in range((HISTORY_WEEKS + 1) * WEEK_DAYS + 1)
        for hour in starts_h
    ]
    spans = [Window(start, end) for start, end in pairwise(edges)]
    per_week = WEEK_DAYS * len(starts_h)
    past, coming = spans[: HISTORY_WEEKS * per_week], spans[HISTORY_WEEKS * per_week :][:per_week]
    counts = await transactions.read(lambda conn: store_places.span_counts(conn, area.codes, past, area.type))
    weeks = [
        [counts.get(place, 0) for place in range(week * per_week, (week + 1) * per_week)]
        for week in range(min(counts, default=len(past)) // per_week, HISTORY_WEEKS)
    ]
    if len(weeks) < HISTORY_WEEKS_MIN:
        text = f"there are {len(weeks)} weeks of history, and a forecast needs {HISTORY_WEEKS_MIN}"
        raise WrongState(Reason.HISTORY_TOO_SHORT, text, weeks=str(len(weeks)))
    found = forecast(weeks)
    read = replace(area, window=Window(past[-len(weeks) * per_week].start, past[-1].end))
    response = pb.ForecastLoadResponse(
        history_weeks=len(weeks),
        error=found.error,
        naive_error=found.naive_error,
        tested_shifts=found.tested,
        explanation=explanation_pb(_explanation(found, len(weeks))),
        events=read.selection(),
    )
    for span, shift in zip(coming, found.shifts, strict=True):
        response.shifts.add(
            start=time_pb(span.start), end=time_pb(span.end), expected=shift.expected, low=shift.low, high=shift.high
        )
    return response


def _explanation(found: Forecast, weeks: int) -> Explanation:
    inputs = {
        "weeks": str(weeks),
        "tested": str(found.tested),
        "error": texts.number(found.error),
        "naive": texts.number(found.naive_error),
        "dispersion": texts.number(found.dispersion),
    }
    verdict = texts.BETTER if found.error < found.naive_error else texts.NOT_BETTER
    zh = texts.FORECAST.zh.format(verdict=verdict.zh, **inputs)
    return Explanation(RULE, zh, texts.FORECAST.en.format(verdict=verdict.en, **inputs), inputs)
