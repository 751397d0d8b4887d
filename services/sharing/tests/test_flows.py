"""What this node states to partners of its own products, contract by contract, on a real database."""

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from libs.clock import ManualClock
from libs.ids import new_id
from libs.masking import mask
from quintet.federation.v1 import federation_pb2
from quintet.federation.v1.facts_pb2 import ContractChanged
from quintet.sharing.v1 import sharing_pb2 as pb
from quintet.sharing.v1.facts_pb2 import ProductRowsWritten
from services.sharing import publisher
from services.sharing.store_select import Parameters, masked
from services.sharing.tests.conftest import Node, aggregate, contract, product, rows_of, transfer

if TYPE_CHECKING:
    from libs.canonical import JsonValue


def means(stated: list[ProductRowsWritten]) -> list[list[float]]:
    return [[row["mean"] for row in rows_of(fact)] for fact in stated]


async def provide(node: Node, wanted: pb.Product | None = None, *fields: str, **terms: Any) -> None:
    """Put the product and let a contract on it come into force."""
    await node.put(wanted)
    await begin(node, contract(*(fields or ("device", "day", "mean")), **terms))


async def begin(node: Node, given: ContractChanged) -> None:
    """Let a contract come into force and its transfer start."""
    await node.hear(given, transfer(given))


# ------------------------------------------------------------------------------------------------------- our products


async def test_facts_become_rows_and_rows_facts(beijing: Node) -> None:
    await provide(beijing)
    await beijing.hear(aggregate(1, 100), aggregate(2, 80), aggregate(1, 60, station="tiantan"))
    await beijing.hear(aggregate(1, 1, indicator="o3"))
    (fact,) = await beijing.publish()
    assert (fact.product, fact.version, list(fact.key_fields)) == ("products/daily-pm25", 1, ["device", "day"])
    assert rows_of(fact)[0] == {"device": "zones/beijing/devices/dongsi", "day": "2017-01-01", "mean": 100}
    assert means([fact]) == [[100, 80, 60]]
    rows = await beijing.rows("SELECT row_count FROM products")
    assert rows[0]["row_count"] == 3


async def test_only_what_really_changed_is_stated(beijing: Node) -> None:
    await provide(beijing)
    await beijing.hear(aggregate(1, 100), aggregate(2, 80))
    await beijing.publish()
    await beijing.hear(aggregate(1, 100), aggregate(2, 81))
    assert means(await beijing.publish()) == [[81]]
    assert await beijing.publish() == []


async def test_what_changes_again_before_it_was_stated_is_stated_once(beijing: Node) -> None:
    await provide(beijing)
    await beijing.hear(aggregate(1, 100), aggregate(1, 101), aggregate(1, 102))
    assert means(await beijing.publish()) == [[102]]


async def test_a_fact_that_is_older_than_what_is_known_changes_nothing(beijing: Node) -> None:
    await provide(beijing)
    old = beijing.fact(aggregate(1, 100), id=new_id())
    await beijing.hear(aggregate(1, 200))
    await beijing.take_in(old)
    await beijing.take_in(old)
    assert means(await beijing.publish()) == [[200]]


async def test_facts_of_other_nodes_and_zones_make_no_rows(beijing: Node) -> None:
    await provide(beijing, product(zone="beijing-east"))
    await beijing.hear(aggregate(1), zone="beijing")
    await beijing.hear(aggregate(2), zone="beijing-east", received_from="haidian")
    await beijing.hear(aggregate(3), zone="beijing-east")
    (fact,) = await beijing.publish()
    assert [row["day"] for row in rows_of(fact)] == ["2017-01-03"]


async def test_facts_hold_rows_of_one_zone_within_a_size(beijing: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "BLOCK_BYTES_MAX", 100)
    await provide(beijing)
    await beijing.hear(*(aggregate(day, day) for day in range(1, 6)))
    await beijing.hear(aggregate(6, 6), zone="beijing-east")
    assert means(await beijing.publish()) == [[1, 2], [3, 4], [5], [6]]


async def test_changes_are_stated_in_portions(beijing: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "CHANGES_PER_TRANSACTION_MAX", 2)
    await provide(beijing)
    await beijing.hear(*(aggregate(day, day) for day in range(1, 6)))
    assert means(await beijing.publish()) == [[1, 2], [3, 4], [5]]
    assert await beijing.publish() == []


async def test_a_row_too_large_is_left_out_and_the_others_go_on(beijing: Node) -> None:
    await provide(beijing)
    huge, long = aggregate(1), aggregate(1)
    huge.title.en = "x" * 100_000
    long.device = "x" * 3_000
    await beijing.hear(huge, long, aggregate(2, 2))
    assert means(await beijing.publish()) == [[2]]


async def test_other_keys_make_other_rows_and_the_old_ones_go(beijing: Node) -> None:
    await provide(beijing)
    await beijing.hear(aggregate(1, 100))
    changed = product(version=2)
    changed.fields[2].key = True
    answer = await beijing.put(changed)
    assert (answer.changed, answer.product.rows) == (True, 0)
    await beijing.hear(aggregate(1, 101))
    await begin(beijing, version_2("device", "day", "station", "mean"))
    (fact,) = await beijing.publish()
    assert (fact.version, list(fact.key_fields), means([fact])) == (2, ["device", "day", "station"], [[101]])


async def test_with_a_new_version_the_rows_are_stated_under_a_contract_on_it(beijing: Node) -> None:
    await provide(beijing)
    await beijing.hear(aggregate(1, 100))
    await beijing.publish()
    changed = product(version=2)
    del changed.fields[4:]
    for name in ("readings", "latitude", "last_reading", "keeper"):
        del changed.source.columns[name]
    assert (await beijing.put(changed)).product.rows == 1
    assert await beijing.publish() == []
    await begin(beijing, version_2("device", "day", "mean"))
    (fact,) = await beijing.publish()
    assert (fact.version, means([fact])) == (2, [[100]])
    assert await beijing.publish() == []


def version_2(*fields: str) -> ContractChanged:
    made = contract(*fields, name="contracts/c2")
    made.contract.terms.product_version = 2
    return made


# ----------------------------------------------------------------------------------------------------------- contracts


async def test_only_what_a_contract_needs_is_stated(beijing: Node) -> None:
    """Its fields, and those by which rows are chosen; core data does not even reach the bus."""
    chosen = pb.RowFilter(where={"station": "Dongsi"})
    await provide(beijing, None, "device", "day", "mean", filter=chosen)
    await beijing.hear(aggregate(1, 100), aggregate(1, 60, station="tiantan"))
    (fact,) = await beijing.publish()
    assert (fact.only_contract, list(fact.fields)) == ("contracts/c1", ["device", "day", "mean", "station"])
    assert means([fact]) == [[100]]


async def test_federation_learns_whom_rows_are_about_though_the_contract_does_not_give_it(beijing: Node) -> None:
    wanted = product()
    next(field for field in wanted.fields if field.name == "keeper").subject = True
    await provide(beijing, wanted, "device", "day", "mean")
    await beijing.hear(aggregate(1, 100))
    (fact,) = await beijing.publish()
    assert list(fact.subject_fields) == ["keeper"]
    assert rows_of(fact)[0]["keeper"] == "organisations/keeper"


async def test_a_new_consumer_is_told_of_the_rows_that_were_there_before(beijing: Node) -> None:
    await provide(beijing)
    await beijing.hear(aggregate(1, 1), aggregate(2, 2))
    await beijing.publish()
    await begin(beijing, contract("device", "day", "mean", name="contracts/c2"))
    await beijing.hear(aggregate(3, 3))
    stated = {fact.only_contract: fact for fact in await beijing.publish()}
    assert means([stated["contracts/c1"]]) == [[3]]
    assert means([stated["contracts/c2"]]) == [[1, 2, 3]]
    assert await beijing.publish() == []


async def test_a_transfer_that_stands_still_gets_nothing_and_everything_when_it_starts_again(beijing: Node) -> None:
    given = contract("device", "day", "mean")
    await beijing.put()
    await beijing.hear(given, aggregate(1, 1))
    assert await beijing.publish() == []  # a contract alone lets nothing flow
    await beijing.hear(transfer(given))
    assert means(await beijing.publish()) == [[1]]
    await beijing.hear(transfer(given, federation_pb2.TRANSFER_STATE_SUSPENDED), aggregate(2, 2))
    assert await beijing.publish() == []
    await beijing.hear(transfer(given))
    assert means(await beijing.publish()) == [[1, 2]]
    await beijing.hear(transfer(given, federation_pb2.TRANSFER_STATE_TERMINATED), aggregate(3, 3))
    assert await beijing.publish() == []


async def test_a_contract_that_ends_gets_nothing_more(beijing: Node) -> None:
    await provide(beijing)
    finalized = beijing.fact(contract("device", "day", "mean"))
    await beijing.hear(contract("device", "day", "mean", state=federation_pb2.CONTRACT_STATE_TERMINATED))
    await beijing.take_in(finalized)  # late news
    await beijing.hear(aggregate(1, 1))
    assert await beijing.publish() == []


async def test_a_contract_that_has_been_superseded_gets_nothing_more(beijing: Node) -> None:
    await provide(beijing)
    old = contract("device", "day", "mean")
    old.contract.superseded_by = "contracts/c2"
    await beijing.hear(old)
    await begin(beijing, contract("device", "day", "mean", name="contracts/c2"))
    await beijing.hear(aggregate(1, 1))
    assert [fact.only_contract for fact in await beijing.publish()] == ["contracts/c2"]


async def test_rows_of_another_version_are_not_stated_under_an_old_contract(beijing: Node) -> None:
    await provide(beijing)
    await beijing.hear(aggregate(1, 1))
    changed = product(version=2)
    changed.fields.add(name="extra", type=pb.FIELD_TYPE_NUMBER, classification=pb.CLASSIFICATION_PUBLIC)
    await beijing.put(changed)
    assert await beijing.publish() == []


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({"zone": "beijing-east"}, [2]),
        ({"filter": pb.RowFilter(zones=["beijing-east"])}, [2]),
        ({"filter": pb.RowFilter(zones=["beijing"])}, [1, 2, 3]),
        ({"filter": pb.RowFilter(time_field="day", not_before=Timestamp(seconds=1483315200))}, [2, 3]),
        ({"filter": pb.RowFilter(time_field="day", before=Timestamp(seconds=1483315200))}, [1]),
        ({"filter": pb.RowFilter(where={"mean": "3.0"})}, [3]),
        ({"filter": pb.RowFilter(where={"mean": "3", "device": "another"})}, []),
    ],
)
async def test_rows_are_chosen_by_zone_time_and_values(
    beijing: Node, terms: dict[str, Any], expected: list[int]
) -> None:
    await provide(beijing, None, "device", "day", "mean", **terms)
    await beijing.hear(aggregate(1, 1), aggregate(3, 3))
    await beijing.hear(aggregate(2, 2), zone="beijing-east")
    assert sorted(mean for fact in means(await beijing.publish()) for mean in fact) == expected


async def test_on_schedule_what_changed_in_between_is_stated_at_its_time(beijing: Node, clock: ManualClock) -> None:
    hourly = {"mode": federation_pb2.DELIVERY_MODE_PUSH_ON_SCHEDULE, "frequency": "PT1H"}
    await provide(beijing, None, "device", "day", "mean", **hourly)
    await beijing.hear(aggregate(1, 1), aggregate(2, 2))
    assert means(await beijing.publish()) == [[1, 2]]
    await beijing.hear(aggregate(2, 20))
    assert await beijing.publish() == []
    clock.advance(timedelta(minutes=59))
    assert await beijing.publish() == []
    clock.advance(timedelta(minutes=1))
    assert means(await beijing.publish()) == [[20]]
    clock.advance(timedelta(hours=5, minutes=30))
    assert await beijing.publish() == []
    await beijing.hear(aggregate(3, 3))
    assert await beijing.publish() == []  # what was missed is made up for once, and the hour stays the hour
    clock.advance(timedelta(minutes=30))
    assert means(await beijing.publish()) == [[3]]


async def test_nothing_is_pushed_to_one_who_asks(beijing: Node) -> None:
    await provide(beijing, None, "device", "day", "mean", mode=federation_pb2.DELIVERY_MODE_PULL)
    await beijing.hear(aggregate(1, 1))
    assert await beijing.publish() == []


async def test_a_quota_delays_rows_and_loses_none(beijing: Node, clock: ManualClock) -> None:
    await provide(beijing, None, "device", "day", "mean", quota_rows_per_day=3)
    await beijing.hear(*(aggregate(day, day) for day in range(1, 6)))
    assert means(await beijing.publish()) == [[1, 2, 3]]
    assert await beijing.publish() == []
    clock.advance(timedelta(days=1))
    assert means(await beijing.publish()) == [[4, 5]]


async def test_a_contract_of_tomorrow_begins_tomorrow(beijing: Node, clock: ManualClock) -> None:
    begins = Timestamp()
    begins.FromDatetime(clock.now() + timedelta(days=1))
    await provide(beijing, None, "device", "day", "mean", valid_from=begins)
    await beijing.hear(aggregate(1, 1))
    assert await beijing.publish() == []
    clock.advance(timedelta(days=1))
    assert means(await beijing.publish()) == [[1]]


# --------------------------------------------------------------------------------------------------------------- counts


def by_month(*, k: int) -> dict[str, Any]:
    return {
        "mode": federation_pb2.DELIVERY_MODE_PUSH_ON_SCHEDULE,
        "frequency": "P1D",
        "aggregation": pb.Aggregation(k=k, count_field="rows"),
    }


async def provide_counts(node: Node, *masked: pb.FieldTerms, k: int) -> None:
    await node.put()
    given = contract("station", **by_month(k=k))
    given.contract.terms.fields.extend(masked)
    await begin(node, given)


async def test_counts_leave_out_groups_that_are_too_small(beijing: Node, clock: ManualClock) -> None:
    month = pb.FieldTerms(field="day", masking=pb.MASKING_GENERALISE, unit="month")
    coarse = pb.FieldTerms(field="mean", masking=pb.MASKING_GENERALISE, step=50)
    await provide_counts(beijing, month, coarse, k=2)
    await beijing.hear(aggregate(1, 101), aggregate(2, 149), aggregate(3, 150), aggregate(1, 101, station="tiantan"))
    (fact,) = await beijing.publish()
    assert rows_of(fact) == [{"station": "Dongsi", "day": "2017-01-01", "mean": 100, "rows": 2}]
    assert (list(fact.key_fields), fact.snapshot.part, fact.snapshot.last) == ([], 0, True)
    clock.advance(timedelta(days=1))
    assert await beijing.publish() == []  # nothing has changed
    await beijing.hear(aggregate(2, 150))
    clock.advance(timedelta(days=1))
    (later,) = await beijing.publish()
    assert rows_of(later) == [{"station": "Dongsi", "day": "2017-01-01", "mean": 150, "rows": 2}]
    assert later.snapshot.id > fact.snapshot.id


async def test_counts_may_need_several_facts(beijing: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "BLOCK_BYTES_MAX", 30)
    await provide_counts(beijing, pb.FieldTerms(field="day"), k=1)
    await beijing.hear(*(aggregate(day) for day in range(1, 4)))
    facts = await beijing.publish()
    assert len(facts) > 1
    assert [fact.snapshot.part for fact in facts] == list(range(len(facts)))
    assert [fact.snapshot.last for fact in facts] == [False] * (len(facts) - 1) + [True]
    assert sorted(row["day"] for fact in facts for row in rows_of(fact)) == ["2017-01-01", "2017-01-02", "2017-01-03"]


async def test_when_no_group_is_large_enough_that_is_told(beijing: Node) -> None:
    await provide_counts(beijing, pb.FieldTerms(field="day"), k=2)
    await beijing.hear(aggregate(1))
    (fact,) = await beijing.publish()
    assert (rows_of(fact), fact.snapshot.last) == ([], True)


@pytest.mark.parametrize(
    "terms",
    [
        pb.FieldTerms(masking=pb.MASKING_TRUNCATE, keep=2),
        pb.FieldTerms(masking=pb.MASKING_GENERALISE, step=5),
        pb.FieldTerms(masking=pb.MASKING_GENERALISE, step=0.1),
        *(pb.FieldTerms(masking=pb.MASKING_GENERALISE, unit=unit) for unit in ("year", "month", "day", "hour")),
        pb.FieldTerms(masking=pb.MASKING_GENERALISE, step=5, unit="day"),
        pb.FieldTerms(masking=99),  # type: ignore[arg-type]  # of a newer node
    ],
)
async def test_groups_are_masked_as_rows_are(beijing: Node, terms: pb.FieldTerms) -> None:
    values: list[JsonValue] = ["Dongsi 东四", "", "2017-03-09", "2017-13-09", "2017-03-09T23:59:01.5+08:00", None, True]
    values += ["2017-03-09t23:59:01z", "2017-03-09T23:59:01", -1, 0, 4.9, 5, 103.456, 0.3, -0.01, 1e9]
    if terms.masking == pb.MASKING_TRUNCATE:
        values = [value for value in values if not isinstance(value, int | float) or isinstance(value, bool)]
    terms.field = "x"
    for value in values:
        parameters = Parameters(json.dumps({"x": value}))
        query = f"SELECT {masked(parameters, terms)} AS found FROM (SELECT $1::jsonb AS row) AS one"
        found = (await beijing.rows(query, *parameters.values))[0]["found"]
        assert json.loads(found or "null") == mask(value, terms, b""), value


def test_schedules_keep_their_phase() -> None:
    due = datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert publisher.following(due, "P1D", due) == due + timedelta(days=1)
    assert publisher.following(due, "PT1H", due + timedelta(hours=5, minutes=1)) == due + timedelta(hours=6)
    assert publisher.following(due, "P1M", due + timedelta(days=1)) == datetime(2026, 2, 28, 8, tzinfo=UTC)
    assert publisher.following(due, "nonsense", due) == datetime(2026, 2, 1, tzinfo=UTC)
