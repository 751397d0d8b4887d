"""What a provider has given, and what its consumer says is gone of it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from libs.ids import new_id
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from quintet.sharing.v1.facts_pb2 import ReceivedDay, RowsDeleted
from services.federation import metering_store
from services.federation.contracts_store import Tally
from services.federation.deletion_checks import DeletionChecks
from services.federation.deletions import Deletions
from services.federation.metering import FACT, Entry
from services.federation.tests.asking import CONTRACT, Exchange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.federation.tests.world import Node


def deletions(node: Node) -> Deletions:
    return Deletions(node.id, node.transactions, node.signer, DeletionChecks(node.id), lambda _: None)


def deleted(**about: Any) -> Fact:
    """Return what the consumer's sharing states."""
    values: dict[str, Any] = {"id": new_id(), "contract": CONTRACT, "rows": 0, "reason": "TERMINATED"} | about
    message = RowsDeleted(**values)
    return Fact(
        id=new_id(), type=message.DESCRIPTOR.full_name, node="sf", zone="city", data=message.SerializeToString()
    )


async def prove(node: Node, fact: Fact) -> None:
    await node.transactions.run(lambda tx: deletions(node).hear(tx, [fact]))


async def sent(node: Node) -> list[link_pb2.Envelope]:
    """Return the proofs that wait for the peer."""
    query = "SELECT envelope FROM peer_outbox ORDER BY sequence"
    rows = await node.transactions.read(lambda conn: conn.fetch(query))
    found = [link_pb2.Envelope.FromString(row["envelope"]) for row in rows]
    return [envelope for envelope in found if envelope.WhichOneof("body") == "deletion_proof"]


async def take(node: Node, envelope: link_pb2.Envelope) -> None:
    peer = await node.peer("sf")
    await node.transactions.run(lambda tx: deletions(node).handle(tx, peer, envelope))


async def told(joined: Exchange, **about: Any) -> None:
    """Let the consumer prove a deletion, and the provider take the proof."""
    await prove(joined.consumer, deleted(**about))
    await take(joined.provider, (await sent(joined.consumer))[-1])


async def listed(node: Node) -> Sequence[pb.StoredDeletionProof]:
    """Return what people are shown at a node, the newest first."""
    return (await deletions(node).page(pb.ListDeletionProofsRequest(contract=CONTRACT))).proofs


async def given(
    joined: Exchange, day: str, rows: int, facts: int = 1, kind: int = FACT, contract: str = CONTRACT
) -> ReceivedDay:
    """Let the provider count facts with so many rows each; return what its consumer would say of them."""
    time = datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC)
    ids = [UUID(new_id()) for _ in range(facts)]
    entries = [Entry(contract, "beijing", each, time, kind, rows) for each in ids]
    tallies = {contract: Tally(rows_sent=rows * facts)}
    now = joined.provider.transactions.clock.now()
    await joined.provider.transactions.run(
        lambda tx: metering_store.record(tx.conn, "beijing", entries, now, tallies if kind == FACT else None)
    )
    return of_facts(day, rows * facts, ids, contract)


def of_facts(day: str, rows: int, ids: Sequence[UUID], contract: str = CONTRACT) -> ReceivedDay:
    """Return a day as docs/protocol.md describes it, with nothing of the product."""
    total = sum(int.from_bytes(hashlib.sha256(str(each).encode()).digest()) for each in ids) % 2**256
    return ReceivedDay(contract=contract, day=day, facts=len(ids), rows=rows, digest=total.to_bytes(32))
