"""The reconciliation: is everything there, once, and the same everywhere? Pure functions over what the databases hold.

Nothing here shares code with what did the work: expectations come from the recorded data, the rest from the tables.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from demo.evidence import ContractRow, EventRow, NodeEvidence, ReportRow, RequestRow
from demo.expected import outcome
from demo.nodes import CITY_NODES
from demo.records import EXTERNAL_PREFIX, Record

CITY = "sf"
CHARTER = 1
EXCHANGE = 2
TERMINATED = 7
JOINT_DISPOSALS = 2
SHOWN_MAX = 5
# What the reporter sees in each status of the seven-step loop.
STATUS_SEEN = {
    "collected": "accepted",
    "filed": "accepted",
    "dispatched": "in_progress",
    "disposed": "in_progress",
    "fed_back": "answered",
    "closed": "closed",
    "evaluated": "closed",
    "voided": "rejected",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison. detail names a few of the things at fault; empty when there are none."""

    name: str
    expected: object
    seen: object
    detail: str = ""

    @property
    def ok(self) -> bool:
        return self.expected == self.seen


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """What became of the requests; each number counts requests."""

    filed: int
    opened: int
    merged: int
    flagged: int
    lost: int
    doubled: int


Evidence = Mapping[str, NodeEvidence]


def check_requests(records: Sequence[Record], evidence: Evidence) -> tuple[list[Check], RequestCounts]:
    """Every record is one request at the city, and one event at the node that handles its place stands for it."""
    requests = _of_ours(evidence)
    by_record = Counter(request.external_id for request in requests)
    wanted = {record.external_id for record in records}
    strangers = {request.name for request in evidence[CITY].requests} - {request.name for request in requests}
    reports = [
        report
        for found in evidence.values()
        for report in found.own_reports
        if report.kind == "request" and report.source not in strangers
    ]
    links = Counter(report.source for report in reports)
    names = {request.name for request in requests if request.external_id in wanted}
    not_filed = sorted(wanted - set(by_record))
    not_linked = sorted(names - set(links))
    filed_twice = sorted(name for name in wanted if by_record[name] > 1)
    linked_twice = sorted(name for name in names if links[name] > 1)
    unasked = sorted((set(by_record) - wanted) | {name for name in links if name not in names})
    opened = sum(1 for report in reports if not report.merged)
    merged = sum(1 for report in reports if report.merged)
    counts = RequestCounts(
        filed=sum(by_record[name] for name in wanted),
        opened=opened,
        merged=merged,
        flagged=sum(1 for request in requests if request.flags),
        lost=len(not_filed) + len(not_linked),
        doubled=len(filed_twice) + len(linked_twice),
    )
    return [
        Check("requests filed at the city", len(records), counts.filed, _few(not_filed + filed_twice)),
        Check("filed = opened + merged", counts.filed, opened + merged),
        Check("requests lost", 0, counts.lost, _few(not_filed + not_linked)),
        Check("requests doubled", 0, counts.doubled, _few(filed_twice + linked_twice)),
        Check("requests that nobody filed", 0, len(unasked), _few(unasked)),
    ], counts


def check_places(records: Sequence[Record], evidence: Evidence) -> list[Check]:
    """Each request is in the zone that its record names, and its event at the node that has that zone."""
    by_id = {record.external_id: record for record in records}
    wrong_zone = [
        request.name
        for request in evidence[CITY].requests
        if request.external_id in by_id and request.zone != by_id[request.external_id].zone
    ]
    wrong_node = [
        event.name
        for name, found in evidence.items()
        for event in found.own_events
        if name in _CITY_NODES and _authority(event.zone) != name
    ]
    return [
        Check("requests in another zone than recorded", 0, len(wrong_zone), _few(wrong_zone)),
        Check("events at another node than their zone's", 0, len(wrong_node), _few(wrong_node)),
    ]


def check_statuses(records: Sequence[Record], evidence: Evidence) -> list[Check]:
    """The city tells each reporter what stands at the handling node, and that is what the record says became of it."""
    handled = {event.name: event for name in _CITY_NODES for event in evidence[name].own_events}
    differing, unanswered = [], []
    for request in _of_ours(evidence):
        event = handled.get(request.event)
        if event is None:
            unanswered.append(request.name)
        elif (request.event_status, request.status) != (event.status, STATUS_SEEN.get(event.status)):
            differing.append(f"{request.name} ({request.event_status}, at its node {event.status})")
    return [
        Check("requests without an event at the city", 0, len(unanswered), _few(unanswered)),
        Check("status at the city differs from the handling node", 0, len(differing), _few(differing)),
        _check_outcomes(records, evidence, handled),
    ]


def _check_outcomes(records: Sequence[Record], evidence: Evidence, handled: Mapping[str, EventRow]) -> Check:
    by_id = {record.external_id: record for record in records}
    by_name = {request.name: by_id.get(request.external_id) for request in evidence[CITY].requests}
    stands_for: dict[str, list[Record]] = {name: [] for name in handled}
    # Events that stand for somebody else's request too: nothing is on record of that.
    shared: set[str] = set()
    for name in _CITY_NODES:
        for report in evidence[name].own_reports:
            record = by_name.get(report.source)
            if record is not None:
                stands_for[report.event].append(record)
            elif report.kind == "request":
                shared.add(report.event)
    wrong = [
        f"{name} is {handled[name].status}, recorded {outcome(found)}"
        for name, found in stands_for.items()
        if found and name not in shared and handled[name].status != outcome(found)
    ]
    return Check("events that ended otherwise than recorded", 0, len(wrong), _few(wrong))


# How each kind of dirt in a record shows: in the doubts about the request, or about the event that stands for it.
_REQUEST_DOUBTS = {"COORDINATES_ZERO": "COORDINATES_ZERO", "DISTRICT_UNKNOWN": "ZONE_UNKNOWN"}
_EVENT_DOUBTS = {"CLOSED_BEFORE_CREATED": "TIME_REVERSED"}


def check_doubts(records: Sequence[Record], evidence: Evidence) -> list[Check]:
    """Dirty records are neither dropped nor trusted: each is flagged for what is wrong with it."""
    requests = {request.external_id: request for request in evidence[CITY].requests}
    events = {event.name: event for name in _CITY_NODES for event in evidence[name].own_events}
    alone = {event for event, count in Counter(request.event for request in requests.values()).items() if count == 1}
    silent = []
    for record in records:
        request = requests.get(record.external_id)
        if request is None:
            continue
        said = {code for code, _ in request.flags}
        wanted = {_REQUEST_DOUBTS[dirt] for dirt in record.dirt if dirt in _REQUEST_DOUBTS}
        # An event closes when the last of its records did: beside others, one that is reversed need not show.
        if request.event in alone:
            said |= {code for code, _ in events[request.event].flags} if request.event in events else set()
            wanted |= {_EVENT_DOUBTS[dirt] for dirt in record.dirt if dirt in _EVENT_DOUBTS}
        silent += [f"{record.external_id} lacks {code}" for code in sorted(wanted - said)]
    return [Check("dirty records without a flag", 0, len(silent), _few(silent))]


@dataclass(frozen=True, slots=True)
class ZoneLine:
    """The events of one zone as its node, the district above (None for no such tier) and the city count them."""

    zone: str
    node: str
    events: int
    at_district: int | None
    at_city: int


def check_zones(evidence: Evidence) -> tuple[list[Check], list[ZoneLine]]:
    """The same events in the same status at every tier, by the rows and by the counters that people are shown."""
    lines: list[ZoneLine] = []
    differing: list[str] = []
    zones = sorted({event.zone for name in _CITY_NODES for event in evidence[name].own_events})
    for zone in zones:
        node = _authority(zone)
        own = _by_name(evidence[node], zone)
        tiers = {name: _by_name(evidence[name], zone) for name in _above(node)}
        for name, seen in tiers.items():
            differing += [f"{event} at {name}" for event in own.keys() ^ seen.keys()]
            differing += [f"{event} at {name}" for event in own.keys() & seen.keys() if own[event] != seen[event]]
        for name, seen in {node: own, **tiers}.items():
            counted = Counter(seen.values())
            shown = {status: count for (of, status), count in evidence[name].counters.items() if of == zone}
            if counted != shown:
                differing.append(f"counters of {zone} at {name}: {dict(counted)} events, {shown} shown")
        district = next((len(seen) for name, seen in tiers.items() if name != CITY), None)
        lines.append(ZoneLine(zone, node, len(own), district, len(tiers.get(CITY, own))))
    total = sum(line.events for line in lines)
    return [
        Check("events at their nodes = events at the city", total, sum(line.at_city for line in lines)),
        Check("events or counters that differ between tiers", 0, len(differing), _few(differing)),
    ], lines


def check_joint(evidence: Evidence) -> list[Check]:
    """The joint disposals went through: each department did its share and its task, and they talked about it."""
    found = [joint for name in _CITY_NODES for joint in evidence[name].joint]
    whole = [
        joint
        for joint in found
        if joint.shares == joint.shares_done == joint.tasks_done and joint.messages >= joint.shares
    ]
    left = [joint.event for joint in found if joint not in whole]
    return [Check("joint disposals with all shares, tasks and messages", JOINT_DISPOSALS, len(whole), _few(left))]


def check_queues(evidence: Evidence) -> list[Check]:
    """Nothing waits and nothing was given up anywhere."""
    left = [f"{name}: {count} in {queue}" for name, found in evidence.items() for queue, count in found.left.items()]
    return [Check("queues that are not empty", 0, len(left), _few(left))]


def check_contract(
    expected: Mapping[tuple[str, date], float],
    refusal: str,
    held: Sequence[Mapping[str, Any]] | None,
    evidence: Evidence,
    *,
    asked: int,
) -> list[Check]:
    """Rows sent = received = expected; ended for good, and then deleted.

    `held` are the rows that the consumer had before the end; None when an earlier run went through this. `asked` is the
    number of rows that were given as answers, besides those that were sent by themselves.
    """
    provider = _exchange(evidence["beijing"])
    consumer = _exchange(evidence[CITY])
    left = [row for row in evidence[CITY].product_rows if row["contract"]]
    return [
        Check("contract rows sent", len(expected), provider.rows_sent - asked if provider else None),
        Check("contract rows received", len(expected), consumer.rows_received - asked if consumer else None),
        *(_check_held(expected, held) if held is not None else []),
        Check("contract rows left after the end", 0, len(left)),
        Check("a field outside the contract is refused", "FIELD_NOT_IN_CONTRACT", refusal),
        Check(
            "contract terminated on both sides",
            [TERMINATED, TERMINATED],
            [side.state if side else 0 for side in (provider, consumer)],
        ),
    ]


def _check_held(expected: Mapping[tuple[str, date], float], held: Sequence[Mapping[str, Any]]) -> list[Check]:
    """The values that the readings come to, and no other field."""
    fields = {name for row in held for name in row}
    values = {(str(row["station"]), date.fromisoformat(str(row["day"]))): float(row["pm25_mean"]) for row in held}
    wrong = [
        f"{station} {day}"
        for (station, day), mean in expected.items()
        if abs(values.get((station, day), float("nan")) - mean) > 1e-6 or (station, day) not in values  # noqa: PLR2004
    ]
    return [
        Check("contract rows held by the consumer", len(expected), len(values), _few(sorted(map(str, wrong)))),
        Check("contract rows with another value than the data's", 0, len(wrong), _few(wrong)),
        Check("fields received", ["day", "pm25_mean", "station"], sorted(fields)),
    ]


def check_readings(hours: int, evidence: Evidence) -> list[Check]:
    """Every hour of the data is stored once."""
    return [Check("hourly readings stored", hours, evidence["beijing"].readings)]


def check_warnings(evidence: Evidence, rules_with_events: frozenset[str]) -> list[Check]:
    """Every warning says why; those whose rule names an event type have an event."""
    found = evidence["beijing"]
    silent = [warning.name for warning in found.warnings if not warning.reason.strip()]
    expected = {warning.name for warning in found.warnings if warning.rule in rules_with_events}
    links = Counter(report.source for report in found.own_reports if report.kind == "warning")
    wrong = sorted(expected ^ links.keys()) + [name for name, count in links.items() if count > 1]
    return [
        Check("warnings were raised", True, bool(found.warnings)),
        Check("warnings without a reason", 0, len(silent), _few(silent)),
        Check("warnings with an event", len(expected), len(links), _few(wrong)),
    ]


def _of_ours(evidence: Evidence) -> list[RequestRow]:
    """The requests of the demo: a newcomer may have filed others of their own."""
    return [request for request in evidence[CITY].requests if request.external_id.startswith(EXTERNAL_PREFIX)]


def _exchange(found: NodeEvidence) -> ContractRow | None:
    return next((contract for contract in found.contracts if contract.kind == EXCHANGE), None)


_CITY_NODES = {spec.id: spec for spec in CITY_NODES}


def _authority(zone: str) -> str:
    return next((spec.id for spec in CITY_NODES if spec.zone == zone), CITY)


def _above(node: str) -> list[str]:
    found = []
    while above := _CITY_NODES[node].above:
        found.append(above)
        node = above
    return found


def _by_name(found: NodeEvidence, zone: str) -> dict[str, str]:
    return {event.name: event.status for event in found.events if event.zone == zone}


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
    return ", ".join(names[:SHOWN_MAX]) + more


__all__ = ["Check", "EventRow", "ReportRow", "RequestCounts", "ZoneLine"]
