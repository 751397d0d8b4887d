"""A city, a district and a partner city in containers: cut off by taking their network away, and put back.

The scenarios build on each other, in this order: the district's reports, its killed containers, the partner's contract,
the partner cut off, and in the end the audit chains of all that was done, and the containers themselves.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from e2e.compose.air import PURPOSE, Air, means, rows
from e2e.compose.federation import (
    ANSWER,
    Composed,
    counters,
    events_of,
    file_reports,
    handle,
    peer,
    until_linked,
    until_missed,
    until_same_counters,
    verify_audit,
)
from e2e.compose.nodes import ADMIN
from e2e.contracts import FIELDS, negotiate
from e2e.federation import Caller, Refused, until

REPORTS = 20
REPORTS_CUT_OFF = 15
DAYS = 3
PROCESSES = 10  # seven services, PostgreSQL, NATS and the edge
# Two checks of each, 60 s apart.
HEALTHY_WITHIN_S = 180.0
AT_THE_CITY = "beijing.pm25-daily"
AT_THE_PARTNER = "pm25-daily"


def test_reports_come_through_although_the_district_is_cut_off(composed: Composed) -> None:
    """What is filed at the city while the district is away waits and arrives; what the district does meanwhile, too."""
    city, district = composed.city, composed.district
    before = file_reports(city, REPORTS)
    events = events_of(city, before)
    opened = list(events.values())
    handle(district, opened[: REPORTS // 2])

    with district.cut_off():
        until_missed(city, district)
        meanwhile = file_reports(city, REPORTS_CUT_OFF)
        handle(district, opened[REPORTS // 2 :])  # the district works on alone
        with city.gateway.signed_in(ADMIN) as admin:
            waiting = int(peer(admin, district)["backlog"])
        assert waiting >= REPORTS_CUT_OFF
    until_linked(city, district)

    events |= events_of(city, meanwhile)
    handle(district, [events[name] for name in meanwhile])
    with city.gateway.signed_in("resident.01") as resident:
        for name in events:
            closed = resident.follow(name, lambda found: found["status"] == "REQUEST_STATUS_CLOSED")
            assert closed["answer"] == ANSWER

    filed = REPORTS + REPORTS_CUT_OFF
    assert len(set(events.values())) == filed  # each its own event: nothing lost, nothing doubled
    until_same_counters(composed, filed)
    composed.report["reports"] = {"filed": filed, "closed": filed, "waiting_when_cut_off": waiting}


def test_services_killed_in_their_containers_lose_nothing(composed: Composed) -> None:
    """Each process of the district that holds or passes data dies between reports; every report becomes one event."""
    city, district = composed.city, composed.district
    earlier = int(counters(city)["requests"])
    requests: list[str] = []
    killed = ("federation", "management", "nats", "postgres")
    for service in killed:
        requests += file_reports(city, 3)
        district.kill(service)
        requests += file_reports(city, 2)
        district.start()
    district.until_ready()
    until_linked(city, district)
    events = events_of(city, requests)
    assert len(set(events.values())) == len(requests)
    until_same_counters(composed, earlier + len(requests))
    composed.report["kills"] = {"killed": list(killed), "filed": len(requests), "events": len(set(events.values()))}


@dataclass(frozen=True, slots=True)
class Partnership:
    """The two cities' data stewards, the contract between them, and the air that it is about."""

    consumer: Caller
    provider: Caller
    contract: str
    air: Air


@pytest.fixture(scope="module")
def partnership(composed: Composed) -> Iterator[Partnership]:
    air = Air(composed.partner)
    air.measure(DAYS)
    with ExitStack() as stack:
        consumer = stack.enter_context(composed.city.gateway.signed_in("data-steward.sf"))
        provider = stack.enter_context(composed.partner.gateway.signed_in("data-steward.bj"))
        yield Partnership(consumer, provider, negotiate(consumer, provider, PURPOSE), air)


def test_a_partner_gives_the_fields_of_the_contract(composed: Composed, partnership: Partnership) -> None:
    """The rows reach the city, with the three fields that were agreed; a question for another field is refused."""
    consumer, expected = partnership.consumer, partnership.air.expected
    until("the rows", lambda: len(rows(consumer, AT_THE_CITY)) >= len(expected))
    got = rows(consumer, AT_THE_CITY)
    assert means(got) == expected
    assert {tuple(sorted(row)) for row in got} == {tuple(sorted(FIELDS))}
    outside = consumer.refused("POST", f"/v1/{partnership.contract}:query", {"fields": ["pm25_maximum"]})
    assert outside == Refused(403, "FIELD_NOT_IN_CONTRACT")
    composed.report["contract"] = {"rows": len(got), "expected": len(expected)}


def test_a_partner_that_is_cut_off_is_missed_and_catches_up(composed: Composed, partnership: Partnership) -> None:
    """The city keeps what it has and says that the partner is away; the partner measures on, and its rows follow."""
    city, partner = composed.city, composed.partner
    consumer, provider, air = partnership.consumer, partnership.provider, partnership.air
    known = dict(air.expected)
    with partner.cut_off():
        until_missed(city, partner)
        air.measure(DAYS)
        until("the partner's own rows", lambda: len(rows(provider, AT_THE_PARTNER)) >= len(air.expected))
        assert means(rows(consumer, AT_THE_CITY)) == known
        asked = consumer.refused("POST", f"/v1/{partnership.contract}:query", {"fields": ["station"]})
        assert asked == Refused(503, "PEER_AWAY")
    until_linked(city, partner)

    until("the rows of the days apart", lambda: len(rows(consumer, AT_THE_CITY)) >= len(air.expected))
    assert means(rows(consumer, AT_THE_CITY)) == air.expected
    answer = consumer.post(f"/v1/{partnership.contract}:query", {"fields": ["station"]})
    assert {row["station"] for row in answer["rows"]} == {station for station, _ in air.expected}
    composed.report["partner_cut_off"] = {"rows_before": len(known), "rows_after": len(air.expected)}


def test_every_audit_chain_holds(composed: Composed) -> None:
    composed.report["audit_entries"] = {node.name: verify_audit(node) for node in composed.nodes}


def test_containers_may_do_no_more_than_they_must(composed: Composed) -> None:
    """No root, nothing to write but their volumes, no capabilities, bounded memory, and only the edge to be reached."""
    for node in composed.nodes:
        running = node.inspected()
        assert len(running) == PROCESSES
        for container in running:
            config, host = container["Config"], container["HostConfig"]
            assert config["User"] == "quintet"
            assert host["ReadonlyRootfs"]
            assert host["CapDrop"] == ["ALL"]
            assert not host["CapAdd"]
            assert not host["Privileged"]
            assert "no-new-privileges:true" in host["SecurityOpt"]
            assert host["Memory"] > 0
            assert host["PidsLimit"] > 0
            assert not [given for given in config["Env"] if "PASSWORD" in given.upper()]
        reached = [host["PortBindings"] for host in (container["HostConfig"] for container in running)]
        assert [bound for bound in reached if bound] == [
            {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(node.port)}]}
        ]


def test_every_container_is_found_healthy(composed: Composed) -> None:
    """By its own health check: after kills and cut links, too."""

    def unwell() -> list[str]:
        running = [container for node in composed.nodes for container in node.inspected()]
        return [found["Name"] for found in running if found["State"]["Health"]["Status"] != "healthy"]

    until("all containers healthy", lambda: not unwell(), HEALTHY_WITHIN_S)
