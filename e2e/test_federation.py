"""A report's way through the federation, who may see it there, and what happens while a node is away."""

import json
from contextlib import ExitStack
from itertools import count
from secrets import token_hex
from typing import Any
from uuid import uuid4

from e2e.federation import Caller, Federation, Refused, until

STREET = "zones/us-ca-sf-d10-potrero-hill"
CUT_OFF_REQUESTS = 5
_numbers = count(1)


def test_the_demo_reconciles(federation: Federation) -> None:
    report = json.loads((federation.build / "report.json").read_text())
    assert report["ok"], [check for check in report["checks"] if not check["ok"]]
    assert (report["requests"]["lost"], report["requests"]["doubled"]) == (0, 0)
    assert [kill["node"] for kill in report["kills"]] == ["sf-d10"]


def test_a_trace_goes_on_from_the_citys_edge_to_the_street(federation: Federation) -> None:
    trace_id = token_hex(16)
    with federation.node("sf").signed_in("resident.01") as resident:
        filed = _file(resident, traceparent=f"00-{trace_id}-{token_hex(8)}-01")
        event = _accepted(resident, filed)["event"]

    with federation.node("sf-potrero-hill").signed_in("auditor.potrero-hill") as auditor:
        query = {"part": "management", "resource": event}
        # Entries are shown once they are sealed.
        entries = until("the audit entry", lambda: auditor.get("/v1/audit/entries", **query)["entries"])
    assert [(entry["action"], entry["traceId"]) for entry in entries] == [("management.events.open", trace_id)]


def test_the_city_follows_what_the_street_does(federation: Federation) -> None:
    street = federation.node("sf-potrero-hill")
    with federation.node("sf").signed_in("resident.01") as resident:
        filed = _file(resident)
        event = _accepted(resident, filed)["event"]
        _dispatch(federation, event)
        with street.signed_in("handler.potrero-hill.public-works") as handler:
            handler.post(f"/v1/{event}:advance", {"action": "dispose", "reason": "painted over"})
            handler.post(f"/v1/{event}:advance", {"action": "feed_back", "answer": "The wall is clean again."})
        with street.signed_in("verifier.potrero-hill") as verifier:
            verifier.post(f"/v1/{event}:advance", {"action": "verify", "reason": "seen on the spot"})

        closed = resident.follow(filed, lambda request: request["status"] == "REQUEST_STATUS_CLOSED")
    assert closed["answer"] == "The wall is clean again."
    assert closed["organisation"] == "organisations/potrero-hill.public-works"
    with federation.node("sf").signed_in("duty-officer.sf") as officer:
        until("the city's copy of the event", lambda: officer.get(f"/v1/{event}")["event"]["status"] == "closed")
        assert officer.get(f"/v1/{event}")["event"]["node"] == "sf-potrero-hill"
        # The upper tier sees; the node that is authoritative for the place acts.
        with federation.node("sf").signed_in("supervisor.sf") as supervisor:
            refused = supervisor.refused("POST", f"/v1/{event}:advance", {"action": "evaluate"})
        assert refused == Refused(400, "NOT_AUTHORITATIVE")


def test_residents_see_only_their_own_requests(federation: Federation) -> None:
    city = federation.node("sf")
    with city.signed_in("resident.01") as resident, city.signed_in("resident.02") as neighbour:
        filed = _file(resident)
        # As if there were no such request: that somebody filed something is personal, too.
        assert neighbour.refused("GET", f"/v1/{filed}") == Refused(404, "REQUEST_NOT_FOUND")
        for caller, login in ((resident, "resident.01"), (neighbour, "resident.02")):
            seen = caller.get("/v1/requests", pageSize=500)["requests"]
            assert {request["reporter"] for request in seen} <= {f"people/{login}"}
        assert filed in {request["name"] for request in resident.get("/v1/requests")["requests"]}
        # What became of it at the street is not a resident's to browse.
        assert resident.refused("GET", "/v1/zones/us-ca-sf/events") == Refused(403, "NOT_PERMITTED")


def test_handlers_see_only_the_work_of_their_organisation(federation: Federation) -> None:
    with federation.node("sf").signed_in("resident.01") as resident:
        ours, theirs = [
            _accepted(resident, _file(resident, event_type))["event"] for event_type in ("graffiti", "sewer-odour")
        ]
        district = _accepted(resident, _file(resident, zone="zones/us-ca-sf-d10", zone_hint="10"))["event"]
    _dispatch(federation, ours)
    _dispatch(federation, theirs)
    _dispatch(federation, district, "sf-d10", "d10")

    with federation.node("sf-potrero-hill").signed_in("handler.potrero-hill.public-works") as handler:
        seen = handler.get(f"/v1/{STREET}/events", pageSize=500)["events"]
        assert ours in {event["name"] for event in seen}
        assert _without_part(handler, seen, "organisations/potrero-hill.public-works") == []
        assert handler.refused("GET", f"/v1/{theirs}") == Refused(403, "NOT_PERMITTED")
        refused = handler.refused("POST", f"/v1/{theirs}:advance", {"action": "dispose", "reason": "not ours"})
        assert refused == Refused(403, "NOT_PERMITTED")
    # The district's own crew has the same trade, and its node knows the street's events; they are not its crew's work.
    with federation.node("sf-d10").signed_in("handler.d10.public-works") as handler:
        seen = handler.get("/v1/zones/us-ca-sf-d10/events", pageSize=500)["events"]
        assert district in {event["name"] for event in seen}
        assert _without_part(handler, seen, "organisations/d10.public-works") == []
        assert handler.refused("GET", f"/v1/{ours}") == Refused(403, "NOT_PERMITTED")


def test_handlers_see_only_the_zones_of_their_post(federation: Federation) -> None:
    city = federation.node("sf")
    with city.signed_in("resident.01") as resident:
        ours, theirs = [
            _accepted(resident, _file(resident, zone=f"zones/us-ca-sf-d{number}", zone_hint=number))["event"]
            for number in ("5", "3")
        ]
    for event in (ours, theirs):
        _dispatch(federation, event, "sf", "sf")

    # Both districts are the northern yard's. One of its people is posted to one of them only.
    post = {"role": "roles/handler", "zone": "us-ca-sf-d5", "organisation": "organisations/public-works-north"}
    login, password = "handler.public-works-north.d5", token_hex(16)
    with city.signed_in("node-admin") as admin:
        admin.put(f"/v1/people/{login}", {"person": {"login": login, "posts": [post]}, "password": password})
    with city.signed_in(login, password) as handler:
        seen = handler.get("/v1/zones/us-ca-sf-d5/events", pageSize=500)["events"]
        assert ours in {event["name"] for event in seen}
        for elsewhere in (theirs, "zones/us-ca-sf-d3/events", "zones/us-ca-sf/events"):
            assert handler.refused("GET", f"/v1/{elsewhere}") == Refused(403, "NOT_PERMITTED")
    with city.signed_in("handler.public-works-north") as colleague:
        assert colleague.get(f"/v1/{theirs}")["event"]["organisation"] == "organisations/public-works-north"


def test_requests_wait_for_a_street_that_is_cut_off(federation: Federation) -> None:
    with ExitStack() as stack:
        resident = stack.enter_context(federation.node("sf").signed_in("resident.01"))
        city = stack.enter_context(federation.node("sf").signed_in("duty-officer.sf"))
        district = stack.enter_context(federation.node("sf-d10").signed_in("node-admin"))
        before = _reports(city)
        with federation.away("sf-potrero-hill"):
            filed = []
            for _ in range(CUT_OFF_REQUESTS):
                body = _report()
                filed.append(resident.post("/v1/requests", body)["request"]["name"])
                # A client that got no answer sends the same again; it stays one request.
                assert resident.post("/v1/requests", body)["request"]["name"] == filed[-1]
            until("the backlog at the district", lambda: _backlog(district) >= CUT_OFF_REQUESTS)
            for request in filed:
                assert resident.get(f"/v1/{request}")["request"]["status"] == "REQUEST_STATUS_RECEIVED"

        events = [_accepted(resident, request)["event"] for request in filed]
        until("an empty backlog at the district", lambda: _backlog(district) == 0)
        street = stack.enter_context(federation.node("sf-potrero-hill").signed_in("duty-officer.potrero-hill"))
        for tier in (street, district, city):
            _until_reports(tier, before + CUT_OFF_REQUESTS)
        for request, event in zip(filed, events, strict=True):
            standing = street.get(f"/v1/{STREET}/events", request=request)["events"]
            assert [found["name"] for found in standing] == [event]
    assert len(set(events)) == CUT_OFF_REQUESTS


# ------------------------------------------------------------------------------------------------------------- in steps


def _report(event_type: str = "graffiti", zone_hint: str = "Potrero Hill") -> dict[str, Any]:
    """A report at an address of its own: it merges with no other."""
    return {
        "type": f"eventTypes/{event_type}",
        "description": "filed by a test",
        "place": {"address": f"{next(_numbers)} {token_hex(4)} Street", "zoneHint": zone_hint},
        "requestId": str(uuid4()),
    }


def _file(
    resident: Caller,
    event_type: str = "graffiti",
    *,
    zone: str = STREET,
    zone_hint: str = "Potrero Hill",
    **headers: str,
) -> str:
    filed = resident.post("/v1/requests", _report(event_type, zone_hint), **headers)["request"]
    name: str = filed["name"]
    assert name.startswith(f"{zone}/requests/")
    return name


def _accepted(resident: Caller, request: str) -> Any:
    return resident.follow(request, lambda found: found["event"])


def _dispatch(federation: Federation, event: str, node: str = "sf-potrero-hill", suffix: str = "potrero-hill") -> None:
    authority = federation.node(node)
    with authority.signed_in(f"duty-officer.{suffix}") as officer:
        officer.post(f"/v1/{event}:advance", {"action": "file", "reason": "is a matter for us"})
    with authority.signed_in(f"dispatcher.{suffix}") as dispatcher:
        dispatcher.post(f"/v1/{event}:advance", {"action": "dispatch", "reason": "as routed"})


def _without_part(caller: Caller, events: list[Any], organisation: str) -> list[str]:
    """Those of the events that are not an organisation's own, and in whose joint disposal it has no share either."""
    others = [event["name"] for event in events if event["organisation"] != organisation]
    shares = {name: caller.get(f"/v1/{name}")["event"]["subOrders"] for name in others}
    return [name for name in others if organisation not in {share["organisation"] for share in shares[name]}]


def _backlog(district: Caller) -> int:
    """Envelopes that the district holds for the street."""
    return int(district.get("/v1/peers/sf-potrero-hill")["peer"]["backlog"])


def _reports(tier: Caller) -> int:
    """The number of requests on Potrero Hill for which events stand, as a node counts them."""
    return int(tier.get(f"/v1/{STREET}/counters")["total"]["requests"])


def _until_reports(tier: Caller, count: int) -> None:
    """Wait for the last of them; more than expected is as wrong as fewer."""
    until(f"{count} reports", lambda: _reports(tier) >= count)
    assert _reports(tier) == count
