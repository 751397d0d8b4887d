"""A city, a district and a partner city in containers: cut off by taking their network away, and put back."""

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from e2e.compose.federation import (
    Composed,
    events_of,
    file_reports,
    handle,
    peer,
    until_linked,
    until_same_counters,
    verify_audit,
)
from e2e.compose.nodes import ADMIN
from e2e.contracts import FIELDS, negotiate
from e2e.federation import Refused, until

REPORTS = 20
REPORTS_CUT_OFF = 15
STATIONS = ("tiantan", "dongsi")
DAYS = 3
PURPOSE = "Comparison of air quality between partner cities"


def test_reports_come_through_although_the_district_is_cut_off(composed: Composed) -> None:
    """What is filed at the city while the district is away waits and arrives; what the district does meanwhile, too."""
    city, district = composed.city, composed.district
    before = file_reports(city, REPORTS)
    events = events_of(city, before)
    opened_here = list(events.values())
    for event in opened_here[: REPORTS // 2]:
        handle(district, event)

    with district.cut_off():
        with city.gateway.signed_in(ADMIN) as admin:
            until("the city notices", lambda: not peer(admin, district)["connected"])
        meanwhile = file_reports(city, REPORTS_CUT_OFF)
        # The district works on alone.
        for event in opened_here[REPORTS // 2 :]:
            handle(district, event)
        with city.gateway.signed_in(ADMIN) as admin:
            waiting = int(peer(admin, district)["backlog"])
            assert waiting >= REPORTS_CUT_OFF
    until_linked(city, district)

    events |= events_of(city, meanwhile)
    for event in (events[name] for name in meanwhile):
        handle(district, event)
    with city.gateway.signed_in("resident.01") as resident:
        for name in events:
            closed = resident.follow(name, lambda found: found["status"] == "REQUEST_STATUS_CLOSED")
            assert closed["answer"] == "The wall is clean again."

    filed = REPORTS + REPORTS_CUT_OFF
    assert len(set(events.values())) == filed  # each its own event: nothing lost, nothing doubled
    until_same_counters(composed, filed)
    composed.report["reports"] = {"filed": filed, "closed": filed, "waiting_when_cut_off": waiting}


def test_services_killed_in_their_containers_lose_nothing(composed: Composed) -> None:
    city, district = composed.city, composed.district
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
    until_same_counters(composed, REPORTS + REPORTS_CUT_OFF + len(requests))
    composed.report["kills"] = {"killed": list(killed), "filed": len(requests), "events": len(set(events.values()))}


def test_a_partner_gives_the_fields_of_the_contract(composed: Composed) -> None:
    rows_expected = _readings(composed)
    with ExitStack() as stack:
        consumer = stack.enter_context(composed.city.gateway.signed_in("data-steward.sf"))
        provider = stack.enter_context(composed.partner.gateway.signed_in("data-steward.bj"))
        contract = negotiate(consumer, provider, PURPOSE)

        def rows() -> list[Any]:
            body = {"purpose": PURPOSE, "pageSize": 100}
            found: list[Any] = consumer.post("/v1/products/beijing.pm25-daily:read", body)["rows"]
            return found

        until("the rows", lambda: len(rows()) >= len(rows_expected))
        got = {(row["station"], row["day"]): row["pm25_mean"] for row in rows()}
        assert got == rows_expected
        assert {tuple(sorted(row)) for row in rows()} == {tuple(sorted(FIELDS))}
        outside = consumer.refused("POST", f"/v1/{contract}:query", {"fields": ["pm25_maximum"]})
        assert outside == Refused(403, "FIELD_NOT_IN_CONTRACT")
    composed.report["contract"] = {"rows": len(got), "expected": len(rows_expected)}


def test_every_audit_chain_holds(composed: Composed) -> None:
    composed.report["audit_entries"] = {node.name: verify_audit(node) for node in composed.nodes}


def _readings(composed: Composed) -> dict[tuple[str, str], float]:
    """Send hourly readings of some stations; return the daily means that must come of them."""
    start = datetime(2016, 12, 1, tzinfo=UTC) - timedelta(hours=8)  # midnight in Beijing
    expected = {}
    with composed.partner.gateway.signed_in(ADMIN) as admin:
        titles = {
            found["name"].rpartition("/")[2]: found["title"]["en"]
            for found in admin.get("/v1/zones/cn-110000/devices", pageSize=100)["devices"]
        }
        for station in STATIONS:
            readings = []
            for hour in range(DAYS * 24 + 1):  # the last one says that the day before is over
                day, value = divmod(hour, 24)[0], float(40 + hour % 24)
                time = (start + timedelta(hours=hour)).isoformat()
                device = f"zones/cn-110000/devices/{station}"
                readings.append({"device": device, "indicator": "pm25", "time": time, "value": value})
                if day < DAYS:
                    date = (datetime(2016, 12, 1, tzinfo=UTC) + timedelta(days=day)).date().isoformat()
                    expected[titles[station], date] = sum(range(40, 64)) / 24
            answer = admin.post("/v1/readings:ingest", {"readings": readings})
            assert not answer.get("refused"), answer
    return expected
