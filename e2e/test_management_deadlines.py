"""Deadlines in working time: explained, extended, suspended, and what a citizen sees and does about them."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from e2e.federation import Federation, Refused, until
from e2e.street import CREW, People, people_of, with_the_crew


@pytest.fixture
def people(federation: Federation) -> Iterator[People]:
    """A resident of the city, and those of the street who deal with what the resident reports."""
    logins = {
        "officer": "duty-officer.potrero-hill",
        "dispatcher": "dispatcher.potrero-hill",
        "handler": "handler.potrero-hill.public-works",
        "verifier": "verifier.potrero-hill",
        "supervisor": "supervisor.potrero-hill",
    }
    with people_of(federation, city={"resident": "resident.01", "city": "supervisor.sf"}, street=logins) as found:
        yield found


def test_a_deadline_over_a_weekend_is_explained_in_both_languages(people: People) -> None:
    _, event = with_the_crew(people, "filed by a test")
    told = people["handler"].get(f"/v1/{event}/deadlines")
    # Five working days have a weekend among them, whenever they begin; more rest days when it is one now.
    words = told["business"]["explanation"]["text"]
    assert words["en"].startswith("Due ")
    assert "because 45 h of working time count from" in words["en"]
    assert "the calendar “San Francisco city offices”, version" in words["en"]
    rested = re.search(r"([2-6]) rest days", words["en"])
    assert rested, words["en"]
    assert "工作时间45小时" in words["zh"]
    assert f"休息日{rested[1]}天" in words["zh"]
    assert told["business"]["firstDueAt"] == told["business"]["dueAt"]
    assert told["step"]["organisation"] == CREW
    assert "18 h of working time" in told["step"]["explanation"]["text"]["en"]


def test_the_crew_asks_for_time_the_supervisor_grants_it_and_the_citizen_sees_why(people: People) -> None:
    request, event = with_the_crew(people, "filed by a test")
    asking = {"kind": "EXCEPTION_KIND_EXTENSION", "minutes": 540, "reason": "the paint is ordered"}
    asked = people["handler"].post(f"/v1/{event}/exceptions", asking)["exception"]
    own = people["handler"].refused("POST", f"/v1/{asked['name']}:decide", {"approve": True})
    assert own == Refused(403, "NOT_PERMITTED")
    waiting = people["supervisor"].get(
        "/v1/zones/us-ca-sf-d10-potrero-hill/exceptions", state="EXCEPTION_STATE_ASKED", event=event
    )["exceptions"]
    assert [entry["name"] for entry in waiting] == [asked["name"]]
    decided = people["supervisor"].post(f"/v1/{asked['name']}:decide", {"approve": True})["exception"]
    assert decided["dueBefore"] < decided["dueAfter"]

    seen = people["resident"].follow(request, lambda found: found.get("deadlineChanges"))
    assert (seen["firstDueAt"], seen["dueAt"]) == (decided["dueBefore"], decided["dueAfter"])
    (change,) = seen["deadlineChanges"]
    assert "an extension of 9 h was approved" in change["reason"]["en"]
    assert "已批准延期9小时" in change["reason"]["zh"]
    assert "paint" not in str(seen)
    words = people["handler"].get(f"/v1/{event}/deadlines")["business"]["explanation"]["text"]
    assert "extended by 9 h (approved by people/supervisor.potrero-hill)" in words["en"]
    assert "延期9小时（people/supervisor.potrero-hill 批准）" in words["zh"]
    # Two tiers up the same deadline and the same ledger.
    until("the city's copy", lambda: people["city"].get(f"/v1/{event}")["event"]["dueAt"] == decided["dueAfter"])
    above = people["city"].get("/v1/zones/us-ca-sf/exceptions", event=event)["exceptions"]
    assert [entry["state"] for entry in above] == ["EXCEPTION_STATE_APPROVED"]


def test_while_it_is_suspended_nothing_counts_and_nothing_happens(people: People) -> None:
    request, event = with_the_crew(people, "filed by a test")
    before = people["handler"].get(f"/v1/{event}")["event"]
    wait_until = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    asking = {"kind": "EXCEPTION_KIND_SUSPENSION", "until": wait_until, "reason": "the wall is being rebuilt"}
    asked = people["handler"].post(f"/v1/{event}/exceptions", asking)["exception"]
    people["supervisor"].post(f"/v1/{asked['name']}:decide", {"approve": True})
    refused = people["handler"].refused("POST", f"/v1/{event}:advance", {"action": "dispose", "reason": "now"})
    assert refused == Refused(400, "EVENT_SUSPENDED")
    told = people["handler"].get(f"/v1/{event}/deadlines")
    assert told["business"]["state"] == told["step"]["state"] == "CLOCK_STATE_PAUSED"
    seen = people["resident"].follow(request, lambda found: found.get("suspendedUntil"))
    assert seen["dueAt"] > before["dueAt"]

    people["handler"].post(f"/v1/{event}:endSuspension", {"reason": "the wall stands"})
    after = people["handler"].get(f"/v1/{event}")["event"]
    assert not after.get("suspendedUntil")
    assert before["dueAt"] <= after["dueAt"] < seen["dueAt"]
    people["handler"].post(f"/v1/{event}:advance", {"action": "dispose", "reason": "painted over"})
    ledger = people["supervisor"].get("/v1/zones/us-ca-sf-d10-potrero-hill/exceptions", event=event)["exceptions"]
    assert {(entry["kind"], entry["state"]) for entry in ledger} == {
        ("EXCEPTION_KIND_SUSPENSION", "EXCEPTION_STATE_ENDED"),
        ("EXCEPTION_KIND_RESUMPTION", "EXCEPTION_STATE_RECORDED"),
    }


def test_a_citizen_who_is_not_satisfied_reaches_the_crew_again(people: People) -> None:
    request, event = with_the_crew(people, "filed by a test")
    early = people["resident"].refused("POST", f"/v1/{request}:reopen", {"reason": "it is still there"})
    assert early == Refused(400, "WRONG_STATE")
    people["handler"].post(f"/v1/{event}:advance", {"action": "dispose", "reason": "painted over"})
    people["handler"].post(f"/v1/{event}:advance", {"action": "feed_back", "answer": "The wall is clean again."})
    people["verifier"].post(f"/v1/{event}:advance", {"action": "verify", "reason": "seen on the spot"})
    people["resident"].follow(request, lambda found: found.get("reopenUntil"))
    people["resident"].post(f"/v1/{request}:reopen", {"reason": "it is still there"})

    reopened = until("the crew's event", lambda: _when(people["handler"].get(f"/v1/{event}")["event"], "dispatched"))
    assert (reopened["organisation"], reopened["reopens"]) == (CREW, 1)
    (entry,) = people["handler"].get("/v1/zones/us-ca-sf-d10-potrero-hill/exceptions", event=event)["exceptions"]
    assert (entry["kind"], entry["askedBy"], entry["reason"]) == (
        "EXCEPTION_KIND_REOPEN",
        request,
        "it is still there",
    )
    people["resident"].follow(request, lambda found: found["status"] == "REQUEST_STATUS_IN_PROGRESS")


# ------------------------------------------------------------------------------------------------------------- in steps


def _when(event: Any, status: str) -> Any:
    return event if event["status"] == status else None
