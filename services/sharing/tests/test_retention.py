"""What is deleted, when, and what is said of it, on a real database."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from libs import canonical
from libs.clock import ManualClock
from libs.errors import WrongState
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2
from quintet.sharing.v1.facts_pb2 import RowsDeleted
from services.sharing import retention
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


def digest(*rows: dict[str, Any]) -> bytes:
    total = sum(int.from_bytes(hashlib.sha256(canonical.dumps(row)).digest()) for row in rows)
    return (total % 2**256).to_bytes(32)


async def test_when_a_contract_ends_its_rows_go_at_once_and_that_is_stated(
    sf: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROWS_PER_TRANSACTION_MAX", 2)
    await fill(sf)
    await end(sf)
    (stated,) = await deleted(sf)
    assert (stated.contract, stated.product, stated.rows) == ("contracts/c1", HELD, 3)
    assert (stated.reason, stated.HasField("held_before")) == ("TERMINATED", False)
    assert stated.digest == digest(*ROWS)
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
    assert (stated.reason, stated.rows, stated.digest) == ("RETENTION", 2, digest(ROWS[0], ROWS[2]))
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
