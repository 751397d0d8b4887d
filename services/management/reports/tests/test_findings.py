"""Daily and weekly reports say what rises and where it is hot, with the statistics that the analysis has for it."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

import pytest

from quintet.management.v1 import analysis_pb2
from quintet.management.v1 import reports_pb2 as pb
from services.management.analysis.model_hotspots import HotCell, Square
from services.management.analysis.tests.happened import Happened, put
from services.management.convert import time_pb
from services.management.reports.model_findings import apart
from services.management.reports.tests.test_reports import generate, read
from services.management.tests.samples import GRAFFITI, NOISE, WORKS

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

MONDAY = datetime(2025, 12, 22, tzinfo=UTC)  # the week that ends a week before the tests' now
WEEK = timedelta(weeks=1)
SUPERVISOR = "people/supervisor"


def busy_week() -> list[Happened]:
    """Thirteen weeks with events all over the town; in the last one graffiti gather at a corner of district 6."""
    random = Random(4)
    events = [
        Happened(
            MONDAY + WEEK - timedelta(hours=random.uniform(0, 13 * 168)),
            zone,
            kind,
            latitude=37.70 + random.uniform(0, 0.06),
            longitude=-122.50 + random.uniform(0, 0.08),
        )
        for zone, kind in (("us-ca-sf-d6", GRAFFITI.name), ("us-ca-sf-d10", NOISE.name))
        for _ in range(13 * 150)
    ]
    corner = [
        Happened(MONDAY + timedelta(hours=place), "us-ca-sf-d6", latitude=37.7301, longitude=-122.4601)
        for place in range(60)
    ]
    return events + corner


async def shown(node: Node, report: pb.Report, language: str) -> tuple[str, dict[str, list[list[str]]]]:
    """Return a page and its tables by their headings, rows without the head."""
    page = html.unescape((await read(node, report, language)).content.decode())
    tables = {}
    for part in page.split("<h2>")[1:]:
        rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", part)]
        tables[part.partition("</h2>")[0]] = [row for row in rows if row]
    return page, tables


async def test_a_weekly_report_says_what_rises_as_the_analysis_does(city: Node) -> None:
    await put(city, busy_week())
    report = await generate(city, day="2025-12-24")
    request = analysis_pb2.ListEmergingIssuesRequest(
        parent="zones/us-ca-sf", window_end=time_pb(MONDAY + WEEK), window_h=168
    )
    found = await city.call("ListEmergingIssues", request, SUPERVISOR)
    (issue,) = [each for each in found.issues if not each.explained_by]
    for language, heading, name, how in (
        ("ZH", "新出现的问题", "涂鸦（第六区）", f"对{found.tested}个类型与区域作Benjamini-Hochberg校正"),
        ("EN", "Emerging issues", "Graffiti, District 6", f"corrected for {found.tested} types and zones"),
    ):
        page, tables = await shown(city, report, language)
        (row,) = tables[heading]
        assert row[:2] == [name, str(issue.observed)]
        statistics = (issue.expected, issue.season, issue.dispersion, issue.p_value, issue.q_value)
        assert row[2:] == [f"{figure:.3g}" for figure in statistics]
        assert how in page
        assert page.count('<p class="about">') == 6, "how it was come by is in small print"
        assert "us-ca-sf" not in page, "people read titles, not codes"


async def test_a_weekly_report_says_where_it_is_hot_as_the_analysis_does(city: Node) -> None:
    await put(city, busy_week())
    report = await generate(city, day="2025-12-24")
    request = analysis_pb2.ListHotSpotsRequest(
        parent="zones/us-ca-sf", occurred_from=time_pb(MONDAY), occurred_to=time_pb(MONDAY + WEEK)
    )
    answer = await city.call("ListHotSpots", request, SUPERVISOR)
    hottest = answer.periods[0].hot_spots[0]
    for language, heading, zone, how in (
        ("ZH", "热点", "第六区", f"{answer.cells}个有事件的250米网格"),
        ("EN", "Hot spots", "District 6", f"in {answer.cells} cells of 250 m"),
    ):
        page, tables = await shown(city, report, language)
        first, *_ = tables[heading]
        latitude, longitude = map(float, first[0].removeprefix(f"{zone} ").split(", "))
        assert hottest.bounds.south <= latitude <= hottest.bounds.north
        assert hottest.bounds.west <= longitude <= hottest.bounds.east
        figures = (hottest.expected, hottest.score, hottest.p_value, hottest.q_value)
        assert first[1:] == [str(hottest.observed), *(f"{figure:.3g}" for figure in figures)]
        assert how in page
        assert len(tables[heading]) < len(answer.periods[0].hot_spots), "what overlaps is one place"


async def test_where_nothing_can_be_told_it_says_so_and_narrow_reports_do_not_look(city: Node) -> None:
    await put(city, [Happened(MONDAY + timedelta(hours=hour)) for hour in range(3)])
    day = await generate(city, kind=pb.REPORT_KIND_DAILY, day="2025-12-22")
    zh, _ = await shown(city, day, "ZH")
    en, _ = await shown(city, day, "EN")
    assert "历史不足，无法判断：至少要有此前4个同星期的24小时窗口" in zh
    assert "4 windows of 24 h before, of the same weekdays, are needed" in en
    assert "有事件的250米网格只有0个，少于30个" in zh
    assert "with fewer than 30 there is no telling" in en
    narrow = await generate(city, day="2025-12-24", organisation=WORKS)
    assert "Emerging issues" not in (await shown(city, narrow, "EN"))[0]


async def test_a_quiet_week_is_quiet(city: Node) -> None:
    await put(city, [each for each in busy_week() if each.at < MONDAY])
    page, tables = await shown(city, await generate(city, day="2025-12-17"), "EN")
    assert "Nothing rises" in page
    assert tables["Emerging issues"] == []


@pytest.mark.parametrize("most", [1, 2, 10])
def test_of_overlapping_cells_the_hottest_is_listed(most: int) -> None:
    squares = [(0, 0), (1, 1), (0, 2), (3, 0), (2, 5), (3, 3)]
    cells = [HotCell(Square(*square), 1, 9, 1.0, 9.0 - place, 0.0, 0.0) for place, square in enumerate(squares)]
    assert [tuple(cell.square) for cell in apart(cells, most)] == [(0, 0), (3, 0), (2, 5)][:most]
