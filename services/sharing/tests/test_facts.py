"""What sharing makes of what partners send, with repetitions and disorder, on a real database."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest

from libs.clock import ManualClock
from libs.masking import from_struct
from quintet.federation.v1 import federation_pb2
from quintet.sharing.v1 import sharing_pb2 as pb
from quintet.sharing.v1.facts_pb2 import ProductRowsWritten
from services.sharing.tests.conftest import (
    FROM_BEIJING,
    HELD,
    ROW,
    Node,
    contract,
    rows_written,
)

# --------------------------------------------------------------------------------------------------- partners' products


async def test_rows_under_a_contract_are_held_and_the_product_is_in_the_catalogue(sf: Node) -> None:
    await sf.hear(contract("device", "day", "mean"), zone="us-ca-sf")
    await sf.hear(rows_written(ROW, {**ROW, "day": "2017-01-02"}), **FROM_BEIJING)
    (held,) = await sf.rows("SELECT name, node, row_count FROM products")
    assert tuple(held) == (HELD, "beijing", 2)
    answer = await sf.read("people/data-steward", name=HELD)
    assert [from_struct(row) for row in answer.rows] == [ROW, {**ROW, "day": "2017-01-02"}]
    assert answer.contract == "contracts/c1"
    assert await sf.publish() == []


async def test_rows_may_arrive_before_the_news_of_their_contract_and_more_than_once(sf: Node) -> None:
    fact = sf.fact(rows_written(ROW), **FROM_BEIJING)
    await sf.take_in(fact)
    await sf.take_in(fact)
    await sf.hear(contract("device", "day", "mean"))
    answer = await sf.read("people/data-steward", name=HELD)
    assert [from_struct(row) for row in answer.rows] == [ROW]


async def test_rows_in_disorder_end_as_the_newest(sf: Node) -> None:
    await sf.hear(contract("device", "day", "mean"))
    first, second = (sf.fact(rows_written({**ROW, "mean": mean}), **FROM_BEIJING) for mean in (100.0, 101.0))
    await sf.take_in(second)
    await sf.take_in(first)
    answer = await sf.read("people/data-steward", name=HELD)
    assert [from_struct(row)["mean"] for row in answer.rows] == [101]


async def test_a_terminated_contract_stays_terminated_whatever_comes_late(sf: Node) -> None:
    finalized = sf.fact(contract("device", "day", "mean"))
    await sf.take_in(finalized)
    await sf.hear(rows_written(ROW), **FROM_BEIJING)
    await sf.hear(contract("device", "day", "mean", state=federation_pb2.CONTRACT_STATE_TERMINATED))
    await sf.take_in(finalized)
    rows = await sf.rows("SELECT active FROM contracts")
    assert [row["active"] for row in rows] == [False]


async def test_each_contract_has_its_own_rows(sf: Node) -> None:
    await sf.hear(contract("device", "day", "mean"))
    await sf.hear(rows_written(ROW), **FROM_BEIJING)
    await sf.hear(contract("device", "day", "mean", state=federation_pb2.CONTRACT_STATE_TERMINATED))
    await sf.hear(contract("device", "day", name="contracts/c2"))
    await sf.hear(rows_written({"device": "d", "day": "2017-02-01"}), **(FROM_BEIJING | {"contract": "contracts/c2"}))
    answer = await sf.read("people/data-steward", name=HELD)
    assert (answer.contract, [from_struct(row) for row in answer.rows]) == (
        "contracts/c2",
        [{"device": "d", "day": "2017-02-01"}],
    )


async def test_only_the_own_federation_says_which_contracts_stand(sf: Node) -> None:
    await sf.hear(contract("device"), received_from="beijing")
    await sf.hear(contract("device", consumer="oakland"))
    charter = contract("device")
    charter.contract.kind = federation_pb2.CONTRACT_KIND_CHARTER
    await sf.hear(charter)
    assert await sf.rows("SELECT FROM contracts") == []


async def test_what_we_stated_ourselves_is_not_taken_for_a_partners(beijing: Node) -> None:
    await beijing.hear(rows_written(ROW))
    assert await beijing.rows("SELECT FROM rows") == []


async def test_types_and_keys_of_a_partners_fields_are_learnt_from_its_rows(sf: Node) -> None:
    await sf.hear(contract("device", "day", "mean", "note"))
    await sf.hear(rows_written({**ROW, "device": hashlib.sha256(b"x").hexdigest()}), **FROM_BEIJING)
    await sf.hear(contract("device", "day", "mean", "note"))
    answer = await sf.read("people/data-steward", name=HELD, where={"mean": "100.0"})
    assert len(answer.rows) == 1
    fields = (await sf.rows("SELECT fields::text FROM products"))[0]["fields"]
    assert '"key": true' in fields


async def test_a_contract_that_has_run_out_serves_no_more(sf: Node, clock: ManualClock) -> None:
    until = pb.Product().updated_at
    until.FromDatetime(clock.now() + timedelta(days=1))
    await sf.hear(contract("device", "day", "mean", valid_until=until))
    await sf.hear(rows_written(ROW), **FROM_BEIJING)
    assert len((await sf.read("people/data-steward", name=HELD)).rows) == 1
    clock.advance(timedelta(days=1))
    with pytest.raises(Exception, match="no contract"):
        await sf.read("people/data-steward", name=HELD)


async def test_the_last_of_two_rows_with_one_key_counts_and_rows_without_a_key_do_not(sf: Node) -> None:
    await sf.hear(contract("device", "day", "mean"))
    twice = [{**ROW, "mean": mean} for mean in (1, 2, 3)]
    await sf.hear(rows_written(*twice, {**ROW, "day": None}, {**ROW, "day": "x" * 3_000}), **FROM_BEIJING)
    answer = await sf.read("people/data-steward", name=HELD)
    assert [from_struct(row)["mean"] for row in answer.rows] == [3]


# --------------------------------------------------------------------------------------------------------------- counts


def counts_of(*rows: tuple[str | None, int], snapshot: str, part: int = 0, last: bool = True) -> ProductRowsWritten:
    made = rows_written(*({"day": day, "rows": count} for day, count in rows))
    del made.key_fields[:]
    made.snapshot.id, made.snapshot.part, made.snapshot.last = snapshot, part, last
    return made


async def counts_at(node: Node) -> list[tuple[Any, Any]]:
    answer = await node.read("people/data-steward", name=HELD)
    return sorted((from_struct(row)["day"], from_struct(row)["rows"]) for row in answer.rows)


async def test_counts_replace_all_given_before_at_once(sf: Node) -> None:
    await sf.hear(contract("day", aggregation=pb.Aggregation(k=2, count_field="rows")))
    await sf.hear(counts_of(("2017-01", 2), ("2017-02", 3), snapshot="1"), **FROM_BEIJING)
    assert await counts_at(sf) == [("2017-01", 2), ("2017-02", 3)]
    await sf.hear(counts_of(("2017-02", 4), snapshot="2", last=False), **FROM_BEIJING)
    assert await counts_at(sf) == [("2017-01", 2), ("2017-02", 3)]
    await sf.hear(counts_of(("2017-03", 5), snapshot="2", part=1), **FROM_BEIJING)
    assert await counts_at(sf) == [("2017-02", 4), ("2017-03", 5)]
    assert (await sf.rows("SELECT row_count FROM products"))[0]["row_count"] == 2


async def test_counts_of_which_a_part_is_missing_change_nothing(sf: Node) -> None:
    await sf.hear(contract("day", aggregation=pb.Aggregation(k=2, count_field="rows")))
    await sf.hear(counts_of(("2017-01", 2), snapshot="1"), **FROM_BEIJING)
    await sf.hear(counts_of(("2017-02", 4), snapshot="2", last=False), **FROM_BEIJING)
    await sf.hear(counts_of(("2017-03", 5), snapshot="2", part=2), **FROM_BEIJING)
    await sf.hear(counts_of(("2017-04", 5), snapshot="3", part=1), **FROM_BEIJING)
    assert await counts_at(sf) == [("2017-01", 2)]
    await sf.hear(counts_of((None, 6), snapshot="4"), **FROM_BEIJING)
    assert await counts_at(sf) == [(None, 6)]
