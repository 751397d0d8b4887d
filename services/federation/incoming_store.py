"""The lanes from peers: how far each is committed here, and the chain over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from libs.errors import NotFound, Reason
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import contracts_store
from services.federation.lanes_store import Lane
from services.federation.peers_store import Peer
from services.federation.terms import ActiveContract

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


@dataclass(frozen=True)
class Against:
    """What a batch of a peer is held against: the peer, its contracts by name (see contracts_store.accepting_from), and
    which of the facts were taken in before.
    """

    peer: Peer
    contracts: Mapping[str, ActiveContract]
    known: set[str]


_PEER = tuple(Peer.__dataclass_fields__)


async def go_on(
    conn: Connection, node: str, lane: Lane, sequence: int, chain: bytes, fact_ids: Sequence[UUID]
) -> Against:
    """Note how far a lane from a peer is committed, and return what its envelopes are held against.

    The caller has locked the lane. Raises NotFound.
    """
    row = await conn.fetchrow(
        f"""WITH noted AS (UPDATE peer_received SET received = $3, chain = $4 WHERE peer = $1 AND lane = $2)
        SELECT {", ".join(_PEER)},
            ARRAY(SELECT ROW ({contracts_store.ACTIVE}) FROM contracts
                WHERE peer = $1 AND {contracts_store.ACCEPTING.format(finalized="$6")}) AS contracts,
            ARRAY(SELECT fact_id FROM inbox WHERE fact_id = ANY($5::uuid[])) AS known
        FROM peers WHERE node = $1""",
        node,
        lane,
        sequence,
        chain,
        fact_ids,
        pb.CONTRACT_STATE_FINALIZED,
    )
    if row is None:
        raise NotFound(Reason.PEER_NOT_FOUND, f"peers/{node} does not exist", peer=node)
    contracts = {each.name: each for each in map(contracts_store.active, row["contracts"])}
    return Against(Peer(*(row[name] for name in _PEER)), contracts, set(map(str, row["known"])))


async def set_received(conn: Connection, node: str, lane: Lane, sequence: int, chain: bytes) -> None:
    """Note how far a lane from a peer is committed."""
    await conn.execute(
        "UPDATE peer_received SET received = $3, chain = $4 WHERE peer = $1 AND lane = $2", node, lane, sequence, chain
    )
