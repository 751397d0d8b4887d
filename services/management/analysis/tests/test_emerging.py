"""Emerging issues over a real channel and a real database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from libs.errors import Forbidden, Invalid
from quintet.management.v1 import analysis_pb2 as pb
from quintet.management.v1 import facts_pb2, management_pb2
from services.management.analysis.emerging import EmergingIssues, EmergingTask
from services.management.analysis.tests.happened import Happened, put
from services.management.convert import time_of, time_pb
from services.management.tests.samples import GRAFFITI, NOISE

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

NOW = datetime(2026, 1, 5, 8, 20, tzinfo=UTC)
HOUR = NOW.replace(minute=0)
LEADER = "people/leader"
D6, D10, POTRERO = "us-ca-sf-d6", "us-ca-sf-d10", "us-ca-sf-d10-potrero-hill"


def noise(weeks: int = 16, per_week: int = 6) -> list[Happened]:
    """Two types in three zones, evenly at random, up to the present hour."""
    random = Random(11)
    return [
        Happened(HOUR - timedelta(hours=random.uniform(0, weeks * 168)), zone, kind)
        for zone in (D6, D10, POTRERO)
        for kind in (GRAFFITI.name, NOISE.name)
        for _ in range(weeks * per_week)
    ]


def planted(count: int = 30) -> list[Happened]:
    return [Happened(HOUR - timedelta(hours=1 + place), POTRERO, NOISE.name) for place in range(count)]


async def issues(node: Node, zone: str = "us-ca-sf", **more: object) -> pb.ListEmergingIssuesResponse:
    request = pb.ListEmergingIssuesRequest(parent=f"zones/{zone}", **more)  # type: ignore[arg-type]
    response: pb.ListEmergingIssuesResponse = await node.call("ListEmergingIssues", request, LEADER)
    return response


async def test_a_rise_is_found_explained_in_both_languages_and_opens_its_events(city: Node) -> None:
    city.clock.set(NOW)
    await put(city, [*noise(), *planted()])
    found = await issues(city)
    assert (found.baseline_windows, found.tested, found.step_weeks) == (12, 8, 1)
    assert (time_of(found, "window_start"), time_of(found, "window_end")) == (HOUR - timedelta(days=7), HOUR)
    named = {(issue.zone, issue.type): issue for issue in found.issues}
    assert set(named) == {(POTRERO, NOISE.name), (D10, NOISE.name), ("us-ca-sf", NOISE.name)}
    issue = named[POTRERO, NOISE.name]
    assert issue.observed >= 30
    assert 5 < issue.expected < 7
    assert issue.expected == pytest.approx((sum(issue.baseline) + 0.5) / 12)
    assert 0 < issue.p_value <= issue.q_value < 1e-4
    assert list(named[D10, NOISE.name].explained_by) == [POTRERO]
    text = issue.explanation.text
    assert f"had {issue.observed} of “Noise”; 12 windows of 168 h before" in text.en
    assert f"发生“Noise”{issue.observed}件；按此前12个同星期同时段的168小时窗口" in text.zh
    assert issue.explanation.inputs["observed"] == str(issue.observed)
    assert len(issue.first_events) == 20
    events = await selected(city, issue.events)
    assert len(events) == issue.observed
    assert {event.name for event in events} >= set(issue.first_events)
    assert {(event.zone, event.type) for event in events} == {(POTRERO, NOISE.name)}


async def selected(
    node: Node, selection: pb.EventSelection, subject: str = "people/supervisor"
) -> list[management_pb2.Event]:
    """Return all pages of a selection, of seven events each."""
    events: list[management_pb2.Event] = []
    token = ""
    while True:
        request = pb.ListSelectedEventsRequest(selection=selection, page_size=7, page_token=token)
        response = await node.call("ListSelectedEvents", request, subject)
        events.extend(response.events)
        token = response.next_page_token
        if not token:
            return events


async def test_where_nothing_rises_nothing_is_said(city: Node) -> None:
    city.clock.set(NOW)
    await put(city, noise())
    found = await issues(city)
    assert (list(found.issues), found.tested) == ([], 8)


async def test_the_present_is_compared_with_the_past_it_is_asked_for(city: Node) -> None:
    city.clock.set(NOW)
    await put(city, [*noise(), *planted()])
    assert not (await issues(city, window_end=time_pb(HOUR - timedelta(days=7)))).issues
    assert (await issues(city, window_h=24)).issues
    assert not (await issues(city, events_min=1000)).issues
    assert not (await issues(city, D6)).issues
    with pytest.raises(Invalid) as caught:
        await issues(city, window_end=time_pb(NOW + timedelta(seconds=1)))
    assert caught.value.violations[0][0] == "windowEnd"


async def test_only_who_leads_or_supervises_sees_it_and_handlers_open_their_own_events_only(city: Node) -> None:
    city.clock.set(NOW)
    await put(city, planted(5))
    request = pb.ListEmergingIssuesRequest(parent="zones/us-ca-sf")
    for subject in ("people/handler.works", "people/duty-officer", "people/resident.01"):
        with pytest.raises(Forbidden):
            await city.call("ListEmergingIssues", request, subject)
    selection = pb.EventSelection(
        parent="zones/us-ca-sf", occurred_from=time_pb(HOUR - timedelta(days=7)), occurred_to=time_pb(HOUR)
    )
    assert len(await selected(city, selection, "people/handler.works")) == 5
    assert await selected(city, selection, "people/handler.parks") == []
    selection.organisation = "organisations/parks"
    assert await selected(city, selection) == []
    selection.occurred_to.FromDatetime(HOUR - timedelta(days=8))
    with pytest.raises(Invalid):
        await selected(city, selection)


async def test_an_issue_is_stated_once_while_its_window_lasts(city: Node) -> None:
    await put(city, [*noise(), *planted()])
    emerging = EmergingIssues(city.transactions, lambda: city.zones, ZoneInfo("UTC"))
    task = EmergingTask(city.transactions, emerging, "us-ca-sf")
    for passed in (timedelta(0), timedelta(hours=1), timedelta(days=1)):
        city.clock.set(NOW + passed)
        await task.turn()
    ((fact, message),) = await city.stated()
    assert isinstance(message, facts_pb2.EmergingIssueFound)
    assert (fact.zone, message.issue.zone, message.issue.type, message.node) == (POTRERO, POTRERO, NOISE.name, city.id)
    assert (time_of(message, "window_end"), message.issue.observed >= 30) == (HOUR, True)
    later = HOUR + timedelta(days=8)
    await put(city, [Happened(later - timedelta(hours=1 + n), POTRERO, NOISE.name) for n in range(60)])
    city.clock.set(later)
    await task.turn()
    assert len(await city.stated()) == 2
