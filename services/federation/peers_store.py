"""Peers, invitations and delegations. What goes to them is in `lanes_store`, what comes in `incoming_store`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from libs.db import violations
from libs.errors import NotFound, Reason, WrongState
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import lanes_store, returns_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection, Record

Queued = lanes_store.Queued
# How envelopes come into a peer's queue, and how a contract's are taken back.
enqueue = lanes_store.enqueue
withdraw = lanes_store.withdraw


@dataclass(frozen=True)
class Peer:
    """One row of `peers`."""

    node: str
    title: str
    kind: int
    state: int
    zone: str
    link_address: str
    dial: bool
    root_certificate: str
    certificate: str
    epoch: str
    received_epoch: str
    previous_epoch: str
    epoch_there: str
    joined_at: datetime
    last_contact: datetime | None
    last_error: str
    state_reason: str = ""
    join_address: str = ""


@dataclass(frozen=True)
class NewPeer:
    """What is known of a peer when it joins."""

    node: str
    title: str
    kind: int
    state: int
    zone: str
    link_address: str
    dial: bool
    root_certificate: str
    certificate: str
    epoch: str
    joined_at: datetime
    join_address: str = ""


_COLUMNS = (
    "node, title, kind, state, zone, link_address, dial, root_certificate, certificate,"
    " epoch, received_epoch, previous_epoch, epoch_there, joined_at, last_contact, last_error,"
    " state_reason, join_address"
)


async def add(conn: Connection, peer: NewPeer) -> None:
    """Insert a peer. Raises WrongState when the node is a peer already."""
    query = """
        INSERT INTO peers (node, title, kind, state, zone, link_address, dial, root_certificate,
                           certificate, epoch, joined_at, join_address)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    """
    taken = WrongState(Reason.WRONG_STATE, f"{peer.node} is a peer already", peer=peer.node)
    with violations({"peers_pkey": taken}):
        await conn.execute(query, *(getattr(peer, name) for name in NewPeer.__dataclass_fields__))
    await lanes_store.open_lanes(conn, peer.node)


async def readmit(conn: Connection, peer: NewPeer) -> None:
    """Begin anew with a node whose earlier membership is over: other keys, other sequences; the evidence stays."""
    query = """
        UPDATE peers SET title = $2, kind = $3, state = $4, zone = $5, link_address = $6, dial = $7,
            root_certificate = $8, certificate = $9, epoch = $10,
            joined_at = $11, join_address = $12, received_epoch = '', previous_epoch = '', epoch_there = '',
            trust_acknowledged = 0, last_error = '', state_reason = ''
        WHERE node = $1
    """
    await returns_store.put_queue_by(conn, peer.node)
    await lanes_store.close_lanes(conn, peer.node)
    await lanes_store.open_lanes(conn, peer.node)
    await conn.execute(query, *(getattr(peer, name) for name in NewPeer.__dataclass_fields__))


async def get(conn: Connection, node: str, *, lock: bool = False) -> Peer:
    """Return a peer. With `lock` its row stays locked, and with it its sequences. Raises NotFound."""
    found = await find(conn, node, lock=lock)
    if found is None:
        raise NotFound(Reason.PEER_NOT_FOUND, f"peers/{node} does not exist", peer=node)
    return found


async def find(conn: Connection, node: str, *, lock: bool = False) -> Peer | None:
    """Return a peer like `get`, None when there is none."""
    query = f"SELECT {_COLUMNS} FROM peers WHERE node = $1" + (" FOR UPDATE" if lock else "")
    row = await conn.fetchrow(query, node)
    return _peer(row) if row else None


async def states(conn: Connection, nodes: Sequence[str]) -> dict[str, int]:
    """Return where the memberships of the peers stand."""
    rows = await conn.fetch("SELECT node, state FROM peers WHERE node = ANY($1::text[])", list(nodes))
    return {row["node"]: row["state"] for row in rows}


async def set_state(conn: Connection, node: str, state: int, reason: str, now: datetime) -> None:
    """Note where the membership of a peer stands, since when and why."""
    await conn.execute(
        "UPDATE peers SET state = $2, state_reason = $3, state_since = $4 WHERE node = $1", node, state, reason, now
    )


async def page(conn: Connection, after: str, limit: int) -> list[Peer]:
    """Return peers ordered by node id."""
    query = f"SELECT {_COLUMNS} FROM peers WHERE node > $1 ORDER BY node LIMIT $2"
    return [_peer(row) for row in await conn.fetch(query, after, limit)]


async def touch(conn: Connection, node: str, now: datetime, error: str = "") -> None:
    """Note contact with a peer, or why there is none."""
    if error:
        await conn.execute("UPDATE peers SET last_error = $2 WHERE node = $1", node, error[:500])
    else:
        await conn.execute("UPDATE peers SET last_error = '', last_contact = $2 WHERE node = $1", node, now)


async def set_certificate(conn: Connection, node: str, certificate: str) -> None:
    """Keep the certificate with which this node may call the peer, and dial it from now on; "" when it is no good."""
    await conn.execute(
        "UPDATE peers SET certificate = $2, dial = link_address <> '' WHERE node = $1", node, certificate
    )


async def set_epoch(conn: Connection, node: str, epoch: str, previous: str) -> None:
    """Begin a new life of the lanes to a peer."""
    await conn.execute("UPDATE peers SET epoch = $2, previous_epoch = $3 WHERE node = $1", node, epoch, previous)


async def set_epoch_there(conn: Connection, node: str, epoch: str) -> None:
    """Note which life of the lanes from this node the peer knows."""
    await conn.execute("UPDATE peers SET epoch_there = $2 WHERE node = $1 AND epoch_there <> $2", node, epoch)


async def set_received_epoch(conn: Connection, node: str, epoch: str) -> None:
    """Note the life of the lanes from the peer."""
    await conn.execute("UPDATE peers SET received_epoch = $2 WHERE node = $1", node, epoch)


async def set_root(conn: Connection, node: str, root: str) -> None:
    """Pin the root that has taken the place of the pinned one."""
    await conn.execute("UPDATE peers SET root_certificate = $2 WHERE node = $1", node, root)


async def set_trust_acknowledged(conn: Connection, node: str, number: int) -> None:
    """Note which trust list of this node the peer goes by."""
    await conn.execute("UPDATE peers SET trust_acknowledged = $2 WHERE node = $1", node, number)


async def unaware(conn: Connection, number: int, since: datetime) -> bool:
    """Say whether an active peer that was heard since then does not know this node's trust list of that number."""
    query = """
        SELECT EXISTS (SELECT FROM peers WHERE state = $1 AND last_contact >= $2 AND trust_acknowledged < $3)
    """
    return bool(await conn.fetchval(query, pb.PEER_STATE_ACTIVE, since, number))


def _peer(row: Record) -> Peer:
    return Peer(**dict(row))
