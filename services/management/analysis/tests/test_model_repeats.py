"""What counts as the same complaint again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

from services.management.analysis.model_repeats import Happening, chains, repeated
from services.management.model_merge import distance_m

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
WITHIN = timedelta(days=30)


def event(name: str, day: float, closed: float | None = None, **more: object) -> Happening:
    values: dict[str, object] = {
        "type": "eventTypes/noise", "zone": "z", "organisation": "", "address": "", "address_key": "",
        "latitude": 37.76, "longitude": -122.42,
    } | more  # fmt: skip
    at = START + day * DAY
    return Happening(name=name, occurred_at=at, closed_at=None if closed is None else START + closed * DAY, **values)  # type: ignore[arg-type]


def linked(*events: Happening) -> list[list[str]]:
    found = chains(events, radius_m=50, within=WITHIN)
    assert repeated(found) == sum(len(chain.events) - 1 for chain in found)
    return [[each.name for each in chain.events] for chain in found]


def test_what_comes_back_after_closing_is_one_chain() -> None:
    assert linked(event("c", 40), event("a", 0, 5), event("b", 12, 20)) == [["a", "b", "c"]]


def test_more_of_the_same_while_it_is_open_is_no_repetition() -> None:
    assert linked(event("a", 0, 5), event("b", 4, 6)) == []
    assert linked(event("a", 0), event("b", 4)) == []


def test_after_long_enough_it_is_a_new_complaint() -> None:
    assert linked(event("a", 0, 5), event("b", 35, 36), event("c", 66.1)) == [["a", "b"]]


def test_another_type_is_another_complaint() -> None:
    assert linked(event("a", 0, 5), event("b", 6, type="eventTypes/lamp")) == []


def test_an_address_is_a_place_without_coordinates_and_against_them() -> None:
    nowhere = {"latitude": None, "longitude": None}
    assert linked(event("a", 0, 5, address_key="1 main st", **nowhere), event("b", 6, address_key="1 main st")) == [
        ["a", "b"]
    ]
    assert linked(event("a", 0, 5, **nowhere), event("b", 6, **nowhere)) == []


def test_the_longest_chain_comes_first() -> None:
    far = {"latitude": 37.70}
    pairs = [event("x", 0, 1, **far), event("y", 50, **far), event("z", 2, 3, **far)]
    assert linked(event("a", 0, 1), event("b", 2, 3), event("c", 4), *pairs) == [["a", "b", "c"], ["x", "z"]]


def test_places_found_by_squares_are_those_found_by_measuring_every_pair() -> None:
    random = Random(3)
    for latitude in (37.76, 0.0, -33.9, 69.9999, 60.0):
        places = [(latitude + random.uniform(-2e-3, 2e-3), 116.4 + random.uniform(-4e-3, 4e-3)) for _ in range(60)]
        for (north, east), (north_2, east_2) in pairwise(places):
            pair = [
                event("a", 0, 1, latitude=north, longitude=east),
                event("b", 2, latitude=north_2, longitude=east_2),
            ]
            near = distance_m(north, east, north_2, east_2) <= 150
            assert bool(chains(pair, radius_m=150, within=WITHIN)) == near
