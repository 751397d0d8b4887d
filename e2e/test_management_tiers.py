"""Street, district, city: each works alone; the city watches, supervises, takes over; cut off and back, all agree."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from e2e.federation import Caller, Federation, Refused, until
from e2e.street import STREET as STREET_NODE
from e2e.street import People, people_of, with_the_crew

STREET = "zones/us-ca-sf-d10-potrero-hill"
CITY_CREW = "organisations/public-works"
REASON = "街道力量不足，由市级办理 More than the street can do"
WATCH_READ_TIMEOUT_S = 60.0


@pytest.fixture
def people(federation: Federation) -> Iterator[People]:
    """Those of the street and of the city, two tiers above; `neighbour` files reports at the street itself."""
    street = {
        "officer": "duty-officer.potrero-hill",
        "dispatcher": "dispatcher.potrero-hill",
        "crew": "handler.potrero-hill.public-works",
        "verifier": "verifier.potrero-hill",
        "street supervisor": "supervisor.potrero-hill",
    }
    city = {
        "resident": "resident.01",
        "supervisor": "supervisor.sf",
        "city crew": "handler.public-works",
        "city verifier": "verifier.sf",
    }
    with people_of(federation, city=city, street=street) as found:
        yield found


@pytest.mark.parametrize(
    "words",
    [("the whole slope is sliding", "The slope is secured."), ("整片山坡正在滑动", "山坡已加固。")],
    ids=["en", "zh"],
)
def test_the_city_takes_over_and_the_resident_gets_its_answer(people: People, words: tuple[str, str]) -> None:
    said, answer = words
    with _watching(people["supervisor"]) as changes:
        request, event = with_the_crew(people, said)
        _told(changes, event)  # live, without asking again
    seen = _when(people["supervisor"], event, lambda found: found["status"] == "dispatched")
    assert (seen["node"], seen["description"]) == (STREET_NODE, said)
    actions = [step["action"] for step in people["supervisor"].get(f"/v1/{event}/steps")["steps"]]
    assert actions == ["open", "file", "dispatch"]

    _the_city_supervises(people, event)
    asked = _taken_over(people, event)
    _the_street_follows(people, event, asked)

    crew = people["city crew"]
    row = until("the event on the crew's list", lambda: _work(crew, event))
    assert "dispose" in row["actions"]
    crew.post(f"/v1/{event}:advance", {"action": "dispose", "reason": "secured"})
    crew.post(f"/v1/{event}:advance", {"action": "feed_back", "answer": answer})
    people["city verifier"].post(f"/v1/{event}:advance", {"action": "verify", "reason": "seen"})
    assert people["resident"].follow(request, lambda found: found.get("answer"))["answer"] == answer
    below = _when(people["officer"], event, lambda found: found["status"] == "closed")
    assert (below["answer"], below["organisation"]) == (answer, CITY_CREW)


def test_the_street_hands_over_to_a_crew_of_the_city(people: People) -> None:
    request, event = with_the_crew(people, "主管道破裂 The main has burst")
    offer = {"organisation": CITY_CREW, "node": "sf", "reason": "主管道属市级 the city's main", "boundary": "the main"}
    offered = people["crew"].post(f"/v1/{event}/handovers", offer)["handover"]
    crew = people["city crew"]
    until("the offer at the city", lambda: offered["name"] in _to_answer(crew))
    notice = until("the notice", lambda: _notice(crew, offered["name"]))
    assert "拟将" in notice["text"]["zh"]
    assert "offers you" in notice["text"]["en"]
    here = people["crew"].refused("POST", f"/v1/{offered['name']}:accept")
    assert here == Refused(403, "NOT_PERMITTED")
    crew.post(f"/v1/{offered['name']}:accept", {"note": "由我们处置 ours"})
    _when(crew, event, lambda found: found["node"] == "sf" and found["organisation"] == CITY_CREW)
    below = _when(people["officer"], event, lambda found: found["node"] == "sf")
    assert below["organisation"] == CITY_CREW
    steps = until("the new home's step", lambda: _steps_when(people["officer"], event, "take_up"))
    assert [step["action"] for step in steps][-4:] == ["offer_handover", "accept_handover", "move", "take_up"]
    assert f"移交至节点 sf 的 {CITY_CREW}" in steps[-2]["explanation"]["text"]["zh"]
    assert f"handed over to {CITY_CREW} of the node sf" in steps[-2]["explanation"]["text"]["en"]
    crew.post(f"/v1/{event}:advance", {"action": "dispose", "reason": "mended"})
    crew.post(f"/v1/{event}:advance", {"action": "feed_back", "answer": "已修复 Mended."})
    people["city verifier"].post(f"/v1/{event}:advance", {"action": "verify", "reason": "seen"})
    assert people["resident"].follow(request, lambda found: found.get("answer"))["answer"] == "已修复 Mended."


def test_the_street_keeps_what_it_must_finish_itself(people: People) -> None:
    _, event = with_the_crew(people, "两家单位联合处置 for two crews")
    crews = ("organisations/potrero-hill.public-works", "organisations/potrero-hill.sewer")
    shares = [{"organisation": each, "instruction": "go"} for each in crews]
    people["dispatcher"].post(
        f"/v1/{event}:startJointDisposal", {"lead": crews[0], "subOrders": shares, "reason": "both"}
    )
    _when(people["supervisor"], event, lambda found: len(found.get("subOrders", [])) == 2)
    asked = _ask(people, event)
    refused = until("the refusal", lambda: _answered(people["supervisor"], asked["name"]))
    assert (refused["state"], refused["refusal"]) == ("TAKE_OVER_STATE_REFUSED", "SUB_ORDER_OPEN")
    assert "2 个子任务未完成" in refused["refusalText"]["zh"]
    assert "2 sub-orders of a joint disposal are not done" in refused["refusalText"]["en"]
    assert people["crew"].get(f"/v1/{event}")["event"]["node"] == STREET_NODE


def test_cut_off_each_tier_works_on_and_then_all_agree(federation: Federation, people: People) -> None:
    _, moved = with_the_crew(people, "taken over before the cut")
    _, stays = with_the_crew(people, "stays with the street")
    for event in (moved, stays):
        _when(people["supervisor"], event, lambda found: found["status"] == "dispatched")
    _taken_over(people, moved)
    _when(people["officer"], moved, lambda found: found["node"] == "sf")
    with federation.away("sf-d10"):  # all that the two say to each other goes by the district
        asked = _ask(people, stays)
        people["city crew"].post(f"/v1/{moved}:advance", {"action": "dispose", "reason": "市级已处置 done"})
        people["crew"].post(f"/v1/{stays}:advance", {"action": "dispose", "reason": "街道已处置 done"})
        people["crew"].post(f"/v1/{stays}:advance", {"action": "feed_back", "answer": "已处置 Done."})
        people["verifier"].post(f"/v1/{stays}:advance", {"action": "verify", "reason": "seen"})
        assert people["supervisor"].get(f"/v1/{stays}")["event"]["status"] == "dispatched"
        assert people["officer"].get(f"/v1/{moved}")["event"]["status"] == "dispatched"
        assert _answered(people["supervisor"], asked["name"]) is None
    # What the city asked for was closed before the street could hear of it.
    refused = until("the refusal", lambda: _answered(people["supervisor"], asked["name"]))
    assert refused["refusal"] == "WRONG_STATE"
    _when(people["officer"], moved, lambda found: found["status"] == "disposed")
    _when(people["supervisor"], stays, lambda found: found["status"] == "closed")
    with ExitStack() as stack:
        district = stack.enter_context(federation.node("sf-d10").signed_in("supervisor.d10"))
        tiers = (people["street supervisor"], district, people["supervisor"])
        until("the same counts at all three", lambda: len({_counts(tier) for tier in tiers}) == 1)
        for event in (moved, stays):
            assert len({_seen(tier, event) for tier in tiers}) == 1


# ------------------------------------------------------------------------------------------------------------- in steps


def _the_city_supervises(people: People, event: str) -> None:
    """A directive about the event stands in its ledger as supervision, and is answered by the street."""
    order = {
        "zone": STREET.removeprefix("zones/"),
        "title": "请今日内到场 Be there today",
        "subject": event,
        "expiresAt": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
    }
    sent = people["supervisor"].post("/v1/directives", {"directive": order})["directive"]

    def entry() -> Any:
        listed = people["supervisor"].get(f"/v1/{STREET}/exceptions", event=event)["exceptions"]
        return next((found for found in listed if found["kind"] == "EXCEPTION_KIND_SUPERVISION"), None)

    found = until("the supervision, back in the city", entry)
    assert found["askedBy"] == sent["issuedBy"]
    assert f"上级节点 sf 督办（{sent['name']}）：请今日内到场" in found["reason"]
    assert f"supervised by the upper node sf, {sent['name']}" in found["reason"]
    people["officer"].post(f"/v1/{sent['name']}:acknowledge")
    people["officer"].post(f"/v1/{sent['name']}:answer", {"answer": "人手不够 Not enough hands"})
    directive = f"/v1/{sent['name']}"
    answered = until("the answer", lambda: people["supervisor"].get(directive)["directive"].get("answer"))
    assert answered == "人手不够 Not enough hands"


def _ask(people: People, event: str) -> Any:
    body = {"organisation": CITY_CREW, "reason": REASON}
    return people["supervisor"].post(f"/v1/{event}/takeOvers", body)["takeOver"]


def _taken_over(people: People, event: str) -> Any:
    asked = _ask(people, event)
    assert asked["state"] == "TAKE_OVER_STATE_ASKED"
    moved = until("the move", lambda: _answered(people["supervisor"], asked["name"]))
    assert (moved["state"], moved["fromNode"], moved["toNode"]) == ("TAKE_OVER_STATE_MOVED", STREET_NODE, "sf")
    again = people["supervisor"].refused("POST", f"/v1/{event}/takeOvers", {"organisation": CITY_CREW, "reason": "x"})
    assert again == Refused(400, "WRONG_STATE")
    return moved


def _the_street_follows(people: People, event: str, asked: Any) -> None:
    """It sees who has the event and why, in both languages, and can change it no more."""
    _when(
        people["officer"],
        event,
        lambda found: found["node"] == "sf" and int(found["revision"]) > int(asked["revision"]),
    )
    advance = {"action": "void", "reason": "not ours"}
    assert people["dispatcher"].refused("POST", f"/v1/{event}:advance", advance) == Refused(400, "NOT_AUTHORITATIVE")
    away, there = people["officer"].get(f"/v1/{event}/steps")["steps"][-2:]
    assert (away["action"], away["reason"], there["action"]) == ("take_over", REASON, "take_up")
    assert "上级节点 sf 提级办理" in away["explanation"]["text"]["zh"]
    assert "the upper node sf takes it over" in away["explanation"]["text"]["en"]
    (listed,) = people["officer"].get(f"/v1/{STREET}/takeOvers", event=event)["takeOvers"]
    assert (listed["name"], listed["askedBy"]) == (asked["name"], "people/supervisor.sf")


def _answered(caller: Caller, name: str) -> Any:
    found = caller.get(f"/v1/{name}")["takeOver"]
    return None if found["state"] == "TAKE_OVER_STATE_ASKED" else found


def _when(caller: Caller, event: str, wanted: Any) -> Any:
    """The event as somebody sees it, as soon as it is as wanted."""

    def look() -> Any:
        listed = caller.get(f"/v1/{STREET}/events", pageSize=500)["events"]
        known = any(found["name"] == event for found in listed)
        found = caller.get(f"/v1/{event}")["event"] if known else None
        return found if found and wanted(found) else None

    return until(f"{event} as wanted", look)


def _work(caller: Caller, event: str) -> Any:
    found = caller.get("/v1/zones/us-ca-sf/work", inbox="WORK_INBOX_ROLE", order="WORK_ORDER_NEWEST", pageSize=100)
    return next((item for item in found["items"] if item["event"]["name"] == event), None)


def _to_answer(caller: Caller) -> list[str]:
    query = {"inbox": "HANDOVER_INBOX_TO_ANSWER", "pageSize": 500}
    return [found["name"] for found in caller.get("/v1/zones/us-ca-sf/handovers", **query)["handovers"]]


def _notice(caller: Caller, subject: str) -> Any:
    found = caller.get("/v1/notices", pageSize=100)["notices"]
    return next((notice for notice in found if notice["subject"] == subject), None)


def _steps_when(caller: Caller, event: str, last: str) -> Any:
    steps = caller.get(f"/v1/{event}/steps")["steps"]
    return steps if steps[-1]["action"] == last else None


def _counts(caller: Caller) -> str:
    """How many events and requests there are in the street, by the node that has them and by status."""
    zones = caller.get(f"/v1/{STREET}/counters")["zones"]
    return json.dumps(sorted(zones, key=lambda each: (each["zone"], each["node"])), sort_keys=True)


def _seen(caller: Caller, event: str) -> str:
    found = caller.get(f"/v1/{event}")["event"]
    fields = ("status", "node", "organisation", "revision", "dueAt", "answer", "reports", "requests")
    return json.dumps({field: found.get(field) for field in fields})


@contextmanager
def _watching(caller: Caller) -> Iterator[Iterator[Any]]:
    """The changes of the city's list of the street's events from now on."""
    query = {"filter.mirrored": "true"}
    call = caller.http.stream("GET", f"/v1/{STREET}/work:watch", params=query, timeout=WATCH_READ_TIMEOUT_S)
    with call as answer:
        assert answer.is_success, answer.read()
        stream = map(json.loads, answer.iter_lines())
        assert int(next(stream)["watchToken"])
        yield stream


def _told(stream: Iterator[Any], event: str) -> None:
    """Read until the stream tells of the event."""
    while not any(change["name"] == event for change in next(stream)["changes"]):
        pass
