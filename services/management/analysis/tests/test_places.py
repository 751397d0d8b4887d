"""Repeated complaints and hot spots over a real channel and a real database."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Forbidden, Invalid
from quintet.management.v1 import analysis_pb2 as pb
from services.management.analysis.tests.happened import Happened, put
from services.management.analysis.tests.test_emerging import selected
from services.management.convert import time_of, time_pb
from services.management.tests.samples import GRAFFITI, NOISE

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

NOW = datetime(2026, 1, 5, 8, 20, tzinfo=UTC)
DAY = timedelta(days=1)
LEADER = "people/leader"
SUPERVISOR = "people/supervisor"


async def repeats(node: Node, subject: str = LEADER, zone: str = "us-ca-sf", **more: Any) -> pb.ListRepeatsResponse:
    request = pb.ListRepeatsRequest(parent=f"zones/{zone}", **more)
    response: pb.ListRepeatsResponse = await node.call("ListRepeats", request, subject)
    return response


async def hot_spots(node: Node, subject: str = LEADER, **more: Any) -> pb.ListHotSpotsResponse:
    request = pb.ListHotSpotsRequest(parent="zones/us-ca-sf", **more)
    response: pb.ListHotSpotsResponse = await node.call("ListHotSpots", request, subject)
    return response


def complaints() -> list[Happened]:
    """Three in a chain, one at the same place of another type, one far away, one long ago."""
    place: dict[str, Any] = {"latitude": 37.76, "longitude": -122.42}
    return [
        Happened(NOW - 60 * DAY, closed_at=NOW - 55 * DAY, **place),
        Happened(NOW - 40 * DAY, closed_at=NOW - 30 * DAY, latitude=37.7603, longitude=-122.42),
        Happened(NOW - 10 * DAY, zone="us-ca-sf-d10", organisation="organisations/parks", **place),
        Happened(NOW - 9 * DAY, type=NOISE.name, **place),
        Happened(NOW - 8 * DAY, latitude=37.70, longitude=-122.42),
        Happened(NOW - 120 * DAY, closed_at=NOW - 62 * DAY, **place),
        Happened(NOW - 7 * DAY),
    ]


async def test_a_chain_of_complaints_is_told_event_by_event(city: Node) -> None:
    city.clock.set(NOW)
    await put(city, complaints())
    found = await repeats(city)
    assert (found.chains_total, found.repeated, found.placed) == (1, 2, 5)
    (chain,) = found.chains
    assert (chain.type, chain.title.zh, chain.title.en) == (GRAFFITI.name, "涂鸦", "Graffiti")
    assert (chain.count, chain.zone, chain.place.point.latitude) == (3, "us-ca-sf-d10", 37.76)
    assert [time_of(event, "occurred_at") for event in chain.events] == [NOW - days * DAY for days in (60, 40, 10)]
    assert [event.HasField("closed_at") for event in chain.events] == [True, True, False]
    assert chain.events[2].organisation == "organisations/parks"
    assert chain.explanation.text.en.startswith("3 events of one type at one place (equal address, or within 50 m)")
    assert "结案后30天内再次发生，共3件" in chain.explanation.text.zh
    assert len(await selected(city, found.events, SUPERVISOR)) == 6


async def test_what_counts_as_a_repetition_can_be_asked_for(city: Node) -> None:
    city.clock.set(NOW)
    await put(city, complaints())
    assert (await repeats(city, within_days=18)).chains[0].count == 2
    assert not (await repeats(city, radius_m=1)).chains
    assert (await repeats(city, occurred_from=time_pb(NOW - 130 * DAY))).chains[0].count == 4
    assert not (await repeats(city, zone="us-ca-sf-d10")).chains
    assert not (await repeats(city, type=NOISE.name)).chains
    with pytest.raises(Invalid) as caught:
        await repeats(city, occurred_from=time_pb(NOW - 400 * DAY))
    assert caught.value.violations[0][0] == "occurredTo"


def spread() -> list[Happened]:
    """Two types all over the town for four weeks; noise gathers at one corner in the last two."""
    random = Random(4)
    events = [
        Happened(
            NOW - timedelta(hours=random.uniform(1, 28 * 24)),
            type=kind,
            latitude=37.70 + random.uniform(0, 0.06),
            longitude=-122.50 + random.uniform(0, 0.08),
        )
        for kind in (GRAFFITI.name, NOISE.name)
        for _ in range(300)
    ]
    at_corner: dict[str, Any] = {"type": NOISE.name, "latitude": 37.7301, "longitude": -122.4601}
    return events + [Happened(NOW - timedelta(hours=2 + place), **at_corner) for place in range(20)]


async def test_a_corner_that_grows_hot_is_shown_in_its_period_and_opens_its_events(city: Node) -> None:
    city.clock.set(NOW)
    await put(city, spread())
    found = await hot_spots(city, periods=2, type=NOISE.name)
    assert found.cells > 400
    before, after = found.periods
    assert (time_of(before, "start"), time_of(before, "end")) == (NOW - 28 * DAY, NOW - 14 * DAY)
    assert (before.located + after.located, list(before.hot_spots)) == (320, [])
    spot = after.hot_spots[0]
    assert spot.bounds.south <= 37.7301 + 0.0025
    assert spot.observed >= 20
    assert spot.expected < 5
    assert 0 <= spot.p_value <= spot.q_value <= 0.05
    assert f"had {spot.observed} events" in spot.explanation.text.en
    assert f"相邻网格发生{spot.observed}件" in spot.explanation.text.zh
    assert len(await selected(city, spot.events, SUPERVISOR)) == spot.observed
    features = json.loads(after.geojson)["features"]
    assert len(features) == len(after.hot_spots)
    assert features[0]["properties"]["observed"] == spot.observed
    ring = features[0]["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1] == [spot.bounds.west, spot.bounds.south]


async def test_a_map_of_nothing_and_questions_that_make_no_sense(city: Node) -> None:
    city.clock.set(NOW)
    nothing = await hot_spots(city)
    assert (nothing.cells, len(nothing.periods), list(nothing.periods[0].hot_spots)) == (0, 1, [])
    assert json.loads(nothing.periods[0].geojson) == {"type": "FeatureCollection", "features": []}
    no_time = {"occurred_to": time_pb(NOW), "occurred_from": time_pb(NOW)}
    changed: list[tuple[dict[str, Any], str]] = [({"cell_m": 20}, "cellM"), (no_time, "occurredTo")]
    for changes, field in changed:
        with pytest.raises(Invalid) as caught:
            await hot_spots(city, **changes)
        assert caught.value.violations[0][0] == field
    with pytest.raises(Forbidden):
        await repeats(city, "people/handler.works")
    with pytest.raises(Forbidden):
        await hot_spots(city, "people/handler.works")
