"""What events say together: what rises, what comes back, where it is hot, what the next shifts bring."""

import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from e2e.federation import Caller, Federation

NODE = "sf-d6"
ZONE = "zones/us-ca-sf-d6"
TYPE = "eventTypes/loose-cobblestones"
CREW = "organisations/d6.public-works"
WEEKS = 12
USUAL_PER_WEEK = 4
RISEN = 18
# Where there is usually something, a grid of places 400 m apart; where it rises; where it comes back.
SOUTH, WEST, STEP_DEGREES = 37.7600, -122.4300, 0.0036
RISING = (37.7790, -122.4105)
# 250 m there, the side of a cell.
CELL_DEGREES = (0.00225, 0.00285)
AGAIN = (37.7701, -122.4001)
Place = tuple[float, float]


@pytest.fixture(scope="module")
def now() -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


@pytest.fixture
def supervisor(federation: Federation, now: datetime) -> Any:
    """The supervisor of district 6, whose last twelve weeks of loose cobblestones are known."""
    node = federation.node(NODE)
    with ExitStack() as stack:
        admin = stack.enter_context(node.signed_in("node-admin"))
        admin.put(
            f"/v1/{TYPE}", {"title": {"zh": "铺路石松动", "en": "Loose cobblestones"}, "deadline": {"minutes": 2700}}
        )
        events = [*_usual(now), *_risen(now), *_coming_back(now)]
        taken = admin.post(f"/v1/{ZONE}/events:import", {"source": "paving-register", "events": events})["events"]
        assert {each["outcome"] for each in taken} <= {"IMPORT_OUTCOME_OPENED", "IMPORT_OUTCOME_KNOWN"}
        yield stack.enter_context(node.signed_in("supervisor.d6"))


def test_what_rises_beyond_its_own_history_is_told_with_its_statistics(supervisor: Caller, now: datetime) -> None:
    found = supervisor.get(f"/v1/{ZONE}/emergingIssues", windowEnd=now.isoformat())
    (issue,) = (each for each in found["issues"] if each["type"] == TYPE)
    assert issue["zone"] == "us-ca-sf-d6"
    assert issue["title"] == {"zh": "铺路石松动", "en": "Loose cobblestones"}
    assert issue["observed"] == RISEN + USUAL_PER_WEEK
    assert issue["expected"] < 2 * USUAL_PER_WEEK
    assert issue["qValue"] < found["falseDiscoveryRate"]
    words = issue["explanation"]["text"]
    assert str(issue["observed"]) in words["en"]
    assert str(issue["observed"]) in words["zh"]
    assert len(_selected(supervisor, issue["events"])) == issue["observed"]


def test_complaints_that_come_back_are_one_chain(supervisor: Caller) -> None:
    (chain,) = supervisor.get(f"/v1/{ZONE}/repeats", type=TYPE)["chains"]
    assert chain["count"] == 3
    assert [each["organisation"] for each in chain["events"]] == [CREW] * 3
    times = [each["occurredAt"] for each in chain["events"]]
    assert times == sorted(times)
    assert chain["explanation"]["text"]["zh"]
    assert chain["explanation"]["text"]["en"]


def test_hot_spots_are_where_it_rises_and_a_map_can_show_them(supervisor: Caller, now: datetime) -> None:
    since = now - timedelta(weeks=WEEKS)
    query = {"type": TYPE, "occurredFrom": since.isoformat(), "occurredTo": now.isoformat(), "periods": 2}
    found = supervisor.get(f"/v1/{ZONE}/hotSpots", **query)
    before, lately = found["periods"]
    assert not before.get("hotSpots")
    hottest = lately["hotSpots"][0]
    assert hottest["observed"] > RISEN / 2
    assert (
        hottest["bounds"]["south"] - STEP_DEGREES
        < RISING[0] + CELL_DEGREES[0]
        < hottest["bounds"]["north"] + STEP_DEGREES
    )
    assert hottest["observed"] == len(_selected(supervisor, hottest["events"]))
    shown = json.loads(lately["geojson"])
    assert shown["type"] == "FeatureCollection"
    assert len(shown["features"]) == len(lately["hotSpots"])


def test_the_next_shifts_are_forecast_and_how_wrong_that_was_is_said(supervisor: Caller) -> None:
    found = supervisor.get(f"/v1/{ZONE}/loadForecast", type=TYPE)
    assert len(found["shifts"]) == 7 * 3
    assert all(0 <= shift["low"] <= shift["high"] for shift in found["shifts"])
    assert sum(shift["expected"] for shift in found["shifts"]) >= USUAL_PER_WEEK
    assert found["testedShifts"] > 0
    assert {"error", "naiveError"} <= set(found)
    assert found["explanation"]["text"]["zh"]
    assert found["explanation"]["text"]["en"]


# ------------------------------------------------------------------------------------------------------------- in steps


def _usual(now: datetime) -> list[dict[str, Any]]:
    """A few a week, each somewhere else, seldom twice at one place."""
    return [
        _past(
            f"usual-{number}",
            now - timedelta(weeks=WEEKS) + number * timedelta(weeks=1) / USUAL_PER_WEEK + timedelta(hours=1),
            (SOUTH + number % 7 * STEP_DEGREES, WEST + number // 7 * STEP_DEGREES),
        )
        for number in range(WEEKS * USUAL_PER_WEEK)
    ]


def _risen(now: datetime) -> list[dict[str, Any]]:
    """Many in the last week, in one quarter."""
    return [
        _past(
            f"risen-{number}",
            now - timedelta(hours=3 + 8 * number),
            (RISING[0] + number % 3 * CELL_DEGREES[0], RISING[1] + number // 3 % 3 * CELL_DEGREES[1]),
        )
        for number in range(RISEN)
    ]


def _coming_back(now: datetime) -> list[dict[str, Any]]:
    """Mended twice, and loose a third time."""
    found = []
    for number, weeks_ago in enumerate((7, 5, 3)):
        at = now - timedelta(weeks=weeks_ago)
        past = _past(f"again-{number}", at, AGAIN)
        past["steps"] = _mended(at)
        found.append(past)
    return found


def _mended(since: datetime) -> list[dict[str, Any]]:
    actions = ("file", "dispatch", "dispose", "feed_back", "verify")
    steps: list[dict[str, Any]] = [
        {"action": action, "occurredAt": (since + timedelta(hours=hours)).isoformat()}
        for hours, action in enumerate(actions, 1)
    ]
    steps[1]["organisation"] = CREW
    return steps


def _past(external_id: str, at: datetime, place: Place) -> dict[str, Any]:
    return {
        "externalId": external_id,
        "type": TYPE,
        "description": "the paving is loose",
        "place": {"point": {"latitude": place[0], "longitude": place[1]}},
        "occurredAt": at.isoformat(),
    }


def _selected(caller: Caller, selection: dict[str, Any]) -> list[Any]:
    """The events behind a figure."""
    query = {f"selection.{key}": value for key, value in selection.items() if key != "bounds"}
    query |= {f"selection.bounds.{key}": value for key, value in selection.get("bounds", {}).items()}
    found: list[Any] = caller.get(f"/v1/{ZONE}/selectedEvents", pageSize=500, **query)["events"]
    return found
