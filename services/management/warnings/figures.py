"""What indicators are, now and before, for zones with all that lies below them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from services.management.warnings import store_indicators
from services.management.warnings.model_indicator import Bucket, figure, first_step, joined, step_at

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection
    from libs.zones import ZoneTree
    from services.management.warnings.model_indicator import Indicator

SERIES_POINTS_MAX = 120


async def present(
    conn: Connection, tree: ZoneTree, indicator: Indicator, zones: Sequence[str], now: datetime
) -> dict[str, Bucket]:
    """Return what stands behind the figure of each zone now."""
    below = {zone: frozenset(tree.codes(zone)) for zone in zones}
    if indicator.standing:
        things = await store_indicators.standing(conn, indicator, now)
        return {
            zone: Bucket(sum(number for code, number in things.items() if code in codes))
            for zone, codes in below.items()
        }
    last = step_at(now, indicator.step_minutes)
    every = frozenset[str]().union(*below.values())
    rows = await store_indicators.buckets(conn, indicator.name, first_step(indicator, last), last, sorted(every))
    return {
        zone: joined(bucket for _, code, bucket in rows if code in codes)
        for zone, codes in below.items()
    }  # fmt: skip


async def series(
    conn: Connection, tree: ZoneTree, indicator: Indicator, zone: str, minutes: int, now: datetime
) -> list[tuple[datetime, float | None]]:
    """Return how the figure of a zone went over the last minutes: (last step of the window, figure), oldest first."""
    codes = tree.codes(zone)
    if indicator.standing:
        return await _samples(conn, indicator, codes, now - timedelta(minutes=minutes), now)
    step = timedelta(minutes=indicator.step_minutes)
    last = step_at(now, indicator.step_minutes)
    steps = max(1, timedelta(minutes=minutes) // step)
    stride = -(-steps // SERIES_POINTS_MAX)
    ends = [last - step * back for back in range((steps - 1) // stride * stride, -1, -stride)]
    rows = await store_indicators.buckets(conn, indicator.name, first_step(indicator, ends[0]), last, codes)
    rows.sort(key=lambda row: row[0])
    return [(end, figure(indicator.aggregation, _window(rows, first_step(indicator, end), end))) for end in ends]


def _window(rows: Sequence[tuple[datetime, str, Bucket]], first: datetime, last: datetime) -> Bucket:
    return joined(bucket for at, _, bucket in rows if first <= at <= last)


async def _samples(
    conn: Connection, indicator: Indicator, codes: Sequence[str], first: datetime, now: datetime
) -> list[tuple[datetime, float | None]]:
    times = await store_indicators.sampled(conn, indicator.name, first)
    times = times[:: -(-len(times) // SERIES_POINTS_MAX) or 1]
    rows = await store_indicators.buckets(conn, indicator.name, first, now, codes)
    things = dict.fromkeys(times, 0)
    for at, _, bucket in rows:
        if at in things:
            things[at] += bucket.facts
    return [(at, float(number)) for at, number in things.items()]
