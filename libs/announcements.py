"""Facts that every process of a node hears at once, to drop what it keeps in memory.

A durable consumer hands each fact to one replica of a service; a cache lives in every replica. So this is a plain
subscription, which may miss something: whoever listens is told when that can have happened.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.bus import BUS_ERRORS, Bus
from quintet.fact.v1.fact_pb2 import Fact

# What every part may listen to on the bus: these facts say what to forget, and nothing of anybody.
ACCESS_CHANGED = "facts.identity.AccessChanged"
ZONE_CHANGED = "facts.identity.ZoneChanged"
SUBJECTS = (ACCESS_CHANGED, ZONE_CHANGED)
CHECK_INTERVAL_S = 1.0

log = structlog.get_logger()


class Announcements:
    """Listens on one connection for as long as `run` runs, through interruptions."""

    def __init__(self, bus: Bus, listeners: Mapping[str, Callable[[Fact], None]], missed: Callable[[], None]) -> None:
        """`listeners` by subject, of SUBJECTS. `missed` is called whenever facts may have passed unheard."""
        self._bus = bus
        self._listeners = listeners
        self._missed = missed

    async def run(self) -> None:
        """Listen until cancelled."""
        client: Client | None = None
        reconnects = -1
        while True:
            if client is not self._bus.client or client.is_closed:
                client = await self._subscribe()
            if client is not None and reconnects != self._bus.reconnects:
                # The client takes its subscriptions along to a new connection, not what was said meanwhile.
                reconnects = self._bus.reconnects
                self._missed()
            await asyncio.sleep(CHECK_INTERVAL_S)

    async def _subscribe(self) -> Client | None:
        client = self._bus.client
        try:
            for subject, listener in self._listeners.items():
                await client.subscribe(subject, cb=_callback(listener))
            await client.flush()
        except BUS_ERRORS as error:
            log.debug("announcements.waiting", error=str(error))
            return None
        self._missed()
        return client


def _callback(listener: Callable[[Fact], None]) -> Callable[[Msg], Awaitable[None]]:
    async def heard(message: Msg) -> None:
        with suppress(DecodeError):
            listener(Fact.FromString(message.data))

    return heard
