"""An event is handed from one crew to another: accepted, refused, disputed, decided; and where it belongs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from secrets import token_hex
from typing import Any

import pytest

from e2e.federation import Caller, Federation, Refused, until
from e2e.street import People, people_of

STREET = "zones/us-ca-sf-d10-potrero-hill"
ROADS, SEWERS = "organisations/potrero-hill.public-works", "organisations/potrero-hill.sewer"
_numbers = count(1)


@pytest.fixture
def people(federation: Federation) -> Iterator[People]:
    """Those of the street who hand events to each other, and the leader of the city two tiers above."""
    logins = {
        "officer": "duty-officer.potrero-hill",
        "dispatcher": "dispatcher.potrero-hill",
        "roads": "handler.potrero-hill.public-works",
        "sewers": "handler.potrero-hill.sewer",
        "supervisor": "supervisor.potrero-hill",
    }
    with people_of(federation, city={"leader": "leader.sf"}, street=logins) as found:
        yield found


def test_the_sewer_crew_takes_over_what_the_road_crew_offers(people: People) -> None:
    event = _with_the_road_crew(people)
    before = people["roads"].get(f"/v1/{event}")["event"]
    waiting = _count(people["sewers"], "TO_ANSWER")
    offered = _offer(people, event)
    assert "须在" in offered["explanation"]["text"]["zh"]
    assert "has to answer until" in offered["explanation"]["text"]["en"]
    # The offer is work of the sewer crew, which sees the event for its sake, and is not its duty yet.
    assert _count(people["sewers"], "TO_ANSWER") == waiting + 1
    assert offered["name"] in _inbox(people["sewers"], "TO_ANSWER")
    shown = people["sewers"].get(f"/v1/{offered['name']}")
    assert (shown["event"]["organisation"], shown["event"]["description"]) == (ROADS, before["description"])
    assert people["roads"].refused("POST", f"/v1/{offered['name']}:accept") == Refused(403, "NOT_PERMITTED")
    again = {"organisation": SEWERS, "reason": "x", "boundary": "y"}
    assert people["roads"].refused("POST", f"/v1/{event}/handovers", again) == Refused(400, "HANDOVER_OPEN")

    accepted = people["sewers"].post(f"/v1/{offered['name']}:accept", {"note": "ours indeed"})["handover"]
    assert accepted["state"] == "HANDOVER_STATE_ACCEPTED"
    after = people["sewers"].get(f"/v1/{event}")["event"]
    assert (after["organisation"], after["dueAt"]) == (SEWERS, before["dueAt"])
    assert people["roads"].refused("POST", f"/v1/{event}:advance", {"action": "dispose"}) == Refused(
        403, "NOT_PERMITTED"
    )
    people["sewers"].post(f"/v1/{event}:advance", {"action": "dispose", "reason": "cleared"})
    steps = people["dispatcher"].get(f"/v1/{event}/steps")["steps"]
    assert [step["action"] for step in steps][-3:] == ["offer_handover", "accept_handover", "dispose"]
    assert _count(people["sewers"], "TO_ANSWER") == waiting


def test_a_refusal_is_disputed_and_the_supervisor_decides(people: People) -> None:
    event = _with_the_road_crew(people)
    disputed = _disputed(people, event)
    assert disputed["decideRole"] == "supervisor"
    assert "提出争议，交本区域督查员" in disputed["explanation"]["text"]["zh"]
    assert "the supervisor of the zone decides" in disputed["explanation"]["text"]["en"]
    assert disputed["name"] in _inbox(people["supervisor"], "TO_DECIDE")
    assert people["roads"].get(f"/v1/{event}")["event"]["organisation"] == ROADS
    verdict = {"organisation": ROADS, "reason": "it is above the grating"}
    decided = people["supervisor"].post(f"/v1/{disputed['name']}:decide", verdict)["handover"]
    assert decided["state"] == "HANDOVER_STATE_DISMISSED"
    # It binds: the same is not offered again.
    again = {"organisation": SEWERS, "reason": "still", "boundary": "the grating"}
    assert people["roads"].refused("POST", f"/v1/{event}/handovers", again) == Refused(400, "HANDOVER_DECIDED")
    people["roads"].post(f"/v1/{event}:advance", {"action": "dispose", "reason": "done then"})


def test_the_city_decides_by_a_directive(people: People) -> None:
    event = _with_the_road_crew(people)
    disputed = _disputed(people, event)
    name = disputed["name"]

    def above() -> Any:
        listed = people["leader"].get("/v1/zones/us-ca-sf/handovers", event=event)["handovers"]
        return [found for found in listed if found["state"] == "HANDOVER_STATE_DISPUTED"]

    (seen,) = until("the dispute in the city", above)
    assert (seen["name"], seen["node"]) == (name, "sf-potrero-hill")
    here = {"organisation": SEWERS, "reason": "x"}
    assert people["leader"].refused("POST", f"/v1/{name}:decide", here) == Refused(400, "NOT_AUTHORITATIVE")
    order = {
        "zone": STREET.removeprefix("zones/"),
        "organisation": SEWERS,
        "title": "移交裁定 Who takes it",
        "text": "Behind the grating it is the sewer crew's",
        "subject": name,
        "expiresAt": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
    }
    sent = people["leader"].post("/v1/directives", {"directive": order})["directive"]
    dispatcher, leader = people["dispatcher"], people["leader"]
    until("the event with the sewers", lambda: dispatcher.get(f"/v1/{event}")["event"]["organisation"] == SEWERS)
    (trail,) = people["dispatcher"].get(f"/v1/{STREET}/handovers", event=event)["handovers"]
    assert (trail["state"], trail["decidedBy"]) == ("HANDOVER_STATE_ORDERED", sent["issuedBy"])
    assert f"上级节点 sf 以指令 {sent['name']} 裁定由 {SEWERS} 接办" in trail["explanation"]["text"]["zh"]
    assert f"the node sf, by {sent['name']}, decided: {SEWERS} has to take it" in trail["explanation"]["text"]["en"]
    until("the city's copy", lambda: leader.get(f"/v1/{event}")["event"]["organisation"] == SEWERS)


def test_the_dispatcher_sees_where_it_should_go_and_how_often_that_was_right(people: People) -> None:
    event = _open(people["officer"], "墙上有涂鸦 Tags on the wall")
    found = people["dispatcher"].get(f"/v1/{event}:suggestOrganisations")
    rule = found["suggestions"][0]
    assert (rule["source"], rule["organisation"]) == ("SUGGESTION_SOURCE_RULE", ROADS)
    assert "是覆盖它的规则中最细的一条" in rule["explanation"]["text"]["zh"]
    assert "the deepest route" in rule["explanation"]["text"]["en"]
    measured = people["dispatcher"].get(f"/v1/{STREET}/routing:measure")
    for accuracy in measured["accuracies"]:
        assert accuracy["right"] <= accuracy["suggested"] <= measured["events"]
        assert "准确率" in accuracy["explanation"]["text"]["zh"]
    # What the crew returns counts against it.
    people["officer"].post(f"/v1/{event}:advance", {"action": "file"})
    people["dispatcher"].post(f"/v1/{event}:advance", {"action": "dispatch"})
    people["roads"].post(f"/v1/{event}:advance", {"action": "return", "reason": "private wall"})
    after = people["dispatcher"].get(f"/v1/{event}:suggestOrganisations")["suggestions"]
    for each in after[1:]:
        if each["organisation"] == ROADS:
            assert int(each["explanation"]["inputs"]["corrections"]) >= 1
            assert "退回或移交" in each["explanation"]["text"]["zh"]
            assert "returned or handed over" in each["explanation"]["text"]["en"]


# ------------------------------------------------------------------------------------------------------------- in steps


def _open(officer: Caller, words: str) -> str:
    place = {"address": f"{next(_numbers)} {token_hex(4)} Street"}
    body = {"type": "eventTypes/graffiti", "description": words, "place": place}
    name: str = officer.post(f"/v1/{STREET}/events", body)["event"]["name"]
    return name


def _with_the_road_crew(people: People) -> str:
    event = _open(people["officer"], "雨水篦子堵塞 A blocked drain")
    people["officer"].post(f"/v1/{event}:advance", {"action": "file"})
    people["dispatcher"].post(f"/v1/{event}:advance", {"action": "dispatch", "organisation": ROADS})
    return event


def _offer(people: People, event: str) -> Any:
    body = {"organisation": SEWERS, "reason": "the drain is blocked below", "boundary": "the grating"}
    return people["roads"].post(f"/v1/{event}/handovers", body)["handover"]


def _disputed(people: People, event: str) -> Any:
    offered = _offer(people, event)
    refused = people["sewers"].post(f"/v1/{offered['name']}:refuse", {"reason": "the road has sunk"})["handover"]
    assert refused["state"] == "HANDOVER_STATE_REFUSED"
    assert offered["name"] in _inbox(people["roads"], "OFFERED")
    return people["roads"].post(f"/v1/{offered['name']}:dispute", {"reason": "it has not"})["handover"]


def _inbox(caller: Caller, inbox: str) -> list[str]:
    listed = caller.get(f"/v1/{STREET}/handovers", inbox=f"HANDOVER_INBOX_{inbox}", pageSize=500)
    return [found["name"] for found in listed["handovers"]]


def _count(caller: Caller, inbox: str) -> int:
    counts = caller.get(f"/v1/{STREET}/handovers:count")["counts"]
    total = next(each["total"] for each in counts if each["inbox"] == f"HANDOVER_INBOX_{inbox}")
    assert total == len(_inbox(caller, inbox))
    return int(total)
