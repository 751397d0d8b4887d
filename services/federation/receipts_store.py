"""The peers' receipts as evidence: kept, listed, and thinned out when they are old."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from quintet.federation.v1 import link_pb2
from services.federation import control, lanes_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection
    from services.federation.lanes_store import Lane

# Each receipt stands for all sequences before it: of the older ones the last of a lane and UTC day is kept.
RECEIPTS_KEEP = timedelta(days=30)
COMPACTED_AT_ONCE_MAX = 10_000


@dataclass(frozen=True)
class Kept:
    """One row of `receipts`."""

    peer: str
    epoch: str
    lane: int
    sequence: int
    receipt: bytes
    key_id: str
    signature: bytes
    received_at: datetime


_KEPT = ", ".join(Kept.__dataclass_fields__)


def contracts_in(envelopes: Sequence[link_pb2.Envelope | None]) -> list[link_pb2.ReceiptContract]:
    """Return what a receipt says of a batch: under which contracts it was sent, by name."""
    counts = Counter(control.contract_of(envelope) for envelope in envelopes if envelope is not None)
    return [link_pb2.ReceiptContract(contract=name, envelopes=counts[name]) for name in sorted(counts) if name]


class Receipt(NamedTuple):
    """A peer's word that it has committed a lane up to a sequence, with the chain there, as it was signed."""

    lane: Lane
    sequence: int
    chain: bytes
    signed: link_pb2.SignedReceipt


async def note(
    conn: Connection, node: str, epoch: str, receipts: Sequence[Receipt], now: datetime
) -> dict[Lane, int | None]:
    """Keep a peer's receipts as evidence, and note what it has committed by the last one of each lane.

    May be repeated, and needs no transaction around it. Returns up to where each lane heals, 0 when it does not; None
    for a lane whose chain is another.
    """
    last = {receipt.lane: receipt for receipt in receipts}
    rows = await conn.fetch(
        """WITH kept AS (
            INSERT INTO receipts (peer, epoch, lane, sequence, receipt, key_id, signature, received_at)
            SELECT $1, $2, lane, sequence, receipt, key_id, signature, $3
            FROM unnest($4::smallint[], $5::bigint[], $6::bytea[], $7::text[], $8::bytea[])
                AS t(lane, sequence, receipt, key_id, signature) ON CONFLICT DO NOTHING
        )
        UPDATE peer_lanes l SET acknowledged = o.sequence, acknowledged_chain = o.chain,
            acknowledged_bytes = o.total_bytes
        FROM peer_outbox o, unnest($9::smallint[], $10::bigint[], $11::bytea[]) AS last(lane, sequence, chain)
        WHERE l.peer = $1 AND l.lane = last.lane AND l.acknowledged < last.sequence
            AND o.peer = l.peer AND o.lane = l.lane AND o.sequence = last.sequence AND o.chain = last.chain
        RETURNING l.lane, l.healing_until""",
        node,
        epoch,
        now,
        [receipt.lane for receipt in receipts],
        [receipt.sequence for receipt in receipts],
        [receipt.signed.receipt for receipt in receipts],
        [receipt.signed.key_id for receipt in receipts],
        [receipt.signed.signature for receipt in receipts],
        list(last),
        [receipt.sequence for receipt in last.values()],
        [receipt.chain for receipt in last.values()],
    )
    noted: dict[Lane, int | None] = {row["lane"]: row["healing_until"] for row in rows}
    if len(noted) < len(last):  # the peer said so before, or it is of another chain
        before = await lanes_store.sent(conn, node)
        for lane, receipt in last.items():
            known = lane in before and before[lane].acknowledged >= receipt.sequence
            noted.setdefault(lane, before[lane].healing_until if known else None)
    return noted


async def page(conn: Connection, peer: str, after: tuple[str, str, int, int] | None, limit: int) -> list[Kept]:
    """Return receipts by peer, epoch, lane and sequence; of one peer where given."""
    query = f"""SELECT {_KEPT} FROM receipts
        WHERE ($1 = '' OR peer = $1) AND (peer, epoch, lane, sequence) > ($2, $3, $4, $5)
        ORDER BY peer, epoch, lane, sequence LIMIT $6"""
    return [Kept(**dict(row)) for row in await conn.fetch(query, peer, *(after or ("", "", 0, 0)), limit)]


async def compact(conn: Connection, now: datetime) -> int:
    """Forget old receipts that a later one of the same lane and day stands for; return how many."""
    status = await conn.execute(
        """DELETE FROM receipts WHERE (peer, epoch, lane, sequence) IN (
            SELECT peer, epoch, lane, sequence FROM (
                SELECT peer, epoch, lane, sequence, lead(sequence) OVER (
                    PARTITION BY peer, epoch, lane, date_trunc('day', received_at, 'UTC') ORDER BY sequence) AS later
                FROM receipts WHERE received_at < $1) AS old
            WHERE later IS NOT NULL LIMIT $2)""",
        now - RECEIPTS_KEEP,
        COMPACTED_AT_ONCE_MAX,
    )
    return int(status.split()[-1])
