"""The recorded history of a city goes in by its mapping file, and every figure equals what the table itself says."""

from __future__ import annotations

import asyncio
import csv
import gzip
import os
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from math import asin, cos, radians, sin, sqrt
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from demo.generated import generated_rows
from demo.records import read_records
from demo.settings import ROOT, read_settings
from deploy.cli import run
from deploy.testing import NodeProcess, write_node_toml
from quintet.identity.v1.directory_pb2 import ListZonesRequest
from quintet.management.v1 import scorecards_pb2 as scorecards
from quintet.management.v1.management_pb2 import Event, ListEventsRequest
from quintet_sdk import Client

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

CITY = "us-ca-sf"
DATA = read_settings(os.environ).data
PAGE_SIZE = 500
OFFICES = ZoneInfo("America/Los_Angeles")
OFFICE_HOURS = (time(8), time(17))
SATURDAY = 5
EARTH_RADIUS_M = 6_371_008.8
TYPES = {
    entry["id"]: entry
    for entry in yaml.safe_load((ROOT / "deploy/demo/common/sf-event-types.yaml").read_text())["event_types"]
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A city of its own, with the demo's zones, departments and types, and nothing else."""
    folder = tmp_path_factory.mktemp("history")
    write_node_toml(folder)
    running = NodeProcess(folder)
    try:
        running.start()
        _command(running, "load", str(ROOT / "deploy/demo/sf"), "--data", str(DATA))
        yield running
    finally:
        running.remove()


@dataclass
class Case:
    """A row as somebody reads it who knows nothing of Quintet: what happened to it, and in which event it ended."""

    id: str
    zone: str
    type: str
    opened: datetime
    closed: datetime | None
    address: str
    point: tuple[float, float] | None
    leader: Case | None = None

    @property
    def due(self) -> datetime:
        allowed = TYPES[self.type]["deadline"]
        amount = timedelta(minutes=allowed["minutes"])
        return self.opened + amount if allowed.get("around_the_clock") else _by_office_hours(self.opened, amount)

    def late(self, now: datetime) -> bool:
        return (self.closed or now) > self.due

    def was_open(self, at: datetime) -> bool:
        return self.opened <= at and (self.closed is None or self.closed > at)


def test_san_franciscos_cases_are_taken_in_to_the_row(node: NodeProcess, tmp_path: Path) -> None:
    export = _export(tmp_path)
    cases = _merged(_cases(export))
    events = _import(node, "sf311", export, tmp_path)
    assert events.keys() == {case.id for case in cases}
    by_name = asyncio.run(_events(node))
    now = datetime.now(UTC)
    for case in cases:
        name, outcome = events[case.id]
        assert outcome == ("merged" if case.leader else "opened"), case
        assert name == events[case.leader.id][0] if case.leader else True, case
    told = {events[case.id][0]: case for case in cases if case.leader is None}
    assert by_name.keys() == told.keys()
    wrong = [
        (case, by_name[name]) for name, case in told.items() if _figures(by_name[name], now) != _recorded(case, now)
    ]
    assert not wrong, wrong[:3]
    reports = Counter((case.leader or case).id for case in cases)
    assert {case.id: by_name[name].reports for name, case in told.items()} == reports
    # Contradicting rows are there, and say that they are.
    reversed_ = {name for name, case in told.items() if case.closed and case.closed < case.opened}
    assert {name for name, event in by_name.items() if "TIME_REVERSED" in _flags(event)} == reversed_
    print(_summary(cases, now))


def test_what_is_brought_again_changes_nothing(node: NodeProcess, tmp_path: Path) -> None:
    export = _export(tmp_path)
    first = _import(node, "sf311", export, tmp_path)
    before = asyncio.run(_events(node))
    again = _import(node, "sf311", export, tmp_path)
    assert {outcome for _, outcome in again.values()} == {"known"}
    assert {record: name for record, (name, _) in again.items()} == {
        record: name for record, (name, _) in first.items()
    }
    assert asyncio.run(_events(node)) == before


def test_scorecards_of_the_history_equal_the_table_to_the_row(node: NodeProcess, tmp_path: Path) -> None:
    """Three years: how many of each zone's cases were answered within hours, solved, and solved in time, and which."""
    export = _export(tmp_path)
    cases = [case for case in _merged(_cases(export)) if case.leader is None]
    names = {record: name for record, (name, _) in _import(node, "sf311", export, tmp_path).items()}
    paths = asyncio.run(_paths(node))
    for year in (2014, 2015, 2016):
        period = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
        chosen = [case for case in cases if period[0] <= case.opened < period[1]]
        expected, doubted = _counted(chosen, names, paths)
        told, exclusions, late = asyncio.run(_scored(node, *period))
        assert told == {key: (len(met), len(not_met)) for key, (met, not_met) in expected.items()}
        assert exclusions == ({"TIME_REVERSED": len(doubted)} if doubted else {})
        assert late == expected[CITY, "on_time"][1]
        print(f"{year}: {len(chosen)} cases, {len(doubted)} contradict themselves, {len(late)} late")


def test_units_of_the_fire_department_keep_their_stages_to_the_second(node: NodeProcess, tmp_path: Path) -> None:
    export = DATA / "sffd_calls.csv.gz"
    if not export.exists():
        pytest.skip("the unit records are not among the data here")
    events = _import(node, "sffd-calls", export, tmp_path)
    with gzip.open(export, "rt", newline="") as table:
        rows = {row["row_id"]: row for row in csv.DictReader(table)}
    assert events.keys() == rows.keys()
    by_name = asyncio.run(_events(node))
    stages = {"available_timestamp": "cleared", "on_scene_timestamp": "on_scene", "response_timestamp": "en_route"}
    expected = {
        record: next((state for stage, state in stages.items() if row[stage]), "dispatched")
        for record, row in rows.items()
    }
    assert {record: by_name[name].status for record, (name, _) in events.items()} == expected
    cleared = {
        record: by_name[name].closed_at.ToDatetime(UTC)
        for record, (name, _) in events.items()
        if rows[record]["available_timestamp"]
    }
    assert cleared == {record: datetime.fromisoformat(rows[record]["available_timestamp"]) for record in cleared}
    assert sum("TIME_REVERSED" in _flags(by_name[name]) for name, _ in events.values()) == sum(
        map(_out_of_order, rows.values())
    )


def _out_of_order(row: Mapping[str, str]) -> bool:
    stages = ("received", "dispatch", "response", "on_scene", "available")
    times = [row[f"{stage}_timestamp"] for stage in stages if row[f"{stage}_timestamp"]]
    return times != sorted(times)


# ----------------------------------------------------------------------------------------------------- what is expected


def _export(folder: Path) -> Path:
    """The real cases, or a generated sample in the same form where they are not there."""
    real = DATA / "sf311.csv.gz"
    if real.exists():
        return real
    rows = list(generated_rows())
    path = folder / "generated.csv"
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def _cases(export: Path) -> list[Case]:
    records = read_records(export.parent)
    rows = _rows(export)
    kinds = {record.key: (record.zone, record.event_type) for record in records.rows}
    return sorted((_case(row, *kinds[row["unique_key"]]) for row in rows), key=lambda case: (case.opened, case.id))


def _rows(export: Path) -> list[dict[str, str]]:
    with gzip.open(export, "rt", newline="") if export.suffix == ".gz" else export.open(newline="") as table:
        return list(csv.DictReader(table))


def _case(row: Mapping[str, str], zone: str, kind: str) -> Case:
    point = float(row["latitude"] or 0), float(row["longitude"] or 0)
    closed = datetime.fromisoformat(row["closed_date"]) if row["closed_date"] else None
    known = row["incident_address"] != "Not associated with a specific address"
    address = re.sub(r"\W+", " ", row["incident_address"].lower()).strip() if known else ""
    opened = datetime.fromisoformat(row["created_date"])
    return Case(row["unique_key"], zone, kind, opened, closed, address, None if point == (0.0, 0.0) else point)


def _by_office_hours(since: datetime, amount: timedelta) -> datetime:
    """When so much of the offices' time is over: 8 to 17 on weekdays (their holidays are declared from 2026 on)."""
    day = since.astimezone(OFFICES).date()
    while True:
        opens, closes = (datetime.combine(day, at, OFFICES).astimezone(UTC) for at in OFFICE_HOURS)
        left = max(timedelta(), closes - max(opens, since)) if day.weekday() < SATURDAY else timedelta()
        if amount <= left:
            return max(opens, since) + amount
        amount -= left
        day += timedelta(days=1)


def _merged(cases: Sequence[Case]) -> list[Case]:
    """Say for each case which earlier one it was a repetition of, by the merge policy of its type."""
    leaders: dict[str, list[Case]] = {}
    for case in cases:
        policy = TYPES[case.type].get("merge", {})
        near = [
            (apart, leader.opened, leader)
            for leader in leaders.setdefault(case.type, [])
            if leader.was_open(case.opened)
            and case.opened - leader.opened <= timedelta(hours=policy.get("window_h", 0))
            and (apart := _apart_m(case, leader, policy.get("radius_m", 0))) is not None
        ]
        if policy.get("window_h", 0) and near:
            case.leader = min(near, key=lambda found: found[:2])[2]
        else:
            leaders[case.type].append(case)
    return list(cases)


def _apart_m(case: Case, other: Case, radius_m: float) -> float | None:
    """How far two cases are from each other if they are in one place; 0 for one address without coordinates."""
    apart = None
    if case.point and other.point:
        (south, west), (north, east) = ((radians(p[0]), radians(p[1])) for p in (case.point, other.point))
        chord = sin((north - south) / 2) ** 2 + cos(south) * cos(north) * sin((east - west) / 2) ** 2
        apart = 2 * EARTH_RADIUS_M * asin(sqrt(chord))
    if apart is not None and radius_m > 0 and apart <= radius_m:
        return apart
    return (apart or 0.0) if case.address and case.address == other.address else None


def _recorded(case: Case, now: datetime) -> tuple[Any, ...]:
    status = "dispatched" if case.closed is None else "closed"
    return case.zone, f"eventTypes/{case.type}", status, case.opened, case.closed, case.due, case.late(now), 0


def _figures(event: Event, now: datetime) -> tuple[Any, ...]:
    closed = event.closed_at.ToDatetime(UTC) if event.HasField("closed_at") else None
    due = event.due_at.ToDatetime(UTC)
    opened = event.occurred_at.ToDatetime(UTC)
    return event.zone, event.type, event.status, opened, closed, due, (closed or now) > due, event.returns


def _flags(event: Event) -> set[str]:
    return {flag.code for flag in event.flags}


def _summary(cases: Sequence[Case], now: datetime) -> str:
    leaders = [case for case in cases if case.leader is None]
    late = sum(case.late(now) for case in leaders)
    still_open = sum(case.closed is None for case in leaders)
    return (
        f"{len(cases)} cases: {len(leaders)} events, {len(cases) - len(leaders)} merged, {still_open} open, {late} late"
    )


def _counted(
    cases: Sequence[Case], names: Mapping[str, str], paths: Mapping[str, Sequence[str]]
) -> tuple[dict[tuple[str, str], tuple[set[str], set[str]]], set[str]]:
    """The events that met each indicator and those that did not, by zone and indicator; and those that are left out.

    Whatever is still open has been so for years: nothing of it is undecided.
    """
    found: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    doubted = {names[case.id] for case in cases if case.closed and case.closed < case.opened}
    for case in cases:
        if names[case.id] in doubted:
            continue
        answered = case.closed is not None and case.closed - case.opened <= timedelta(hours=4)
        on_time = case.closed is not None and case.closed <= case.due
        met = {"response": answered, "resolution": case.closed is not None, "on_time": on_time}
        for zone in paths[case.zone]:
            for indicator, holds in met.items():
                found.setdefault((zone, indicator), (set(), set()))[not holds].add(names[case.id])
    return found, doubted


# --------------------------------------------------------------------------------------------------- what the node says


def _import(node: NodeProcess, mapping: str, export: Path, folder: Path) -> dict[str, tuple[str, str]]:
    out = folder / "events.csv"
    mapping_file = ROOT / "deploy" / "mappings" / f"{mapping}.yaml"
    _command(node, "import", "--zone", CITY, "--mapping", str(mapping_file), "--events", str(out), str(export))
    with out.open(newline="") as table:
        return {row["external_id"]: (row["event"], row["outcome"]) for row in csv.DictReader(table)}


def _command(node: NodeProcess, verb: str, *arguments: str) -> None:
    password = node.folder / "password"
    password.write_text(node.password())
    sign_in = ("--url", node.url, "--login", "node-admin", "--password-file", str(password))
    assert run([verb, *sign_in, *arguments]) == 0


async def _events(node: NodeProcess) -> dict[str, Event]:
    found: dict[str, Event] = {}
    async with Client(node.url) as client:
        await client.sign_in("node-admin", node.password())
        request = ListEventsRequest(parent=f"zones/{CITY}", page_size=PAGE_SIZE)
        while True:
            page = await client.management.ListEvents(request)
            found |= {event.name: event for event in page.events}
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


async def _paths(node: NodeProcess) -> dict[str, tuple[str, ...]]:
    """The zones of the city, each with the codes from its own up to the city's."""
    async with Client(node.url) as client:
        await client.sign_in("node-admin", node.password())
        listed = (await client.directory.ListZones(ListZonesRequest())).zones
    above = {zone.name.removeprefix("zones/"): zone.parent.removeprefix("zones/") for zone in listed}
    return {code: _path(code, above) for code in above}


def _path(code: str, above: Mapping[str, str]) -> tuple[str, ...]:
    return (code,) if code == CITY or code not in above else (code, *_path(above[code], above))


async def _scored(
    node: NodeProcess, start: datetime, end: datetime
) -> tuple[dict[tuple[str, str], tuple[int, int]], dict[str, int], set[str]]:
    """The figures of a scorecard of the city's zones, its exclusions, and the events behind its late ones."""
    source = (ROOT / "docs/examples/management/scorecards/handling.yaml").read_text()
    async with Client(node.url) as client:
        await client.sign_in("node-admin", node.password())
        await client.scorecards.PutScorecardDefinition(
            scorecards.PutScorecardDefinitionRequest(name="scorecardDefinitions/handling", source=source)
        )
        asked = scorecards.DraftScorecardRequest(parent=f"zones/{CITY}", definition="scorecardDefinitions/handling")
        asked.period_from.FromDatetime(start)
        asked.period_to.FromDatetime(end)
        card = (await client.scorecards.DraftScorecard(asked)).scorecard
        request = scorecards.ListScoresRequest(
            parent=card.name, kind=scorecards.SUBJECT_KIND_ZONE, page_size=PAGE_SIZE
        )  # fmt: skip
        scores = (await client.scorecards.ListScores(request)).scores
        late: set[str] = set()
        behind = scorecards.ListFigureEventsRequest(
            parent=card.name,
            kind=scorecards.SUBJECT_KIND_ZONE,
            subject=f"zones/{CITY}",
            indicator="on_time",
            part=scorecards.FIGURE_PART_NOT_MET,
            page_size=PAGE_SIZE,
        )
        while True:
            page = await client.scorecards.ListFigureEvents(behind)
            late |= {event.event for event in page.events}
            if not page.next_page_token:
                break
            behind.page_token = page.next_page_token
    told = {
        (score.subject.removeprefix("zones/"), figure.indicator): (
            figure.numerator,
            figure.denominator - figure.numerator,
        )
        for score in scores
        for figure in score.figures
        if figure.indicator in {"response", "resolution", "on_time"}
    }
    return told, {each.code: each.events for each in card.exclusions}, late
