"""A bad network: a TCP proxy before a node's link port, which holds, drops, delays and spoils what passes.

proxy = Proxy(listens_on, leads_to, random.Random(seed))
await proxy.start()
proxy.up.cut()             # what the calling side sends does not arrive until mend()
proxy.down.bad = Bad(reorder=0.1)
"""

import asyncio
import random
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

SEGMENT_BYTES_MAX = 1_400  # what a TCP segment on Ethernet holds
CONNECT_TIMEOUT_S = 5.0
# A segment that is to be overtaken waits so long for the next one.
OVERTAKE_S = 0.05
# SO_LINGER on with a time of 0: close() sends RST instead of FIN.
RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Bad:
    """What happens to the segments of one direction. The shares are probabilities per segment, 0 to 1.

    delay_s holds each segment so long, bytes_per_s is the most that passes. duplicate sends a segment twice, reorder
    lets the next one pass before it, flip turns one bit, truncate cuts it at a random place and closes the connection.
    """

    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    flip: float = 0.0
    truncate: float = 0.0

    GOOD: ClassVar["Bad"]


Bad.GOOD = Bad()


class Direction:
    """What one side sends to the other, over all connections."""

    def __init__(self, chance: random.Random) -> None:
        self.bad = Bad.GOOD
        self.spoilt = 0
        self.bytes = 0
        self._chance = chance
        self._open = asyncio.Event()
        self._open.set()

    def cut(self) -> None:
        """Let nothing pass; nobody is told, as when a cable is pulled."""
        self._open.clear()

    def mend(self) -> None:
        """Let everything pass as it is, also what waited."""
        self.bad = Bad.GOOD
        self._open.set()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection's bytes until they end or are truncated."""
        late = b""
        while segment := await reader.read(SEGMENT_BYTES_MAX):
            await self._open.wait()
            bad = self.bad
            if self._hit(bad.reorder):
                late = segment
                segment = await _next(reader)
            if bad.delay_s:
                await asyncio.sleep(bad.delay_s)
            if bad.bytes_per_s:
                await asyncio.sleep(len(segment) / bad.bytes_per_s)
            whole = self._spoil(segment, bad)
            writer.write(whole + late)
            self.bytes += len(whole) + len(late)
            late = b""
            await writer.drain()
            if len(whole) < len(segment):
                return

    def _spoil(self, segment: bytes, bad: Bad) -> bytes:
        if not segment:
            return segment
        if self._hit(bad.truncate):
            return segment[: self._chance.randrange(len(segment))]
        if self._hit(bad.flip):
            place = self._chance.randrange(len(segment))
            segment = segment[:place] + bytes([segment[place] ^ 1 << self._chance.randrange(8)]) + segment[place + 1 :]
        return segment * 2 if self._hit(bad.duplicate) else segment

    def _hit(self, share: float) -> bool:
        hit = share > 0 and self._chance.random() < share
        self.spoilt += hit
        return hit


@dataclass
class Proxy:
    """Stands before a node's link port. `up` is from the calling node to the called one, `down` the way back."""

    listens_on: int
    leads_to: int
    chance: random.Random
    connections: int = 0
    refusing: bool = False
    up: Direction = field(init=False)
    down: Direction = field(init=False)
    _server: asyncio.Server | None = None
    _open: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.up, self.down = Direction(self.chance), Direction(self.chance)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.listens_on)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.reset()
        await asyncio.gather(*self._open, return_exceptions=True)

    def cut(self) -> None:
        """Both directions."""
        self.up.cut()
        self.down.cut()

    def refuse(self) -> None:
        """Close what is open with RST, and every new connection at once, until mended."""
        self.refusing = True
        self.reset()

    def reset(self) -> None:
        """Break all connections with RST."""
        for task, writers in list(self._open.items()):
            for writer in writers:
                _reset(writer)
            task.cancel()

    def mend(self) -> None:
        """A good network again."""
        self.refusing = False
        self.up.mend()
        self.down.mend()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            _reset(writer)
            return
        self.connections += 1
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("the server calls from a task")
        self._open[task] = (writer,)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.leads_to)
            self._open[task] = (writer, far_writer)
            await self._carry((reader, writer), (far_reader, far_writer))
        except (OSError, asyncio.CancelledError):
            pass  # refused, reset, or the node behind is away: the caller sees its connection closed
        finally:
            for each in self._open.pop(task):
                with suppress(OSError):
                    each.close()

    async def _carry(
        self,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Both ways, until either ends: to a TLS stream half a connection is none."""
        pumps = [
            asyncio.create_task(self.up.pump(near[0], far[1])),
            asyncio.create_task(self.down.pump(far[0], near[1])),
        ]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in done:
                pump.result()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)


async def _next(reader: asyncio.StreamReader) -> bytes:
    """The segment that overtakes; empty when none comes soon."""
    with suppress(TimeoutError):
        return await asyncio.wait_for(reader.read(SEGMENT_BYTES_MAX), OVERTAKE_S)
    return b""


def _reset(writer: asyncio.StreamWriter) -> None:
    found = writer.get_extra_info("socket")
    with suppress(OSError):
        if found is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
