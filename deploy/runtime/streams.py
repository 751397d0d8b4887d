"""The two streams of a node's bus, and the broom that keeps facts for as long as somebody still has to read them."""

import asyncio
from datetime import UTC, datetime, timedelta

import nats
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

FACTS = "FACTS"
DEVICES = "DEVICES"
FACTS_BYTES_MAX = 2 * 1024 * 1024 * 1024
DEVICES_BYTES_MAX = 512 * 1024 * 1024
FACT_BYTES_MAX = 1024 * 1024
READING_BYTES_MAX = 64 * 1024
FACTS_AGE_DAYS = 7
READINGS_AGE_DAYS = 7
DUPLICATE_WINDOW_S = 120
# Past this share of FACTS_BYTES_MAX what everybody has read goes before its age is reached.
FULL_SHARE = 0.8
SWEEP_INTERVAL_S = 60.0
CONNECT_TIMEOUT_S = 10
API_TIMEOUT_S = 10.0

log = structlog.get_logger(__name__)


def stream_configs(replicas: int) -> tuple[StreamConfig, ...]:
    """FACTS and DEVICES.

    FACTS never drops a fact by itself. It has no age limit, since a part that was away for a week (or a laptop that was
    off) must still find what it has not read; sweep_facts removes what is older than FACTS_AGE_DAYS and read by all.
    When the stream is full it refuses new facts instead of dropping old ones: they wait in their outboxes, and the
    refused publishes are seen. "discard old" would drop unread facts without a word.

    DEVICES drops the oldest: a device does not learn that its reading was refused (the MQTT acknowledgement says
    nothing of storage) and holds no outbox, and a fresh reading is worth more than an old one.
    """
    facts = StreamConfig(
        name=FACTS,
        subjects=["facts.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_bytes=FACTS_BYTES_MAX,
        max_msg_size=FACT_BYTES_MAX,
        duplicate_window=DUPLICATE_WINDOW_S,
        # A relay hands over what it has as one batch: one flush to disk instead of one for each fact.
        allow_atomic=True,
        num_replicas=replicas,
    )
    devices = StreamConfig(
        name=DEVICES,
        subjects=["devices.*.readings"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        max_bytes=DEVICES_BYTES_MAX,
        max_age=READINGS_AGE_DAYS * 86_400,
        max_msg_size=READING_BYTES_MAX,
        num_replicas=replicas,
    )
    return facts, devices


async def connect_admin(url: str, password: str) -> Client:
    """A connection that may manage streams; the caller closes it."""
    return await nats.connect(
        url,
        user="admin",
        password=password,
        name="runtime",
        connect_timeout=CONNECT_TIMEOUT_S,
        max_reconnect_attempts=-1,  # it outlives restarts of the server
    )


async def prepare_streams(url: str, password: str, *, replicas: int = 1) -> None:
    """Creates the streams, or brings them to the settings above. Safe to repeat. password is the admin user's."""
    client = await connect_admin(url, password)
    try:
        js = client.jetstream(timeout=API_TIMEOUT_S)
        for config in stream_configs(replicas):
            try:
                await js.update_stream(config)
            except NotFoundError:
                await js.add_stream(config)
    finally:
        await client.close()


async def keep_swept(url: str, password: str) -> None:
    """Sweeps every SWEEP_INTERVAL_S until cancelled. A failed sweep is logged and tried again."""
    client = await connect_admin(url, password)
    try:
        js = client.jetstream(timeout=API_TIMEOUT_S)
        while True:
            try:
                await sweep_facts(js, datetime.now(UTC))
            except (nats.errors.Error, TimeoutError):
                log.exception("facts_sweep_failed")
            await asyncio.sleep(SWEEP_INTERVAL_S)
    finally:
        await client.close()


async def sweep_facts(js: JetStreamContext, now: datetime, *, bytes_max: int = FACTS_BYTES_MAX) -> int:
    """Removes the facts that every consumer has acknowledged and that are older than FACTS_AGE_DAYS; returns how many.

    When the stream is nearly full, age does not protect what all have read. What one consumer has not read stays
    whatever its age, and so does everything as long as there is no consumer at all.
    """
    info = await js.stream_info(FACTS)
    first, last = info.state.first_seq, info.state.last_seq
    read = await _read_by_all(js, last)
    full = info.state.bytes >= FULL_SHARE * bytes_max
    if info.state.messages == 0 or read < first:
        if full:
            log.error("facts_nearly_full", bytes=info.state.bytes, bytes_max=bytes_max, read_by_all=read)
        return 0
    keep_from = read + 1
    if not full:
        keep_from = await _first_since(js, first, read + 1, now - timedelta(days=FACTS_AGE_DAYS))
    if keep_from <= first:
        return 0
    await js.purge_stream(FACTS, seq=keep_from)
    log.info("facts_swept", kept_from=keep_from, removed=keep_from - first)
    return keep_from - first


async def _read_by_all(js: JetStreamContext, last: int) -> int:
    """The sequence up to which every consumer has acknowledged; 0 without consumers."""
    floors = []
    offset = 0
    while True:
        page = await js.consumers_info(FACTS, offset=offset)
        for consumer in page:
            idle = not consumer.num_pending and not consumer.num_ack_pending
            floor = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
            # A consumer with a filter acknowledges only what it asked for: without anything pending it has read all.
            floors.append(last if idle else floor)
        if not page:
            return min(floors, default=0)
        offset += len(page)


async def _first_since(js: JetStreamContext, low: int, high: int, time: datetime) -> int:
    """The first sequence from low on that was stored at the time or later; high when all are older."""
    while low < high:
        middle = (low + high) // 2
        if await _stored_at(js, middle) < time:
            low = middle + 1
        else:
            high = middle
    return low


async def _stored_at(js: JetStreamContext, sequence: int) -> datetime:
    message = await js.get_msg(FACTS, seq=sequence)
    if message.time is None:
        raise nats.errors.Error(f"message {sequence} of {FACTS} came without its time")
    return message.time
