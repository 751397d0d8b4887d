"""Mapping files: what they make of a table, and how their faults are named."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from deploy.cli import run
from deploy.importing.document import MappingError
from deploy.importing.mapping import HistoryMapping, RowRefused, read_mapping

if TYPE_CHECKING:
    from pathlib import Path

# Another city: semicolons, its own words, local times, a promised deadline, one status column.
MAPPING = """
source: elsewhere
table:
  delimiter: ";"
  timezone: Asia/Shanghai
  times: ["%d.%m.%Y %H:%M"]
  empty: ["-"]
id: Nr
occurred_at: Gemeldet
promised_at: Frist
zone: {column: Bezirk, values: {"Nord*": n1, "Sued?": s1}, otherwise: city}
type: {columns: [Art, Unterart], values: {"Licht | *": street-light, "* | Laerm": noise}, otherwise: other}
description: {columns: [Art, Text], join: ": "}
address: Strasse
latitude: lat
longitude: lon
steps:
  - {action: file, at: Gemeldet}
  - {action: dispatch, at: Vergeben, organisation: {column: Team, values: {"T*": works}, prefix: "city."}}
  - action: dispose
    at: [Erledigt, Geschlossen]
    when: {value: Stand, is: [erledigt, zu]}
    reason: Notiz
doubts:
  - code: STATUS_CONFLICT
    field: Erledigt
    reason: done without a time
    when: [{value: Stand, is: [erledigt]}, {value: Erledigt, is: [""]}]
"""
COLUMNS = (
    "Nr", "Gemeldet", "Frist", "Bezirk", "Art", "Unterart", "Text", "Strasse", "lat", "lon", "Vergeben", "Team",
    "Erledigt", "Geschlossen", "Stand", "Notiz",
)  # fmt: skip
ROW = {
    "Nr": "7", "Gemeldet": "01.03.2020 09:30", "Frist": "2020-03-04T17:00:00+08:00", "Bezirk": "nordost",
    "Art": "Licht",
    "Unterart": "", "Text": "dark", "Strasse": " -", "lat": "31.2", "lon": "121.5", "Vergeben": "2020-03-01 10:00:00",
    "Team": "T4", "Erledigt": "", "Geschlossen": "2020-03-02", "Stand": "erledigt", "Notiz": "new lamp",
}  # fmt: skip


@pytest.fixture
def mapping(tmp_path: Path) -> HistoryMapping:
    (tmp_path / "city.yaml").write_text(MAPPING)
    return read_mapping(tmp_path / "city.yaml", COLUMNS)


def test_another_citys_export_needs_its_mapping_alone(mapping: HistoryMapping) -> None:
    record = mapping.record(mapping.table.clean(ROW))
    assert (record.external_id, record.zone, record.type) == ("7", "n1", "eventTypes/street-light")
    assert (record.description, record.place.address) == ("Licht: dark", "")
    assert (record.place.point.latitude, record.place.point.longitude) == (31.2, 121.5)
    assert record.occurred_at.ToDatetime(UTC) == datetime(2020, 3, 1, 1, 30, tzinfo=UTC)
    assert record.promised_at.ToDatetime(UTC) == datetime(2020, 3, 4, 9, 0, tzinfo=UTC)
    assert [step.action for step in record.steps] == ["file", "dispatch", "dispose"]
    assert record.steps[1].organisation == "organisations/city.works"
    assert record.steps[2].occurred_at.ToDatetime(UTC) == datetime(2020, 3, 1, 16, 0, tzinfo=UTC)
    assert record.steps[2].reason == "new lamp"
    assert [flag.code for flag in record.flags] == ["STATUS_CONFLICT"]


def test_a_step_is_taken_only_when_it_has_a_time_and_its_condition_holds(mapping: HistoryMapping) -> None:
    waiting = {**ROW, "Stand": "offen", "Vergeben": "-", "Bezirk": "West", "Art": "Bus", "Unterart": "LAERM"}
    record = mapping.record(mapping.table.clean(waiting))
    assert [step.action for step in record.steps] == ["file"]
    assert (record.zone, record.type, list(record.flags)) == ("city", "eventTypes/noise", [])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"Nr": ""}, "id"),
        ({"Gemeldet": "yesterday"}, "occurred_at"),
        ({"Gemeldet": "-"}, "occurred_at"),
        ({"lat": "north"}, "latitude"),
        ({"Vergeben": "32.03.2020 09:30"}, "steps dispatch"),
    ],
)
def test_a_row_that_cannot_be_read_names_its_field(
    mapping: HistoryMapping, changes: dict[str, str], field: str
) -> None:
    with pytest.raises(RowRefused) as caught:
        mapping.record(mapping.table.clean({**ROW, **changes}))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("before", "after", "line", "says"),
    [
        ("address: Strasse", "adress: Strasse", 14, "adress: is not a known key"),
        ("address: Strasse", "address: Gasse", 14, "address: the table has no column 'Gasse'"),
        ("source: elsewhere", "source: Else Where", 2, "source: must match"),
        ("source: elsewhere\n", "", 1, "needs source"),
        ("Asia/Shanghai", "Asia/Nowhere", 5, "table.timezone: 'Asia/Nowhere' is not a name"),
        ('delimiter: ";"', "delimiter: tab", 4, "table.delimiter: must be one character"),
        ("{action: file, at: Gemeldet}", "{action: file}", 18, "steps[0]: needs at"),
        ("address: Strasse", "address: {text: a, column: b}", 14, "address: takes no other key"),
        ("address: Strasse", "address: {column: Strasse, otherwise: x}", 14, "address.otherwise: needs values"),
        ("id: Nr", "id: Nr\nid: Nr", 9, "id: stands here twice"),
        ("address: Strasse", "address: {column: [", 16, "is not YAML"),
    ],
)
def test_faults_of_a_mapping_name_line_and_key(tmp_path: Path, before: str, after: str, line: int, says: str) -> None:
    assert before in MAPPING
    (tmp_path / "city.yaml").write_text(MAPPING.replace(before, after))
    with pytest.raises(MappingError) as caught:
        read_mapping(tmp_path / "city.yaml", COLUMNS)
    assert f"city.yaml:{line}: " in str(caught.value)
    assert says in str(caught.value)


def test_the_command_names_the_fault_before_it_asks_a_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "city.yaml").write_text(MAPPING.replace("id: Nr", "id: Number"))
    (tmp_path / "password").write_text("secret")
    with (tmp_path / "export.csv").open("w", newline="") as out:
        csv.writer(out, delimiter=";").writerow(COLUMNS)
    arguments = ["import", "--url", "http://127.0.0.1:1", "--login", "x", "--password-file", str(tmp_path / "password")]
    arguments += ["--zone", "city", "--mapping", str(tmp_path / "city.yaml"), str(tmp_path / "export.csv")]
    assert run(arguments) == 2
    assert "city.yaml:8: id: the table has no column 'Number'" in capsys.readouterr().err
