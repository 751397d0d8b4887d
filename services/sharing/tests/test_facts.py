"""What sharing makes of facts, with repetitions and disorder, on a real database."""

import hashlib
from datetime import timedelta
from itertools import chain

import pytest

from libs.clock import ManualClock
from libs.ids import new_id
from libs.masking import from_struct
from quintet.federation.v1 import federation_pb2
from quintet.sharing.v1 import sharing_pb2 as pb
from quintet.sharing.v1.facts_pb2 import ProductRowsWritten
from services.sharing import publisher
from services.sharing.tests.conftest import (
    FROM_BEIJING,
    HELD,
    ROW,
    Node,
    aggregate,
    contract,
    product,
    rows_of,
    rows_written,
)


def means(stated: list[ProductRowsWritten]) -> list[list[float]]:
    return [[row["mean"] for row in rows_of(fact)] for fact in stated]


# ------------------------------------------------------------------------------------------------------- our products


async def test_facts_become_rows_and_rows_facts(beijing: Node) -> None:
    await beijing.put()
    await beijing.hear(aggregate(1, 100), aggregate(2, 80), aggregate(1, 60, station="tiantan"))
    await beijing.hear(aggregate(1, 1, indicator="o3"))
    (fact,) = await beijing.publish()
    assert (fact.product, fact.version, list(fact.key_fields)) == ("products/daily-pm25", 1, ["device", "day"])
    assert rows_of(fact)[0] == {
        "device": "zones/beijing/devices/dongsi",
        "day": "2017-01-01",
        "station": "Dongsi",
        "mean": 100,
        "readings": 24,
        "latitude": 39.929,
        "last_reading": "2017-01-01T00:00:00Z",
        "keeper": "organisations/keeper",
    }
    assert means([fact]) == [[100, 80, 60]]
    rows = await beijing.rows("SELECT row_count FROM products")
    assert rows[0]["row_count"] == 3


async def test_only_what_really_changed_is_stated(beijing: Node) -> None:
    await beijing.put()
    await beijing.hear(aggregate(1, 100), aggregate(2, 80))
    await beijing.publish()
    await beijing.hear(aggregate(1, 100), aggregate(2, 81))
    assert means(await beijing.publish()) == [[81]]
    assert await beijing.publish() == []


async def test_what_changes_again_before_it_was_stated_is_stated_once(beijing: Node) -> None:
    await beijing.put()
    await beijing.hear(aggregate(1, 100), aggregate(1, 101), aggregate(1, 102))
    assert means(await beijing.publish()) == [[102]]


async def test_a_fact_that_is_older_than_what_is_known_changes_nothing(beijing: Node) -> None:
    await beijing.put()
    old = beijing.fact(aggregate(1, 100), id=new_id())
    await beijing.hear(aggregate(1, 200))
    await beijing.take_in(old)
    await beijing.take_in(old)
    assert means(await beijing.publish()) == [[200]]


async def test_facts_of_other_nodes_and_zones_make_no_rows(beijing: Node) -> None:
    await beijing.put(product(zone="beijing-east"))
    await beijing.hear(aggregate(1), zone="beijing")
    await beijing.hear(aggregate(2), zone="beijing-east", received_from="haidian")
    await beijing.hear(aggregate(3), zone="beijing-east")
    (fact,) = await beijing.publish()
    assert [row["day"] for row in rows_of(fact)] == ["2017-01-03"]


async def test_facts_hold_a_limited_number_of_rows_of_one_zone(beijing: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "ROWS_PER_FACT_MAX", 2)
    await beijing.put()
    await beijing.hear(*(aggregate(day, day) for day in range(1, 6)))
    await beijing.hear(aggregate(6, 6), zone="beijing-east")
    assert means(await beijing.publish()) == [[1, 2], [3, 4], [5], [6]]


async def test_facts_are_limited_by_their_bytes(beijing: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "ROW_BYTES_PER_FACT_MAX", 500)
    await beijing.put()
    await beijing.hear(*(aggregate(day, day) for day in range(1, 6)))
    stated = means(await beijing.publish())
    assert [len(one) for one in stated] == [2, 2, 1]
    assert list(chain.from_iterable(stated)) == [1, 2, 3, 4, 5]


async def test_a_row_too_large_is_left_out_and_the_others_go_on(beijing: Node) -> None:
    await beijing.put()
    huge, long = aggregate(1), aggregate(1)
    huge.title.en = "x" * 100_000
    long.device = "x" * 3_000
    await beijing.hear(huge, long, aggregate(2, 2))
    assert means(await beijing.publish()) == [[2]]


async def test_other_keys_make_other_rows_and_the_old_ones_go(beijing: Node) -> None:
    await beijing.put()
    await beijing.hear(aggregate(1, 100))
    changed = product(version=2)
    changed.fields[2].key = True
    answer = await beijing.put(changed)
    assert (answer.changed, answer.product.rows) == (True, 0)
    await beijing.hear(aggregate(1, 101))
    (fact,) = (one for one in await beijing.publish() if one.rows)
    assert (fact.version, list(fact.key_fields), means([fact])) == (2, ["device", "day", "station"], [[101]])


async def test_with_a_new_version_the_rows_are_stated_again_with_the_fields_that_are_left(beijing: Node) -> None:
    await beijing.put()
    await beijing.hear(aggregate(1, 100))
    await beijing.publish()
    changed = product(version=2)
    del changed.fields[4:]
    for name in ("readings", "latitude", "last_reading", "keeper"):
        del changed.source.columns[name]
    assert (await beijing.put(changed)).product.rows == 1
    (fact,) = (one for one in await beijing.publish() if one.rows)
    assert (fact.version, set(rows_of(fact)[0])) == (2, {"device", "day", "station", "mean"})
    assert await beijing.publish() == []


async def test_a_new_consumer_is_told_of_the_rows_that_were_there_before(beijing: Node) -> None:
    await beijing.put()
    await beijing.hear(aggregate(1, 1), aggregate(2, 2))
    await beijing.publish()
    given = contract("device", "day", "mean")
    given.contract.provider, given.contract.consumer = "beijing", "sf"
    given.contract.terms.product = "products/daily-pm25"
    await beijing.hear(given)
    await beijing.hear(aggregate(3, 3))
    restated, changed = await beijing.publish()
    assert (restated.only_contract, means([restated])) == ("contracts/c1", [[1, 2]])
    assert (changed.only_contract, means([changed])) == ("", [[3]])
    assert await beijing.publish() == []
    assert await beijing.rows("SELECT * FROM restatements") == []


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
