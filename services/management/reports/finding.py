"""What rises and where there is more than elsewhere in the period of a report, found as the analysis finds it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from services.management.analysis import store_counts, store_places
from services.management.analysis.emerging import Question, tested
from services.management.analysis.model_hotspots import CELL_M, CELLS_MIN, FALSE_DISCOVERY_RATE, grid, hot
from services.management.analysis.model_rise import Window, windows
from services.management.analysis.places import CELLS_READ_MAX
from services.management.reports.model_findings import Emerging, HotSpot, HotSpots, Issue, apart
from services.management.reports.model_report import HOURLY_MAX, WEEK_DAYS
from services.management.reports.titles import type_title, zone_title

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from libs.db import Connection
    from libs.zones import ZoneTree
    from services.management.analysis.model_hotspots import Grid, HotCell
    from services.management.reports.model_report import Period

ISSUES_SHOWN_MAX = 10
HOT_SPOTS_SHOWN_MAX = 10
_HOUR = timedelta(hours=1)
DAY_H = 24


async def emerging(conn: Connection, tree: ZoneTree, zone: str, period: Period, city_time: ZoneInfo) -> Emerging:
    """Return what rose in a day or a week, in a zone and those below it; what zones below explain, by those alone."""
    # By the wall clock: the day on which clocks go forward has 23 hours, and is compared with whole days.
    hours = DAY_H if period.end - period.start <= HOURLY_MAX else WEEK_DAYS * DAY_H
    question = Question(zone, period.end, hours)
    spans = windows(period.end, hours, city_time)
    known = await store_counts.types(conn)
    counted = await store_counts.count(conn, tree.codes(zone), spans.every())
    # Beside the loop: a city has many zones and types, and everybody else would wait.
    found = await asyncio.to_thread(tested, counted, spans, known, tree, question)
    rises = [rise for rise in found.rises if not rise.explained_by]
    issues = [
        Issue(
            zone_title(tree, rise.cell.zone),
            type_title(known, rise.cell.type),
            rise.counts.recent,
            rise.expected,
            rise.season,
            rise.dispersion,
            rise.p_value,
            rise.q_value,
        )
        for rise in rises[:ISSUES_SHOWN_MAX]
    ]
    return Emerging(tuple(issues), len(rises), found.tested, found.baseline_windows, hours, question.rate)


async def hot_spots(conn: Connection, tree: ZoneTree, zone: str, period: Period) -> HotSpots | None:
    """Return the hot spots of a zone and those below it in a period; None for more cells than are looked at."""
    codes, window = tree.codes(zone), Window(*period)
    latitude = await store_places.middle_latitude(conn, codes, window)
    squares = grid(CELL_M, latitude or 0.0)
    counts = await store_places.cell_counts(conn, codes, [window], "", squares, CELLS_READ_MAX + 1)
    if len(counts) > CELLS_READ_MAX:
        return None
    own = {count.square: count.of_type for count in counts}
    cells = await asyncio.to_thread(hot, own, list(own))
    shown = apart(cells, HOT_SPOTS_SHOWN_MAX)
    spots = [await _spot(conn, tree, zone, window, squares, cell) for cell in shown]
    return HotSpots(
        spots=tuple(spots),
        hot=len(cells),
        cells=len(own),
        cells_min=CELLS_MIN,
        cell_m=CELL_M,
        located=sum(own.values()),
        rate=FALSE_DISCOVERY_RATE,
    )


async def _spot(conn: Connection, tree: ZoneTree, zone: str, window: Window, squares: Grid, cell: HotCell) -> HotSpot:
    bounds = squares.bounds(cell.square)
    within = await store_places.usual_zone(conn, tree.codes(zone), window, squares, cell.square)
    return HotSpot(
        zone=zone_title(tree, within or zone),
        latitude=(bounds.south + bounds.north) / 2,
        longitude=(bounds.west + bounds.east) / 2,
        observed=cell.around,
        expected=cell.expected,
        score=cell.score,
        p_value=cell.p_value,
        q_value=cell.q_value,
    )
