"""The peers' receipts as evidence: kept, listed, and thinned out when they are old."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from quintet.federation.v1 import link_pb2
from services.federation import control

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


async def keep(
    conn: Connection, node: str, epoch: str, receipts: Sequence[tuple[Lane, int, link_pb2.SignedReceipt]], now: datetime
) -> None:
    """Keep a peer's signed receipts as evidence."""
    await conn.execute(
        "INSERT INTO receipts (peer, epoch, lane, sequence, receipt, key_id, signature, received_at)"
        " SELECT $1, $2, lane, sequence, receipt, key_id, signature, $3"
        " FROM unnest($4::smallint[], $5::bigint[], $6::bytea[], $7::text[], $8::bytea[])"
        " AS t(lane, sequence, receipt, key_id, signature) ON CONFLICT DO NOTHING",
        node,
        epoch,
        now,
        [lane for lane, _, _ in receipts],
        [sequence for _, sequence, _ in receipts],
        [signed.receipt for _, _, signed in receipts],
        [signed.key_id for _, _, signed in receipts],
        [signed.signature for _, _, signed in receipts],
    )


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
