"""Alarms are stated once when they begin and once when they end, however often the cause is seen."""

from pathlib import Path

import pytest_asyncio

from libs.testing import MakeTransactions
from libs.tx import Transactions, Tx
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import facts_pb2
from services.federation import alarms

MIGRATIONS = Path(__file__).parent.parent / "migrations"


@pytest_asyncio.fixture
async def node(transactions: MakeTransactions) -> Transactions:
    return await transactions("federation", MIGRATIONS)


async def stated(node: Transactions) -> list[Fact]:
    rows = await node.read(lambda conn: conn.fetch("SELECT fact FROM outbox ORDER BY id"))
    return [Fact.FromString(row["fact"]) for row in rows]


async def test_an_alarm_is_stated_when_it_begins_and_when_it_ends(node: Transactions) -> None:
    async def set_it(tx: Tx, text: str) -> bool:
        return await alarms.set_alarm(tx, peer="sf-d10", name=alarms.BACKLOG_FULL, text=text)

    assert await node.run(lambda tx: set_it(tx, "4096 MB"))
    assert not await node.run(lambda tx: set_it(tx, "4096 MB"))
    assert not await node.run(lambda tx: set_it(tx, "4097 MB"))
    assert [fact.type for fact in await stated(node)] == [facts_pb2.AlarmRaised.DESCRIPTOR.full_name]
    found = await node.read(lambda conn: alarms.of_peers(conn, ["sf-d10", "sf-d6"]))
    assert [alarm.text for alarm in found["sf-d10"]] == ["4097 MB"]
    assert found["sf-d6"] == []

    assert await node.run(lambda tx: alarms.clear_alarm(tx, peer="sf-d10", name=alarms.BACKLOG_FULL))
    assert not await node.run(lambda tx: alarms.clear_alarm(tx, peer="sf-d10", name=alarms.BACKLOG_FULL))
    last = (await stated(node))[-1]
    cleared = facts_pb2.AlarmCleared.FromString(last.data)
    assert (cleared.name, cleared.peer, cleared.text) == ("BACKLOG_FULL", "sf-d10", "4097 MB")
    assert (last.key, last.node) == ("peers/sf-d10", "sf")
    assert await node.read(alarms.all_set) == []


async def test_one_contract_does_not_clear_the_alarm_of_another(node: Transactions) -> None:
    async def work(tx: Tx) -> None:
        for contract in ("contracts/a", "contracts/b"):
            await alarms.set_alarm(tx, peer="beijing", name="FRESHNESS", text="late", contract=contract)
        await alarms.clear_alarm(tx, peer="beijing", name="FRESHNESS", contract="contracts/a")

    await node.run(work)
    assert [alarm.contract for alarm in await node.read(alarms.all_set)] == ["contracts/b"]
