"""Reading the stream of facts strictly in its order, without a gap, whatever is interrupted."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import structlog
from nats.js import api

from libs.bus import BUS_ERRORS, STREAM, SUBJECTS_ALL, Bus, away

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription as Inbox

# What was delivered and is not acknowledged after this time is delivered again. A batch must be done by then.
ACK_WAIT_S = 60
# One batch is in work while the next arrives; the rest is room for what was lost on the way.
ACK_PENDING_MAX = 2_000
# How long the server keeps a request for facts open, and how often it says meanwhile that it still does.
PULL_EXPIRES_S = 30.0
HEARTBEAT_S = 5.0
HEARTBEATS_MISSED_MAX = 2
CLOSE_TIMEOUT_S = 1
_NS_PER_S = 1_000_000_000
# After the first fact of a batch, for the others on their way.
GATHER_S = 0.002
# The subject of an acknowledgement: its length without domain and account, and where the numbers begin.
_ACK_TOKENS = 9
_ACK_NUMBERS_AT = 4
# Statuses of a request for facts: still open; none there; its time is over. All others mean that it failed.
_HEARTBEAT = "100"
_STATUSES_OF_AN_END = {"404", "408"}

log = structlog.get_logger()


class Received(NamedTuple):
    """The bytes of a message, its place in the stream, and the subject it came on."""

    data: bytes
    stream_sequence: int
    subject: str = ""


class _Place(NamedTuple):
    """Of one delivery: its place in the stream, its number since the last reset, and how many were behind it then."""

    stream: int
    delivery: int
    behind: int


class Subscription:
    """A durable place in the stream, shared by the replicas of a service, of which one reads at a time.

    The server hands out facts in order and takes an acknowledgement for all up to it. A delivery that got lost on the
    way would come again only after ACK_WAIT_S, behind later ones; so after any interruption, and when the numbers of
    the deliveries show a gap, the consumer is set back to the last acknowledged fact.
    """

    def __init__(self, bus: Bus, name: str, subjects: Sequence[str], *, stream: str = STREAM) -> None:
        """`name` identifies the place, `subjects` (none: all facts) say which messages of the stream are read."""
        self._bus = bus
        self._name = name
        self._stream = stream
        self._subjects = sorted(set(subjects)) or [SUBJECTS_ALL]
        self.behind = 0  # facts in the stream behind the last one fetched
        self._inbox: Inbox | None = None
        self._reconnects = 0
        self._arrived: deque[Msg] = deque()
        self._news = asyncio.Event()
        self._requested = 0  # facts that the server still owes us
        self._fault = ""  # why nothing more will come, or not what should
        self._heard_at = 0.0  # of the monotonic clock
        self._delivered = 0  # the number of the last delivery, counted from 1 after each reset
        self._last: Msg | None = None

    async def fetch(self, limit: int, timeout_s: float) -> list[Received]:
        """Return the next facts: at once when there are any, else after at most `timeout_s`, then perhaps none.

        Call `ack` before fetching more. Raises Away, after which the next call starts from the last acknowledged fact.
        """
        try:
            if self._inbox is None or self._reconnects != self._bus.reconnects:
                await self._open()
            await self._wait(limit, timeout_s)
            if self._reconnects != self._bus.reconnects:
                # The connection broke under a request that was waiting: start again from the last acknowledged.
                await self.aclose()
                return []
        except BUS_ERRORS as error:
            await self.aclose()
            raise away() from error
        except BaseException:
            await self.aclose()
            raise
        if self._fault:
            log.warning("bus.refused", consumer=self._name, fault=self._fault)
            await self.aclose()
            raise away()
        messages = [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]
        if not messages:
            if monotonic() - self._heard_at > HEARTBEAT_S * HEARTBEATS_MISSED_MAX:
                log.warning("bus.silent", consumer=self._name)
                await self.aclose()
            return []
        places = [_place(each) for each in messages]
        if not self._continues(places):
            log.warning("bus.gap", consumer=self._name)
            await self.aclose()
            return []
        self._last = messages[-1]
        self.behind = places[-1].behind + len(self._arrived)
        return [Received(each.data, place.stream, each.subject) for each, place in zip(messages, places, strict=True)]

    async def ack(self) -> None:
        """Acknowledge everything fetched so far. An acknowledgement that gets lost leads to repetition, not to loss."""
        if self._last is not None:
            with suppress(*BUS_ERRORS):
                await self._last.ack()
            self._last = None

    async def aclose(self) -> None:
        """Forget what was fetched and not acknowledged; the next fetch starts from there.

        Be done with this before another may read: what the server hands to a request left open is late for them.
        """
        inbox, self._inbox, self._last = self._inbox, None, None
        self._arrived.clear()
        if inbox is not None:
            with suppress(*BUS_ERRORS):
                await inbox.unsubscribe()
                await self._bus.client.flush(CLOSE_TIMEOUT_S)  # the server knows once it has answered

    async def _open(self) -> None:
        await self.aclose()
        await self._bus.restore()
        self._reconnects = self._bus.reconnects
        config = api.ConsumerConfig(
            name=self._name,
            durable_name=self._name,
            ack_policy=api.AckPolicy.ALL,
            ack_wait=ACK_WAIT_S,
            max_ack_pending=ACK_PENDING_MAX,
            filter_subjects=self._subjects,
        )
        await self._bus.jetstream.add_consumer(self._stream, config)
        arrived = self._arrived = deque()

        async def receive(message: Msg) -> None:
            self._receive(arrived, message)

        self._inbox = await self._bus.client.subscribe(self._bus.client.new_inbox(), cb=receive)
        await self._bus.jetstream.reset_consumer(self._stream, self._name)
        self._delivered = 0
        self._requested = 0
        self._fault = ""
        self._heard_at = monotonic()

    def _receive(self, arrived: deque[Msg], message: Msg) -> None:
        if arrived is not self._arrived:
            return  # a straggler of an earlier inbox
        self._heard_at = monotonic()
        headers = message.headers or {}
        status = headers.get(api.Header.STATUS)
        if status is None:
            self._requested -= 1
            arrived.append(message)
        elif status in _STATUSES_OF_AN_END:
            self._requested = 0
        elif status != _HEARTBEAT:
            self._fault = f"{status} {headers.get(api.Header.DESCRIPTION, '')}"  # the consumer was deleted, say
        elif int(headers.get(api.Header.LAST_CONSUMER, 0)) > self._delivered + len(arrived):
            self._fault = "deliveries went to another reader's request"  # one that has lost its duty and still lives
        self._news.set()

    async def _wait(self, limit: int, timeout_s: float) -> None:
        """Keep a request for facts open, and return as soon as one is there."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not (self._arrived or self._fault):
                    self._news.clear()
                    await self._request(limit)
                    await self._news.wait()
                if self._requested > 0 and self._arrived and _place(self._arrived[-1]).behind:
                    await asyncio.sleep(GATHER_S)
        # The next batch may come while this one is in work.
        if len(self._arrived) + self._requested <= limit // 2:
            await self._request(limit)

    async def _request(self, limit: int) -> None:
        if self._requested > 0 or self._inbox is None:
            return
        self._requested = limit
        request = {
            "batch": limit,
            "expires": int(PULL_EXPIRES_S * _NS_PER_S),
            "idle_heartbeat": int(HEARTBEAT_S * _NS_PER_S),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        await self._bus.client.publish(subject, json.dumps(request).encode(), self._inbox.subject)

    def _continues(self, places: Sequence[_Place]) -> bool:
        """Tell whether the deliveries follow on each other and on the last ones."""
        first = self._delivered + 1
        self._delivered += len(places)
        return all(place.delivery == number for number, place in enumerate(places, first))


def _place(message: Msg) -> _Place:
    """Read the numbers in where a message is acknowledged. The client's own `metadata` makes five objects of them.

    $JS.ACK.[domain.account.]stream.consumer.attempts.place in the stream.delivery.time.pending[.random]
    """
    tokens = message.reply.split(".")
    at = _ACK_NUMBERS_AT if len(tokens) == _ACK_TOKENS else _ACK_NUMBERS_AT + 2
    return _Place(int(tokens[at + 1]), int(tokens[at + 2]), int(tokens[at + 4]))
