"""Batches of readings against a real database: what is stored, what is raised, what is stated."""

import asyncio
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from google.protobuf.message import Message

from libs.clock import ManualClock
from quintet.perception.v1.facts_pb2 import DailyAggregateComputed, WarningEnded, WarningRaised
from quintet.perception.v1.perception_pb2 import LEVEL_II, WARNING_STATE_ENDED, WARNING_STATE_RAISED
from services.perception import store_readings
from services.perception.model import Comparison, Reading, Refusal, Thresholds
from services.perception.tests.conftest import DONGSI, RULE, START, TIANTAN, City


def days(facts: list[Message]) -> list[tuple[str, int, int]]:
    """Return day, count and revision of the aggregates stated."""
    return [(one.day, one.count, one.revision) for one in facts if isinstance(one, DailyAggregateComputed)]


# -------------------------------------------------------------------------------------------------------------- storing


async def test_readings_are_stored_once(city: City) -> None:
    outcome = await city.hourly(10, 11, 12)
    assert (outcome.accepted, outcome.duplicates, outcome.refused) == (3, 0, ())
    again = await city.hourly(99, 99, 13, start=1)
    assert (again.accepted, again.duplicates) == (1, 2)
    rows = await city.rows("SELECT value FROM readings ORDER BY time")
    assert [row["value"] for row in rows] == [10, 11, 12, 13]


async def test_of_two_readings_of_one_time_in_a_batch_the_first_counts(city: City) -> None:
    outcome = await city.take_in([Reading(DONGSI.name, "pm25", START, value) for value in (1.0, 2.0, 3.0)])
    assert (outcome.accepted, outcome.duplicates) == (1, 2)
    assert [row["value"] for row in await city.rows("SELECT value FROM readings")] == [1]


async def test_good_readings_are_stored_beside_refused_ones_which_are_named(city: City, clock: ManualClock) -> None:
    soon = clock.now() + timedelta(hours=1)
    outcome = await city.take_in(
        [
            Reading("zones/cn-110000/devices/nowhere", "pm25", START, 1),
            Reading(DONGSI.name, "pm25", START, 1),
            Reading(DONGSI.name, "noise", START, 1),
            Reading(DONGSI.name, "pm25", soon, 1),
        ]
    )
    assert outcome.accepted == 1
    assert outcome.refused == (
        Refusal(0, "device", "is not a device of this node"),
        Refusal(2, "indicator", "must be a code of the device's model"),
        Refusal(3, "time", "must not lie more than 300 s ahead of the node's clock"),
    )


async def test_readings_of_devices_that_the_sender_may_not_write_for_are_refused(city: City) -> None:
    readings = [Reading(device.name, "pm25", START, 1) for device in (DONGSI, TIANTAN)]
    outcome = await city.ingest.take_in(readings, lambda zone, _organisation: zone == "cn-110101")
    assert outcome.accepted == 1
    assert outcome.refused == (Refusal(1, "device", "perception.readings.write is not granted for it"),)


async def test_implausible_values_are_kept_marked_and_used_for_nothing(city: City) -> None:
    await city.put(replace(RULE, thresholds=replace(RULE.thresholds, minimum_duration=timedelta(0))))
    await city.hourly(100, 5000, 102, start=16)  # from midnight in Beijing
    await city.hourly(50, start=40)
    facts = await city.facts()
    assert [type(one) for one in facts] == [DailyAggregateComputed]
    assert isinstance(facts[0], DailyAggregateComputed)
    assert (facts[0].count, facts[0].mean, facts[0].maximum) == (2, 101, 102)
    latest = await city.transactions.read(lambda conn: store_readings.latest(conn, DONGSI.name))
    assert [(code, one.value, one.suspect) for code, one in latest] == [("pm25", 50, False)]
    history = await city.rows("SELECT suspect FROM readings ORDER BY time")
    assert [row["suspect"] for row in history] == [False, True, False, False]


async def test_latest_is_the_latest_by_its_own_time_and_last_seen_by_the_nodes_clock(
    city: City, clock: ManualClock
) -> None:
    await city.hourly(10, 11)
    clock.advance(timedelta(hours=1))
    await city.hourly(9, start=-5)
    latest = await city.transactions.read(lambda conn: store_readings.latest(conn, DONGSI.name))
    assert [one.value for _, one in latest] == [11]
    rows = await city.rows("SELECT max(seen_at) AS seen FROM series")
    assert rows[0]["seen"] == clock.now()


async def test_every_batch_leaves_an_audit_entry(city: City) -> None:
    await city.hourly(1)
    rows = await city.rows("SELECT actor, action, detail FROM audit_entries")
    assert [tuple(row) for row in rows] == [
        ("services/perception", "perception.readings.write", '{"accepted":1,"duplicates":0,"refused":0}')
    ]


# ------------------------------------------------------------------------------------------------------------ warnings


async def test_a_warning_is_raised_and_ended_across_batches_and_says_why(city: City) -> None:
    await city.put(RULE)
    await city.hourly(151, 160)
    assert await city.facts() == []
    await city.hourly(200, 180, start=2)
    await city.hourly(190, 110, start=4)
    raised, ended = await city.facts()
    assert isinstance(raised, WarningRaised)
    assert isinstance(ended, WarningEnded)
    warning = raised.warning
    assert warning.name.startswith("zones/cn-110101/warnings/")
    assert (warning.rule, warning.device, warning.level) == (RULE.name, DONGSI.name, LEVEL_II)
    assert (warning.state, warning.value, warning.peak) == (WARNING_STATE_RAISED, 180, 200)
    assert (warning.event_type, warning.point.latitude) == ("eventTypes/air", 39.929)
    assert warning.reason.rule == RULE.name
    assert "PM2.5 at Dongsi stayed at or above 150 ug/m3 for 3 h" in warning.reason.text.en
    assert "东四的PM2.5" in warning.reason.text.zh
    assert warning.reason.inputs["first"] == "151"
    assert warning.reason.inputs["device"] == DONGSI.name
    assert (ended.warning.name, ended.warning.state) == (warning.name, WARNING_STATE_ENDED)
    assert ended.warning.ended_at.ToDatetime(START.tzinfo) == START + timedelta(hours=5)
    assert ended.warning.reason == warning.reason
    assert await city.rows("SELECT FROM watches") == []
    rows = await city.rows("SELECT state, peak FROM warnings")
    assert [tuple(row) for row in rows] == [(WARNING_STATE_ENDED, 200)]


async def test_late_and_repeated_readings_are_stored_and_change_no_alarm(city: City) -> None:
    await city.put(RULE)
    await city.hourly(151, 152, 153)
    await city.hourly(10, start=0.5)
    await city.hourly(151, 152, 153)
    await city.hourly(154, start=3)
    assert [type(one) for one in await city.facts()] == [WarningRaised]
    await city.hourly(10, start=2.5)
    assert [type(one) for one in await city.facts()] == [WarningRaised]


async def test_what_was_stored_as_implausible_is_not_judged_when_it_comes_again_corrected(city: City) -> None:
    await city.put(replace(RULE, thresholds=replace(RULE.thresholds, minimum_duration=timedelta(0))))
    await city.hourly(5000)
    outcome = await city.hourly(200, 100)
    assert (outcome.accepted, outcome.duplicates) == (1, 1)
    assert await city.facts() == []


async def test_a_running_warning_is_judged_by_the_rule_as_it_was(city: City) -> None:
    await city.put(RULE)
    await city.hourly(151, 152, 153, 154)
    await city.put(replace(RULE, thresholds=Thresholds(Comparison.ABOVE, 500, 400, timedelta(0)), disabled=True))
    await city.hourly(200, start=4)
    await city.hourly(115, start=5)
    raised, ended = await city.facts()
    assert isinstance(ended, WarningEnded)
    assert ended.warning.peak == 200
    assert isinstance(raised, WarningRaised)
    assert ended.warning.reason.inputs["raise_at"] == "150"


async def test_a_changed_rule_begins_to_watch_anew(city: City) -> None:
    await city.put(RULE)
    await city.hourly(151, 152, 153)
    await city.put(replace(RULE, thresholds=replace(RULE.thresholds, raise_at=140.0)))
    await city.hourly(154, start=3)
    assert await city.facts() == []
    await city.hourly(155, 156, 157, start=4)
    assert [type(one) for one in await city.facts()] == [WarningRaised]


async def test_rules_reach_the_devices_of_their_zone_only(city: City) -> None:
    await city.put(replace(RULE, zone="cn-110101", thresholds=replace(RULE.thresholds, minimum_duration=timedelta(0))))
    await city.hourly(200, device=TIANTAN)
    assert await city.facts() == []
    await city.hourly(200, device=DONGSI)
    assert len(await city.facts()) == 1


async def test_several_rules_judge_one_reading(city: City) -> None:
    at_once = replace(RULE.thresholds, minimum_duration=timedelta(0))
    await city.put(
        replace(RULE, name="rules/a", thresholds=at_once, level=1),
        replace(RULE, name="rules/b", thresholds=at_once, level=3),
    )
    await city.hourly(200, 100)
    facts = await city.facts()
    assert [type(one) for one in facts] == [WarningRaised, WarningEnded, WarningRaised, WarningEnded]
    rules = [one.warning.rule for one in facts if isinstance(one, WarningRaised | WarningEnded)]
    assert rules == ["rules/a", "rules/a", "rules/b", "rules/b"]


# ---------------------------------------------------------------------------------------------------------------- days


async def test_a_day_is_stated_when_a_reading_of_the_next_arrives(city: City) -> None:
    # Midnight in Beijing is 16:00 UTC.
    await city.hourly(*range(10, 24), start=2)
    assert days(await city.facts()) == []
    await city.hourly(5, start=16)
    (fact,) = await city.facts()
    assert isinstance(fact, DailyAggregateComputed)
    assert (fact.device, fact.title.en, fact.indicator, fact.unit) == (DONGSI.name, "Dongsi", "pm25", "ug/m3")
    assert (fact.day, fact.count, fact.mean, fact.minimum, fact.maximum) == ("2017-01-01", 14, 16.5, 10, 23)
    assert fact.last_reading.ToDatetime(START.tzinfo) == START + timedelta(hours=15)
    assert (fact.organisation, fact.revision) == (DONGSI.organisation, 1)


async def test_the_largest_values_still_have_a_mean(city: City) -> None:
    await city.hourly(1e100, 1e100, -1e100, start=2, indicator="o3")
    await city.hourly(1, start=20, indicator="o3")
    (fact,) = await city.facts()
    assert isinstance(fact, DailyAggregateComputed)
    assert fact.mean == pytest.approx(1e100 / 3)


async def test_late_readings_restate_their_day_and_duplicates_do_not(city: City) -> None:
    await city.hourly(10, 20, start=2)
    await city.hourly(30, start=20)
    await city.hourly(90, start=4)
    await city.hourly(90, start=4)
    await city.hourly(7000, start=5)
    assert days(await city.facts()) == [("2017-01-01", 2, 1), ("2017-01-01", 3, 2)]


async def test_a_batch_over_many_days_states_each_complete_one(city: City) -> None:
    await city.hourly(*range(100), start=-8)
    assert days(await city.facts()) == [
        ("2017-01-01", 24, 1), ("2017-01-02", 24, 1), ("2017-01-03", 24, 1), ("2017-01-04", 24, 1),
    ]  # fmt: skip


async def test_indicators_and_devices_have_days_of_their_own(city: City) -> None:
    await city.hourly(1, start=2)
    await city.hourly(1, start=30, indicator="o3")
    await city.hourly(1, start=30, device=TIANTAN)
    assert await city.facts() == []


# --------------------------------------------------------------------------------------------------------- concurrency


async def test_concurrent_batches_of_one_device_raise_one_warning_and_leave_the_latest_reading(city: City) -> None:
    await city.put(replace(RULE, thresholds=replace(RULE.thresholds, minimum_duration=timedelta(0))))
    await asyncio.gather(*(city.hourly(200 + hour, start=hour) for hour in range(16)[::-1]))
    assert [type(one) for one in await city.facts() if not isinstance(one, DailyAggregateComputed)] == [WarningRaised]
    latest = await city.transactions.read(lambda conn: store_readings.latest(conn, DONGSI.name))
    assert [one.value for _, one in latest] == [215]


@pytest.mark.parametrize("seed", range(3))
async def test_concurrent_batches_neither_lock_each_other_out_nor_lose_anything(city: City, seed: int) -> None:
    at_once = replace(RULE.thresholds, minimum_duration=timedelta(0))
    await city.put(replace(RULE, thresholds=at_once))
    chance = random.Random(seed)
    readings = [
        Reading(device.name, indicator, START + timedelta(minutes=30 * step), chance.choice([100.0, 200.0]))
        for step in range(60)
        for device in (DONGSI, TIANTAN)
        for indicator in ("pm25", "o3")
    ]
    chance.shuffle(readings)
    batches = [readings[at : at + 20] for at in range(0, len(readings), 20)]
    outcomes = await asyncio.gather(*(city.take_in(batch) for batch in (*batches, *batches[::-1])))
    assert sum(one.accepted for one in outcomes) == len(readings)
    assert sum(one.duplicates for one in outcomes) == len(readings)
    facts = await city.facts()
    for device in (DONGSI, TIANTAN):
        mine = [
            type(one)
            for one in facts
            if isinstance(one, WarningRaised | WarningEnded) and one.warning.device == device.name
        ]
        assert all(kind is (WarningRaised if place % 2 == 0 else WarningEnded) for place, kind in enumerate(mine))
    # The last statement of each day holds all of it.
    last = {(one.device, one.indicator): one for one in facts if isinstance(one, DailyAggregateComputed)}
    assert {one.count for one in last.values()} == {32}
