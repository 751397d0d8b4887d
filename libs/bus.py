"""The bus of a node: one JetStream stream of facts, to which every service adds and from which every service reads."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js import api

from libs.errors import Away, Reason
from libs.ids import new_id
from libs.publisher import Ack, Publisher, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nats.js.client import JetStreamContext

    from quintet.fact.v1.fact_pb2 import Fact

STREAM = "FACTS"
SUBJECTS_ALL = "facts.>"
# Half of what NATS accepts by default, so that headers and the envelope of a peer link always fit around a fact.
FACT_BYTES_MAX = 512 * 1024
# The server's own limit for what it stores as a whole.
BATCH_FACTS_MAX = 1_000
CONNECT_TIMEOUT_S = 30.0
REQUEST_TIMEOUT_S = 5.0
PUBLISH_TIMEOUT_S = 5.0
RECONNECT_WAIT_S = 0.25
PING_INTERVAL_S = 10
_CONNECT_ATTEMPT_TIMEOUT_S = 2

_TYPE = re.compile(r"quintet\.([a-z][a-z0-9_]*)\.v1\.([A-Za-z][A-Za-z0-9_]*)")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")

BUS_ERRORS = (nats.errors.Error, TimeoutError, OSError)

log = structlog.get_logger()


class Outgoing(NamedTuple):
    """A fact ready to go: where to, its id, which the server uses to drop repetitions, and its bytes."""

    subject: str
    fact_id: str
    fact: bytes


def subject_of(type_name: str) -> str:
    """Return the subject of facts of a type: "quintet.management.v1.EventOpened" gives "facts.management.EventOpened".

    Types of other packages and versions, which come from peers, go to "facts.unknown.<type>" with dots replaced.
    """
    if match := _TYPE.fullmatch(type_name):
        return f"facts.{match[1]}.{match[2]}"
    return f"facts.unknown.{_UNSAFE.sub('_', type_name) or '_'}"


class Endpoint(NamedTuple):
    """Where a bus is and as whom to go there."""

    url: str
    user: str | None
    password: str | None
    name: str

    def __repr__(self) -> str:
        return f"Endpoint({self.url}, {self.name})"  # never the password


class Bus:
    """A connection to the node's NATS server, which restores itself."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Use `connect`."""
        self._endpoint = endpoint
        self._earlier_reconnects = 0
        self._opening = asyncio.Lock()
        self._use(Client())

    def _use(self, client: Client) -> None:
        self.client = client
        self.jetstream: JetStreamContext = client.jetstream(timeout=REQUEST_TIMEOUT_S)
        self._publisher = Publisher(client)

    @classmethod
    async def connect(
        cls,
        url: str,
        user: str | None = None,
        password: str | None = None,
        name: str = "quintet",
        *,
        timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> Bus:
        """Connect to `url` ("nats://127.0.0.1:4222") as a part, and wait for the stream of facts to be there.

        Waits up to `timeout_s` in all, then raises Away. Later interruptions are waited out in the background, without
        limit. `name` labels the connection in the server's monitoring.
        """
        bus = cls(Endpoint(url, user, password, name))
        try:
            async with asyncio.timeout(timeout_s):
                await _connect(bus.client, bus._endpoint)
                while not await bus._ready():  # noqa: ASYNC110 - the event is in another process
                    await asyncio.sleep(RECONNECT_WAIT_S)
        except BUS_ERRORS as error:
            await _close(bus.client)
            raise away() from error
        return bus

    @property
    def reconnects(self) -> int:
        """How often the connection was lost and restored: what was under way at the time may be lost."""
        return self._earlier_reconnects + self.client.stats["reconnects"]

    async def restore(self) -> None:
        """Replace a client that the server has turned away for good, as it does after an error of the protocol.

        Ordinary interruptions never come to this. Raises Away when the server still does not let us in.
        """
        async with self._opening:
            if not self.client.is_closed:
                return
            client = Client()
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    await _connect(client, self._endpoint)
            except BUS_ERRORS as error:
                await _close(client)
                raise away() from error
            self._earlier_reconnects = self.reconnects + 1
            self._use(client)

    async def _ready(self) -> bool:
        """The server accepts connections before it answers for its streams; the runtime makes the stream once."""
        try:
            await self.jetstream.stream_info(STREAM)
        except (nats.js.errors.NotFoundError, nats.js.errors.ServiceUnavailableError, nats.errors.NoRespondersError):
            return False
        except TimeoutError:
            return False
        return True

    async def _connected(self) -> bool:
        """Tell whether to send now. Otherwise not into the client's buffer, where it would outlive the attempt."""
        if self.client.is_closed:
            with suppress(Away):
                await self.restore()
        return self.client.is_connected

    async def publish(self, fact: Fact) -> Ack:
        """Store one fact now, outside of any transaction. Services go through Tx.publish; raises Away."""
        result = (await self.publish_all([Outgoing(subject_of(fact.type), fact.id, fact.SerializeToString())]))[0]
        if isinstance(result, Ack):
            return result
        raise away() from result

    async def publish_all(self, outgoing: Sequence[Outgoing]) -> list[Ack | Exception]:
        """Send all at once and wait up to PUBLISH_TIMEOUT_S for the acknowledgements, in the order of `outgoing`.

        An error in an item's place means that the stream may or may not have it. The order in which the stream stores
        the items is that of `outgoing` only when all succeed.
        """
        if not await self._connected():
            return [ConnectionError("the bus is away")] * len(outgoing)
        futures: list[asyncio.Future[Ack]] = []
        failure: Exception = TimeoutError("no acknowledgement")
        try:
            for subject, fact_id, fact in outgoing:
                futures.append(await self._publisher.send(subject, fact, {api.Header.MSG_ID.value: fact_id}))
        except BUS_ERRORS as error:
            failure = error
        if futures:
            await asyncio.wait(futures, timeout=PUBLISH_TIMEOUT_S)
        return [_result(future) for future in futures] + [failure] * (len(outgoing) - len(futures))

    async def publish_batch(self, outgoing: Sequence[Outgoing]) -> bool:
        """Store all or nothing, in the order of `outgoing`, with one flush to disk instead of one for each.

        At most BATCH_FACTS_MAX. Returns False when the server refuses the batch, as it does when it has one of the
        facts already. Raises Away when it does not answer; then it may or may not have stored all of them.
        """
        if not await self._connected():
            raise away()
        batch = {api.Header.BATCH_ID.value: new_id()}
        try:
            for place, (subject, fact_id, fact) in enumerate(outgoing, start=1):
                headers = batch | {api.Header.BATCH_SEQUENCE.value: str(place), api.Header.MSG_ID.value: fact_id}
                if place < len(outgoing):
                    await self.client.publish(subject, fact, headers=headers)
                    continue
                headers[api.Header.BATCH_COMMIT.value] = "1"
                answer = await self._publisher.send(subject, fact, headers)
                await asyncio.wait([answer], timeout=PUBLISH_TIMEOUT_S)
                result = _result(answer)
                if isinstance(result, Ack | Refused):
                    return isinstance(result, Ack)
        except BUS_ERRORS as error:
            raise away() from error
        raise away()

    async def close(self) -> None:
        """Send what is buffered and disconnect."""
        with suppress(*BUS_ERRORS):
            async with asyncio.timeout(_CONNECT_ATTEMPT_TIMEOUT_S):
                await self.client.flush()
        await _close(self.client)


def away() -> Away:
    """Return what a caller is told when the bus does not answer."""
    return Away(Reason.DEPENDENCY_AWAY, "the bus is away", dependency="nats")


async def _connect(client: Client, endpoint: Endpoint) -> None:
    async def report(error: Exception) -> None:
        # Attempts to connect again fail many times; `disconnected` has said it once.
        level = logging.DEBUG if isinstance(error, OSError) else logging.WARNING
        log.log(level, "bus.error", client=endpoint.name, error=str(error) or type(error).__name__)

    async def disconnected() -> None:
        if not client.is_closed:  # we left by ourselves
            log.warning("bus.disconnected", client=endpoint.name)

    async def reconnected() -> None:
        log.info("bus.reconnected", client=endpoint.name)

    await client.connect(
        endpoint.url,
        user=endpoint.user,
        password=endpoint.password,
        name=endpoint.name,
        # The server lets each part listen to the replies to its own requests only.
        inbox_prefix=f"_INBOX.{endpoint.user}" if endpoint.user else "_INBOX",
        error_cb=report,
        disconnected_cb=disconnected,
        reconnected_cb=reconnected,
        max_reconnect_attempts=-1,
        reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # annotated as int, used as seconds
        connect_timeout=_CONNECT_ATTEMPT_TIMEOUT_S,
        ping_interval=PING_INTERVAL_S,
    )


async def _close(client: Client) -> None:
    with suppress(*BUS_ERRORS):
        await client.close()


def _result(future: asyncio.Future[Ack]) -> Ack | Exception:
    if not future.done():
        future.cancel()
        return TimeoutError("no acknowledgement")
    error = future.exception()
    if error is None:
        return future.result()
    return error if isinstance(error, Exception) else RuntimeError(str(error))
