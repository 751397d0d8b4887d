"""What was meant for a child whose membership is over and that it has not received: it is this node's again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection


async def begin(conn: Connection, child: str) -> None:
    """From now on nothing of a child's charter is sent to it or emptied, until `take_back`. Do it before it ends."""
    await conn.execute(
        "UPDATE contracts SET returning_facts = true WHERE peer = $1 AND consumer = $1 AND kind = $2",
        child,
        pb.CONTRACT_KIND_CHARTER,
    )


async def take_back(conn: Connection, child: str) -> list[str]:
    """Put by what waits for a child and end what `begin` began; return the contracts that it was queued under."""
    await put_queue_by(conn, child)
    ended = await conn.fetch(
        "UPDATE contracts SET returning_facts = false WHERE peer = $1 AND returning_facts RETURNING id", child
    )
    return [f"contracts/{row['id']}" for row in ended]


async def put_queue_by(conn: Connection, child: str) -> None:
    """Put by what waits for a child without a receipt, if `begin` went before."""
    await conn.execute(
        "INSERT INTO returned_facts (envelope) SELECT o.envelope FROM peer_outbox o"
        " JOIN peer_lanes l ON l.peer = o.peer AND l.lane = o.lane"
        " JOIN contracts c ON c.peer = o.peer AND o.contract = 'contracts/' || c.id AND c.returning_facts"
        " WHERE o.peer = $1 AND o.lane = $2 AND o.sequence > l.acknowledged ORDER BY o.sequence",
        child,
        int(link_pb2.LANE_FACTS),
    )


async def put_by(conn: Connection, envelopes: Sequence[bytes]) -> None:
    """Put by what would have been queued."""
    await conn.execute("INSERT INTO returned_facts (envelope) SELECT unnest($1::bytea[])", list(envelopes))


async def next_page(conn: Connection, limit: int) -> list[bytes]:
    """Remove and return the oldest of what was put by. Several replicas may, each gets others."""
    rows = await conn.fetch(
        "DELETE FROM returned_facts WHERE id IN"
        " (SELECT id FROM returned_facts ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING id, envelope",
        limit,
    )
    return [row["envelope"] for row in sorted(rows, key=lambda row: row["id"])]
