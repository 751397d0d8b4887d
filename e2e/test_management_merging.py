"""Several reports of one thing: suggested, accepted, dismissed, split again; every reporter keeps their number."""

from collections.abc import Iterator
from itertools import count
from random import SystemRandom
from secrets import token_hex
from typing import Any

import pytest

from e2e.federation import Caller, Federation, Refused, until
from e2e.street import People, people_of, reported

ZONE = "zones/us-ca-sf-d10-potrero-hill"
# The demo's graffiti are one thing within 40 m; up to 100 m like words make a suggestion.
NEAR_M, FURTHER_M = 20.0, 60.0
CHINESE = ("围墙上有红色的喷漆涂鸦，影响市容", "墙面被人喷了红色涂鸦")
ENGLISH = ("Red graffiti tags on the retaining wall", "Somebody sprayed red tags on the wall")
METRES_PER_DEGREE = 111_195.0
Place = tuple[float, float]
_walls = count()


@pytest.fixture
def people(federation: Federation) -> Iterator[People]:
    """A resident and a supervisor of the city, and those of the street who deal with what the resident reports."""
    logins = {
        "officer": "duty-officer.potrero-hill",
        "dispatcher": "dispatcher.potrero-hill",
        "handler": "handler.potrero-hill.public-works",
        "verifier": "verifier.potrero-hill",
        "supervisor": "supervisor.potrero-hill",
    }
    with people_of(federation, city={"resident": "resident.01", "city": "supervisor.sf"}, street=logins) as found:
        yield found


@pytest.mark.parametrize("words", [CHINESE, ENGLISH], ids=["zh", "en"])
def test_two_reports_of_one_wall_become_one_event_and_both_reporters_get_the_answer(
    people: People, words: tuple[str, str]
) -> None:
    wall = _somewhere()
    first, into = reported(people, words[0], _place(wall))
    second, event = reported(people, words[1], _place(_north_of(wall, FURTHER_M)))
    assert event != into, "a little too far off to be merged without asking"
    (found,) = _suggestions(people["officer"], event, state="MERGE_SUGGESTION_STATE_OPEN")
    assert found["sameAs"] == into
    text = found["explanation"]["text"]
    assert f"may be the same as {into}: score {found['score']:.2f}" in text["en"]
    assert f"可能与 {into} 是同一件事：相似度 {found['score']:.2f}" in text["zh"]
    for zh, en in (("距离", "distance"), ("时间", "time"), ("文字", "words")):
        assert zh in text["zh"]
        assert en in text["en"]
    refused = people["verifier"].refused("POST", f"/v1/{found['name']}:accept")
    assert refused == Refused(403, "NOT_PERMITTED")

    accepted = people["dispatcher"].post(f"/v1/{found['name']}:accept", {"reason": "同一面墙 the same wall"})
    assert (accepted["suggestion"]["state"], accepted["event"]["name"]) == ("MERGE_SUGGESTION_STATE_ACCEPTED", into)
    assert accepted["event"]["requests"] == [first["name"], second["name"]]
    moved = people["resident"].follow(second["name"], lambda seen: seen["event"] == into)
    assert (moved["number"], moved["merged"]) == (second["number"], True)
    why = moved["updates"][-1]["reason"]
    assert "It keeps its number" in why["en"]
    assert "编号不变" in why["zh"]

    _dealt_with(people, into, "墙已粉刷干净 The wall is clean again")
    for request in (first, second):
        answered = people["resident"].follow(request["name"], lambda seen: seen["status"] == "REQUEST_STATUS_CLOSED")
        assert answered["answer"] == "墙已粉刷干净 The wall is clean again"
        assert answered["number"] == request["number"]

    # Two tiers up the same: one event that stands for both, and one that ended in it.
    def above() -> Any:
        ended = people["city"].get(f"/v1/{event}")["event"]
        return ended if ended["status"] == "merged" else None

    assert until("the city's copy", above)["mergedInto"] == into
    kept = until("the city's copy", lambda: _when(people["city"].get(f"/v1/{into}")["event"], "closed"))
    assert (kept["reports"], kept["requests"]) == (2, [first["name"], second["name"]])


def test_a_report_that_was_merged_wrongly_gets_an_event_of_its_own(people: People) -> None:
    wall = _somewhere()
    first, event = reported(people, ENGLISH[0], _place(wall))
    second, same = reported(people, "广告牌上被人乱涂乱画", _place(_north_of(wall, NEAR_M)))
    assert same == event, "so near, it is merged without asking"
    until("both reports", lambda: len(people["officer"].get(f"/v1/{event}/reports")["reports"]) == 2)
    (_, wrong) = people["officer"].get(f"/v1/{event}/reports")["reports"]
    assert (wrong["source"], wrong["description"]) == (second["name"], "广告牌上被人乱涂乱画")
    refused = people["officer"].refused("POST", f"/v1/{wrong['name']}:split", {})
    assert refused == Refused(400, "FIELD_INVALID")

    done = people["officer"].post(
        f"/v1/{wrong['name']}:split", {"reason": "是广告牌，不是墙 a billboard, not the wall"}
    )
    own = done["event"]["name"]
    assert (done["event"]["splitFrom"], done["splitFrom"]["reports"]) == (event, 1)
    (opened,) = people["officer"].get(f"/v1/{own}/steps")["steps"]
    assert f"this report was merged into {event}" in opened["explanation"]["text"]["en"]
    assert f"并入 {event}" in opened["explanation"]["text"]["zh"]
    assert opened["reason"] == "是广告牌，不是墙 a billboard, not the wall"
    seen = people["resident"].follow(second["name"], lambda found: found["event"] == own)
    assert (seen["number"], seen["merged"]) == (second["number"], False)
    assert "is dealt with on its own" in seen["updates"][-1]["reason"]["en"]
    assert "单独办理" in seen["updates"][-1]["reason"]["zh"]

    # Each goes its own way from now on.
    _dealt_with(people, event, "The wall is clean again")
    people["resident"].follow(first["name"], lambda found: found["answer"] == "The wall is clean again")
    assert not people["resident"].get(f"/v1/{second['name']}")["request"].get("answer")
    _dealt_with(people, own, "广告牌已清理")
    people["resident"].follow(second["name"], lambda found: found["answer"] == "广告牌已清理")


def test_who_takes_a_report_down_asks_before_and_who_decides_says_why(people: People) -> None:
    wall = _somewhere()
    _, event = reported(people, CHINESE[0], _place(wall))
    report = {"type": "eventTypes/graffiti", "description": CHINESE[1], "place": _place(_north_of(wall, FURTHER_M))}
    told = people["officer"].post(f"/v1/{ZONE}/events:findDuplicates", report)
    assert [each["event"] for each in told["suggested"]] == [event]
    assert told["merged"] == []
    _, other = reported(people, CHINESE[1], _place(_north_of(wall, FURTHER_M)))
    (found,) = _suggestions(people["officer"], other)
    before = _quality(people["supervisor"])
    refused = people["officer"].refused("POST", f"/v1/{found['name']}:dismiss", {})
    assert refused == Refused(400, "FIELD_INVALID")
    reason = "隔壁的另一面墙 another wall, next door"
    dismissed = people["officer"].post(f"/v1/{found['name']}:dismiss", {"reason": reason})["suggestion"]
    assert (dismissed["state"], dismissed["reason"]) == ("MERGE_SUGGESTION_STATE_DISMISSED", reason)
    after = _quality(people["supervisor"])
    assert int(after["dismissed"]) == int(before["dismissed"]) + 1
    decided = int(after["accepted"]) + int(after["dismissed"])
    assert after["suggestionPrecision"] == pytest.approx(int(after["accepted"]) / decided)


# ------------------------------------------------------------------------------------------------------------- in steps


def _somewhere() -> Place:
    """A place in Potrero Hill, three hundred metres from the ones before."""
    return 37.752 + next(_walls) * 0.003, -122.4 + SystemRandom().random() * 0.004


def _north_of(place: Place, metres: float) -> Place:
    return place[0] + metres / METRES_PER_DEGREE, place[1]


def _place(place: Place) -> dict[str, Any]:
    point = {"latitude": place[0], "longitude": place[1]}
    return {"address": f"{token_hex(6)} Street", "zoneHint": "Potrero Hill", "point": point}


def _suggestions(caller: Caller, event: str, **more: str) -> list[Any]:
    found: list[Any] = caller.get(f"/v1/{ZONE}/mergeSuggestions", event=event, **more)["suggestions"]
    return found


def _dealt_with(people: People, event: str, answer: str) -> None:
    for role, body in (
        ("officer", {"action": "file", "reason": "is a matter for us"}),
        ("dispatcher", {"action": "dispatch", "reason": "as routed"}),
        ("handler", {"action": "dispose", "reason": "painted over"}),
        ("handler", {"action": "feed_back", "answer": answer}),
        ("verifier", {"action": "verify", "reason": "seen on the spot"}),
    ):
        people[role].post(f"/v1/{event}:advance", body)


def _quality(caller: Caller) -> Any:
    return caller.get(f"/v1/{ZONE}/mergeQuality")["total"]


def _when(event: Any, status: str) -> Any:
    return event if event["status"] == status else None
