"""Proofs of deletion, as they were signed."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2

if TYPE_CHECKING:
    from libs.db import Connection


async def keep(conn: Connection, proof: link_pb2.DeletionProof, signed: link_pb2.SignedDeletionProof) -> bool:
    """Store a proof; False when it was stored before."""
    query = """INSERT INTO deletion_proofs (id, contract, proof, key_id, signature) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT DO NOTHING RETURNING true"""
    values = (UUID(proof.id), proof.contract, signed.proof, signed.key_id, signed.signature)
    return bool(await conn.fetchval(query, *values))


async def page(
    conn: Connection, contract: str, before: UUID | None, limit: int
) -> list[tuple[UUID, pb.StoredDeletionProof]]:
    """Return the proofs of a contract with their ids, newest first."""
    query = """SELECT id, proof, key_id, signature FROM deletion_proofs
        WHERE contract = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3"""
    rows = await conn.fetch(query, contract, before, limit)
    return [(row["id"], _stored(row["proof"], row["key_id"], row["signature"])) for row in rows]


def _stored(data: bytes, key_id: str, signature: bytes) -> pb.StoredDeletionProof:
    proof = link_pb2.DeletionProof.FromString(data)
    return pb.StoredDeletionProof(
        node=proof.node,
        reason=proof.reason,
        rows=proof.rows,
        digest=proof.digest,
        time=proof.time,
        proof=data,
        key_id=key_id,
        signature=signature,
    )
