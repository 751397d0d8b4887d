"""Who gets an event: the owner of the lamp post that a report names, else whom the type says; and what history says."""

from collections.abc import Iterator
from secrets import token_hex
from typing import Any
from uuid import uuid4

import pytest

from e2e.federation import Federation, Refused, until
from e2e.street import CREW, People, people_of

ZONE = "us-ca-sf-d10-potrero-hill"
DESK = "organisations/potrero-hill.service-desk"
GRAFFITI = "eventTypes/graffiti"


@pytest.fixture
def people(federation: Federation) -> Iterator[People]:
    """A resident of the city and its dispatcher, and those of the street who write its rules and deal with events."""
    street = {
        "officer": "duty-officer.potrero-hill",
        "dispatcher": "dispatcher.potrero-hill",
        "handler": "handler.potrero-hill.public-works",
        "desk": "handler.potrero-hill.service-desk",
        "admin": "node-admin",
    }
    with people_of(federation, city={"resident": "resident.01", "city": "dispatcher.sf"}, street=street) as found:
        yield found


def test_a_lamp_post_goes_to_who_looks_after_lamp_posts(people: People) -> None:
    lamp = _lamp_posts(people, [{"zone": ZONE, "organisation": DESK}])
    # A resident reads the number off the post; another reports the same post from memory, a street further on.
    first, event = _reported(people, "路灯杆上被人乱涂", {"type": lamp, "code": "PH-0417"})
    second, same = _reported(people, "Tags all over a lamp post", {"type": lamp, "code": "ph 0417"})
    assert same == event, "one post is one thing"
    opened = people["officer"].get(f"/v1/{event}")["event"]
    assert opened["component"] == {"type": lamp, "code": "PH-0417"}
    assert opened["requests"] == [first, second]
    why = opened["routing"]
    assert why["rule"] == lamp
    assert f"“路灯杆”在区域 {ZONE} 由 {DESK} 管护，先于类型 {GRAFFITI} 的派遣规则" in why["text"]["zh"]
    assert f"“Lamp posts” in {ZONE} is looked after by {DESK}" in why["text"]["en"]

    people["officer"].post(f"/v1/{event}:advance", {"action": "file"})
    (suggested, *_) = people["dispatcher"].get(f"/v1/{event}:suggestOrganisations")["suggestions"]
    assert (suggested["organisation"], suggested["source"]) == (DESK, "SUGGESTION_SOURCE_RULE")
    assert suggested["explanation"] == why
    sent = people["dispatcher"].post(f"/v1/{event}:advance", {"action": "dispatch", "reason": "as routed"})["event"]
    assert sent["organisation"] == DESK
    done = people["desk"].post(f"/v1/{event}:advance", {"action": "dispose", "reason": "已清洗 cleaned"})["event"]
    assert done["status"] == "disposed"

    # The city sees which post it is.
    def above() -> Any:
        seen = people["city"].http.get(f"/v1/{event}")
        return seen.json()["event"] if seen.is_success else None

    assert until("the event at the city", above)["component"] == opened["component"]


def test_another_post_beside_it_is_another_event(people: People) -> None:
    lamp = _lamp_posts(people, [{"zone": ZONE, "organisation": DESK}])
    place = {"address": f"{token_hex(6)} Street", "zoneHint": "Potrero Hill"}
    first, second = (
        _reported(people, "Tags on the lamp post", {"type": lamp, "code": code}, place)[1]
        for code in ("PH-0417", "PH-0418")
    )
    assert first != second

    # Who looks after lamp posts asks for all that is open about them, or about one.
    def work(**component: str) -> set[str]:
        query = {f"filter.component.{field}": value for field, value in component.items()}
        return {item["event"]["name"] for item in people["officer"].get(f"/v1/zones/{ZONE}/work", **query)["items"]}

    assert work(type=lamp) == {first, second}
    assert work(type=lamp, code="ph 0418") == {second}
    of_first = {"component.type": lamp, "component.code": "PH-0417"}
    history = people["officer"].get(f"/v1/zones/{ZONE}/events", **of_first)["events"]
    assert [event["name"] for event in history] == [first]
    no_type = people["officer"].http.get(f"/v1/zones/{ZONE}/events?component.code=PH-0417")
    assert (no_type.status_code, "component.type: is required" in no_type.text) == (400, True), no_type.text


def test_where_nobody_looks_after_it_the_type_says_who_gets_it(people: People) -> None:
    lamp = _lamp_posts(people, [])
    body = {"type": GRAFFITI, "description": "又有涂鸦", "component": {"type": lamp, "code": "1"}}
    event = people["officer"].post(f"/v1/zones/{ZONE}/events", body)["event"]
    assert event["routing"]["inputs"]["organisation"] == CREW
    assert f"“路灯杆”在 {ZONE} 没有登记权属单位" in event["routing"]["text"]["zh"]
    assert f"nobody is said to look after “Lamp posts” in {ZONE}" in event["routing"]["text"]["en"]


def test_a_wrong_name_is_told_to_an_officer_and_loses_no_request(people: People) -> None:
    lamp = _lamp_posts(people, [{"zone": ZONE, "organisation": DESK}], event_types=["eventTypes/sewer-flooding"])
    refused = people["officer"].http.post(
        f"/v1/zones/{ZONE}/events",
        json={"type": GRAFFITI, "description": "Tags", "component": {"type": lamp}},
    )
    assert refused.status_code == 400
    assert f"component.type: {GRAFFITI} is not one of the event types that can be reported of {lamp}" in refused.text
    missing = {"type": GRAFFITI, "description": "Tags", "component": {"type": "componentTypes/none"}}
    assert people["officer"].refused("POST", f"/v1/zones/{ZONE}/events", missing) == Refused(400, "FIELD_INVALID")

    _, event = _reported(people, "Tags on something", {"type": "componentTypes/none", "code": "7"})
    kept = people["officer"].get(f"/v1/{event}")["event"]
    assert ("COMPONENT_UNKNOWN", "component.type") in [(flag["code"], flag["field"]) for flag in kept["flags"]]
    assert kept["routing"]["inputs"]["organisation"] == CREW


# ------------------------------------------------------------------------------------------------------------- in steps


def _lamp_posts(people: People, owners: list[Any], event_types: list[str] | None = None) -> str:
    """Let the administrator of the street say who looks after lamp posts, under a name of its own."""
    name = f"componentTypes/lamp-post-{token_hex(4)}"
    wanted = {
        "title": {"zh": "路灯杆", "en": "Lamp posts"},
        "code": "0203",
        "owners": owners,
        "eventTypes": event_types or [GRAFFITI],
    }
    people["admin"].put(f"/v1/{name}", wanted)
    return name


def _reported(people: People, words: str, component: Any, place: Any = None) -> tuple[str, str]:
    """Let the resident report something of a component; return the request, and its event."""
    report = {
        "type": GRAFFITI,
        "description": words,
        "place": place or {"address": f"{token_hex(6)} Street", "zoneHint": "Potrero Hill"},
        "component": component,
        "requestId": str(uuid4()),
    }
    request = people["resident"].post("/v1/requests", report)["request"]
    assert request["component"] == component
    found = people["resident"].follow(request["name"], lambda seen: seen["event"])
    return str(request["name"]), str(found["event"])
