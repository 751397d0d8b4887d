"""One stream with one peer, the same at both ends: hello, batches with credit, receipts, questions and answers.

The session holds nothing that matters: what is to be sent stands in the peer's queue, what was received is committed
before it is acknowledged. When it breaks, the next one goes on from what the two hellos say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from libs.errors import Forbidden, Reason, WrongState
from libs.tx import Transactions
from quintet.federation.v1 import link_pb2
from services.federation import peers_store
from services.federation.accept import Acceptor
from services.federation.queries import Questions
from services.federation.signing import NodeSigner, digest, open_receipt

if TYPE_CHECKING:
    from libs.tx import Tx
    from services.federation.peers_store import Peer

PROTOCOL = 1
BATCH_ENVELOPES_MAX = 500
# Frames must stay below gRPC's message limit also when nothing compresses.
BATCH_BYTES_MAX = 2 * 1024 * 1024
CREDIT_ENVELOPES = 2_000
HELLO_TIMEOUT_S = 10.0
PING_INTERVAL_S = 5.0
SILENCE_MAX_S = 20.0
# What another replica has queued is found after this time at the latest.
QUEUE_POLL_S = 1.0

log = structlog.get_logger()

Frame = link_pb2.Frame


@dataclass(frozen=True)
class Wire:
    """The two directions of a stream. `receive` returns None at its end."""

    send: Callable[[Frame], Awaitable[None]]
    receive: Callable[[], Awaitable[Frame | None]]


@dataclass(frozen=True)
class LinkParts:
    """What sessions work with."""

    node: str
    transactions: Transactions
    signer: NodeSigner
    acceptor: Acceptor
    questions: Questions


class LinkSession:
    """One life of the stream with one peer."""

    def __init__(self, parts: LinkParts, peer: Peer, wire: Wire, *, dialled_by: str) -> None:
        self.peer = peer.node
        self.dialled_by = dialled_by
        self.ready = asyncio.Event()
        self._parts = parts
        self._row = peer
        self._wire = wire
        self._sending = asyncio.Lock()
        self._work = asyncio.Event()
        self._credit = 0
        self._cursor = 0
        self._epoch = ""
        self._peer_epoch = ""
        self._digests: dict[int, bytes] = {}
        self._heard_at = 0.0
        self._closed = asyncio.Event()

    # ---------------------------------------------------------------------------------------- from outside

    def wake(self) -> None:
        """Something waits for the peer."""
        self._work.set()

    def close(self) -> None:
        """End the session soon; another takes its place."""
        self._closed.set()

    @property
    def silent_s(self) -> float:
        """How long nothing was heard from the peer, in seconds."""
        return asyncio.get_running_loop().time() - self._heard_at

    async def send(self, frame: Frame) -> None:
        """Send one frame; frames never mix."""
        async with self._sending:
            await self._wire.send(frame)

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Live until the stream ends. Raises a DomainError when the peer breaks the protocol."""
        await self._say_hello()
        await self._hear_hello()
        self._heard_at = asyncio.get_running_loop().time()
        self.ready.set()
        on_ready()
        tasks = [
            asyncio.create_task(work, name=f"link-{self.peer}")
            for work in (self._receive(), self._deliver(), self._ping(), self._wait_closed())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait_closed(self) -> None:
        await self._closed.wait()

    # ----------------------------------------------------------------------------------------------- hello

    async def _say_hello(self) -> None:
        peer = await self._parts.transactions.read(lambda conn: peers_store.get(conn, self.peer))
        self._epoch = peer.epoch
        hello = link_pb2.Hello(
            node=self._parts.node,
            protocol=PROTOCOL,
            epoch=peer.epoch,
            received_epoch=peer.received_epoch,
            received=peer.received,
            last_assigned=peer.last_assigned,
            credit=CREDIT_ENVELOPES,
            certificate=peer.issued_certificate,
        )
        await self.send(Frame(hello=hello))

    async def _hear_hello(self) -> None:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            frame = await self._wire.receive()
        if frame is None or frame.WhichOneof("body") != "hello":
            await self._refuse(Reason.WRONG_STATE, "the first frame must be a hello")
        else:
            await self._check_hello(frame.hello)

    async def _check_hello(self, hello: link_pb2.Hello) -> None:
        peer = await self._parts.transactions.read(lambda conn: peers_store.get(conn, self.peer))
        if hello.node != self.peer or hello.protocol < PROTOCOL:
            await self._refuse(Reason.WRONG_STATE, "another node, or an older protocol, than was expected")
        # A sequence that went backwards means a restore from a backup: what is missing is not to be had any more, or
        # would be doubled. That is for people to decide; nothing flows until they have.
        if hello.received_epoch not in {"", peer.epoch} or hello.received > peer.last_assigned:
            await self._refuse("SEQUENCE_REVERSED", f"{hello.received} was received, {peer.last_assigned} was sent")
        if hello.received < peer.acknowledged:
            await self._refuse("SEQUENCE_REVERSED", f"{peer.acknowledged} was acknowledged, now {hello.received}")
        if peer.received_epoch not in {"", hello.epoch} or hello.last_assigned < peer.received:
            await self._refuse("SEQUENCE_REVERSED", f"{peer.received} was received, now {hello.last_assigned} was sent")
        self._peer_epoch = hello.epoch
        self._cursor = hello.received
        self._credit = hello.credit

        async def note(tx: Tx) -> None:
            await peers_store.touch(tx.conn, self.peer, tx.now)
            if hello.certificate and not peer.certificate:
                await peers_store.set_certificate(tx.conn, self.peer, hello.certificate)
            await peers_store.acknowledge(tx.conn, self.peer, hello.received)

        await self._parts.transactions.run(note)

    async def _refuse(self, reason: str, message: str) -> None:
        """Tell the peer why, and end the session."""
        with suppress(Exception):
            await self.send(Frame(refusal=link_pb2.LinkRefusal(reason=reason, message=message)))
        raise WrongState(reason, message, peer=self.peer)

    # -------------------------------------------------------------------------------------------- outgoing

    async def _deliver(self) -> None:
        while True:
            self._work.clear()
            while self._credit > 0 and await self._send_batch():
                pass
            with suppress(TimeoutError):
                await asyncio.wait_for(self._work.wait(), QUEUE_POLL_S)

    async def _send_batch(self) -> bool:
        limit = min(BATCH_ENVELOPES_MAX, self._credit)
        rows = await self._parts.transactions.read(
            lambda conn: peers_store.waiting(conn, self.peer, self._cursor, limit)
        )
        if not rows:
            return False
        if rows[0][0] != self._cursor + 1:
            await self._refuse(Reason.SEQUENCE_GAP, f"after {self._cursor} comes {rows[0][0]} in the queue")
        batch = link_pb2.Batch(sender=self._parts.node, receiver=self.peer, epoch=self._epoch, time=_now())
        size = 0
        for sequence, data in rows:
            if size and size + len(data) > BATCH_BYTES_MAX:
                break
            envelope = batch.envelopes.add()
            envelope.ParseFromString(data)
            envelope.sequence = sequence
            size += len(data)
        signed = self._parts.signer.batch(batch)
        last = batch.envelopes[-1].sequence
        self._digests[last] = digest(signed)
        self._cursor = last
        self._credit -= len(batch.envelopes)
        await self.send(Frame(batch=signed))
        return True

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_INTERVAL_S)
            if self.silent_s > SILENCE_MAX_S:
                raise WrongState(Reason.PEER_AWAY, f"nothing was heard for {SILENCE_MAX_S:g} s", peer=self.peer)
            await self.send(Frame(ping=link_pb2.Ping(time=_now())))

    # -------------------------------------------------------------------------------------------- incoming

    async def _receive(self) -> None:
        while (frame := await self._wire.receive()) is not None:
            self._heard_at = asyncio.get_running_loop().time()
            await self._take(frame)

    async def _take(self, frame: Frame) -> None:
        match frame.WhichOneof("body"):
            case "batch":
                await self._take_batch(frame.batch)
            case "receipt":
                await self._take_receipt(frame.receipt)
            case "credit":
                self._credit += max(0, frame.credit.envelopes)
                self._work.set()
            case "query":
                await self._parts.questions.take(self, frame.query)
            case "answer":
                self._parts.questions.answered(self, frame.answer)
            case "cancel":
                self._parts.questions.cancelled(self, frame.cancel)
            case "refusal":
                raise WrongState(frame.refusal.reason, f"{self.peer} refused: {frame.refusal.message}")
            case _:
                pass  # a ping, or a kind of frame that a later release knows

    async def _take_batch(self, signed: link_pb2.SignedBatch) -> None:
        try:
            accepted, receipt = await self._parts.acceptor.accept(self._row, self._peer_epoch, signed)
        except (Forbidden, WrongState) as error:
            await self._refuse(error.reason, error.message)
            return
        await self.send(Frame(receipt=self._parts.signer.receipt(receipt)))
        await self.send(Frame(credit=link_pb2.Credit(envelopes=accepted.envelopes)))
        if accepted.controlled:
            self._work.set()  # a step may have an answer

    async def _take_receipt(self, signed: link_pb2.SignedReceipt) -> None:
        receipt = open_receipt(signed, self._row.signing_key)
        if (receipt.receiver, receipt.sender, receipt.epoch) != (self.peer, self._parts.node, self._epoch):
            await self._refuse(Reason.SIGNATURE_INVALID, "the receipt is not for this node's present life")
        expected = self._digests.pop(receipt.sequence, None)
        if receipt.sequence > self._cursor or expected not in {None, receipt.batch_digest}:
            await self._refuse(Reason.SIGNATURE_INVALID, "the receipt is for something that was not sent")

        async def note(tx: Tx) -> None:
            await peers_store.acknowledge(tx.conn, self.peer, receipt.sequence)
            await peers_store.keep_receipt(
                tx.conn, self.peer, receipt.sequence, signed.receipt, signed.key_id, signed.signature
            )

        await self._parts.transactions.run(note)


def _now() -> Timestamp:
    """Return the time for the eyes of the other side; nothing is decided by it."""
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp
