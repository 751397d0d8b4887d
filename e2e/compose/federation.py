"""What the people of the three nodes do: joining, reporting, handling; and how the nodes count it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any
from uuid import uuid4

from e2e.compose.nodes import ADMIN, ComposedNode
from e2e.federation import Caller, until

ZONE = "zones/us-ca-sf-d10"
ANSWER = "The wall is clean again."
LINKED_WITHIN_S = 60.0


@dataclass(slots=True)
class Composed:
    """The three nodes, and what the scenarios counted."""

    city: ComposedNode
    district: ComposedNode
    partner: ComposedNode
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def nodes(self) -> tuple[ComposedNode, ...]:
        return (self.city, self.district, self.partner)


def join(above: ComposedNode, joiner: ComposedNode, zone: str = "") -> None:
    """Invite, ask to join, let two people compare the fingerprint and approve, and wait until the stream is open."""
    kind = "PEER_KIND_CHILD" if zone else "PEER_KIND_PARTNER"
    with above.gateway.signed_in(ADMIN) as host, joiner.gateway.signed_in(ADMIN) as guest:
        invitation = host.post("/v1/invitations", {"node": joiner.node, "kind": kind, "zone": zone})["invitation"]
        asked = {"invitation": invitation, "rootFingerprintConfirmed": invitation["rootFingerprint"]}
        fingerprint = guest.post("/v1/peers:join", asked)["rootFingerprint"]
    for login in (ADMIN, "data-steward.sf"):
        with above.gateway.signed_in(login) as person:
            person.post(f"/v1/peers/{joiner.node}:approve", {"rootFingerprint": fingerprint})
    until_linked(above, joiner)


def until_linked(above: ComposedNode, below: ComposedNode) -> None:
    """Wait until both see the stream."""
    with above.gateway.signed_in(ADMIN) as upper, below.gateway.signed_in(ADMIN) as lower:

        def linked() -> bool:
            return bool(peer(upper, below)["connected"] and peer(lower, above)["connected"])

        until(f"{above.name} and {below.name} linked", linked, LINKED_WITHIN_S)


def until_missed(above: ComposedNode, below: ComposedNode) -> None:
    """Wait until the one above notices that the other is away."""
    with above.gateway.signed_in(ADMIN) as admin:
        until(f"{above.name} misses {below.name}", lambda: not peer(admin, below)["connected"])


def peer(caller: Caller, other: ComposedNode) -> Any:
    """The other node as a peer, as the caller's node sees it."""
    return caller.get(f"/v1/peers/{other.node}")["peer"]


def file_reports(city: ComposedNode, count: int) -> list[str]:
    """File reports of different places in the district; return the requests' names."""
    with city.gateway.signed_in("resident.01") as resident:
        return [resident.post("/v1/requests", _report())["request"]["name"] for _ in range(count)]


def _report() -> dict[str, Any]:
    """A report at an address of its own: it merges with no other."""
    return {
        "type": "eventTypes/graffiti",
        "description": "filed by a test",
        "place": {"address": f"{token_hex(4)} Street", "zoneHint": "10"},
        "requestId": str(uuid4()),
    }


def events_of(city: ComposedNode, requests: list[str]) -> dict[str, str]:
    """Wait until each request has become an event, and return the events by request."""
    with city.gateway.signed_in("resident.01") as resident:
        return {name: resident.follow(name, lambda found: found["event"])["event"] for name in requests}


def handle(district: ComposedNode, events: Sequence[str]) -> None:
    """The district's people take events through their loop until they are closed, one person after the other."""
    for login, action, extra in (
        ("duty-officer.d10", "file", {}),
        ("dispatcher.d10", "dispatch", {}),
        ("handler.d10.public-works", "dispose", {}),
        ("handler.d10.public-works", "feed_back", {"answer": ANSWER}),
        ("verifier.d10", "verify", {}),
    ):
        with district.gateway.signed_in(login) as person:
            for event in events:
                person.post(f"/v1/{event}:advance", {"action": action, "reason": "as it should be"} | extra)


def counters(node: ComposedNode) -> dict[str, Any]:
    """The district's zone as a node counts it: events, merged, requests, and events by status."""
    with node.gateway.signed_in(ADMIN) as admin:
        total = admin.get(f"/v1/{ZONE}/counters")["total"]
    return {name: total[name] for name in ("events", "merged", "requests", "byStatus")}


def until_same_counters(composed: Composed, requests: int) -> None:
    """Wait until city and district count the same, which must be this many requests."""
    until("the requests at the city", lambda: int(counters(composed.city)["requests"]) >= requests)
    until("the same counts at both tiers", lambda: counters(composed.city) == counters(composed.district))
    assert int(counters(composed.city)["requests"]) == requests, counters(composed.city)


def verify_audit(node: ComposedNode) -> int:
    """Let the node recompute its hash chains; return the number of entries. Fails when one does not hold."""
    with node.gateway.signed_in(ADMIN) as admin:
        found = admin.post("/v1/audit:verify")
    assert found["verified"], found
    return int(found["entries"])
