"""One stream with one peer, the same at both ends: hello, batches with credit, receipts, questions and answers.

The session holds nothing that matters: what is to be sent stands in the peer's queue, what was received is committed
before it is acknowledged. When it breaks, the next one goes on from what the two hellos say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter

from libs.errors import Exhausted, Forbidden, Invalid, Reason, WrongState
from libs.tx import Transactions, Tx
from quintet.federation.v1 import link_pb2
from services.federation import alarms, handshake, peers_store, receipts_store, trust_store
from services.federation.accept import Acceptor
from services.federation.handshake import PROTOCOL, SEQUENCE_REVERSED, Agreed, Stopped
from services.federation.key_ring import KeyRing
from services.federation.queries import Questions
from services.federation.receiving import Receiver
from services.federation.sending import Sender, now
from services.federation.signing import NodeSigner, open_receipt
from services.federation.trust import Trust

if TYPE_CHECKING:
    from services.federation.peers_store import Peer

HELLO_TIMEOUT_S = 10.0
PING_INTERVAL_S = 5.0
SILENCE_MAX_S = 20.0
# How long a side that has refused waits for the other to hear it.
REFUSAL_LINGER_S = 0.5
# Receipts that are noted in one transaction.
RECEIPTS_MAX = 100

UNKNOWN_FRAMES = Counter(
    "quintet_federation_unknown_frames", "Frames of a kind that this release does not know.", ["peer"]
)

log = structlog.get_logger()

Frame = link_pb2.Frame


@dataclass(frozen=True)
class Wire:
    """The two directions of a stream. `receive` returns None at its end."""

    send: Callable[[Frame], Awaitable[None]]
    receive: Callable[[], Awaitable[Frame | None]]


# Raises a DomainError that ends the session; other refusals it answers itself.
FrameHandler = Callable[["LinkSession", Frame], Awaitable[None]]


@dataclass(frozen=True)
class LinkParts:
    """What sessions work with."""

    node: str
    transactions: Transactions
    signer: NodeSigner
    acceptor: Acceptor
    questions: Questions
    trust: Trust
    # What is done about other kinds of frames, by the name of the frame's body field.
    frames: Mapping[str, FrameHandler] = field(default_factory=dict)


class LinkSession:
    """One life of the stream with one peer."""

    def __init__(self, parts: LinkParts, peer: Peer, wire: Wire, *, dialled_by: str) -> None:
        self.peer = peer.node
        self.dialled_by = dialled_by
        # The certificate that the peer showed when it called, PEM; "" when this node called.
        self.shown = ""
        self.ready = asyncio.Event()
        self.keys = KeyRing(peer.node, ())
        # This node's trust list as it was last shown to the peer, serialised.
        self.shown_list = b""
        self._parts = parts
        self._row = peer
        self._wire = wire
        self._sending = asyncio.Lock()
        self._epoch = ""
        self._sender: Sender | None = None
        self._alarmed = False
        self._receipts: list[receipts_store.Receipt] = []
        self._receipts_came = asyncio.Event()
        self._heard_at = 0.0
        self._closed = asyncio.Event()

    # ---------------------------------------------------------------------------------------- from outside

    def wake(self) -> None:
        """Something waits for the peer."""
        if self._sender is not None:
            self._sender.wake()

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
        told = await self._parts.transactions.read(lambda conn: handshake.hello(conn, self._parts.node, self.peer))
        told.trust_list.CopyFrom(await self._parts.trust.newest())
        self.shown_list = told.trust_list.list
        self._epoch = told.epoch
        await self.send(Frame(hello=told))
        heard = await self._hear_hello()
        sender, receiver = await self._agree(told, heard)
        self._sender = sender
        self._heard_at = asyncio.get_running_loop().time()
        self.ready.set()
        on_ready()
        tasks = [
            asyncio.create_task(work, name=f"link-{self.peer}")
            for work in (
                self._receive(receiver),
                self._watched(receiver.run()),
                self._watched(sender.run()),
                self._note_receipts(),
                self._ping(),
                self._wait_closed(),
            )
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

    async def _watched(self, work: Awaitable[None]) -> None:
        """Tell the peer when the work fails because of what it sent, or of what stands in the queue for it."""
        try:
            await work
        except (Forbidden, Invalid, WrongState) as error:
            await self._refuse(error.reason, error.message)

    # ----------------------------------------------------------------------------------------------- hello

    async def _hear_hello(self) -> link_pb2.Hello:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            frame = await self._wire.receive()
        kind = frame.WhichOneof("body") if frame is not None else ""
        if frame is not None and kind == "refusal":
            await self._refused(frame.refusal)
        if frame is None or kind != "hello":
            await self._refuse(Reason.WRONG_STATE, "the first frame must be a hello")
            raise AssertionError("a refusal raises")
        if frame.hello.node != self.peer or frame.hello.protocol < PROTOCOL:
            await self._refuse(Reason.WRONG_STATE, "another node, or an older protocol, than was expected")
        return frame.hello

    async def _agree(self, told: link_pb2.Hello, heard: link_pb2.Hello) -> tuple[Sender, Receiver]:
        """Take the peer's newest keys, and find out from where to go on, or stop."""
        number = await self._parts.transactions.run(lambda tx: self._learn_keys(tx, heard))
        if number:
            await self.send(Frame(trust_taken=link_pb2.TrustTaken(number=number)))
        agreed = await self._parts.transactions.run(lambda tx: handshake.agree(tx, told, heard))
        if isinstance(agreed, Stopped):
            await self._refuse(SEQUENCE_REVERSED, agreed.text)
            raise AssertionError("a refusal raises")  # noqa: TRY004 - for the type checker
        self._alarmed = agreed.alarmed
        return self._halves(told, heard, agreed)

    async def _learn_keys(self, tx: Tx, heard: link_pb2.Hello) -> int:
        """A list that is refused is an alarm; the stream goes on with the keys that are known."""
        if heard.HasField("trust_list"):
            peer = await peers_store.get(tx.conn, self.peer)
            return await self._parts.trust.learn(tx, peer, heard.trust_list, self.keys)
        self.keys.replace(await trust_store.keys(tx.conn, self.peer))
        return 0

    def _halves(self, told: link_pb2.Hello, heard: link_pb2.Hello, agreed: Agreed) -> tuple[Sender, Receiver]:
        parts = self._parts
        sender = Sender(parts.transactions, parts.signer, self.peer, told.epoch, agreed.lanes, self.send)
        receiver = Receiver(parts.acceptor, parts.signer, self._row, self.keys, heard.epoch, self.send, sender.wake)
        return sender, receiver

    async def _refuse(self, reason: str, message: str) -> None:
        """Tell the peer why, and end the session."""
        with suppress(Exception):
            async with asyncio.timeout(REFUSAL_LINGER_S):
                await self.send(Frame(refusal=link_pb2.LinkRefusal(reason=reason, message=message)))
                # A stream that is given up at once takes with it what the other has not read.
                while not self.ready.is_set() and await self._wire.receive() is not None:
                    pass
                if self.ready.is_set():
                    await self._closed.wait()
        raise WrongState(reason, message, peer=self.peer)

    async def _refused(self, refusal: link_pb2.LinkRefusal) -> None:
        """End the session as the peer wants it; a lane that went backwards is an alarm at both ends."""
        if refusal.reason == SEQUENCE_REVERSED:
            text = f"{self.peer} has stopped the link: {refusal.message}"
            await self._parts.transactions.run(
                lambda tx: alarms.set_alarm(tx, peer=self.peer, name=SEQUENCE_REVERSED, text=text)
            )
        raise WrongState(refusal.reason, f"{self.peer} refused: {refusal.message}")

    # -------------------------------------------------------------------------------------------- the wire

    async def _ping(self) -> None:
        while True:
            await self.send(Frame(ping=link_pb2.Ping(time=now())))
            await asyncio.sleep(PING_INTERVAL_S)
            if self.silent_s > SILENCE_MAX_S:
                raise WrongState(Reason.PEER_AWAY, f"nothing was heard for {SILENCE_MAX_S:g} s", peer=self.peer)
            await self._parts.transactions.run(lambda tx: peers_store.touch(tx.conn, self.peer, tx.now))

    async def _receive(self, receiver: Receiver) -> None:
        while (frame := await self._wire.receive()) is not None:
            self._heard_at = asyncio.get_running_loop().time()
            try:
                if frame.HasField("refusal"):
                    await self._refused(frame.refusal)
                if self._alarmed:
                    await self._clear_alarm()  # the peer goes on, too
                await self._take(frame, receiver)
            except (Exhausted, Forbidden, Invalid) as error:
                await self._refuse(error.reason, error.message)

    async def _take(self, frame: Frame, receiver: Receiver) -> None:
        match frame.WhichOneof("body"):
            case "batch":
                receiver.take(frame.batch)
            case "chunk":
                receiver.take_chunk(frame.chunk)
            case "receipt":
                self._take_receipt(frame.receipt)
            case "credit":
                if self._sender is not None:
                    self._sender.credited(frame.credit)
            case "query":
                await self._parts.questions.take(self, frame.query)
            case "answer":
                self._parts.questions.answered(self, frame.answer)
            case "cancel":
                self._parts.questions.cancelled(self, frame.cancel)
            case kind:
                # A kind of frame that a later release knows has no handler, and is passed over.
                handler = self._parts.frames.get(kind or "")
                if handler is not None:
                    await handler(self, frame)
                else:
                    UNKNOWN_FRAMES.labels(self.peer).inc()

    async def _clear_alarm(self) -> None:
        self._alarmed = False
        await self._parts.transactions.run(lambda tx: alarms.clear_alarm(tx, peer=self.peer, name=SEQUENCE_REVERSED))

    # -------------------------------------------------------------------------------------------- receipts

    def _take_receipt(self, signed: link_pb2.SignedReceipt) -> None:
        receipt = open_receipt(signed, self.keys.at(signed.key_id, self._parts.transactions.clock.now()))
        if (receipt.receiver, receipt.sender, receipt.epoch) != (self.peer, self._parts.node, self._epoch):
            raise Forbidden(Reason.SIGNATURE_INVALID, "the receipt is not for this node's present life")
        if self._sender is None or not self._sender.expected(receipt):
            raise Forbidden(Reason.SIGNATURE_INVALID, "the receipt is for something that was not sent")
        self._receipts.append(receipts_store.Receipt(receipt.lane, receipt.sequence, receipt.chain, signed))
        self._receipts_came.set()

    async def _note_receipts(self) -> None:
        """Note receipts as they come: those that came meanwhile together."""
        while True:
            await self._receipts_came.wait()
            self._receipts_came.clear()
            while receipts := self._receipts[:RECEIPTS_MAX]:
                del self._receipts[: len(receipts)]
                if not await self._note(receipts):
                    await self._refuse(SEQUENCE_REVERSED, "the receipt is for another lane than the one that was sent")

    async def _note(self, receipts: list[receipts_store.Receipt]) -> bool:
        transactions = self._parts.transactions
        now = transactions.clock.now()
        lanes = await transactions.once(lambda conn: receipts_store.note(conn, self.peer, self._epoch, receipts, now))
        if any(lanes.values()):
            await transactions.run(lambda tx: handshake.healed(tx, self.peer))
        return None not in lanes.values()
