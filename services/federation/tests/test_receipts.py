"""Receipts as evidence: each names the contract, the sequences and the digest that the peer has signed for."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest_asyncio

from libs.testing import eventually
from quintet.federation.v1 import evidence_pb2, link_pb2
from services.federation import receipts_store
from services.federation.evidence_service import EvidenceHandler
from services.federation.signing import open_receipt
from services.federation.tests.world import Node, World


@pytest_asyncio.fixture
async def joined(made: World) -> tuple[Node, Node]:
    """A city and its district, which have agreed on the charter."""
    city, district = await made.city_and_district()
    await made.dial(district)
    return city, district


async def listed(node: Node, **fields: Any) -> evidence_pb2.ListReceiptsResponse:
    handler = EvidenceHandler(node.transactions, node.trust, node.cosigning)
    return await handler.receipts(evidence_pb2.ListReceiptsRequest(**fields))


async def test_a_receipt_names_what_it_is_for(joined: tuple[Node, Node]) -> None:
    city, district = joined

    async def received() -> bool:
        return bool((await listed(district, peer="peers/sf")).receipts)

    await eventually(received)
    found = (await listed(district)).receipts[0]
    signed = link_pb2.SignedReceipt(receipt=found.receipt, key_id=found.key_id, signature=found.signature)
    receipt = open_receipt(signed, city.key.public_key().public_bytes_raw())
    assert (receipt.sender, receipt.receiver, receipt.sequence) == ("sf-d10", "sf", found.sequence)
    assert (found.lane, receipt.first_sequence) == ("control", 1)
    assert len(receipt.batch_digest) == 32
    charter = (await district.contracts())[0].name
    assert [(each.contract, each.envelopes) for each in receipt.contracts] == [(charter, found.sequence)]
    assert not (await listed(district, peer="peers/nobody")).receipts


async def test_of_old_receipts_the_last_of_a_lane_and_day_stands_for_the_others(joined: tuple[Node, Node]) -> None:
    _, district = joined
    now = datetime(2026, 6, 15, 12, tzinfo=UTC)
    old = now - receipts_store.RECEIPTS_KEEP

    async def work(tx: Any) -> list[tuple[int, int]]:
        await tx.conn.execute("DELETE FROM receipts")
        times = [old - timedelta(days=2, hours=hour) for hour in (3, 2, 1)] + [old - timedelta(minutes=1), now]
        for lane in (1, 2):
            for sequence, time in enumerate(times, start=1):
                await tx.conn.execute(
                    "INSERT INTO receipts VALUES ('sf', 'e', $1, $2, '', '', '', $3)", lane, sequence, time
                )
        assert await receipts_store.compact(tx.conn, now) == 4
        assert await receipts_store.compact(tx.conn, now) == 0
        return [(kept.lane, kept.sequence) for kept in await receipts_store.page(tx.conn, "", None, 100)]

    assert await district.transactions.run(work) == [(1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5)]
