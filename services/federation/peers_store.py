"""Peers, invitations, and the two sequences between each peer and this node."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from libs.db import violations
from libs.errors import NotFound, Reason, WrongState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection, Record


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
    signing_key: bytes
    certificate: str
    issued_certificate: str
    epoch: str
    last_assigned: int
    acknowledged: int
    received_epoch: str
    received: int
    joined_at: datetime
    last_contact: datetime | None
    last_error: str
    state_reason: str = ""


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
    signing_key: bytes
    certificate: str
    issued_certificate: str
    epoch: str
    joined_at: datetime


@dataclass(frozen=True)
class Backlog:
    """What waits for a peer's receipt."""

    envelopes: int
    oldest: datetime | None


_COLUMNS = (
    "node, title, kind, state, zone, link_address, dial, root_certificate, signing_key, certificate,"
    " issued_certificate, epoch, last_assigned, acknowledged, received_epoch, received, joined_at, last_contact,"
    " last_error, state_reason"
)


async def add(conn: Connection, peer: NewPeer) -> None:
    """Insert a peer. Raises WrongState when the node is a peer already."""
    query = """
        INSERT INTO peers (node, title, kind, state, zone, link_address, dial, root_certificate, signing_key,
                           certificate, issued_certificate, epoch, joined_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    """
    taken = WrongState(Reason.WRONG_STATE, f"{peer.node} is a peer already", peer=peer.node)
    with violations({"peers_pkey": taken}):
        await conn.execute(query, *(getattr(peer, name) for name in NewPeer.__dataclass_fields__))


async def readmit(conn: Connection, peer: NewPeer) -> None:
    """Begin anew with a node whose earlier membership is over: other keys, other sequences; the evidence stays."""
    query = """
        UPDATE peers SET title = $2, kind = $3, state = $4, zone = $5, link_address = $6, dial = $7,
            root_certificate = $8, signing_key = $9, certificate = $10, issued_certificate = $11, epoch = $12,
            joined_at = $13, last_assigned = 0, acknowledged = 0, received_epoch = '', received = 0, last_error = '',
            state_reason = ''
        WHERE node = $1
    """
    await conn.execute("DELETE FROM peer_outbox WHERE peer = $1", peer.node)
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


async def set_state(conn: Connection, node: str, state: int, reason: str) -> None:
    """Note where the membership of a peer stands, and why."""
    await conn.execute("UPDATE peers SET state = $2, state_reason = $3 WHERE node = $1", node, state, reason)


async def page(conn: Connection, after: str, limit: int) -> list[Peer]:
    """Return peers ordered by node id."""
    query = f"SELECT {_COLUMNS} FROM peers WHERE node > $1 ORDER BY node LIMIT $2"
    return [_peer(row) for row in await conn.fetch(query, after, limit)]


async def backlogs(conn: Connection, nodes: Sequence[str]) -> dict[str, Backlog]:
    """Return what waits for each of the peers."""
    query = """
        SELECT peer, count(*) AS envelopes, min(created_at) AS oldest FROM peer_outbox
        WHERE peer = ANY($1::text[]) GROUP BY peer
    """
    waiting = {row["peer"]: Backlog(row["envelopes"], row["oldest"]) for row in await conn.fetch(query, list(nodes))}
    return {node: waiting.get(node, Backlog(0, None)) for node in nodes}


async def touch(conn: Connection, node: str, now: datetime, error: str = "") -> None:
    """Note contact with a peer, or why there is none."""
    if error:
        await conn.execute("UPDATE peers SET last_error = $2 WHERE node = $1", node, error[:500])
    else:
        await conn.execute("UPDATE peers SET last_error = '', last_contact = $2 WHERE node = $1", node, now)


async def set_certificate(conn: Connection, node: str, certificate: str) -> None:
    """Keep the certificate with which this node may call the peer, and dial it from now on."""
    await conn.execute(
        "UPDATE peers SET certificate = $2, dial = link_address <> '' WHERE node = $1", node, certificate
    )


# -------------------------------------------------------------------------------------------- outgoing


async def enqueue(conn: Connection, node: str, envelopes: Sequence[tuple[str, bytes]]) -> int:
    """Append (contract, envelope without sequence) rows and return the first sequence given.

    The sender puts the sequence into the envelope from the row. The peer's row is locked until the commit.
    """
    last = await conn.fetchval(
        "UPDATE peers SET last_assigned = last_assigned + $2 WHERE node = $1 RETURNING last_assigned",
        node,
        len(envelopes),
    )
    first = int(last) - len(envelopes) + 1
    await conn.execute(
        "INSERT INTO peer_outbox (peer, sequence, contract, envelope)"
        " SELECT $1, s, c, e FROM unnest($2::bigint[], $3::text[], $4::bytea[]) AS t(s, c, e)",
        node,
        list(range(first, first + len(envelopes))),
        [contract for contract, _ in envelopes],
        [envelope for _, envelope in envelopes],
    )
    return first


async def waiting(conn: Connection, node: str, after: int, limit: int) -> list[tuple[int, bytes]]:
    """Return (sequence, envelope) rows after a sequence, in order."""
    query = "SELECT sequence, envelope FROM peer_outbox WHERE peer = $1 AND sequence > $2 ORDER BY sequence LIMIT $3"
    return [(row["sequence"], row["envelope"]) for row in await conn.fetch(query, node, after, limit)]


async def acknowledge(conn: Connection, node: str, sequence: int) -> None:
    """Forget what the peer has committed up to `sequence`."""
    await conn.execute("UPDATE peers SET acknowledged = greatest(acknowledged, $2) WHERE node = $1", node, sequence)
    await conn.execute("DELETE FROM peer_outbox WHERE peer = $1 AND sequence <= $2", node, sequence)


async def keep_receipt(
    conn: Connection, node: str, sequence: int, receipt: bytes, key_id: str, signature: bytes
) -> None:
    """Keep a peer's signed receipt as evidence."""
    await conn.execute(
        "INSERT INTO receipts (peer, sequence, receipt, key_id, signature) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT DO NOTHING",
        node,
        sequence,
        receipt,
        key_id,
        signature,
    )


async def withdraw(conn: Connection, contract: str, empty_envelope: bytes) -> int:
    """Empty the envelopes of a contract that wait, keeping their sequences; return how many there were."""
    status = await conn.execute(
        "UPDATE peer_outbox SET envelope = $2 WHERE contract = $1 AND envelope <> $2", contract, empty_envelope
    )
    return int(status.split()[-1])


# -------------------------------------------------------------------------------------------- incoming


async def set_received(conn: Connection, node: str, epoch: str, sequence: int, now: datetime) -> None:
    """Note how far the peer's sequence is committed here."""
    await conn.execute(
        "UPDATE peers SET received_epoch = $2, received = $3, last_contact = $4, last_error = '' WHERE node = $1",
        node,
        epoch,
        sequence,
        now,
    )


def _peer(row: Record) -> Peer:
    return Peer(**dict(row))
