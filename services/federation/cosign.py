"""Peers vouch for each other's audit logs: who rewrites a log must rewrite what others have signed and keep.

Each node offers its peers the newest checkpoint of each of its logs, with the proof that the log continues the one that
the peer cosigned last (RFC 9162, section 2.1.4). The peer verifies both, keeps the checkpoint and answers with its own
signature. A log that shrank, or that was rewritten, it refuses, keeps what it holds, and both nodes alarm. Checkpoints
hold sizes and hashes, nothing personal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from libs import canonical, merkle
from libs.duty import on_duty
from libs.errors import Away, DomainError, Exhausted, Forbidden, Invalid, NotFound, Reason
from quintet.audit.v1 import audit_pb2
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import alarms, control, cosign_store, peers_store, receipts_store, trust_store
from services.federation.cosign_store import FORKED, Held
from services.federation.signing import COSIGN_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from libs.tx import Transactions, Tx
    from quintet.audit.v1.audit_pb2_grpc import AuditServiceStub
    from services.federation.control import Refusal
    from services.federation.peers_store import Peer
    from services.federation.signing import NodeSigner

DUTY = "cosign"
COSIGN_INTERVAL_S = 30.0
CALL_TIMEOUT_S = 10.0
# An offer that is not answered for so long went to a peer that does not know the message: it is asked again, rarely.
OFFER_AGAIN_S = 3_600.0
PEERS_MAX = 1_000
# A peer has as many logs as services; what goes beyond is not cosigned.
PARTS_PER_PEER_MAX = 32
STATEMENT_CHARS_MAX = 1_000
# The peer holds an older or newer checkpoint than the one that the proof begins at.
CONSISTENCY_NEEDED = "CONSISTENCY_NEEDED"

log = structlog.get_logger()


@dataclass(frozen=True)
class Statement:
    """What a checkpoint says."""

    node: str
    part: str
    size: int
    root: bytes
    time: datetime


def read_statement(text: str) -> Statement:
    """Return what a checkpoint says. Raises Invalid unless it is the canonical JSON of one with a root."""
    try:
        document: Any = canonical.loads(text[: STATEMENT_CHARS_MAX + 1])
        same = canonical.dumps(document) == text.encode()
        time = datetime.fromisoformat(document["time"]).astimezone(UTC)
        root = bytes.fromhex(document["root"])
        found = Statement(document["node"], document["part"], document["sequence"], root, time)
        named = re.fullmatch("[a-z]{1,32}", found.part) is not None
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise Invalid("statement", "must be the canonical JSON of a checkpoint") from error
    if not (same and named and type(found.size) is int and found.size > 0 and len(found.root) == merkle.HASH_BYTES):
        raise Invalid("statement", "must be canonical, and name a part, a size and a root")
    return found


class Cosigning:
    """Offers this node's checkpoints to its peers, and cosigns theirs."""

    def __init__(
        self,
        node: str,
        transactions: Transactions,
        signer: NodeSigner,
        logs: Mapping[str, AuditServiceStub],
    ) -> None:
        """`logs` are the audit services of the node's parts."""
        self._node = node
        self._transactions = transactions
        self._signer = signer
        self._logs = logs

    def handlers(self) -> dict[str, control.ControlHandler]:
        """Return what is done with the control messages of cosigning."""
        return {"checkpoint": self.cosign, "cosignature": self.answered}

    # -------------------------------------------------------------------------------------------- offering

    async def run(self) -> None:
        """Offer what has grown to all active peers, and thin out old receipts, for ever; one replica at a time."""
        async with on_duty(self._transactions.pool, DUTY) as duty:
            while True:
                try:
                    await self.offer_all()
                    await self._transactions.run(lambda tx: receipts_store.compact(tx.conn, tx.now))
                except Away as error:
                    log.info("cosign.interrupted", error=error.message)
                await duty.wait(COSIGN_INTERVAL_S)

    async def offer_all(self) -> int:
        """Offer each active peer the newest checkpoint of each part that has grown; return the number of offers."""
        peers = await self._transactions.read(lambda conn: peers_store.page(conn, "", PEERS_MAX))
        active = [peer.node for peer in peers if peer.state == pb.PEER_STATE_ACTIVE]
        offers = 0
        for part, stub in self._logs.items() if active else ():
            try:
                found = await stub.GetCheckpoint(audit_pb2.GetCheckpointRequest(), timeout=CALL_TIMEOUT_S)
                if found.HasField("checkpoint") and found.checkpoint.root:
                    for node in active:
                        offers += await self._offer(node, found.checkpoint, stub)
            except DomainError as error:
                log.info("cosign.part_passed_over", part=part, error=error.message)
        return offers

    async def _offer(self, peer: str, checkpoint: audit_pb2.Checkpoint, stub: AuditServiceStub) -> bool:
        now = self._transactions.clock.now()
        last = (await self._transactions.read(lambda conn: cosign_store.latest(conn, peer))).get(checkpoint.part)
        if last is not None:
            if last.answered_at is None and (now - last.offered_at).total_seconds() < OFFER_AGAIN_S:
                return False
            if last.statement == checkpoint.statement and last.answered_at and not _worth_repeating(last.refusal):
                return False
        # What the peer holds; 0 for nothing yet.
        base = last.peer_size if last else 0
        message = link_pb2.CheckpointOffer(
            statement=checkpoint.statement,
            key_id=checkpoint.key_id,
            signature=checkpoint.signature,
            previous_size=base,
        )
        if 0 < base <= checkpoint.size:
            asked = audit_pb2.GetConsistencyProofRequest(first=base, second=checkpoint.size)
            message.consistency.extend((await stub.GetConsistencyProof(asked, timeout=CALL_TIMEOUT_S)).proof)

        async def work(tx: Tx) -> None:
            await cosign_store.offer(tx.conn, peer, checkpoint, tx.now)
            await _say(tx, peer, checkpoint=message)

        await self._transactions.run(work)
        return True

    async def answered(self, tx: Tx, peer: Peer, envelope: link_pb2.Envelope) -> Refusal | None:
        """Keep a peer's cosignature, or its refusal. Raises Forbidden for what is not the peer's word."""
        told = envelope.cosignature
        statement = read_statement(told.statement)
        found = await cosign_store.offered(tx.conn, peer.node, statement.part, statement.size)
        if statement.node != self._node or found is None or found.statement != told.statement:
            raise Invalid("cosignature.statement", "was not offered to this peer")
        if told.refusal:
            signature, key = b"", ""
        else:
            ring = await trust_store.ring(tx.conn, peer.node)
            _check(ring.ever(told.key_id), COSIGN_PREFIX + told.statement.encode(), told.signature)
            signature, key = told.signature, told.key_id
        refusal, held = told.refusal[:STATEMENT_CHARS_MAX], max(0, told.cosigned_size)
        await cosign_store.answer(
            tx.conn, found, tx.now, refusal=refusal, peer_size=held, key_id=key, signature=signature
        )
        if refusal.startswith(FORKED):
            text = f"{peer.node} holds another past of the audit log of {statement.part}: {refusal}"
            await self._alarm(tx, peer.node, "federation.checkpoints.refused", statement.part, text, told.statement)
        else:
            await _calm(tx, peer.node)
        return None

    # ------------------------------------------------------------------------------------------- cosigning

    async def cosign(self, tx: Tx, peer: Peer, envelope: link_pb2.Envelope) -> Refusal | None:
        """Answer a peer's offer: with a cosignature, or with why not. Raises Forbidden for a bad signature."""
        offer = envelope.checkpoint
        statement = read_statement(offer.statement)
        if statement.node != peer.node:
            raise Forbidden(Reason.SIGNATURE_INVALID, f"the checkpoint is of {statement.node}, not of {peer.node}")
        ring = await trust_store.ring(tx.conn, peer.node)
        _check(ring.at(offer.key_id, statement.time), offer.statement.encode(), offer.signature)
        held = await cosign_store.held(tx.conn, peer.node, statement.part)
        if held is None and await cosign_store.parts(tx.conn, peer.node) >= PARTS_PER_PEER_MAX:
            raise Exhausted(Reason.QUOTA, f"more than {PARTS_PER_PEER_MAX} logs")
        answer = link_pb2.Cosignature(statement=offer.statement, node=self._node)
        answer.refusal = _refusal(held, statement, offer)
        if answer.refusal and held is not None:
            answer.cosigned_size = held.size
            if answer.refusal.startswith(FORKED):
                await cosign_store.mark_forked(tx.conn, peer.node, statement.part, answer.refusal)
                text = f"the audit log of {statement.part} at {peer.node} does not continue what was cosigned"
                action = "federation.checkpoints.refuse"
                await self._alarm(tx, peer.node, action, statement.part, text, offer.statement, offer, held)
        else:
            await cosign_store.hold(tx.conn, _held(peer.node, statement, offer, tx))
            await _calm(tx, peer.node)
            answer.key_id, answer.signature = self._signer.cosignature(offer.statement)
            answer.cosigned_size = statement.size
        await _say(tx, peer.node, cosignature=answer)
        return None

    async def forget(self, tx: Tx, node: str, part: str, reason: str) -> None:
        """Take back what was cosigned of a peer's log, so that the next checkpoint is a first one; raises NotFound."""
        held = await cosign_store.held(tx.conn, node, part)
        if held is None:
            raise NotFound(Reason.PEER_NOT_FOUND, f"nothing is cosigned of {part} at {node}", peer=node)
        tx.audit(
            "federation.checkpoints.forget", f"peers/{node}", part=part, reason=reason, statement=held.statement,
            key_id=held.key_id, signature=held.signature.hex(),
        )  # fmt: skip
        await cosign_store.forget(tx.conn, node, part)
        await _calm(tx, node)

    async def _alarm(
        self,
        tx: Tx,
        peer: str,
        action: str,
        part: str,
        text: str,
        statement: str,
        offer: link_pb2.CheckpointOffer | None = None,
        held: Held | None = None,
    ) -> None:
        """Alarm, and when that is new put both signed statements into the audit log: together they prove the fork."""
        if await alarms.set_alarm(tx, peer=peer, name=FORKED, text=text):
            proof: dict[str, canonical.JsonValue] = {"part": part, "text": text, "statement": statement}
            if offer is not None and held is not None:
                proof |= {"key_id": offer.key_id, "signature": offer.signature.hex(), "held": held.statement}
                proof |= {"held_key_id": held.key_id, "held_signature": held.signature.hex()}
            tx.audit(action, f"peers/{peer}", **proof)


def _worth_repeating(refusal: str) -> bool:
    """Whether the same checkpoint may be accepted with another proof."""
    return refusal.startswith(CONSISTENCY_NEEDED)


def _refusal(held: Held | None, statement: Statement, offer: link_pb2.CheckpointOffer) -> str:
    """Return why an offer is not cosigned, "" when it is."""
    if held is None:
        return ""
    if statement.size < held.size:
        return f"{FORKED}: the log had {held.size} entries and has {statement.size} now"
    if statement.size == held.size:
        return "" if statement.root == held.root else f"{FORKED}: two roots for {held.size} entries"
    if offer.previous_size != held.size:
        return f"{CONSISTENCY_NEEDED}: the proof must begin at {held.size} entries"
    if not merkle.verify_consistency(held.size, statement.size, held.root, statement.root, offer.consistency):
        return f"{FORKED}: the log does not continue its first {held.size} entries"
    return ""


def _held(node: str, statement: Statement, offer: link_pb2.CheckpointOffer, tx: Tx) -> Held:
    return Held(
        node, statement.part, statement.size, statement.root, offer.statement, offer.key_id, offer.signature, tx.now, ""
    )


def _check(public_key: bytes, message: bytes, signature: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise Forbidden(Reason.SIGNATURE_INVALID, "the signature is not of the peer's pinned key") from error


async def _say(tx: Tx, peer: str, **body: link_pb2.CheckpointOffer | link_pb2.Cosignature) -> None:
    await peers_store.enqueue(tx.conn, peer, [("", control.control_envelope(**body))], link_pb2.LANE_CONTROL)


async def _calm(tx: Tx, peer: str) -> None:
    """Clear the alarm when nothing that it was set for is left."""
    if not await cosign_store.forks(tx.conn, peer):
        await alarms.clear_alarm(tx, peer=peer, name=FORKED)
