"""What is deleted, when, and what is said of it, on a real database."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from libs import canonical
from libs.clock import ManualClock
from libs.errors import WrongState
from libs.ids import new_id
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2
from quintet.sharing.v1.facts_pb2 import RowsDeleted, Snapshot
from services.sharing import retention, store_days
from services.sharing.retention import Retention
from services.sharing.tests.conftest import FROM_BEIJING, HELD, ROW, Node, contract, rows_written

ROWS = [ROW, {**ROW, "day": "2017-01-02"}, {**ROW, "day": "2017-01-03"}]


async def fill(node: Node, **terms: Any) -> None:
    await node.hear(contract("device", "day", "mean", **terms))
    await node.hear(rows_written(*ROWS), **FROM_BEIJING)


async def end(node: Node, superseded_by: str = "") -> None:
    ended = contract("device", "day", "mean", state=federation_pb2.CONTRACT_STATE_TERMINATED)
    ended.contract.superseded_by = superseded_by
    await node.hear(ended)


async def deleted(node: Node) -> list[RowsDeleted]:
    """Let what is due be deleted, and return what was ever stated of it."""
    while await Retention(node.transactions, node.id).step():
        pass
    facts = [Fact.FromString(row["fact"]) for row in await node.rows("SELECT fact FROM outbox ORDER BY id")]
    return [RowsDeleted.FromString(fact.data) for fact in facts if fact.type.endswith("RowsDeleted")]


async def kept(node: Node) -> list[str]:
    return [row["contract"] for row in await node.rows("SELECT contract FROM rows ORDER BY key")]


async def logged(node: Node) -> str:
    """Return the digest of the rows deleted last, as the audit log has it."""
    query = "SELECT detail FROM audit_entries WHERE action = 'sharing.rows.delete' ORDER BY id DESC LIMIT 1"
    detail = json.loads((await node.rows(query))[0]["detail"])
    return str(detail["digest"])


def digest(*rows: dict[str, Any]) -> str:
    total = sum(int.from_bytes(hashlib.sha256(canonical.dumps(row)).digest()) for row in rows)
    return f"{total % 2**256:064x}"


def of_facts(*ids: str) -> bytes:
    """Return the digest of facts as docs/protocol.md describes it."""
    total = sum(int.from_bytes(hashlib.sha256(each.encode()).digest()) for each in ids)
    return (total % 2**256).to_bytes(32)


async def bring(node: Node, fact_id: str, day: int, *rows: dict[str, Any], contract: str = "contracts/c1") -> str:
    """Let a fact of a day in January 2017 bring rows."""
    fact = node.fact(rows_written(*rows), **{**FROM_BEIJING, "id": fact_id, "contract": contract})
    fact.time.FromDatetime(datetime(2017, 1, day, 23, 59, tzinfo=UTC))
    await node.take_in(fact)
    return fact_id


async def test_when_a_contract_ends_its_rows_go_at_once_and_that_is_stated(
    sf: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROWS_PER_TRANSACTION_MAX", 2)
    await fill(sf)
    await end(sf)
    (stated,) = await deleted(sf)
    assert (stated.contract, stated.product, stated.rows) == ("contracts/c1", HELD, 3)
    assert (stated.reason, stated.HasField("held_before")) == ("TERMINATED", False)
    assert await logged(sf) == digest(*ROWS)
    assert await kept(sf) == []
    assert (await sf.rows("SELECT row_count FROM products"))[0]["row_count"] == 0
    assert len(await deleted(sf)) == 1


async def test_rows_that_come_after_the_end_are_not_kept(sf: Node) -> None:
    await fill(sf)
    await end(sf)
    await sf.hear(rows_written(ROW), **FROM_BEIJING)
    await deleted(sf)
    assert await kept(sf) == []


async def test_rows_go_when_their_time_is_over(sf: Node, clock: ManualClock) -> None:
    await fill(sf, retention_days=30)
    clock.advance(timedelta(days=20))
    await sf.hear(rows_written(ROWS[1]), **FROM_BEIJING)  # came again: from now on it may be kept for 30 days
    assert await deleted(sf) == []
    clock.advance(timedelta(days=11))
    (stated,) = await deleted(sf)
    assert (stated.reason, stated.rows, await logged(sf)) == ("RETENTION", 2, digest(ROWS[0], ROWS[2]))
    assert stated.held_before.ToDatetime() == (clock.now() - timedelta(days=30)).replace(tzinfo=None)
    assert await kept(sf) == ["contracts/c1"]


async def test_rows_of_a_contract_that_has_run_out_go(sf: Node, clock: ManualClock) -> None:
    until = Timestamp()
    until.FromDatetime(clock.now() + timedelta(days=1))
    await fill(sf, valid_until=until)
    assert await deleted(sf) == []
    clock.advance(timedelta(days=1))
    assert [(stated.reason, stated.rows) for stated in await deleted(sf)] == [("EXPIRED", 3)]


async def test_a_successor_that_gives_the_same_goes_on_holding_the_rows(sf: Node) -> None:
    await fill(sf)
    await sf.hear(contract("device", "day", "mean", name="contracts/c2", retention_days=5))
    await end(sf, superseded_by="contracts/c2")
    assert await deleted(sf) == []
    assert await kept(sf) == ["contracts/c2"] * 3
    assert (await sf.read("people/data-steward", name=HELD)).contract == "contracts/c2"


async def test_a_successor_that_gives_something_else_does_not(sf: Node) -> None:
    await fill(sf)
    await sf.hear(contract("device", "day", name="contracts/c2"))
    await end(sf, superseded_by="contracts/c2")
    assert [(stated.reason, stated.rows) for stated in await deleted(sf)] == [("SUPERSEDED", 3)]
    assert await kept(sf) == []


async def test_nothing_is_read_between_the_end_and_the_deletion(sf: Node) -> None:
    await fill(sf)
    await end(sf)
    with pytest.raises(WrongState):
        await sf.read("people/data-steward", name=HELD)
    assert len(await kept(sf)) == 3


async def test_without_rows_there_is_nothing_to_state(sf: Node) -> None:
    await sf.hear(contract("device", "day"), contract("device", state=federation_pb2.CONTRACT_STATE_TERMINATED))
    assert await deleted(sf) == []


async def test_what_is_gone_is_said_by_the_days_on_which_it_came(sf: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """All facts of a day are counted, also those whose rows were replaced by later ones."""
    monkeypatch.setattr(store_days, "DAYS_PER_PROOF_MAX", 1)
    await sf.hear(contract("device", "day", "mean"))
    first = [await bring(sf, new_id(), 1, *ROWS), await bring(sf, new_id(), 1, {**ROW, "mean": 5.0})]
    second = await bring(sf, new_id(), 2, ROWS[1])
    await end(sf)
    stated = await deleted(sf)
    assert [one.rows for one in stated] == [3, 0]  # the second has room for the rest of the days
    days = [day for one in stated for day in one.days]
    assert [(day.contract, day.day, day.facts, day.rows, day.digest) for day in days] == [
        ("contracts/c1", "2017-01-01", 2, 4, of_facts(*first)),
        ("contracts/c1", "2017-01-02", 1, 1, of_facts(second)),
    ]
    assert len(await deleted(sf)) == 2


async def test_a_day_is_gone_when_the_last_that_came_for_it_is(sf: Node, clock: ManualClock) -> None:
    await sf.hear(contract("device", "day", "mean", retention_days=30))
    first = await bring(sf, new_id(), 1, ROW)
    clock.advance(timedelta(days=20))
    late = await bring(sf, new_id(), 1, ROWS[1])
    clock.advance(timedelta(days=15))
    (stated,) = await deleted(sf)
    assert (stated.rows, list(stated.days)) == (1, [])
    clock.advance(timedelta(days=20))
    *_, stated = await deleted(sf)
    assert [(day.day, day.facts, day.digest) for day in stated.days] == [("2017-01-01", 2, of_facts(first, late))]


async def test_what_comes_after_the_end_is_said_to_be_gone_too(sf: Node) -> None:
    await fill(sf)
    await end(sf)
    await deleted(sf)
    late = await bring(sf, new_id(), 3, ROW)
    *_, stated = await deleted(sf)
    assert (stated.rows, [(day.day, day.digest) for day in stated.days]) == (0, [("2017-01-03", of_facts(late))])


async def test_a_successor_answers_for_the_days_of_the_contract_before(sf: Node) -> None:
    await sf.hear(contract("device", "day", "mean"), contract("device", "day", "mean", name="contracts/c2"))
    await bring(sf, new_id(), 1, ROW)
    await end(sf, superseded_by="contracts/c2")
    assert await deleted(sf) == []
    await bring(sf, new_id(), 2, ROWS[1], contract="contracts/c2")
    state = federation_pb2.CONTRACT_STATE_TERMINATED
    await sf.hear(contract("device", "day", "mean", name="contracts/c2", state=state))
    (stated,) = await deleted(sf)
    days = [(day.contract, day.day) for day in stated.days]
    assert (stated.contract, stated.rows) == ("contracts/c2", 2)
    assert days == [("contracts/c1", "2017-01-01"), ("contracts/c2", "2017-01-02")]


async def test_counts_that_lack_a_part_go_with_their_contract(sf: Node) -> None:
    await sf.hear(contract("device"))
    part = rows_written(ROW)
    part.ClearField("key_fields")
    part.snapshot.CopyFrom(Snapshot(id=new_id(), part=0, last=False))
    await sf.hear(part, **FROM_BEIJING)
    await end(sf)
    await deleted(sf)
    assert await sf.rows("SELECT contract FROM staged_counts") == []
