"""The receiving half of a session: chunks become batches, batches are read as they come and committed by priority."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from libs.errors import Exhausted, Invalid, Reason
from quintet.federation.v1 import link_pb2
from services.federation.handshake import CREDIT
from services.federation.lanes_store import LANE_NAMES, LANES, Lane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from services.federation.accept import Accepted, Acceptor, Opened
    from services.federation.key_ring import KeyRing
    from services.federation.peers_store import Peer
    from services.federation.signing import NodeSigner

Frame = link_pb2.Frame

# A signed batch as a whole: one of full size, and its last envelope.
SIGNED_BATCH_BYTES_MAX = 4 * 1024 * 1024
# Batches of facts that are committed before one of bulk has its turn.
FACTS_BEFORE_BULK = 4
# Credit is given back when this part of it is used up, so that a fact that comes alone costs no frame of its own.
CREDIT_PARTS = 4


class Chunks:
    """Puts the batches of one peer together."""

    def __init__(self) -> None:
        self._parts: dict[int, list[bytes]] = {}

    def add(self, chunk: link_pb2.BatchChunk) -> link_pb2.SignedBatch | None:
        """Take a chunk; return the batch when it was the last one. Raises Invalid when it does not follow."""
        parts = self._parts.setdefault(chunk.lane, [])
        if chunk.lane not in LANES or chunk.index != len(parts) or not chunk.count - chunk.index > 0:
            raise Invalid("chunk.index", f"must be {len(parts)}, below the count")
        parts.append(chunk.data)
        if sum(map(len, parts)) > SIGNED_BATCH_BYTES_MAX:
            raise Invalid("chunk.data", f"a batch must have at most {SIGNED_BATCH_BYTES_MAX} bytes")
        if len(parts) < chunk.count:
            return None
        del self._parts[chunk.lane]
        try:
            return link_pb2.SignedBatch.FromString(b"".join(parts))
        except DecodeError as error:
            raise Invalid("chunk.data", "must be a SignedBatch") from error


class Receiver:
    """Commits what one peer sends, and acknowledges it."""

    def __init__(
        self,
        acceptor: Acceptor,
        signer: NodeSigner,
        peer: Peer,
        keys: KeyRing,
        epoch: str,
        send: Callable[[Frame], Awaitable[None]],
        controlled: Callable[[], None],
    ) -> None:
        """`controlled` is told that there may be an answer to what was received."""
        self._acceptor = acceptor
        self._signer = signer
        self._peer = peer
        self._keys = keys
        self._epoch = epoch
        self._send = send
        self._controlled = controlled
        self._chunks = Chunks()
        self._queues: Mapping[Lane, deque[Opened]] = {lane: deque() for lane in LANES}
        self._queued: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._used: dict[Lane, int] = dict.fromkeys(LANES, 0)  # credit that was not given back yet
        self._facts_since_bulk = 0
        self._work = asyncio.Event()

    def take_chunk(self, chunk: link_pb2.BatchChunk) -> None:
        """Take a part of a batch. Raises like `take`, and Invalid for a part that does not fit."""
        signed = self._chunks.add(chunk)
        if signed is not None:
            self.take(signed)

    def take(self, signed: link_pb2.SignedBatch) -> None:
        """Verify and read a batch, and leave it to `run`.

        Raises Forbidden for its signature, Invalid for its bytes, and Exhausted when it exceeds the credit.
        """
        opened = self._acceptor.open(self._keys, self._epoch, signed)
        self._queued[opened.lane] += len(opened.raw)
        if self._queued[opened.lane] > CREDIT[opened.lane]:
            text = f"more envelopes of lane {LANE_NAMES[opened.lane]} than the credit of {CREDIT[opened.lane]}"
            raise Exhausted(Reason.QUOTA, text)
        self._queues[opened.lane].append(opened)
        self._work.set()

    async def run(self) -> None:
        """Commit until cancelled. Raises a DomainError when a sequence does not hold."""
        while True:
            opened = self._next()
            if opened is None:
                self._work.clear()
                await self._work.wait()
                continue
            accepted, receipt = await self._acceptor.accept(self._peer, opened)
            await self._acknowledge(opened, accepted, receipt)

    async def _acknowledge(self, opened: Opened, accepted: Accepted, receipt: link_pb2.Receipt) -> None:
        lane = opened.lane
        self._queued[lane] -= len(opened.raw)
        self._used[lane] += len(opened.raw)
        # What was taken in goes on first: whom the commit has woken has its turn before the receipt is signed.
        await asyncio.sleep(0)
        await self._send(Frame(receipt=self._signer.receipt(receipt)))
        if self._used[lane] * CREDIT_PARTS >= CREDIT[lane]:
            await self._send(Frame(credit=link_pb2.Credit(lane=lane, envelopes=self._used[lane])))
            self._used[lane] = 0
        if accepted.controlled:
            self._controlled()

    def _next(self) -> Opened | None:
        """Return the next batch: control first, then facts, with bulk among them."""
        control, facts, bulk = (self._queues[lane] for lane in LANES)
        if control:
            return control.popleft()
        if bulk and (not facts or self._facts_since_bulk >= FACTS_BEFORE_BULK):
            self._facts_since_bulk = 0
            return bulk.popleft()
        if facts:
            self._facts_since_bulk += 1
            return facts.popleft()
        return None
