"""Readings of devices that speak MQTT. NATS listens to them itself and keeps what they send in the stream DEVICES.

A device publishes on the topic `devices/{id}/readings`, where `id` is the last part of its resource name:

    {"readings": [{"indicator": "pm25", "time": "2017-02-28T15:00:00Z", "value": 12.3}]}

`time` is RFC 3339 with an offset, `value` a number in the indicator's unit; a message holds at most
READINGS_PER_MESSAGE_MAX readings in at most 64 KiB. Who may publish on which topic the broker decides. MQTT has no way
to answer: what cannot be stored is counted, logged and kept in the table dead_letters, and what follows it goes on. A
payload that breaks the form is refused as a whole, else each reading that the node cannot take by itself.
"""

from __future__ import annotations

import json
import re
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import Counter, Gauge

from libs import telemetry
from libs.backoff import Backoff
from libs.duty import on_duty
from libs.errors import Away, Stale
from libs.subscription import Received, Subscription
from libs.wellknown import TIME_FIRST, TIME_LAST
from services.perception import store, store_deadletters
from services.perception.ingest import READINGS_PER_BATCH_MAX
from services.perception.model import Reading
from services.perception.store_deadletters import DeadLetter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from libs.bus import Bus
    from libs.duty import Duty
    from libs.tx import Transactions, Tx
    from services.perception.ingest import Ingest

STREAM = "DEVICES"
CONSUMER = "perception"
SUBJECTS = "devices.*.readings"
READINGS_PER_MESSAGE_MAX = 1000
MESSAGES_PER_FETCH_MAX = 100
FETCH_TIMEOUT_S = 2.0
RECOVERY_DELAY_FIRST_S = 0.1
RECOVERY_DELAY_MAX_S = 10.0

_INDICATOR = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)

MESSAGES = Counter("quintet_perception_mqtt_messages", "Messages of devices: stored or dead letters.", ["result"])
BEHIND = Gauge("quintet_perception_mqtt_behind", "Messages of devices that are still to be taken in.")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a device: its place in the stream, and its readings, whose device is an id only."""

    received: Received
    readings: tuple[Reading, ...]


class UnreadableError(ValueError):
    """A payload that is not what the module's text asks for; the message says where."""


def device_id(subject: str) -> str:
    """Return the device's id in a subject. NATS writes a dot of an MQTT topic as "//"."""
    return subject.split(".")[1].replace("//", ".")


def parse_payload(device: str, payload: bytes) -> tuple[Reading, ...]:
    """Return the readings of a payload. Raises UnreadableError."""
    try:
        document: Any = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("is not JSON") from error
    items = document.get("readings") if isinstance(document, dict) else None
    if not isinstance(items, list) or not 0 < len(items) <= READINGS_PER_MESSAGE_MAX:
        raise UnreadableError(f"readings: must be a list of 1 to {READINGS_PER_MESSAGE_MAX} readings")
    return tuple(_reading(device, item, f"readings[{index}]") for index, item in enumerate(items))


def _reading(device: str, item: object, path: str) -> Reading:
    if not isinstance(item, dict):
        raise UnreadableError(f"{path}: must be an object")
    indicator, time, value = item.get("indicator"), item.get("time"), item.get("value")
    if not isinstance(indicator, str) or not _INDICATOR.fullmatch(indicator):
        raise UnreadableError(f"{path}.indicator: must match {_INDICATOR.pattern}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnreadableError(f"{path}.value: must be a number")
    return Reading(device, indicator, _time(time, path), _number(value, path))


def _time(text: object, path: str) -> datetime:
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
        if time is not None and time.tzinfo is not None:
            utc = time.astimezone(UTC)
            if TIME_FIRST <= utc < TIME_LAST:
                return utc
    except (ValueError, OverflowError):
        pass
    raise UnreadableError(f"{path}.time: must be an RFC 3339 time with an offset, from 1900 to 2199")


def _number(value: float, path: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not isfinite(number):
        raise UnreadableError(f"{path}.value: must be a finite number")
    return number


class DeviceConsumer:
    """Takes in what devices send. Replicas stand by: one reads at a time, so that each device's order is kept."""

    def __init__(self, transactions: Transactions, bus: Bus, ingest: Ingest) -> None:
        self._transactions = transactions
        self._ingest = ingest
        self._subscription = Subscription(bus, CONSUMER, [SUBJECTS], stream=STREAM)

    async def run(self) -> None:
        """Take in messages until cancelled, through interruptions of the bus and the database."""
        backoff = Backoff(RECOVERY_DELAY_FIRST_S, RECOVERY_DELAY_MAX_S)
        while True:
            try:
                async with on_duty(self._transactions.pool, "devices") as duty, aclosing(self._subscription):
                    await self._serve(duty, backoff)
            except (Away, Stale) as error:
                log.warning("mqtt.interrupted", error=repr(error))
            except Exception:
                log.exception("mqtt.failed")
            await backoff.wait()

    async def _serve(self, duty: Duty, backoff: Backoff) -> None:
        while True:
            duty.check()
            received = await self._subscription.fetch(MESSAGES_PER_FETCH_MAX, FETCH_TIMEOUT_S)
            if received:
                with telemetry.span("devices", kind=telemetry.SpanKind.CONSUMER):
                    await self.take_in(received)
                await self._subscription.ack()
            BEHIND.set(self._subscription.behind)
            backoff.reset()

    async def take_in(self, received: Sequence[Received]) -> None:
        """Store or bury every message. Raises Away or Stale when that is not possible now; then all come again."""
        letters: list[DeadLetter] = []
        messages: list[Message] = []
        for each in received:
            try:
                messages.append(Message(each, parse_payload(device_id(each.subject), each.data)))
            except UnreadableError as error:
                letters.append(self._letter(each, str(error)))
        for batch in _batches(await self._named(messages, letters)):
            letters += await self._store(batch)
        if letters:
            await self._bury(letters)
        MESSAGES.labels("dead").inc(len(letters))
        MESSAGES.labels("stored").inc(len(received) - len(letters))

    async def _named(self, messages: Sequence[Message], letters: list[DeadLetter]) -> list[Message]:
        """Put the devices' names for their ids; messages of unknown devices become dead letters."""
        ids = list({message.readings[0].device for message in messages})
        known = await self._transactions.read(lambda conn: store.device_names(conn, ids)) if ids else {}
        found: list[Message] = []
        for message in messages:
            name = known.get(message.readings[0].device)
            if name is None:
                letters.append(self._letter(message.received, "is not of a device of this node"))
            else:
                readings = tuple(replace(reading, device=name) for reading in message.readings)
                found.append(replace(message, readings=readings))
        return found

    async def _store(self, batch: Sequence[Message]) -> list[DeadLetter]:
        """Store messages together, or one by one when that fails; return those that are refused in part or whole."""
        try:
            return await self._store_together(batch)
        except (Away, Stale):
            raise
        except Exception as error:
            if len(batch) > 1:
                return [letter for message in batch for letter in await self._store([message])]
            log.exception("mqtt.message_failed", subject=batch[0].received.subject)
            return [self._letter(batch[0].received, repr(error))]

    async def _store_together(self, batch: Sequence[Message]) -> list[DeadLetter]:
        owners = [(message, place) for message in batch for place in range(len(message.readings))]
        readings = [message.readings[place] for message, place in owners]
        outcome = await self._ingest.take_in(readings, lambda _zone, _organisation: True)
        refused: dict[int, DeadLetter] = {}
        for one in outcome.refused:
            message, place = owners[one.index]
            error = f"readings[{place}].{one.field}: {one.rule}"
            refused.setdefault(message.received.stream_sequence, self._letter(message.received, error))
        return list(refused.values())

    async def _bury(self, letters: Sequence[DeadLetter]) -> None:
        async def bury(tx: Tx) -> None:
            await store_deadletters.bury(tx.conn, letters)

        await self._transactions.run(bury)
        # One line for all of them: a device that sends rubbish must not fill the disk with ours.
        log.warning("mqtt.dead_letters", count=len(letters), subject=letters[0].subject, error=letters[0].error)

    def _letter(self, received: Received, error: str) -> DeadLetter:
        now = self._transactions.clock.now()
        return DeadLetter(received.subject, received.stream_sequence, received.data, error, now)


def _batches(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Yield messages in their order, together as many as one batch of readings may hold."""
    batch: list[Message] = []
    size = 0
    for message in messages:
        if batch and size + len(message.readings) > READINGS_PER_BATCH_MAX:
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += len(message.readings)
    if batch:
        yield batch
