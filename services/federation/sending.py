"""The sending half of a session: what waits in the lanes goes out in batches, within the other side's credit.

Lanes are read together, as of one moment, and control goes first: a contract's message is never behind rows that it
allows. Then facts and bulk take turns, so that neither holds up the other for longer than one batch.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from libs.errors import Reason, WrongState
from quintet.federation.v1 import link_pb2
from services.federation import lanes_store
from services.federation.lanes_store import LANE_NAMES, LANES, Lane, Waiting, Wanted
from services.federation.signing import digest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from libs.tx import Transactions
    from services.federation.handshake import Start
    from services.federation.signing import NodeSigner

Frame = link_pb2.Frame

BATCH_ENVELOPES_MAX = 500
# A batch may exceed this by its last envelope. Those of bulk are small: whatever overtakes them waits for one of them.
BATCH_BYTES_MAX: Mapping[Lane, int] = {
    link_pb2.LANE_CONTROL: 1024 * 1024,
    link_pb2.LANE_FACTS: 1024 * 1024,
    link_pb2.LANE_BULK: 256 * 1024,
}
# A signed batch above this goes in chunks of this size; control may come in between.
CHUNK_BYTES = 128 * 1024
# What another replica has queued is found after this time at the latest.
QUEUE_POLL_S = 1.0


@dataclass
class _Lane:
    """How far a lane was sent in this session."""

    sequence: int
    total_bytes: int
    credit: int
    # What a receipt has to name, by the last sequence of each batch on its way.
    digests: dict[int, bytes] = field(default_factory=dict)


class Sender:
    """Sends what waits for one peer."""

    def __init__(
        self,
        transactions: Transactions,
        signer: NodeSigner,
        peer: str,
        epoch: str,
        starts: Mapping[Lane, Start],
        send: Callable[[Frame], Awaitable[None]],
    ) -> None:
        self._transactions = transactions
        self._signer = signer
        self._peer = peer
        self._epoch = epoch
        self._lanes = {lane: _Lane(start.sequence, start.total_bytes, start.credit) for lane, start in starts.items()}
        self._send = send
        self._work = asyncio.Event()

    def wake(self) -> None:
        """Something waits for the peer."""
        self._work.set()

    def credited(self, credit: link_pb2.Credit) -> None:
        """The peer takes more."""
        lane = self._lanes.get(credit.lane)
        if lane is not None:
            lane.credit += max(0, credit.envelopes)
            self._work.set()

    def expected(self, receipt: link_pb2.Receipt) -> bool:
        """Say whether a receipt is for what was sent. One may stand for what the peer had before this session."""
        lane = self._lanes.get(receipt.lane)
        if lane is None or receipt.sequence > lane.sequence:
            return False
        return lane.digests.pop(receipt.sequence, receipt.batch_digest) == receipt.batch_digest

    async def run(self) -> None:
        """Send until cancelled. Raises WrongState(SEQUENCE_GAP) when the queue is not whole."""
        while True:
            self._work.clear()
            while await self._round(LANES):
                pass
            with suppress(TimeoutError):
                async with asyncio.timeout(QUEUE_POLL_S):
                    await self._work.wait()

    async def _round(self, lanes: Sequence[Lane]) -> bool:
        """Send one batch of each lane that has something, if there is credit for it; False when nothing more waits."""
        control = self._lanes[link_pb2.LANE_CONTROL]
        if control.credit <= 0:
            return False  # what follows it must not overtake it
        wanted = [
            Wanted(
                lane,
                self._lanes[lane].sequence,
                min(BATCH_ENVELOPES_MAX, self._lanes[lane].credit),
                self._lanes[lane].total_bytes + BATCH_BYTES_MAX[lane],
            )
            for lane in lanes
            if self._lanes[lane].credit > 0
        ]
        rows = await self._transactions.look(lambda conn: lanes_store.waiting(conn, self._peer, wanted))
        more = False
        for lane, found in groupby(rows, key=lambda row: row.lane):
            batch = list(found)
            more = more or batch[-1].sequence < batch[-1].last_assigned
            await self._send_batch(lane, batch)
            if lane == link_pb2.LANE_CONTROL:
                return True  # there may be more of it, and the other lanes wait
        return more

    async def _send_batch(self, lane: Lane, rows: Sequence[Waiting]) -> None:
        state = self._lanes[lane]
        if rows[0].sequence != state.sequence + 1:
            text = f"after {state.sequence} of lane {LANE_NAMES[lane]} comes {rows[0].sequence} in the queue"
            raise WrongState(Reason.SEQUENCE_GAP, text)
        batch = link_pb2.Batch(
            sender=self._signer.node,
            receiver=self._peer,
            epoch=self._epoch,
            lane=lane,
            first_sequence=rows[0].sequence,
            envelopes=[row.envelope for row in rows],
            time=now(),
        )
        signed = self._signer.batch(batch)
        last = rows[-1]
        state.digests[last.sequence] = digest(signed)
        state.sequence = last.sequence
        state.total_bytes = last.total_bytes
        state.credit -= len(rows)
        for frame in frames(lane, signed):
            await self._send(frame)
            if lane != link_pb2.LANE_CONTROL and frame.HasField("chunk") and self._work.is_set():
                self._work.clear()
                while await self._round((link_pb2.LANE_CONTROL,)):
                    pass
                self._work.set()  # other lanes may have been meant, too


def frames(lane: Lane, signed: link_pb2.SignedBatch) -> Iterator[Frame]:
    """Return the frames that carry a batch: one, or a chunk for each CHUNK_BYTES of it."""
    if signed.ByteSize() <= CHUNK_BYTES:
        yield Frame(batch=signed)
        return
    data = signed.SerializeToString()
    parts = range(0, len(data), CHUNK_BYTES)
    for index, start in enumerate(parts):
        chunk = data[start : start + CHUNK_BYTES]
        yield Frame(chunk=link_pb2.BatchChunk(lane=lane, index=index, count=len(parts), data=chunk))


def now() -> Timestamp:
    """Return the time for the eyes of the other side; nothing is decided by it."""
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp
