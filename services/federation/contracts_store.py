"""Contracts, the steps that were applied to them, and what was refused under them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

from libs.errors import NotFound, Reason
from quintet.federation.v1 import federation_pb2 as pb
from services.federation.terms import ActiveContract

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from libs.db import Connection, Record

_COLUMNS = (
    "id, kind, peer, provider, consumer, state, terms, agreement_hash, provider_signature, consumer_signature,"
    " created_at, updated_at, reason, terminated_by, facts_sent, facts_received, rows_sent, rows_received, refused"
)


@dataclass
class Tally:
    """What one batch adds to a contract's counters."""

    facts_sent: int = 0
    facts_received: int = 0
    rows_sent: int = 0
    rows_received: int = 0


@dataclass(frozen=True)
class NewRefusal:
    """Something that was refused under a contract, and why."""

    contract: str
    reason: str
    description: str
    actor: str
    node: str


@dataclass(frozen=True)
class Refused:
    """One row of `refusals`."""

    id: int
    time: datetime
    reason: str
    description: str
    actor: str
    node: str


@dataclass
class Quota:
    """How many rows went out on a day."""

    day: date | None
    rows: int = field(default=0)


async def insert(conn: Connection, contract: pb.Contract, peer: str, agreement_hash: bytes, now: datetime) -> None:
    """Insert a contract in its present state."""
    await conn.execute(
        "INSERT INTO contracts (id, kind, peer, provider, consumer, state, terms, agreement_hash, provider_signature,"
        " consumer_signature, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)",
        _id(contract.name),
        contract.kind,
        peer,
        contract.provider,
        contract.consumer,
        contract.state,
        contract.terms.SerializeToString(),
        agreement_hash,
        contract.provider_signature,
        contract.consumer_signature,
        now,
    )


async def update(conn: Connection, contract: pb.Contract, agreement_hash: bytes, now: datetime) -> None:
    """Write the state, terms and signatures of a contract. A contract that has ended flows no more from this moment."""
    await conn.execute(
        "UPDATE contracts SET state = $2::smallint, terms = $3, agreement_hash = $4, provider_signature = $5,"
        " consumer_signature = $6, updated_at = $7, reason = $8, terminated_by = $9,"
        " flowing = flowing AND $2::smallint <> $10::smallint"
        " WHERE id = $1",
        _id(contract.name),
        contract.state,
        contract.terms.SerializeToString(),
        agreement_hash,
        contract.provider_signature,
        contract.consumer_signature,
        now,
        contract.reason,
        contract.terminated_by,
        pb.CONTRACT_STATE_TERMINATED,
    )


async def get(conn: Connection, name: str, *, lock: bool = False) -> tuple[pb.Contract, str]:
    """Return a contract and the peer it is with. Raises NotFound."""
    found = await find(conn, name, lock=lock)
    if found is None:
        raise NotFound(Reason.CONTRACT_NOT_FOUND, f"{name} does not exist", contract=name)
    return found


async def find(conn: Connection, name: str, *, lock: bool = False) -> tuple[pb.Contract, str] | None:
    """Return a contract and the peer it is with; None when there is none."""
    query = f"SELECT {_COLUMNS} FROM contracts WHERE id = $1" + (" FOR UPDATE" if lock else "")
    row = await conn.fetchrow(query, _id(name))
    return (_contract(row), row["peer"]) if row else None


async def newest_charter(conn: Connection, peer: str) -> pb.Contract:
    """Return the tier charter that was last agreed with a peer. Raises NotFound."""
    query = f"SELECT {_COLUMNS} FROM contracts WHERE peer = $1 AND kind = $2 ORDER BY created_at DESC, id DESC LIMIT 1"
    row = await conn.fetchrow(query, peer, pb.CONTRACT_KIND_CHARTER)
    if row is None:
        raise NotFound(Reason.CONTRACT_NOT_FOUND, f"there is no charter with {peer}", peer=peer)
    return _contract(row)


async def page(
    conn: Connection, *, state: int, peer: str, after: tuple[datetime, str] | None, limit: int
) -> list[pb.Contract]:
    """Return contracts, newest first; state 0 and peer "" mean all."""
    query = f"""
        SELECT {_COLUMNS} FROM contracts
        WHERE ($1::smallint = 0 OR state = $1::smallint) AND ($2 = '' OR peer = $2)
          AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4))
        ORDER BY created_at DESC, id DESC LIMIT $5
    """
    time, last = after or (None, "")
    return [_contract(row) for row in await conn.fetch(query, state, peer, time, last, limit)]


async def flowing(conn: Connection) -> list[ActiveContract]:
    """Return the contracts under which facts leave this node now."""
    query = f"SELECT {_COLUMNS} FROM contracts WHERE flowing"
    return [_active(row) for row in await conn.fetch(query)]


async def active_with(conn: Connection, peer: str) -> dict[str, ActiveContract]:
    """Return the finalised contracts with a peer, by name."""
    query = f"SELECT {_COLUMNS} FROM contracts WHERE peer = $1 AND state = $2"
    rows = await conn.fetch(query, peer, pb.CONTRACT_STATE_FINALIZED)
    return {active.name: active for active in map(_active, rows)}


async def set_flowing(conn: Connection, *, name: str = "", charter_of: str = "") -> None:
    """Let a finalised contract flow: by name, or the charter of a child."""
    await conn.execute(
        "UPDATE contracts SET flowing = true WHERE state = $3 AND"
        " (id = $1 OR ($2 <> '' AND peer = $2 AND consumer = $2 AND kind = $4))",
        _id(name) if name else "",
        charter_of,
        pb.CONTRACT_STATE_FINALIZED,
        pb.CONTRACT_KIND_CHARTER,
    )


async def first_seen(conn: Connection, message_id: str, contract: str) -> bool:
    """Note a negotiation message; False when it was applied before."""
    query = "INSERT INTO contract_messages (id, contract) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true"
    return bool(await conn.fetchval(query, message_id, contract))


async def count(conn: Connection, tallies: Mapping[str, Tally]) -> None:
    """Add to the counters of contracts, by name."""
    if not tallies:
        return
    names = sorted(tallies)  # one order for all, so that two batches never wait for each other in a circle
    columns = [[getattr(tallies[name], column) for name in names] for column in Tally.__dataclass_fields__]
    await conn.execute(
        "UPDATE contracts SET facts_sent = facts_sent + fs, facts_received = facts_received + fr,"
        " rows_sent = rows_sent + rs, rows_received = rows_received + rr"
        " FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS t(cid, fs, fr, rs, rr)"
        " WHERE id = cid",
        [_id(name) for name in names],
        *columns,
    )


async def take_quota(conn: Connection, name: str, day: date, rows: int, quota: int) -> bool:
    """Count rows against the day's quota; False, and nothing counted, when they exceed it."""
    query = """
        UPDATE contracts
        SET quota_rows = CASE WHEN quota_day = $2 THEN quota_rows ELSE 0 END + $3, quota_day = $2
        WHERE id = $1 AND CASE WHEN quota_day = $2 THEN quota_rows ELSE 0 END + $3 <= $4
        RETURNING true
    """
    return bool(await conn.fetchval(query, _id(name), day, rows, quota))


async def refuse(conn: Connection, refusals: Sequence[NewRefusal], now: datetime) -> None:
    """Keep what was refused, and count it."""
    for refusal in refusals:
        await conn.execute(
            "INSERT INTO refusals (contract, time, reason, description, actor, node) VALUES ($1, $2, $3, $4, $5, $6)",
            _id(refusal.contract),
            now,
            refusal.reason,
            refusal.description,
            refusal.actor,
            refusal.node,
        )
        await conn.execute("UPDATE contracts SET refused = refused + 1 WHERE id = $1", _id(refusal.contract))


async def refusals(conn: Connection, contract: str, before: int | None, limit: int) -> list[Refused]:
    """Return refusals under a contract, newest first."""
    query = """
        SELECT id, time, reason, description, actor, node FROM refusals
        WHERE contract = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
    """
    return [Refused(**dict(row)) for row in await conn.fetch(query, _id(contract), before, limit)]


def _id(name: str) -> str:
    return name.removeprefix("contracts/")


def _active(row: Record) -> ActiveContract:
    return ActiveContract(
        name=f"contracts/{row['id']}",
        kind=row["kind"],
        peer=row["peer"],
        provider=row["provider"],
        consumer=row["consumer"],
        terms=pb.Terms.FromString(row["terms"]),
        agreement_hash=row["agreement_hash"],
    )


def _contract(row: Record) -> pb.Contract:
    plain = (
        "kind", "provider", "consumer", "state", "provider_signature", "consumer_signature", "reason", "terminated_by",
        "facts_sent", "facts_received", "rows_sent", "rows_received", "refused",
    )  # fmt: skip
    contract = pb.Contract(name=f"contracts/{row['id']}", **{name: row[name] for name in plain})
    contract.terms.ParseFromString(row["terms"])
    contract.agreement_hash = row["agreement_hash"].hex()
    contract.created_at.FromDatetime(row["created_at"])
    contract.updated_at.FromDatetime(row["updated_at"])
    return contract
