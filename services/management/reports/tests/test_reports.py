"""Reports over the channel: their counts are those of the events, their pages hold them, and whoever may reads them."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from libs.errors import Forbidden, Invalid, NotFound
from quintet.common.v1 import common_pb2
from quintet.identity.v1.directory_pb2 import Organisation
from quintet.identity.v1.facts_pb2 import OrganisationChanged
from quintet.management.v1 import reports_pb2 as pb
from services.management.merging.tests.moves import file, merge
from services.management.performance.tests.lives import Life, chance_lives, take_in
from services.management.performance.tests.test_figures import draft, publish, put
from services.management.tests import samples

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

SUPERVISOR = "people/supervisor"
DAY = datetime(2025, 3, 19, tzinfo=UTC)  # a Wednesday


async def generate(node: Node, subject: str = SUPERVISOR, **asked: object) -> pb.Report:
    request = pb.GenerateReportRequest(**{"parent": "zones/us-ca-sf", "kind": pb.REPORT_KIND_WEEKLY} | asked)  # type: ignore[arg-type]
    found: pb.Report = (await node.call("GenerateReport", request, subject)).report
    return found


async def read(node: Node, report: pb.Report, language: str = "ZH", form: str = "HTML") -> pb.GetReportResponse:
    request = pb.GetReportRequest(
        name=report.name,
        language=pb.ReportLanguage.Value(f"REPORT_LANGUAGE_{language}"),
        format=pb.ReportFormat.Value(f"REPORT_FORMAT_{form}"),
    )
    found: pb.GetReportResponse = await node.call("GetReport", request, SUPERVISOR)
    return found


def by_hand(lives: list[Life], start: datetime, end: datetime) -> tuple[int, int, int, int]:
    """Count opened, closed, open at the end and late, as somebody would who has the scripts."""
    kept = [life for life in lives if life.state != "voided"]
    waiting = [life for life in kept if life.occurred_at < end and (life.closed_at is None or life.closed_at >= end)]
    return (
        sum(start <= life.occurred_at < end for life in kept),
        sum(life.closed_at is not None and start <= life.closed_at < end for life in kept),
        len(waiting),
        sum(life.due_at < end for life in waiting),
    )


def told(report: pb.Report) -> tuple[int, int, int, int]:
    return report.opened, report.closed, report.waiting, report.late


async def called(node: Node, organisation: str, zh: str, en: str, stated_by: str = "") -> None:
    """Let identity say what an organisation is called."""
    title = common_pb2.LocalText(zh=zh, en=en)
    message = OrganisationChanged(organisation=Organisation(name=organisation, title=title, zone="us-ca-sf"))
    await node.hear(message, node=stated_by or node.id)


async def test_counts_of_a_week_a_day_a_topic_and_an_organisation(city: Node) -> None:
    lives = chance_lives(5, 200)
    await take_in(city, lives)
    monday = DAY - timedelta(days=2)
    week = (monday, monday + timedelta(days=7))
    assert told(await generate(city, day="2025-03-19")) == by_hand(lives, *week)
    day = (DAY, DAY + timedelta(days=1))
    assert told(await generate(city, kind=pb.REPORT_KIND_DAILY, day="2025-03-19")) == by_hand(lives, *day)
    district = [life for life in lives if life.zone.startswith("us-ca-sf-d10")]
    assert told(await generate(city, parent="zones/us-ca-sf-d10", day="2025-03-19")) == by_hand(district, *week)
    parks = [life for life in lives if life.handler == samples.PARKS]
    assert told(await generate(city, organisation=samples.PARKS, day="2025-03-19")) == by_hand(parks, *week)
    noise = [life for life in lives if life.type == samples.NOISE.name]
    topical = pb.GenerateReportRequest(kind=pb.REPORT_KIND_TOPICAL, type=samples.NOISE.name)
    topical.period_from.FromDatetime(week[0])
    topical.period_to.FromDatetime(week[1])
    found = await generate(
        city, kind=topical.kind, type=topical.type, period_from=topical.period_from, period_to=topical.period_to
    )
    assert told(found) == by_hand(noise, *week)


async def test_the_page_says_what_was_counted_in_both_languages_and_fetches_nothing(city: Node) -> None:
    lives = chance_lives(5, 300)
    await take_in(city, lives)
    report = await generate(city, day="2025-03-19")
    for language, words in (
        ("ZH", ("旧金山市 事件周报", "按期结案率", "涂鸦", "期末超期", "周期：2025-03-17 00:00 至 2025-03-24 00:00")),
        ("EN", ("Weekly report: San Francisco", "Closed on time", "Graffiti", "Late at the end", "Period: 2025-03-17")),
    ):
        answer = await read(city, report, language)
        page = html.unescape(answer.content.decode())
        assert answer.media_type == "text/html; charset=utf-8"
        assert all(word in page for word in words), language
        assert not re.search(r"(src|href)=|@import|url\(|<script", page)
        cells = re.findall(r"<td>([^<]*)</td>", page)
        assert cells[1:3] == [str(report.opened), str(report.closed)]
        # Most days of the week have columns, and both types a bar.
        assert page.count("<rect") >= 10


async def test_the_latest_published_scorecard_stands_in_it(city: Node) -> None:
    await take_in(city, chance_lives(5, 60))
    await put(city)
    assert "记分卡" not in (await read(city, await generate(city, day="2025-03-19"))).content.decode()
    card = await publish(city, await draft(city))
    page = (await read(city, await generate(city, day="2025-03-19"))).content.decode()
    assert "最近公布的记分卡：事件处置质效（第1版）" in page
    assert card.content_hash.hex()[:16] in page
    assert f"<td>{samples.WORKS}</td>" in page, "nobody has said what they are called"
    await called(city, samples.WORKS, "市政公司", "Public works")
    report = await generate(city, day="2025-03-19")
    for language, words in (
        ("ZH", ("市政公司", "第十区", "第2级")),
        ("EN", ("Public works", "District 10", "Level 2")),
    ):
        page = (await read(city, report, language)).content.decode()
        assert all(f"<td>{word}</td>" in page for word in words), language
        assert samples.WORKS not in page


async def test_a_report_names_everything_by_its_title_as_it_was_when_it_was_made(city: Node) -> None:
    await take_in(city, chance_lives(5, 60))
    await called(city, samples.PARKS, "园林公司", "Parks")
    await called(city, samples.PARKS, "别人起的名", "What others call it", stated_by="sf-d10")
    await called(city, samples.SEWERS, "", "Sewer crew", stated_by="sf-d10")
    await called(city, samples.SEWERS, "排水班组", "Sewers", stated_by="sf-d6")
    report = await generate(city, day="2025-03-19", parent="zones/us-ca-sf-d10", organisation=samples.PARKS)
    everybody = await generate(city, day="2025-03-19")
    await called(city, samples.PARKS, "新名", "New name")
    zh, en = [html.unescape((await read(city, report, each)).content.decode()) for each in ("ZH", "EN")]
    assert "第十区 事件周报" in zh
    assert "Weekly report: District 10" in en
    assert "仅限承办组织 园林公司" in zh
    assert "What Parks has, alone" in en
    zh, en = [html.unescape((await read(city, everybody, each)).content.decode()) for each in ("ZH", "EN")]
    for page, words in ((zh, ("园林公司", "Sewer crew", "第六区")), (en, ("Parks", "Sewer crew", "District 6"))):
        assert all(f"<td>{word}</td>" in page for word in words)
    assert f"<td>{samples.WORKS}</td>" in en, "of whom nobody has said what they are called"


async def test_events_that_were_merged_by_hand_count_once(city: Node) -> None:
    first, second = await file(city, 1), await file(city, 2, 300)
    city.clock.advance(timedelta(days=7))
    assert (await generate(city)).opened == 2
    await merge(city, second, first)
    assert told(await generate(city))[:3] == (1, 0, 1)


async def test_a_pdf_is_the_same_each_time_and_names_its_chinese_font(city: Node) -> None:
    await take_in(city, chance_lives(5, 60))
    report = await generate(city, day="2025-03-19")
    for language in ("ZH", "EN"):
        answer = await read(city, report, language, "PDF")
        assert answer.media_type == "application/pdf"
        assert answer.content.startswith(b"%PDF-")
        assert b"STSong-Light" in answer.content
        # What is kept is rendered the same each time.
        assert (await read(city, report, language, "PDF")).content == answer.content


async def test_what_is_asked_for_must_make_sense_and_be_allowed(city: Node) -> None:
    with pytest.raises(Forbidden):
        await generate(city, "people/verifier", day="2025-03-19")
    with pytest.raises(Invalid, match="the period is not over"):
        await generate(city, day=city.clock.now().date().isoformat())
    with pytest.raises(Invalid, match="type"):
        await generate(city, kind=pb.REPORT_KIND_TOPICAL)
    with pytest.raises(Invalid, match="are for topical reports"):
        await generate(city, type=samples.NOISE.name)
    with pytest.raises(NotFound):
        await city.call("GetReport", pb.GetReportRequest(name="zones/us-ca-sf/reports/none"), SUPERVISOR)
    made = [await generate(city, day=day) for day in ("2025-03-19", "2025-03-26")]
    listed = await city.call("ListReports", pb.ListReportsRequest(parent="zones/us-ca-sf", page_size=1), SUPERVISOR)
    assert [each.name for each in listed.reports] == [made[1].name]
    rest = pb.ListReportsRequest(parent="zones/us-ca-sf", page_size=1, page_token=listed.next_page_token)
    assert [each.name for each in (await city.call("ListReports", rest, SUPERVISOR)).reports] == [made[0].name]
