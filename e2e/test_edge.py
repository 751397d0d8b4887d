"""What stands at the edge of each node: who is turned away there, and what an operator can watch."""

import pytest

from e2e.federation import Federation, Refused, until

NEIGHBOURS = {
    "sf": {"sf-d6", "sf-d10", "beijing"},
    "sf-d6": {"sf"},
    "sf-d10": {"sf", "sf-potrero-hill"},
    "sf-potrero-hill": {"sf-d10"},
    "beijing": {"sf"},
}
OTHER_SITE = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_node_shows_its_peers(federation: Federation, name: str) -> None:
    with federation.node(name).anonymous() as anybody:
        status = anybody.get("/status.json")
        assert status["ready"] is True
        assert {peer["node"]: peer["connected"] for peer in status["peers"]} == dict.fromkeys(NEIGHBOURS[name], True)
        page = anybody.http.get("/", headers={"accept-language": "en"}).text
        for peer in NEIGHBOURS[name]:
            assert peer in page
            for line in (
                f'quintet_peer_ready{{peer="{peer}"}} 1.0',
                f'quintet_peer_backlog_envelopes{{lane="facts",peer="{peer}"}}',
            ):
                # Taken every few seconds.
                until(line, lambda line=line: line in anybody.http.get("/metrics").text)  # type: ignore[misc]


def test_a_bad_token_is_refused_at_the_edge(federation: Federation) -> None:
    city = federation.node("sf")
    with city.signed_in("resident.01") as resident:
        good = resident.http.headers["authorization"]
        resident.http.headers["authorization"] = good[:-8] + "AAAAAAAA"
        # A service would say TOKEN_INVALID: this call did not come as far.
        assert resident.refused("GET", "/v1/profile") == Refused(401, "TOKEN_REFUSED")
    # A token of another node means nothing here, and no token is for the service to judge.
    with federation.node("beijing").anonymous() as stranger:
        assert stranger.refused("GET", "/v1/profile") == Refused(401, "TOKEN_MISSING")
        stranger.http.headers["authorization"] = good
        assert stranger.refused("GET", "/v1/profile") == Refused(401, "TOKEN_REFUSED")


def test_pages_of_other_sites_may_not_call_by_default(federation: Federation) -> None:
    with federation.node("sf").anonymous() as anybody:
        asked = anybody.http.request("OPTIONS", "/v1/requests", headers=OTHER_SITE)
        answered = anybody.http.get("/v1/eventTypes", headers=OTHER_SITE)
    for answer in (asked, answered):
        assert "access-control-allow-origin" not in answer.headers


def test_calls_that_are_for_services_or_peers_are_not_offered(federation: Federation) -> None:
    paths = ("quintet.identity.v1.IdentityService/ResolveAccess", "quintet.audit.v1.AuditService/ListAuditEntries")
    with federation.node("sf").signed_in("node-admin") as admin:
        for path in paths:
            answer = admin.http.post(
                f"/{path}", content=bytes(5), headers={"content-type": "application/grpc-web+proto"}
            )
            assert answer.headers.get("grpc-status", "") in {"5", "7", "12"}, answer.headers
