"""Proofs of deletion, as they were signed, and what came of checking them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from libs.fact_sums import DIGEST_MODULUS
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation.deletion_rules import ALARM_DAYS, DIFFERS, IMPOSSIBLE, MATCHES, ProvedDay, Sums, Unproved

if TYPE_CHECKING:
    from libs.db import Connection, Record
    from services.federation.deletion_rules import Finding

# A contract, and those that it has come after: rows that it holds may have come under one of them.
_CHAIN = """WITH RECURSIVE chain (id) AS (
        SELECT $1::text UNION SELECT c.amends FROM contracts c JOIN chain ON c.id = chain.id WHERE c.amends <> ''
    )"""


@dataclass(frozen=True)
class Taken:
    """A proof that came from a consumer and may still have to be checked."""

    id: UUID
    proof: link_pb2.DeletionProof
    check: pb.DeletionCheck.ValueType
    taken_at: datetime


async def keep(
    conn: Connection,
    proof: link_pb2.DeletionProof,
    signed: link_pb2.SignedDeletionProof,
    check: pb.DeletionCheck.ValueType,
    now: datetime,
) -> bool:
    """Store a proof; False when it was stored before. One that is PENDING is due to be checked."""
    query = """INSERT INTO deletion_proofs (id, contract, proof, key_id, signature, checked, taken_at, check_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING true"""
    values = (UUID(proof.id), proof.contract, signed.proof, signed.key_id, signed.signature, check, now)
    return bool(await conn.fetchval(query, *values, now if check else None))


async def keep_days(conn: Connection, proof: link_pb2.DeletionProof) -> None:
    """Store what a proof says was received and is gone."""
    await conn.executemany(
        "INSERT INTO deletion_days (contract, day, proof, facts, rows, digest) VALUES ($1, $2, $3, $4, $5, $6)",
        [
            (
                _id(each.contract),
                date.fromisoformat(each.day),
                UUID(proof.id),
                each.facts,
                each.rows,
                Decimal(int.from_bytes(each.digest)),
            )
            for each in proof.days
        ],
    )


async def chain(conn: Connection, contract: str) -> set[str]:
    """Return the names of a contract and of those that it has come after."""
    rows = await conn.fetch(f"{_CHAIN} SELECT id FROM chain", _id(contract))
    return {f"contracts/{row['id']}" for row in rows}


async def page(
    conn: Connection, contract: str, before: UUID | None, limit: int
) -> list[tuple[UUID, pb.StoredDeletionProof]]:
    """Return the proofs of a contract with their ids, newest first."""
    query = """SELECT * FROM deletion_proofs
        WHERE contract = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3"""
    rows = await conn.fetch(query, contract, before, limit)
    return [(row["id"], _stored(row)) for row in rows]


# ------------------------------------------------------------------------------------------- checking


async def due(conn: Connection, now: datetime, limit: int) -> list[str]:
    """Return the contracts whose proofs have to be looked at now."""
    query = "SELECT DISTINCT contract FROM deletion_proofs WHERE check_at <= $1 LIMIT $2"
    return [row["contract"] for row in await conn.fetch(query, now, limit)]


async def to_check(conn: Connection, contract: str, limit: int) -> list[Taken]:
    """Return proofs of a contract of which something may still come, those first that were due first."""
    rows = await conn.fetch(
        "SELECT id, proof, checked, taken_at FROM deletion_proofs WHERE contract = $1 AND check_at IS NOT NULL"
        " ORDER BY check_at, id LIMIT $2",
        contract,
        limit,
    )
    return [
        Taken(row["id"], link_pb2.DeletionProof.FromString(row["proof"]), row["checked"], row["taken_at"])
        for row in rows
    ]


async def proved_days(conn: Connection, proof: UUID, node: str) -> list[ProvedDay]:
    """Return the days that a proof names: what all proofs say of each, and what `node` has given on it."""
    rows = await conn.fetch(
        "SELECT d.contract, d.day, p.facts, p.rows, p.digest, s.facts AS given_facts, s.rows AS given_rows,"
        " mod(s.digest - s.query_digest + $3, $3) AS given_digest"
        " FROM deletion_days d LEFT JOIN settlement_days s ON (s.contract, s.sender, s.day) = (d.contract, $2, d.day),"
        " LATERAL (SELECT sum(facts) AS facts, sum(rows) AS rows, mod(sum(digest), $3) AS digest FROM deletion_days a"
        " WHERE (a.contract, a.day) = (d.contract, d.day)) p WHERE d.proof = $1 ORDER BY d.day, d.contract",
        proof,
        node,
        Decimal(DIGEST_MODULUS),
    )
    return [
        ProvedDay(
            f"contracts/{row['contract']}",
            row["day"],
            Sums(int(row["facts"]), int(row["rows"]), int(row["digest"])),
            None if row["given_facts"] is None else _given(row),
        )
        for row in rows
    ]


async def unproved(conn: Connection, contract: str, node: str) -> Unproved:
    """Return of how many days of a contract, and of those that it has come after, more was given than is proved."""
    row = await conn.fetchrow(
        f"{_CHAIN} SELECT count(*) AS days, min(s.day) AS first"
        " FROM settlement_days s JOIN chain ON s.contract = chain.id"
        " WHERE s.sender = $2 AND s.facts > (SELECT coalesce(sum(d.facts), 0) FROM deletion_days d"
        " WHERE (d.contract, d.day) = (s.contract, s.day))",
        _id(contract),
        node,
    )
    return Unproved(row["days"], row["first"]) if row else Unproved()


async def rows_given(conn: Connection, contract: str) -> int:
    """Return how many rows were ever sent under a contract and those that it has come after."""
    query = f"{_CHAIN} SELECT coalesce(sum(c.rows_sent), 0) FROM contracts c JOIN chain ON c.id = chain.id"
    return int(await conn.fetchval(query, _id(contract)))


async def found_later(conn: Connection, contract: str, proof: UUID) -> pb.DeletionCheck.ValueType | None:
    """Return what was found of the next proof of the contract that names days; None while that is open."""
    query = """SELECT checked FROM deletion_proofs p WHERE contract = $1 AND id > $2
        AND EXISTS (SELECT FROM deletion_days d WHERE d.proof = p.id) ORDER BY id LIMIT 1"""
    check: pb.DeletionCheck.ValueType | None = await conn.fetchval(query, contract, proof)
    return check if check in {MATCHES, DIFFERS, IMPOSSIBLE} else None


async def note(conn: Connection, proof: UUID, found: Finding, now: datetime, again: datetime | None) -> None:
    """Write what was found of a proof, and when to look again."""
    await conn.execute(
        "UPDATE deletion_proofs SET checked = $2, check_text = $3, checked_at = $4, check_at = $5 WHERE id = $1",
        proof,
        found.check,
        found.text,
        now,
        again,
    )


async def differing(conn: Connection, contract: str, now: datetime) -> str | None:
    """Return why the latest proof of a contract differs; None when none does about which people are still alarmed."""
    query = """SELECT check_text FROM deletion_proofs WHERE contract = $1 AND checked = $2 AND taken_at > $3
        ORDER BY id DESC LIMIT 1"""
    text: str | None = await conn.fetchval(query, contract, DIFFERS, now - timedelta(days=ALARM_DAYS))
    return text


def _given(row: Record) -> Sums:
    return Sums(row["given_facts"], row["given_rows"], int(row["given_digest"]))


def _stored(row: Record) -> pb.StoredDeletionProof:
    proof = link_pb2.DeletionProof.FromString(row["proof"])
    stored = pb.StoredDeletionProof(
        node=proof.node,
        reason=proof.reason,
        rows=proof.rows,
        days=proof.days,
        time=proof.time,
        proof=row["proof"],
        key_id=row["key_id"],
        signature=row["signature"],
        check=row["checked"],
        check_text=row["check_text"],
    )
    if row["checked_at"] is not None:
        stored.checked_at.FromDatetime(row["checked_at"])
    return stored


def _id(name: str) -> str:
    return name.removeprefix("contracts/")
