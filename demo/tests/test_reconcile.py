"""The reconciliation must see what is planted: a loss, a double, a difference."""

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from demo import reconcile
from demo.air import BEIJING, Hour
from demo.evidence import ContractRow, EventRow, JointRow, NodeEvidence, ReportRow, RequestRow, WarningRow
from demo.expected import complete_days
from demo.nodes import SPECS
from demo.records import Record

START = datetime(2016, 1, 1, tzinfo=UTC)
D10 = "us-ca-sf-d10"
HILL = f"{D10}-potrero-hill"
Evidence = dict[str, NodeEvidence]


def record(
    number: int, district: str, neighbourhood: str = "", *, is_open: bool = False, latitude: float = 37.7
) -> Record:
    return Record(
        key=str(number),
        created=START + timedelta(hours=number),
        closed=None if is_open else START + timedelta(hours=number + 1),
        category="Sewer Issues",
        kind="Flooding",
        descriptor="",
        notes="",
        address="",
        district=district,
        neighbourhood=neighbourhood,
        source="Web",
        latitude=latitude,
        longitude=-122.4 if latitude else 0.0,
    )


# Two of the city's own (one merged into the other), one of a district, one of a street.
RECORDS = [record(0, "1"), record(1, "1"), record(2, "10", is_open=True), record(3, "10", "Potrero Hill", latitude=0.0)]
EVENTS = [
    ("us-ca-sf-d1", "sf", "evaluated", [0, 1]),
    (D10, "sf-d10", "dispatched", [2]),
    (HILL, "sf-potrero-hill", "evaluated", [3]),
]
KNOWN_BY = {"sf": ("sf",), "sf-d10": ("sf-d10", "sf"), "sf-potrero-hill": ("sf-potrero-hill", "sf-d10", "sf")}


def whole() -> Evidence:
    """What the databases hold when everything went well."""
    evidence = {spec.id: NodeEvidence(spec.id) for spec in SPECS}
    for number, (zone, node, status, keys) in enumerate(EVENTS):
        name = f"zones/{zone}/events/{number}"
        for tier in KNOWN_BY[node]:
            evidence[tier].events.append(EventRow(name, zone, node, status, ()))
            evidence[tier].counters[zone, status] = 1
            evidence[tier].reports += [
                ReportRow(name, node, "request", request_name(RECORDS[key]), merged=key != keys[0]) for key in keys
            ]
        evidence["sf"].requests += [
            RequestRow(
                RECORDS[key].external_id,
                request_name(RECORDS[key]),
                zone,
                name,
                status,
                reconcile.STATUS_SEEN[status],
                tuple((code, "") for code in RECORDS[key].dirt),
            )
            for key in keys
        ]
    return evidence


def request_name(found: Record) -> str:
    return f"zones/{found.zone}/requests/{found.key}"


def wrong(evidence: Evidence) -> set[str]:
    checks = [
        *reconcile.check_requests(RECORDS, evidence)[0],
        *reconcile.check_places(RECORDS, evidence),
        *reconcile.check_statuses(RECORDS, evidence),
        *reconcile.check_zones(evidence)[0],
        *reconcile.check_doubts(RECORDS, evidence),
        *reconcile.check_queues(evidence),
    ]
    return {check.name for check in checks if not check.ok}


def test_what_went_well_reconciles() -> None:
    evidence = whole()
    _, counts = reconcile.check_requests(RECORDS, evidence)
    _, lines = reconcile.check_zones(evidence)
    assert wrong(evidence) == set()
    assert (counts.filed, counts.opened, counts.merged, counts.lost, counts.doubled) == (4, 3, 1, 0, 0)
    assert [(line.zone, line.events, line.at_district, line.at_city) for line in lines] == [
        ("us-ca-sf-d1", 1, None, 1),
        (D10, 1, None, 1),
        (HILL, 1, 1, 1),
    ]


def test_requests_that_a_newcomer_filed_are_left_alone() -> None:
    evidence = whole()
    name, event = "zones/us-ca-sf/requests/own", "zones/us-ca-sf/events/own"
    evidence["sf"].requests.append(RequestRow("", name, "us-ca-sf", event, "collected", "accepted", ()))
    evidence["sf"].events.append(EventRow(event, "us-ca-sf", "sf", "collected", ()))
    evidence["sf"].reports.append(ReportRow(event, "sf", "request", name, merged=False))
    evidence["sf"].counters["us-ca-sf", "collected"] = 1
    merged = replace(evidence["sf-d10"].own_reports[0], source=name + "2", merged=True)
    evidence["sf"].requests.append(RequestRow("", name + "2", D10, merged.event, "dispatched", "in_progress", ()))
    evidence["sf-d10"].reports.append(merged)
    assert wrong(evidence) == set()


def lose_at_the_city(evidence: Evidence) -> None:
    evidence["sf"].requests.pop()


def lose_at_the_node(evidence: Evidence) -> None:
    evidence["sf-d10"].reports = [found for found in evidence["sf-d10"].reports if found.node != "sf-d10"]


def file_twice(evidence: Evidence) -> None:
    first = evidence["sf"].requests[0]
    evidence["sf"].requests.append(replace(first, name=f"{first.name}-again"))


def link_twice(evidence: Evidence) -> None:
    first = evidence["sf"].own_reports[0]
    evidence["sf-d10"].reports.append(replace(first, node="sf-d10", event="zones/us-ca-sf-d10/events/1"))


def invent(evidence: Evidence) -> None:
    first = evidence["sf"].requests[0]
    evidence["sf"].requests.append(replace(first, external_id="sf311:nobody", name=f"{first.name}-x"))


def tell_another_status(evidence: Evidence) -> None:
    evidence["sf"].requests[0] = replace(evidence["sf"].requests[0], event_status="closed")


def show_another_status(evidence: Evidence) -> None:
    evidence["sf"].requests[0] = replace(evidence["sf"].requests[0], status="answered")


def leave_unfinished(evidence: Evidence) -> None:
    for found in (evidence["sf"], evidence["sf-d10"], evidence["sf-potrero-hill"]):
        found.events = [replace(event, status="closed") if event.zone == HILL else event for event in found.events]
        found.counters.pop((HILL, "evaluated"), None)
        found.counters[HILL, "closed"] = 1
    evidence["sf"].requests = [
        replace(request, event_status="closed") if request.zone == HILL else request
        for request in evidence["sf"].requests
    ]


def forget_an_event_upstairs(evidence: Evidence) -> None:
    evidence["sf-d10"].events = [event for event in evidence["sf-d10"].events if event.zone != HILL]


def miscount(evidence: Evidence) -> None:
    evidence["sf"].counters[D10, "dispatched"] = 2


def misplace(evidence: Evidence) -> None:
    evidence["sf"].requests[0] = replace(evidence["sf"].requests[0], zone="us-ca-sf-d2")


def trust_dirt(evidence: Evidence) -> None:
    evidence["sf"].requests[-1] = replace(evidence["sf"].requests[-1], flags=())


def leave_something_waiting(evidence: Evidence) -> None:
    evidence["sf-d6"].left["delivery.outbox"] = 1


@pytest.mark.parametrize(
    ("plant", "seen"),
    [
        (lose_at_the_city, "requests lost"),
        (lose_at_the_node, "requests lost"),
        (file_twice, "requests doubled"),
        (link_twice, "requests doubled"),
        (invent, "requests that nobody filed"),
        (tell_another_status, "status at the city differs from the handling node"),
        (show_another_status, "status at the city differs from the handling node"),
        (leave_unfinished, "events that ended otherwise than recorded"),
        (forget_an_event_upstairs, "events or counters that differ between tiers"),
        (miscount, "events or counters that differ between tiers"),
        (misplace, "requests in another zone than recorded"),
        (trust_dirt, "dirty records without a flag"),
        (leave_something_waiting, "queues that are not empty"),
    ],
)
def test_what_is_planted_is_seen(plant: Callable[[Evidence], None], seen: str) -> None:
    evidence = copy.deepcopy(whole())
    plant(evidence)
    assert seen in wrong(evidence)


def hours(days: int) -> list[Hour]:
    start = datetime(2016, 12, 1, tzinfo=BEIJING)
    return [Hour("Dongsi", start + timedelta(hours=hour), float(hour)) for hour in range(days * 24)]


def test_a_day_is_complete_when_a_later_one_has_begun() -> None:
    assert complete_days(hours(2)) == {("Dongsi", date(2016, 12, 1)): 11.5}


HELD: list[dict[str, Any]] = [{"station": "Dongsi", "day": "2016-12-01", "pm25_mean": 11.5}]


def exchanged() -> Evidence:
    evidence = {spec.id: NodeEvidence(spec.id) for spec in SPECS}
    evidence["beijing"].product_rows = [{"product": "products/pm25-daily", "contract": "", **HELD[0]}]
    evidence["sf"].contracts = [ContractRow("contracts/1", 2, 7, 0, 1, 1)]
    evidence["beijing"].contracts = [ContractRow("contracts/1", 2, 7, 1, 0, 0)]
    return evidence


def contract_faults(
    evidence: Evidence, refusal: str = "FIELD_NOT_IN_CONTRACT", held: list[dict[str, Any]] | None = HELD
) -> set[str]:
    checks = reconcile.check_contract(complete_days(hours(2)), refusal, held, evidence, asked=0)
    return {check.name for check in checks if not check.ok}


def test_a_contract_that_was_kept_reconciles() -> None:
    assert contract_faults(exchanged()) == set()


def test_a_row_too_many_another_value_and_another_field_are_seen() -> None:
    evidence = exchanged()
    evidence["beijing"].contracts = [replace(evidence["beijing"].contracts[0], rows_sent=2)]
    assert contract_faults(evidence) == {"contract rows sent"}
    changed = [{**HELD[0], "pm25_mean": 12.0}]
    assert contract_faults(exchanged(), held=changed) == {"contract rows with another value than the data's"}
    assert contract_faults(exchanged(), held=[{**HELD[0], "pm25_maximum": 23.0}]) == {"fields received"}
    evidence = exchanged()
    evidence["sf"].product_rows = [{"product": "products/beijing.pm25-daily", "contract": "contracts/1", **HELD[0]}]
    assert contract_faults(evidence) == {"contract rows left after the end"}
    assert contract_faults(exchanged(), held=None) == set()
    assert contract_faults(exchanged(), refusal="") == {"a field outside the contract is refused"}


def test_a_joint_disposal_with_an_open_task_is_seen() -> None:
    evidence = {spec.id: NodeEvidence(spec.id) for spec in SPECS}
    evidence["sf"].joint = [JointRow("zones/a/events/1", 2, 2, 2, 2)]
    evidence["sf-d10"].joint = [JointRow("zones/b/events/2", 2, 2, 2, 2)]
    assert all(check.ok for check in reconcile.check_joint(evidence))
    evidence["sf-d10"].joint = [JointRow("zones/b/events/2", 2, 2, 1, 2)]
    (check,) = reconcile.check_joint(evidence)
    assert (check.ok, check.detail) == (False, "zones/b/events/2")


def test_a_warning_without_a_reason_or_event_is_seen() -> None:
    evidence = {spec.id: NodeEvidence(spec.id) for spec in SPECS}
    evidence["beijing"].warnings = [WarningRow("zones/cn-110000/warnings/1", "rules/pm25-heavy", " ")]
    checks = reconcile.check_warnings(evidence, frozenset({"rules/pm25-heavy"}))
    assert {check.name for check in checks if not check.ok} == {"warnings without a reason", "warnings with an event"}
