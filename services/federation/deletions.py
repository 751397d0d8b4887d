"""Proofs of deletion: made by the consumer of what its sharing states, kept by both ends, checked by the provider."""

from __future__ import annotations

from datetime import UTC, date
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from libs import paging
from libs.errors import Forbidden, Invalid, Reason
from libs.fact_sums import DIGEST_BYTES
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from quintet.sharing.v1.facts_pb2 import RowsDeleted
from services.federation import contracts_store, deletions_store, peers_store, trust_store
from services.federation.control import control_envelope
from services.federation.deletion_rules import PENDING
from services.federation.signing import open_deletion

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from quintet.fact.v1.fact_pb2 import Fact
    from services.federation.control import Refusal
    from services.federation.deletion_checks import DeletionChecks
    from services.federation.peers_store import Peer
    from services.federation.signing import NodeSigner

LIST_DEFAULT = 50
LIST_MAX = 500
DAYS_PER_PROOF_MAX = 1_000
NOT_CHECKED = pb.DELETION_CHECK_UNSPECIFIED
ROWS_DELETED = RowsDeleted.DESCRIPTOR.full_name


class Deletions:
    """Makes and takes proofs for one node. `wake` is told the peers that have something waiting."""

    def __init__(
        self,
        node: str,
        transactions: Transactions,
        signer: NodeSigner,
        checks: DeletionChecks,
        wake: Callable[[str], None],
    ) -> None:
        self._node = node
        self._checks = checks
        self._transactions = transactions
        self._signer = signer
        self._wake = wake

    async def hear(self, tx: Tx, facts: Sequence[Fact]) -> None:
        """Sign what this node's sharing has deleted, and tell the provider."""
        for fact in facts:
            if fact.type == ROWS_DELETED and fact.node == self._node and not fact.received_from:
                await self._prove(tx, RowsDeleted.FromString(fact.data))

    async def _prove(self, tx: Tx, deleted: RowsDeleted) -> None:
        found = await contracts_store.find(tx.conn, deleted.contract)
        if found is None or found[0].consumer != self._node:
            return
        proof = link_pb2.DeletionProof(
            contract=deleted.contract,
            node=self._node,
            rows=deleted.rows,
            days=deleted.days,
            reason=deleted.reason,
            held_before=deleted.held_before if deleted.HasField("held_before") else None,
            time=deleted.time,
            id=deleted.id,
        )
        signed = self._signer.deletion(proof)
        if not await deletions_store.keep(tx.conn, proof, signed, NOT_CHECKED, tx.now):
            return
        envelope = control_envelope(deletion_proof=signed)
        await peers_store.enqueue(tx.conn, found[1], [("", envelope)], link_pb2.LANE_CONTROL)
        tx.after_commit(partial(self._wake, found[1]))
        tx.audit("federation.deletions.prove", deleted.contract, rows=proof.rows, reason=proof.reason)

    async def handle(self, tx: Tx, peer: Peer, envelope: link_pb2.Envelope) -> Refusal | None:
        """Keep the proof of a consumer, once. Raises Forbidden for a signature or a node that does not hold."""
        signed = envelope.deletion_proof
        ring = await trust_store.ring(tx.conn, peer.node)
        proof = open_deletion(signed, ring.ever(signed.key_id))
        try:
            UUID(proof.id)
            ring.at(signed.key_id, proof.time.ToDatetime(UTC))
        except ValueError as error:
            raise Invalid("proof.id", "must be a UUID, with a time of this age") from error
        contract, with_peer = await contracts_store.get(tx.conn, proof.contract)
        if (with_peer, contract.provider, contract.consumer, proof.node) != (
            peer.node,
            self._node,
            peer.node,
            peer.node,
        ):
            raise Forbidden(Reason.NOT_PERMITTED, f"{peer.node} does not hold rows of this node under {proof.contract}")
        _check_days(proof, await deletions_store.chain(tx.conn, proof.contract))
        if await deletions_store.keep(tx.conn, proof, signed, PENDING, tx.now):
            await deletions_store.keep_days(tx.conn, proof)
            tx.audit(
                "federation.deletions.take", proof.contract, rows=proof.rows, reason=proof.reason, days=len(proof.days)
            )
            await self._checks.look(tx, proof.contract)
        return None

    async def page(self, request: pb.ListDeletionProofsRequest) -> pb.ListDeletionProofsResponse:
        size = paging.size(request.page_size, default=LIST_DEFAULT, most=LIST_MAX)
        of = f"deletions {request.contract}"
        after = paging.after(request.page_token, str, of=of)
        before = UUID(after[0]) if after else None

        async def read(conn: Connection) -> list[tuple[UUID, pb.StoredDeletionProof]]:
            await contracts_store.get(conn, request.contract)
            return await deletions_store.page(conn, request.contract, before, size + 1)

        found = await self._transactions.read(read)
        page, token = paging.page(found, size, lambda one: (str(one[0]),), of=of)
        return pb.ListDeletionProofsResponse(proofs=[proof for _, proof in page], next_page_token=token)


def _check_days(proof: link_pb2.DeletionProof, contracts: Collection[str]) -> None:
    """Raise Invalid for days that cannot be read, come twice, or are of other contracts."""
    if proof.rows < 0 or len(proof.days) > DAYS_PER_PROOF_MAX:
        raise Invalid("proof.days", f"must be at most {DAYS_PER_PROOF_MAX} days, and rows not negative")
    seen: set[tuple[str, date]] = set()
    for each in proof.days:
        try:
            place = (each.contract, date.fromisoformat(each.day))
        except ValueError as error:
            raise Invalid("proof.days.day", "must be an ISO 8601 date") from error
        if each.contract not in contracts:
            raise Invalid("proof.days.contract", "must be the contract of the proof, or one that it has come after")
        if place in seen or each.facts < 1 or each.rows < 0 or len(each.digest) != DIGEST_BYTES:
            raise Invalid("proof.days", f"must each be there once, with facts and a digest of {DIGEST_BYTES} bytes")
        seen.add(place)
