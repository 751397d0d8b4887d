"""The lanes between this node and its peers: what waits in them, how far they have come, and the chains over them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from libs.errors import Exhausted, NotFound, Reason
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from libs.db import Connection

Lane: TypeAlias = link_pb2.Lane.ValueType
# In the order in which they go out.
LANES: tuple[Lane, ...] = (link_pb2.LANE_CONTROL, link_pb2.LANE_FACTS, link_pb2.LANE_BULK)
LANE_NAMES: Mapping[int, str] = {
    link_pb2.LANE_CONTROL: "control",
    link_pb2.LANE_FACTS: "facts",
    link_pb2.LANE_BULK: "bulk",
}
# One message. Facts are limited to half of it already; what exceeds it is refused where it is stated.
ENVELOPE_BYTES_MAX = 1024 * 1024
CHAIN_START = bytes(32)
# Field 1 of an Envelope, 32 bytes long: what is left of one that was withdrawn.
_WITHDRAWN = b"\x0a\x20"


class Queued(NamedTuple):
    """A contract, "" for none, and a serialised Envelope."""

    contract: str
    envelope: bytes


class Waiting(NamedTuple):
    """One row of `peer_outbox`. `total_bytes` counts from the beginning of the lane up to and with this one.

    `last_assigned` is the end of the lane at the moment of reading.
    """

    lane: Lane
    sequence: int
    envelope: bytes
    total_bytes: int
    last_assigned: int


class Wanted(NamedTuple):
    """What a sender is ready to send of a lane: after a sequence, up to a number of envelopes and a total of bytes."""

    lane: Lane
    after: int
    envelopes_max: int
    total_bytes_max: int


@dataclass(frozen=True)
class Sent:
    """One row of `peer_lanes`: how a lane to a peer stands."""

    lane: Lane
    last_assigned: int
    last_chain: bytes
    assigned_bytes: int
    acknowledged: int
    acknowledged_chain: bytes
    acknowledged_bytes: int
    healing_until: int

    @property
    def backlog(self) -> int:
        """The number of envelopes without a receipt."""
        return self.last_assigned - self.acknowledged

    @property
    def backlog_bytes(self) -> int:
        """Their size; what was withdrawn counts until its place in the sequence is acknowledged."""
        return self.assigned_bytes - self.acknowledged_bytes


@dataclass(frozen=True)
class Place:
    """A place in a lane."""

    sequence: int
    chain: bytes
    total_bytes: int


_SENT = (
    "lane, last_assigned, last_chain, assigned_bytes, acknowledged, acknowledged_chain, acknowledged_bytes,"
    " healing_until"
)


def extend(chain: bytes, envelopes: Iterable[bytes]) -> list[bytes]:
    """Return the chain after each of the serialised envelopes, in order."""
    chains = []
    for envelope in envelopes:
        chain = hashlib.sha256(chain + digest(envelope)).digest()
        chains.append(chain)
    return chains


def digest(envelope: bytes) -> bytes:
    """Return SHA-256 of an envelope; of one that was withdrawn, that of what it was, 32 bytes."""
    if len(envelope) == len(_WITHDRAWN) + hashlib.sha256().digest_size and envelope.startswith(_WITHDRAWN):
        return envelope[len(_WITHDRAWN) :]
    return hashlib.sha256(envelope).digest()


async def open_lanes(conn: Connection, node: str) -> None:
    """Make the lanes of a new peer."""
    for table in ("peer_lanes", "peer_received"):
        await conn.execute(
            f"INSERT INTO {table} (peer, lane) SELECT $1, unnest($2::smallint[]) ON CONFLICT DO NOTHING",
            node,
            list(LANES),
        )


async def close_lanes(conn: Connection, node: str) -> None:
    """Forget the lanes of a peer whose membership is over, and what waits in them."""
    for table in ("peer_outbox", "peer_lanes", "peer_received"):
        await conn.execute(f"DELETE FROM {table} WHERE peer = $1", node)


async def enqueue(
    conn: Connection, node: str, envelopes: Sequence[tuple[str, bytes]], lane: Lane = link_pb2.LANE_FACTS
) -> int:
    """Append envelopes (see Queued) to a lane and return the first sequence given; the lane is locked until the commit.

    Raises Exhausted(MESSAGE_TOO_LARGE) above ENVELOPE_BYTES_MAX, and NotFound when there is no such peer.
    """
    return (await append(conn, node, envelopes, lane, None)).sequence - len(envelopes) + 1


async def append(
    conn: Connection, node: str, envelopes: Sequence[tuple[str, bytes]], lane: Lane, end: Place | None
) -> Place:
    """Append envelopes like `enqueue`, and return the new end of the lane.

    `end` is where the lane is thought to end, None when nobody knows. When it does, that need not be asked for first.
    """
    for _, envelope in envelopes:
        if len(envelope) > ENVELOPE_BYTES_MAX:
            text = f"a message of {len(envelope)} bytes to {node}; {ENVELOPE_BYTES_MAX} are allowed"
            raise Exhausted(Reason.MESSAGE_TOO_LARGE, text)
    appended = await _append_at(conn, node, envelopes, lane, end) if end is not None else None
    if appended is None:
        appended = await _append_at(conn, node, envelopes, lane, await _lock_end(conn, node, lane))
    if appended is None:
        raise AssertionError("a lane that is locked ends where it did")
    return appended


async def _lock_end(conn: Connection, node: str, lane: Lane) -> Place:
    query = """
        SELECT last_assigned, last_chain, assigned_bytes FROM peer_lanes WHERE peer = $1 AND lane = $2
        FOR NO KEY UPDATE
    """
    row = await conn.fetchrow(query, node, lane)
    if row is None:
        raise NotFound(Reason.PEER_NOT_FOUND, f"peers/{node} does not exist", peer=node)
    return Place(*row.values())


async def _append_at(
    conn: Connection, node: str, envelopes: Sequence[tuple[str, bytes]], lane: Lane, end: Place
) -> Place | None:
    """Append envelopes if the lane ends at `end`, and return its new end; else do nothing and return None."""
    if not envelopes:
        return end
    chains = extend(end.chain, (envelope for _, envelope in envelopes))
    totals = list(accumulate((len(envelope) for _, envelope in envelopes), initial=end.total_bytes))[1:]
    appended = Place(end.sequence + len(envelopes), chains[-1], totals[-1])
    status = await conn.execute(
        "WITH assigned AS ("
        " UPDATE peer_lanes SET last_assigned = $6, last_chain = $7, assigned_bytes = $8"
        " WHERE peer = $1 AND lane = $2 AND (last_assigned, last_chain, assigned_bytes) = ($3, $4, $5)"
        " RETURNING true)"
        " INSERT INTO peer_outbox (peer, lane, sequence, contract, envelope, chain, total_bytes)"
        " SELECT $1, $2, $3 + place, contract, envelope, chain, total"
        " FROM assigned, unnest($9::text[], $10::bytea[], $11::bytea[], $12::bigint[]) WITH ORDINALITY"
        " AS t(contract, envelope, chain, total, place)",
        node,
        lane,
        end.sequence,
        end.chain,
        end.total_bytes,
        appended.sequence,
        appended.chain,
        appended.total_bytes,
        [contract for contract, _ in envelopes],
        [envelope for _, envelope in envelopes],
        chains,
        totals,
    )
    return appended if status != "INSERT 0 0" else None


async def sent(conn: Connection, node: str, *, lock: bool = False) -> dict[Lane, Sent]:
    """Return how the lanes to a peer stand."""
    query = f"SELECT {_SENT} FROM peer_lanes WHERE peer = $1 ORDER BY lane" + (" FOR NO KEY UPDATE" if lock else "")
    return {row["lane"]: Sent(**dict(row)) for row in await conn.fetch(query, node)}


async def sent_to_all(conn: Connection, nodes: Sequence[str]) -> dict[str, dict[Lane, Sent]]:
    """Return how the lanes to each of the peers stand."""
    found: dict[str, dict[Lane, Sent]] = {node: {} for node in nodes}
    rows = await conn.fetch(f"SELECT peer, {_SENT} FROM peer_lanes WHERE peer = ANY($1::text[])", list(nodes))
    for row in rows:
        values = dict(row)
        node = values.pop("peer")
        found[node][row["lane"]] = Sent(**values)
    return found


async def oldest_waiting(conn: Connection, nodes: Sequence[str]) -> dict[str, dict[Lane, datetime]]:
    """Return when the oldest envelope without a receipt was written, for the peers and lanes that have one."""
    query = """
        SELECT l.peer, l.lane, o.created_at FROM peer_lanes l
        JOIN peer_outbox o ON o.peer = l.peer AND o.lane = l.lane AND o.sequence = l.acknowledged + 1
        WHERE l.peer = ANY($1::text[])
    """
    found: dict[str, dict[Lane, datetime]] = {}
    for row in await conn.fetch(query, list(nodes)):
        found.setdefault(row["peer"], {})[row["lane"]] = row["created_at"]
    return found


async def waiting(conn: Connection, node: str, wanted: Sequence[Wanted]) -> list[Waiting]:
    """Return what is to be sent, all lanes as of one moment, in order; of each lane at least one if there is."""
    query = """
        SELECT w.lane, o.sequence, o.envelope, o.total_bytes, l.last_assigned
        FROM unnest($2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS w(lane, after, envelopes, bytes)
        JOIN peer_lanes l ON l.peer = $1 AND l.lane = w.lane
        -- The limit says what the planner cannot know: that only a few are read of however many there are.
        CROSS JOIN LATERAL (
            SELECT q.sequence, q.envelope, q.total_bytes FROM peer_outbox q
            WHERE q.peer = $1 AND q.lane = w.lane AND q.sequence > w.after AND q.sequence <= w.after + w.envelopes
            ORDER BY q.sequence LIMIT w.envelopes
        ) AS o
        WHERE (o.sequence = w.after + 1 OR o.total_bytes <= w.bytes)
            -- One that is not active hears why, and nothing else; the rest is kept.
            AND (w.lane = $6 OR (SELECT p.state = $7 FROM peers p WHERE p.node = $1))
        ORDER BY w.lane, o.sequence
    """
    columns = [[each[column] for each in wanted] for column in range(len(Wanted._fields))]
    rows = await conn.fetch(query, node, *columns, link_pb2.LANE_CONTROL, pb.PEER_STATE_ACTIVE)
    return [Waiting(*row.values()) for row in rows]


async def unsaid(conn: Connection) -> set[str]:
    """Return the peers that this node has left and that do not know it yet."""
    query = """
        SELECT l.peer FROM peer_lanes l JOIN peers p ON p.node = l.peer
        WHERE p.state = $1 AND l.lane = $2 AND l.acknowledged < l.last_assigned
    """
    return {row["peer"] for row in await conn.fetch(query, pb.PEER_STATE_LEFT, link_pb2.LANE_CONTROL)}


async def free_ended(conn: Connection, told_before: datetime, left_before: datetime) -> list[str]:
    """Free the queues of peers whose membership is over and that were told, or are not to be told any more."""
    query = """
        WITH over AS (
            SELECT p.node FROM peers p WHERE ((p.state = ANY($1::smallint[]) AND p.state_since < $3)
                OR (p.state = $2 AND (p.state_since < $4 OR NOT EXISTS (
                    SELECT 1 FROM peer_lanes l WHERE l.peer = p.node AND l.lane = $5
                        AND l.acknowledged < l.last_assigned))))
                -- What comes back is still in the queue.
                AND NOT EXISTS (SELECT FROM contracts c WHERE c.peer = p.node AND c.returning_facts)
        ), freed AS (
            UPDATE peer_lanes l SET acknowledged = last_assigned, acknowledged_chain = last_chain,
                acknowledged_bytes = assigned_bytes
            FROM over WHERE l.peer = over.node AND l.acknowledged < l.last_assigned RETURNING l.peer
        )
        SELECT DISTINCT peer FROM freed
    """
    ended = [pb.PEER_STATE_EXPELLED, pb.PEER_STATE_REJECTED]
    rows = await conn.fetch(query, ended, pb.PEER_STATE_LEFT, told_before, left_before, int(link_pb2.LANE_CONTROL))
    freed = [row["peer"] for row in rows]
    await conn.execute("DELETE FROM peer_outbox WHERE peer = ANY($1::text[])", freed)
    return freed


async def place(conn: Connection, node: str, lane: Lane, sequence: int) -> Place | None:
    """Return a place in a lane to a peer as far as it is still known; None when it is not."""
    if sequence == 0:
        return Place(0, CHAIN_START, 0)
    query = """
        SELECT sequence, chain, total_bytes FROM peer_outbox WHERE peer = $1 AND lane = $2 AND sequence = $3
        UNION ALL
        SELECT acknowledged, acknowledged_chain, acknowledged_bytes FROM peer_lanes
        WHERE peer = $1 AND lane = $2 AND acknowledged = $3
        LIMIT 1
    """
    row = await conn.fetchrow(query, node, lane, sequence)
    return Place(*row.values()) if row else None


async def kept(conn: Connection, node: str, lane: Lane, sequence: int) -> bool:
    """Say whether an envelope can still be sent (again)."""
    query = "SELECT true FROM peer_outbox WHERE peer = $1 AND lane = $2 AND sequence = $3"
    return bool(await conn.fetchval(query, node, lane, sequence))


async def set_place(conn: Connection, node: str, lane: Lane, at: Place, *, healing_until: int) -> None:
    """Say that a peer has a lane up to this place, be it behind what was acknowledged before."""
    await conn.execute(
        "UPDATE peer_lanes SET acknowledged = $3, acknowledged_chain = $4, acknowledged_bytes = $5, healing_until = $6"
        " WHERE peer = $1 AND lane = $2",
        node,
        lane,
        at.sequence,
        at.chain,
        at.total_bytes,
        healing_until,
    )


async def withdraw(conn: Connection, contract: str) -> int:
    """Empty the envelopes of a contract that are still kept, leaving their digests; return how many there were.

    Those that come back to this node (returns_store) stay for now.
    """
    status = await conn.execute(
        "UPDATE peer_outbox SET envelope = $2::bytea || sha256(envelope) FROM contracts"
        " WHERE contracts.id = $3 AND NOT contracts.returning_facts"
        " AND peer_outbox.peer = contracts.peer AND peer_outbox.contract = $1"
        " AND NOT (octet_length(envelope) = 34 AND substr(envelope, 1, 2) = $2)",
        contract,
        _WITHDRAWN,
        contract.removeprefix("contracts/"),
    )
    return int(status.split()[-1])


async def acknowledged_before(conn: Connection, node: str, lane: Lane, time: datetime) -> int:
    """Return the last sequence of a lane, in its present life, whose receipt came before a time; 0 for none."""
    query = """
        SELECT sequence FROM receipts JOIN peers ON peers.node = receipts.peer AND peers.epoch = receipts.epoch
        WHERE peer = $1 AND lane = $2 AND received_at < $3 ORDER BY received_at DESC LIMIT 1
    """
    return int(await conn.fetchval(query, node, lane, time) or 0)


async def forget(conn: Connection, node: str, lane: Lane, last: int, retain_bytes: int, limit: int) -> int:
    """Delete acknowledged envelopes, `limit` at most, up to sequence `last` or behind the latest `retain_bytes`.

    Returns how many there were.
    """
    query = """
        WITH lane AS (
            SELECT acknowledged, acknowledged_bytes FROM peer_lanes WHERE peer = $1 AND lane = $2 FOR SHARE
        ), first AS (
            SELECT sequence, total_bytes FROM peer_outbox WHERE peer = $1 AND lane = $2 ORDER BY sequence LIMIT 1
        ), oldest AS (
            -- Nothing is read when the first of them stays: the others are younger.
            SELECT sequence, total_bytes FROM peer_outbox WHERE peer = $1 AND lane = $2 AND EXISTS (
                SELECT FROM first, lane WHERE sequence <= acknowledged
                    AND (sequence <= $3 OR total_bytes <= acknowledged_bytes - $4))
            ORDER BY sequence LIMIT $5
        ), gone AS (
            SELECT max(sequence) AS last FROM oldest, lane
            WHERE sequence <= acknowledged AND (sequence <= $3 OR total_bytes <= acknowledged_bytes - $4)
        )
        DELETE FROM peer_outbox WHERE peer = $1 AND lane = $2 AND sequence <= (SELECT last FROM gone)
    """
    status = await conn.execute(query, node, lane, last, retain_bytes, limit)
    return int(status.split()[-1])


def _columns(table: str) -> str:
    return ", ".join(f"{table}.{column.strip()}" for column in _SENT.split(","))
