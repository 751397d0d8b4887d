"""The lanes from peers: how far each is committed here, and the chain over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from libs.errors import NotFound, Reason
from services.federation.lanes_store import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from libs.db import Connection


@dataclass(frozen=True)
class Received:
    """One row of `peer_received`: how far a lane from a peer is committed here."""

    lane: Lane
    received: int
    chain: bytes


async def received(conn: Connection, node: str) -> dict[Lane, Received]:
    """Return how far the lanes from a peer are committed here."""
    query = "SELECT lane, received, chain FROM peer_received WHERE peer = $1"
    return {row["lane"]: Received(**dict(row)) for row in await conn.fetch(query, node)}


async def received_from_all(conn: Connection, nodes: Sequence[str]) -> dict[str, dict[Lane, Received]]:
    """Return how far the lanes from each of the peers are committed here."""
    found: dict[str, dict[Lane, Received]] = {node: {} for node in nodes}
    query = "SELECT peer, lane, received, chain FROM peer_received WHERE peer = ANY($1::text[])"
    for row in await conn.fetch(query, list(nodes)):
        found[row["peer"]][row["lane"]] = Received(row["lane"], row["received"], row["chain"])
    return found


async def lock_received(conn: Connection, node: str, lane: Lane) -> Received:
    """Return how far a lane is committed, and keep others from going on with it. Raises NotFound."""
    query = "SELECT lane, received, chain FROM peer_received WHERE peer = $1 AND lane = $2 FOR NO KEY UPDATE"
    row = await conn.fetchrow(query, node, lane)
    if row is None:
        raise NotFound(Reason.PEER_NOT_FOUND, f"peers/{node} does not exist", peer=node)
    return Received(**dict(row))


async def go_on(
    conn: Connection, node: str, lane: Lane, sequence: int, chain: bytes, fact_ids: Sequence[UUID]
) -> set[str]:
    """Note how far a lane from a peer is committed; return which of the facts were taken in before."""
    rows = await conn.fetch(
        "WITH noted AS (UPDATE peer_received SET received = $3, chain = $4 WHERE peer = $1 AND lane = $2)"
        " SELECT fact_id FROM inbox WHERE fact_id = ANY($5::uuid[])",
        node,
        lane,
        sequence,
        chain,
        fact_ids,
    )
    return {str(row["fact_id"]) for row in rows}


async def set_received(conn: Connection, node: str, lane: Lane, sequence: int, chain: bytes) -> None:
    """Note how far a lane from a peer is committed."""
    await conn.execute(
        "UPDATE peer_received SET received = $3, chain = $4 WHERE peer = $1 AND lane = $2", node, lane, sequence, chain
    )
