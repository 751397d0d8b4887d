"""Invitations, requests to join and their approvals, joins under way, and the zones that were delegated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from libs.db import violations
from libs.errors import NotFound, Reason, WrongState
from quintet.federation.v1 import federation_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection

REQUESTS_MAX = 1000


@dataclass(frozen=True)
class Invited:
    """One row of `invitations`."""

    token_hash: bytes
    node: str
    kind: int
    zone: str
    charter: bytes
    expires_at: datetime
    used_by: bytes | None


@dataclass(frozen=True)
class Requested:
    """One row of `join_requests`: what the node becomes when it is approved."""

    node: str
    token_hash: bytes
    expires_at: datetime | None
    kind: int
    zone: str
    charter: bytes


@dataclass(frozen=True)
class Approval:
    """One row of `peer_approvals`."""

    node: str
    person: str
    root_fingerprint: str
    time: datetime


@dataclass(frozen=True)
class PendingJoin:
    """One row of `pending_joins`: `invitation` and `card` are serialised, the same each time this node asks."""

    node: str
    invitation: bytes
    card: bytes
    expires_at: datetime


# ----------------------------------------------------------------------------------------- invitations


async def invite(conn: Connection, invited: Invited) -> None:
    """Keep an invitation; the token itself is not kept. Earlier ones for the same node are void."""
    await conn.execute("DELETE FROM invitations WHERE node = $1 AND used_by IS NULL", invited.node)
    await conn.execute(
        "INSERT INTO invitations (token_hash, node, kind, zone, charter, expires_at) VALUES ($1, $2, $3, $4, $5, $6)",
        invited.token_hash,
        invited.node,
        invited.kind,
        invited.zone,
        invited.charter,
        invited.expires_at,
    )


async def invitation(conn: Connection, token_hash: bytes) -> Invited | None:
    """Return and lock the invitation of a token."""
    query = """
        SELECT token_hash, node, kind, zone, charter, expires_at, used_by
        FROM invitations WHERE token_hash = $1 FOR UPDATE
    """
    row = await conn.fetchrow(query, token_hash)
    return Invited(**dict(row)) if row else None


async def use_invitation(conn: Connection, token_hash: bytes, used_by: bytes, expires_at: datetime) -> None:
    """Mark an invitation as used by one joiner, who may ask again with it until it ends."""
    await conn.execute(
        "UPDATE invitations SET used_by = $2, expires_at = $3 WHERE token_hash = $1", token_hash, used_by, expires_at
    )


async def lapsed_invitations(conn: Connection, now: datetime) -> list[str]:
    """Forget invitations that nobody used in time, and return the nodes that they were for."""
    query = "DELETE FROM invitations WHERE used_by IS NULL AND expires_at <= $1 RETURNING node"
    return [row["node"] for row in await conn.fetch(query, now)]


# -------------------------------------------------------------------------------------------- requests


async def request(conn: Connection, requested: Requested) -> None:
    """Keep that a node waits for approval, in the place of an earlier request and its approvals."""
    await conn.execute("DELETE FROM peer_approvals WHERE node = $1", requested.node)
    await conn.execute(
        "INSERT INTO join_requests (node, token_hash, expires_at, kind, zone, charter) VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (node) DO UPDATE SET token_hash = excluded.token_hash, expires_at = excluded.expires_at,"
        " kind = excluded.kind, zone = excluded.zone, charter = excluded.charter",
        requested.node,
        requested.token_hash,
        requested.expires_at,
        requested.kind,
        requested.zone,
        requested.charter,
    )


async def requested(conn: Connection, node: str) -> Requested:
    """Return what a node waits for. Raises NotFound."""
    row = await conn.fetchrow("SELECT * FROM join_requests WHERE node = $1 FOR UPDATE", node)
    if row is None:
        raise NotFound(Reason.PEER_NOT_FOUND, f"peers/{node} has not asked to join", peer=node)
    return Requested(**dict(row))


async def settle_request(conn: Connection, node: str) -> None:
    """Forget a request that was decided."""
    await conn.execute("DELETE FROM join_requests WHERE node = $1", node)


async def lapsed_requests(conn: Connection, now: datetime) -> list[str]:
    """Return the nodes whose requests nobody has decided in time."""
    query = "SELECT node FROM join_requests WHERE expires_at <= $1 ORDER BY node LIMIT $2"
    return [row["node"] for row in await conn.fetch(query, now, REQUESTS_MAX)]


async def approve(conn: Connection, approval: Approval) -> None:
    """Keep one person's approval. Raises WrongState(APPROVAL_BY_SAME) for the second of the same person."""
    text = f"{approval.person} has approved peers/{approval.node} already: another person has to"
    same = WrongState(Reason.APPROVAL_BY_SAME, text, person=approval.person)
    with violations({"peer_approvals_pkey": same}):
        await conn.execute(
            "INSERT INTO peer_approvals (node, person, root_fingerprint, time) VALUES ($1, $2, $3, $4)",
            approval.node,
            approval.person,
            approval.root_fingerprint,
            approval.time,
        )


async def approvals(conn: Connection, nodes: Sequence[str]) -> dict[str, list[Approval]]:
    """Return the approvals of each of the peers, in the order in which they were given."""
    query = "SELECT * FROM peer_approvals WHERE node = ANY($1::text[]) ORDER BY time, person"
    found: dict[str, list[Approval]] = {node: [] for node in nodes}
    for row in await conn.fetch(query, list(nodes)):
        found[row["node"]].append(Approval(**dict(row)))
    return found


# --------------------------------------------------------------------------------------- joins under way


async def pend(conn: Connection, pending: PendingJoin) -> None:
    """Keep that this node has asked to join another, in the place of an earlier attempt."""
    await conn.execute(
        "INSERT INTO pending_joins (node, invitation, card, expires_at) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (node) DO UPDATE SET invitation = excluded.invitation, card = excluded.card,"
        " expires_at = excluded.expires_at",
        pending.node,
        pending.invitation,
        pending.card,
        pending.expires_at,
    )


async def pending(conn: Connection) -> list[PendingJoin]:
    """Return the joins under way."""
    query = "SELECT node, invitation, card, expires_at FROM pending_joins ORDER BY node LIMIT $1"
    return [PendingJoin(**dict(row)) for row in await conn.fetch(query, REQUESTS_MAX)]


async def pending_with(conn: Connection, node: str, *, lock: bool = False) -> PendingJoin | None:
    """Return the join under way with one node."""
    query = "SELECT node, invitation, card, expires_at FROM pending_joins WHERE node = $1"
    query += " FOR UPDATE" if lock else ""
    row = await conn.fetchrow(query, node)
    return PendingJoin(**dict(row)) if row else None


async def settle_pending(conn: Connection, node: str) -> bool:
    """Forget a join that was decided; False when it was forgotten already."""
    return await conn.execute("DELETE FROM pending_joins WHERE node = $1", node) != "DELETE 0"


# ----------------------------------------------------------------------------------------- delegations


async def lock_delegations(conn: Connection) -> None:
    """Let no other transaction promise or delegate a zone until the end of this one."""
    await conn.execute("LOCK TABLE delegations IN SHARE ROW EXCLUSIVE MODE")


async def promised(conn: Connection, now: datetime) -> dict[str, str]:
    """Return the node of every zone that is delegated, asked for, or on offer in an open invitation."""
    query = """
        SELECT zone, node FROM invitations WHERE zone <> '' AND used_by IS NULL AND expires_at > $1
        UNION ALL SELECT r.zone, r.node FROM join_requests r JOIN peers p USING (node)
            WHERE r.zone <> '' AND p.state = $2
        UNION ALL SELECT zone, node FROM delegations
    """
    return {row["zone"]: row["node"] for row in await conn.fetch(query, now, pb.PEER_STATE_REQUESTED)}


async def delegate(conn: Connection, zone: str, node: str) -> None:
    """Give a zone to a child; the caller holds `lock_delegations` and has looked for overlaps."""
    await conn.execute(
        "INSERT INTO delegations (zone, node) VALUES ($1, $2) ON CONFLICT (zone) DO UPDATE SET node = excluded.node",
        zone,
        node,
    )


async def delegated_to(conn: Connection, node: str) -> list[str]:
    """Return the zones that a child has."""
    return [row["zone"] for row in await conn.fetch("SELECT zone FROM delegations WHERE node = $1 ORDER BY zone", node)]


async def all_delegations(conn: Connection) -> dict[str, str]:
    """Return the node of every delegated zone."""
    return {row["zone"]: row["node"] for row in await conn.fetch("SELECT zone, node FROM delegations ORDER BY zone")}


async def delegation(conn: Connection, zone: str) -> str:
    """Return the node that has the zone, "" for none."""
    return await conn.fetchval("SELECT node FROM delegations WHERE zone = $1", zone) or ""


async def undelegate(conn: Connection, zone: str) -> None:
    """Take a zone back."""
    await conn.execute("DELETE FROM delegations WHERE zone = $1", zone)
