"""Follow-up: who reported is asked whether it is solved, by a person or a form, and "not solved" reaches the crew."""

import hashlib
from collections.abc import Iterator
from secrets import token_hex
from typing import Any
from uuid import uuid4

import pytest

from e2e.federation import Caller, Federation, Refused, until
from e2e.street import People, people_of

STREET = "us-ca-sf-d10-potrero-hill"
CREW = "organisations/potrero-hill.public-works"
POLICY = "followUpPolicies/potrero-hill"
PHONE = "415-555-0132"


@pytest.fixture
def people(federation: Federation) -> Iterator[People]:
    """A resident and the hotline of the city, and those of the street who deal with what the resident reports."""
    city = {
        "resident": "resident.01",
        "hotline": "duty-officer.sf",
        "supervisor": "supervisor.sf",
        "auditor": "auditor.sf",
        "admin": "node-admin",
    }
    street = {
        "officer": "duty-officer.potrero-hill",
        "dispatcher": "dispatcher.potrero-hill",
        "crew": "handler.potrero-hill.public-works",
        "verifier": "verifier.potrero-hill",
        "street_supervisor": "supervisor.potrero-hill",
    }
    with people_of(federation, city=city, street=street) as found:
        _ask_everybody(found["admin"])
        yield found
        found["admin"].put(f"/v1/{POLICY}", {**_policy(), "retired": True})


def test_a_call_finds_it_not_solved_and_the_crew_goes_again(people: People) -> None:
    request, event = _closed(people, "墙上有涂鸦 Tags on the wall")
    call = _call_for(people["hotline"], request)
    assert (call["event"], call["organisation"], call["node"]) == (event, CREW, "sf")
    why = call["explanation"]["text"]
    assert "列入回访" in why["zh"]
    assert "is below the share 1" in why["en"]
    assert PHONE not in str(call)

    # Who calls sees the number where the reporter left it, and that look is on record.
    claimed = people["hotline"].post(f"/v1/{call['name']}:claim")["followUp"]
    assert claimed["claimEndsAt"]  # left lying, it is on the list again
    assert people["hotline"].get(f"/v1/{request}")["request"]["contact"] == PHONE
    assert "people/duty-officer.sf" in until("the look on record", lambda: _looked(people["auditor"], request))
    refused = people["crew"].refused("POST", f"/v1/{call['name']}:claim")
    assert refused.status in {403, 404}
    tried = people["hotline"].post(f"/v1/{call['name']}:record", {"outcome": "FOLLOW_UP_OUTCOME_NOT_REACHED"})
    assert (tried["followUp"]["tries"], tried["followUp"]["state"]) == (1, "FOLLOW_UP_STATE_OPEN")

    said = {
        "outcome": "FOLLOW_UP_OUTCOME_NOT_SOLVED",
        "satisfaction": 2,
        "note": f"背面还有 The back of it is still full; call {PHONE}",
    }
    after = people["hotline"].post(f"/v1/{call['name']}:record", said)["followUp"]
    assert after["note"] == "背面还有 The back of it is still full; call [电话 phone]"
    reopened = until("the crew's event", lambda: _when(people["crew"].get(f"/v1/{event}")["event"], "dispatched"))
    assert (reopened["organisation"], reopened["reopens"]) == (CREW, 1)
    (entry,) = people["crew"].get(f"/v1/zones/{STREET}/exceptions", event=event)["exceptions"]
    assert (entry["kind"], entry["askedBy"], entry["reason"]) == ("EXCEPTION_KIND_REOPEN", call["name"], after["note"])
    people["resident"].follow(request, lambda found: found["status"] == "REQUEST_STATUS_IN_PROGRESS")
    until("the city knows", lambda: people["hotline"].get(f"/v1/{call['name']}")["followUp"]["reopened"])
    assert people["hotline"].refused("POST", f"/v1/{call['name']}:record", said) == Refused(400, "WRONG_STATE")

    # Finished again, the same reporter is asked again, and content this time.
    _finish(people, event)
    again = _call_for(people["hotline"], request)
    assert "未解决" in again["explanation"]["text"]["zh"]
    people["hotline"].post(f"/v1/{again['name']}:record", {"outcome": "FOLLOW_UP_OUTCOME_SOLVED", "satisfaction": 5})
    count = _count(people["supervisor"])
    assert int(count["notSolved"]) >= 1
    assert int(count["reopened"]) >= 1
    # The street hears what came of it, for its own scorecard.
    until("the street's count", lambda: int(_count(people["officer"]).get("solved", 0)) >= 1)


def test_a_form_is_enough(people: People) -> None:
    request, _ = _closed(people, "又一处涂鸦 Another tag")
    seen = people["resident"].follow(request, lambda found: found.get("followUpAskedAt"))
    assert seen["answer"] == "干净了 It is clean"
    answer = f"/v1/{request}:answerFollowUp"
    unclear = people["resident"].http.post(answer, json={"solved": False, "satisfaction": 1})
    assert unclear.json()["details"][1]["fieldViolations"][0]["field"] == "comment"
    people["resident"].post(answer, {"solved": True, "satisfaction": 5, "comment": "谢谢 thank you"})
    assert people["resident"].refused("POST", answer, {"solved": True, "satisfaction": 5}) == Refused(
        400, "WRONG_STATE"
    )

    def look() -> Any:
        page = people["hotline"].get(f"/v1/zones/{STREET}/followUps", state="FOLLOW_UP_STATE_SOLVED", pageSize=500)
        return next((call for call in page["followUps"] if call["request"] == request), None)

    call = until("the answer", look)
    assert (call["way"], call["satisfaction"], call["note"]) == ("FOLLOW_UP_WAY_FORM", 5, "谢谢 thank you")
    count = _count(people["supervisor"])
    assert int(count["byForm"]) >= 1
    assert 1 <= count["satisfaction"] <= 5


def test_the_draw_was_promised_before(people: People, federation: Federation) -> None:
    _closed(people, "涂鸦 a tag")
    with federation.node("sf").anonymous() as anybody:

        def look() -> Any:
            return anybody.get("/v1/followUpPeriods")["periods"]

        (present, *_) = until("a draw", look)
        assert not present["seed"]
        assert len(present["commitment"]) == hashlib.sha256().digest_size * 2
        assert POLICY in {policy["name"] for policy in anybody.get("/v1/followUpPolicies")["policies"]}


# ------------------------------------------------------------------------------------------------------------- in steps


def _policy() -> dict[str, Any]:
    title = {"zh": "波特雷罗山全部回访", "en": "Potrero Hill: everybody is asked"}
    return {
        "name": POLICY,
        "title": title,
        "zones": [STREET],
        "share": 1,
        "form": True,
        "tries": 2,
        "retryHours": 24,
    }


def _ask_everybody(admin: Caller) -> None:
    assert admin.put(f"/v1/{POLICY}", _policy())["policy"]["share"] == 1


def _closed(people: People, words: str) -> tuple[str, str]:
    """Return a request of the resident, and its event, which the street has closed."""
    report = {
        "type": "eventTypes/graffiti",
        "description": words,
        "place": {"address": f"{token_hex(6)} Street", "zoneHint": "Potrero Hill"},
        "contact": PHONE,
        "requestId": str(uuid4()),
    }
    request = str(people["resident"].post("/v1/requests", report)["request"]["name"])
    event = str(people["resident"].follow(request, lambda found: found["event"])["event"])
    people["officer"].post(f"/v1/{event}:advance", {"action": "file"})
    people["dispatcher"].post(f"/v1/{event}:advance", {"action": "dispatch"})
    _finish(people, event)
    return request, event


def _finish(people: People, event: str) -> None:
    people["crew"].post(f"/v1/{event}:advance", {"action": "dispose"})
    people["crew"].post(f"/v1/{event}:advance", {"action": "feed_back", "answer": "干净了 It is clean"})
    people["verifier"].post(f"/v1/{event}:advance", {"action": "verify"})


def _looked(auditor: Caller, request: str) -> list[str]:
    """Who looked at the contact of a request, by the audit log."""
    entries = auditor.get("/v1/audit/entries", part="delivery", resource=request)["entries"]
    return [entry["actor"] for entry in entries if entry["action"] == "delivery.contacts.read"]


def _call_for(hotline: Caller, request: str) -> Any:
    """The open call of a request, as soon as it is there."""

    def look() -> Any:
        page = hotline.get(f"/v1/zones/{STREET}/followUps", due=True, pageSize=500)
        return next((call for call in page["followUps"] if call["request"] == request), None)

    return until("the call", look)


def _count(caller: Caller) -> Any:
    counts = caller.get(f"/v1/zones/{STREET}/followUps:count", organisation=CREW)["counts"]
    return counts[0] if counts else {}


def _when(event: Any, status: str) -> Any:
    return event if event["status"] == status else None
