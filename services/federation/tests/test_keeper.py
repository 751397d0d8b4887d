"""What waits for a peer that is away stays within its bounds, and what it has acknowledged is let go in time."""

from datetime import timedelta
from pathlib import Path

import pytest_asyncio

from libs.clock import ManualClock
from libs.testing import MakeTransactions
from libs.tx import Transactions
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import alarms, contracts_store, lanes_store, peers_store, receipts_store
from services.federation.keeper import BYTES_PER_MB, Keeper, Limits
from services.federation.lanes_store import Lane, Place, Queued
from services.federation.peers_store import NewPeer

MIGRATIONS = Path(__file__).parent.parent / "migrations"
FACTS, BULK = link_pb2.LANE_FACTS, link_pb2.LANE_BULK
LIMITS = Limits(4 * BYTES_PER_MB, timedelta(hours=24), BYTES_PER_MB)
PIECE = b"x" * (BYTES_PER_MB // 2)


class Kept:
    """A node with one peer that never answers."""

    def __init__(self, node: Transactions) -> None:
        self.node = node
        self.keeper = Keeper(node, LIMITS)

    async def queue(self, lane: Lane, pieces: int) -> None:
        queued = [Queued("contracts/x", PIECE)] * pieces
        await self.node.run(lambda tx: peers_store.enqueue(tx.conn, "d6", queued, lane))
        await self.keeper.measure()

    async def acknowledge(self, lane: Lane, sequence: int) -> None:
        async def work(tx: object) -> None:
            conn = tx.conn  # type: ignore[attr-defined]
            place = await lanes_store.place(conn, "d6", lane, sequence)
            assert isinstance(place, Place)
            receipts = [receipts_store.Receipt(lane, sequence, place.chain, link_pb2.SignedReceipt())]
            await receipts_store.note(conn, "d6", "e", receipts, tx.now)  # type: ignore[attr-defined]

        await self.node.run(work)
        await self.keeper.measure()

    async def alarms(self) -> list[str]:
        return [alarm.name for alarm in await self.node.read(alarms.all_set)]

    async def rows(self) -> int:
        return int(await self.node.read(lambda conn: conn.fetchval("SELECT count(*) FROM peer_outbox")))


@pytest_asyncio.fixture
async def kept(transactions: MakeTransactions) -> Kept:
    node = await transactions("federation", MIGRATIONS)
    peer = NewPeer("d6", "", pb.PEER_KIND_CHILD, pb.PEER_STATE_ACTIVE, "d6", "", False, "", "", "e", node.clock.now())
    await node.run(lambda tx: peers_store.add(tx.conn, peer))
    return Kept(node)


async def test_facts_that_are_too_many_hold_back_the_exporter_until_there_is_room(kept: Kept) -> None:
    await kept.queue(FACTS, 6)
    assert (kept.keeper.admits(), await kept.alarms()) == (True, [])
    await kept.queue(FACTS, 1)
    assert (kept.keeper.admits(), await kept.alarms()) == (True, [alarms.BACKLOG_HIGH])
    await kept.queue(FACTS, 1)
    assert (kept.keeper.admits(), await kept.alarms()) == (False, [alarms.BACKLOG_FULL])
    await kept.acknowledge(FACTS, 5)
    assert (kept.keeper.admits(), await kept.alarms()) == (True, [])


async def test_bulk_has_a_share_of_its_own_and_is_stated_anew_when_there_is_room(kept: Kept) -> None:
    query = (
        "INSERT INTO contracts (id, kind, peer, provider, consumer, state, terms, created_at, updated_at)"
        " VALUES ('x', 2, 'd6', 'sf', 'd6', 6, '', now(), now())"
    )
    started = (
        "INSERT INTO transfers (id, contract, state, step, by_provider, changed_by, created_at, updated_at)"
        f" VALUES ('t', 'x', {pb.TRANSFER_STATE_STARTED}, 2, true, 'sf', now(), now())"
    )
    await kept.node.run(lambda tx: tx.conn.execute(f"{query}; {started}"))
    await kept.queue(BULK, 2)
    assert (kept.keeper.bulk_admits("d6"), kept.keeper.admits()) == (False, True)
    assert await kept.alarms() == [alarms.BACKLOG_FULL]
    await kept.node.run(lambda tx: contracts_store.skip_bulk(tx.conn, "contracts/x", tx.now))
    await kept.keeper.measure()
    assert await kept.node.read(lambda conn: contracts_store.bulk_skipped(conn, "d6")) == ["contracts/x"]
    await kept.acknowledge(BULK, 2)
    assert kept.keeper.bulk_admits("d6")
    assert await kept.node.read(lambda conn: contracts_store.bulk_skipped(conn, "d6")) == []
    stated = await kept.node.read(lambda conn: conn.fetch("SELECT subject FROM outbox ORDER BY id"))
    # What sharing begins anew on: that the contract still stands would tell it nothing.
    assert stated[-1]["subject"] == "facts.federation.TransferChanged"


async def test_what_was_acknowledged_is_kept_for_a_time_and_a_size(kept: Kept, clock: ManualClock) -> None:
    await kept.queue(FACTS, 5)
    await kept.acknowledge(FACTS, 4)
    assert await kept.keeper.purge() == 2  # all but the last megabyte
    assert await kept.rows() == 3
    assert await kept.keeper.purge() == 0
    clock.advance(timedelta(hours=25))
    assert await kept.keeper.purge() == 2
    assert await kept.rows() == 1  # without a receipt it stays for ever
