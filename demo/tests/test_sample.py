from collections import Counter
from pathlib import Path

import pytest

from demo.nodes import CITY_NODES, DECLARED
from demo.records import CITY, POTRERO_HILL, Record, Records, read_records
from demo.sample import QUOTAS, choose
from demo.settings import SAMPLE_REQUESTS, read_settings
from deploy.declared import read_folder

REAL = read_settings({}).data


@pytest.fixture(scope="module", params=["real", "generated"])
def records(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Records:
    folder = REAL if request.param == "real" else tmp_path_factory.mktemp("empty")
    found = read_records(folder)
    if request.param == "real" and not found.real:
        pytest.skip("the real data is not there")
    return found


def test_records_come_in_the_order_of_creation_and_keep_their_dirt(records: Records) -> None:
    created = [record.created for record in records.rows]
    dirt = Counter(code for record in records.rows for code in record.dirt)
    assert len(records.rows) == 10_000
    assert created == sorted(created)
    assert dirt.keys() == {"CLOSED_BEFORE_CREATED", "COORDINATES_ZERO", "DISTRICT_UNKNOWN"}


def test_the_sample_is_the_same_every_time(records: Records) -> None:
    once, again = choose(records.rows), choose(list(records.rows))
    assert once == again
    assert len(once) == len({record.key for record in once}) == SAMPLE_REQUESTS
    assert [record.created for record in once] == sorted(record.created for record in once)


def test_the_sample_touches_every_node_and_every_kind_of_dirt(records: Records) -> None:
    sample = choose(records.rows)
    zones = Counter(record.zone for record in sample)
    assert {spec.zone for spec in CITY_NODES} <= zones.keys()
    assert all(zones[zone] >= 150 for zone in QUOTAS)
    rare = {record.key for record in records.rows if {"CLOSED_BEFORE_CREATED", "DISTRICT_UNKNOWN"} & set(record.dirt)}
    assert rare <= {record.key for record in sample}
    assert any("COORDINATES_ZERO" in record.dirt for record in sample)
    assert any(record.closed is None for record in sample)


def test_a_larger_sample_holds_most_of_a_smaller_one(records: Records) -> None:
    small, large = (set(_keys(choose(records.rows, size))) for size in (1_000, 2_000))
    assert small <= large


def test_every_record_has_a_declared_type_and_zone(records: Records) -> None:
    declared = read_folder(DECLARED / "sf")
    types = {f"eventTypes/{record.event_type}" for record in records.rows}
    zones = {f"zones/{record.zone}" for record in records.rows}
    assert types <= set(declared.names("event_types"))
    assert zones <= set(declared.names("zones"))


def test_a_neighbourhood_counts_only_in_its_own_district(records: Records) -> None:
    for record in records.rows:
        if record.zone == POTRERO_HILL:
            assert (record.district, record.neighbourhood) == ("10", "Potrero Hill")
        elif not record.district:
            assert record.zone == CITY


def test_settings_take_empty_text_for_unset(tmp_path: Path) -> None:
    settings = read_settings({"ONCE": "1", "FULL": "", "KEEP": "0", "QUINTET_DATA": ""}, tmp_path / "main")
    assert (settings.once, settings.full, settings.keep) == (True, False, False)
    assert settings.data == tmp_path / "shared" / "data"
    assert read_settings({"QUINTET_DATA": "/elsewhere"}).data == Path("/elsewhere")


def _keys(records: tuple[Record, ...]) -> list[str]:
    return [record.key for record in records]
