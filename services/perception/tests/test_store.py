from dataclasses import replace
from datetime import timedelta

import pytest

from libs.access import Visibility
from libs.db import Connection
from libs.errors import AlreadyExists
from libs.tx import Tx
from services.perception import store, store_deadletters, store_readings
from services.perception.model import Indicator, Text, Thresholds
from services.perception.store_deadletters import DeadLetter
from services.perception.tests.conftest import DONGSI, MODEL, RULE, START, TIANTAN, City

ALL = Visibility(everything=True)


async def test_models_devices_and_rules_come_back_as_they_were_put(city: City) -> None:
    await city.put(RULE)

    async def read(conn: Connection) -> None:
        assert await store.list_models(conn, after=None, limit=10) == [MODEL]
        assert await store.get_device(conn, DONGSI.name) == DONGSI
        assert await store.list_rules(conn, ALL, after=None, limit=10) == [RULE]
        assert await store.device_names(conn, ["dongsi", "nowhere"]) == {"dongsi": DONGSI.name}
        assert await store.is_measured(conn, "o3")
        assert not await store.is_measured(conn, "noise")

    await city.transactions.read(read)


async def test_a_changed_model_gives_its_devices_series_and_takes_none_away(city: City) -> None:
    await city.hourly(1, 2)
    await city.put(replace(MODEL, indicators=(Indicator("noise", Text(), "dB"),)))
    assert len(await city.rows("SELECT FROM series")) == 6
    outcome = await city.hourly(3, start=2)
    assert [(one.field, one.rule) for one in outcome.refused] == [("indicator", "must be a code of the device's model")]
    assert (await city.hourly(60, indicator="noise")).accepted == 1


async def test_an_id_belongs_to_one_device_of_the_node(city: City) -> None:
    with pytest.raises(AlreadyExists, match="dongsi"):
        await city.put(replace(DONGSI, name="zones/cn-110000/devices/dongsi", zone="cn-110000"))


async def test_lists_are_narrowed_to_what_is_visible_and_paged_by_name(city: City) -> None:
    zones = ["cn-110000", "cn-110101"]

    async def names(visible: Visibility, after: str | None = None, limit: int = 10) -> list[str]:
        rows = await city.transactions.read(
            lambda conn: store.list_devices(conn, zones, visible, after=after, limit=limit)
        )
        return [device.name for device in rows]

    assert await names(ALL) == [TIANTAN.name, DONGSI.name]
    assert await names(ALL, limit=1) == [TIANTAN.name]
    assert await names(ALL, after=TIANTAN.name) == [DONGSI.name]
    assert await names(Visibility(zones=("cn-110101",))) == [DONGSI.name]
    assert await names(Visibility(organisation_zones=(("organisations/other", "cn-110101"),))) == []
    assert await names(Visibility()) == []


async def test_every_change_of_a_rule_has_a_revision_and_its_counters_stay(city: City) -> None:
    await city.put(RULE)

    async def count(tx: Tx) -> None:
        await store.count_alarms(tx.conn, RULE.name, true=2, false=1)

    await city.transactions.run(count)
    await city.put(replace(RULE, thresholds=replace(RULE.thresholds, clear_at=100.0)), replace(RULE, disabled=True))
    rules = await city.transactions.read(lambda conn: store.list_rules(conn, ALL, after=None, limit=10))
    assert [(one.revision, one.true_alarms, one.false_alarms, one.disabled) for one in rules] == [(3, 2, 1, True)]
    assert await city.transactions.read(lambda conn: store.rules_for(conn, ["pm25"])) == []


async def test_history_has_bounds_and_pages(city: City) -> None:
    await city.hourly(*range(6))

    async def history(**wanted: object) -> list[float]:
        asked = {"start": None, "end": None, "after": None, "limit": 10} | wanted
        rows = await city.transactions.read(
            lambda conn: store_readings.history(conn, DONGSI.name, "pm25", **asked)  # type: ignore[arg-type]
        )
        return [row.value for row in rows]

    def hour(number: int) -> object:
        return START + timedelta(hours=number)

    assert await history() == [0, 1, 2, 3, 4, 5]
    assert await history(start=hour(2), end=hour(4)) == [2, 3]
    assert await history(after=hour(2), limit=2) == [3, 4]
    assert await history(start=hour(4), after=hour(2)) == [4, 5]


async def test_thresholds_survive_the_database_exactly(city: City) -> None:
    limits = Thresholds(RULE.thresholds.comparison, 0.1 + 0.2, 1e-300, timedelta(days=366))
    await city.put(replace(RULE, thresholds=limits))
    rules = await city.transactions.read(lambda conn: store.rules_for(conn, ["pm25"]))
    assert rules[0].thresholds == limits


async def test_dead_letters_are_bounded_and_replace_themselves(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_deadletters, "DEAD_LETTERS_MAX", 3)

    async def bury(*sequences: int, error: str = "is not JSON") -> None:
        async def work(tx: Tx) -> None:
            letters = [DeadLetter("devices.x.readings", one, b"x" * 9000, error, tx.now) for one in sequences]
            await store_deadletters.bury(tx.conn, letters)

        await city.transactions.run(work)

    await bury(1, 2, 3, 4, 5)
    await bury(5, error="again")
    letters = await city.transactions.read(lambda conn: store_deadletters.newest(conn, 10))
    assert {one.stream_sequence for one in letters} <= {3, 4, 5}
    assert [(one.error, len(one.payload)) for one in letters if one.stream_sequence == 5] == [
        ("again", store_deadletters.PAYLOAD_BYTES_MAX)
    ]
