"""The relay: what was committed reaches the bus, once in effect and in order of each key, whatever stops in between."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence

import pytest
import structlog

from deploy.runtime.streams import connect_admin
from libs import outbox
from libs.bus import STREAM, Bus, Outgoing
from libs.db import Connection
from libs.errors import Away, Reason
from libs.outbox import OutboxRelay
from libs.publisher import Ack
from libs.subscription import Subscription
from libs.testing import ConnectBus, MakeDatabase, MakeTransactions, Nats, eventually, running
from libs.tx import Transactions, Tx
from quintet.fact.v1.fact_pb2 import Fact
from quintet.identity.v1.facts_pb2 import AccessChanged


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "RETRY_DELAY_MAX_S", 0.2)
    monkeypatch.setattr("libs.duty.LOCK_RETRY_S", 0.05)


@pytest.fixture(autouse=True)
def unexpected() -> Iterator[None]:
    """Interruptions are expected here; faults of the relay itself are not, though it would live on."""
    with structlog.testing.capture_logs() as logs:
        yield
    assert [entry for entry in logs if entry["event"] == "outbox.failed"] == []


async def state(identity: Transactions, subjects: Sequence[str], key: str = "k") -> None:
    async def work(tx: Tx) -> None:
        for subject in subjects:
            tx.publish(AccessChanged(subject=subject), zone="us-ca-sf", key=key)

    await identity.run(work)


async def left(identity: Transactions) -> int:
    async def count(conn: Connection) -> int:
        return int(await conn.fetchval("SELECT count(*) FROM outbox"))

    return await identity.read(count)


async def emptied(identity: Transactions) -> bool:
    return await left(identity) == 0


async def on_the_bus(bus: Bus) -> list[Fact]:
    subscription = Subscription(bus, bus._endpoint.name, [])
    facts: list[Fact] = []
    while batch := await subscription.fetch(1000, 0.2):
        facts += [Fact.FromString(item.data) for item in batch]
        await subscription.ack()
    return facts


def by_key(facts: Sequence[Fact]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for fact in facts:
        found[fact.key].append(AccessChanged.FromString(fact.data).subject)
    return found


async def test_publishes_what_is_committed_at_once(transactions: MakeTransactions, bus: ConnectBus) -> None:
    identity = await transactions("identity")
    await state(identity, ["before it runs"])
    async with running(OutboxRelay(identity.pool, await bus("identity"), "identity").run()):
        await eventually(lambda: emptied(identity))
        await state(identity, ["while it waits"], key="l")
        await eventually(lambda: emptied(identity), within_s=outbox.OUTBOX_POLL_S / 2)
    assert by_key(await on_the_bus(await bus("federation"))) == {"k": ["before it runs"], "l": ["while it waits"]}


async def test_is_woken_by_commits_of_another_process(
    database: MakeDatabase, transactions: MakeTransactions, bus: ConnectBus
) -> None:
    made = await database(identity=[])
    here, elsewhere = [await transactions("identity", on=made) for _ in range(2)]
    async with running(OutboxRelay(here.pool, await bus("identity"), "identity").run()):
        for subject in ("1", "2"):
            await state(elsewhere, [subject])
            await eventually(lambda: emptied(here), within_s=outbox.OUTBOX_POLL_S / 2)


async def test_keeps_facts_while_the_bus_is_away(transactions: MakeTransactions, own_nats: Nats) -> None:
    identity = await transactions("identity")
    connection, reader = await own_nats.connect("identity"), await own_nats.connect("federation")
    async with running(OutboxRelay(identity.pool, connection, "identity").run()):
        await state(identity, ["1"])
        await eventually(lambda: emptied(identity))
        await own_nats.server.stop()
        for number in range(2, 6):
            await state(identity, [str(number)])
        await asyncio.sleep(0.5)  # some failed attempts
        assert await left(identity) == 4
        await own_nats.start()
        await eventually(lambda: emptied(identity))
    assert by_key(await on_the_bus(reader)) == {"k": ["1", "2", "3", "4", "5"]}
    await connection.close()
    await reader.close()


class Flaky(Bus):
    """A bus that loses some of what it is given, and some of its own acknowledgements."""

    calls = 0

    async def publish_batch(self, outgoing: Sequence[Outgoing]) -> bool:
        self.calls += 1
        if self.calls % 4 == 0:
            return await super().publish_batch(outgoing)
        if self.calls % 4 == 1:
            await super().publish_batch(outgoing)
            raise Away(Reason.DEPENDENCY_AWAY, "the answer was lost")
        return False

    async def publish_all(self, outgoing: Sequence[Outgoing]) -> list[Ack | Exception]:
        self.calls += 1
        lost = {place for place in range(len(outgoing)) if (place * 7 + self.calls) % 5 == 0}
        sent = [item for place, item in enumerate(outgoing) if place not in lost]
        results = iter(await super().publish_all(sent))
        answers: list[Ack | Exception] = []
        for place in range(len(outgoing)):
            answer = TimeoutError() if place in lost else next(results)
            answers.append(TimeoutError() if (place + self.calls) % 11 == 0 else answer)
        return answers


async def test_keeps_the_order_of_each_key_through_losses(
    transactions: MakeTransactions, bus: ConnectBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "RETRY_DELAY_FIRST_S", 0.001)
    monkeypatch.setattr(outbox, "RETRY_DELAY_MAX_S", 0.002)
    identity = await transactions("identity")
    for number in range(20):
        for key in "abcdefgh":
            await state(identity, [f"{number}.{part}" for part in range(2)], key=key)
    flaky = await bus("identity")
    flaky.__class__ = Flaky
    async with running(OutboxRelay(identity.pool, flaky, "identity").run()):
        await eventually(lambda: emptied(identity), within_s=30)
    facts = on_the_bus(await bus("federation"))
    expected = [f"{number}.{part}" for number in range(20) for part in range(2)]
    assert by_key(await facts) == dict.fromkeys("abcdefgh", expected)


async def test_one_relay_at_a_time_and_another_takes_over(
    database: MakeDatabase, transactions: MakeTransactions, bus: ConnectBus
) -> None:
    made = await database(identity=[])
    first, second = [await transactions("identity", on=made) for _ in range(2)]
    connection = await bus("identity")

    async def holders() -> int:
        async with made.admin() as admin:
            query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            return int(await admin.fetchval(query))

    async def one_holds() -> bool:
        return await holders() == 1

    async with running(OutboxRelay(first.pool, connection, "identity").run()) as tasks:
        await eventually(one_holds)
        async with running(OutboxRelay(second.pool, connection, "identity").run()):
            await asyncio.sleep(0.2)
            assert await holders() == 1
            tasks[0].cancel()
            await state(second, ["1"])
            await eventually(lambda: emptied(second))


async def test_survives_the_loss_of_its_database_connection(
    database: MakeDatabase, transactions: MakeTransactions, bus: ConnectBus
) -> None:
    made = await database(identity=[])
    identity = await transactions("identity", on=made)
    async with running(OutboxRelay(identity.pool, await bus("identity"), "identity").run()):
        for number in range(5):
            await state(identity, [str(number)])
            await made.cut()
        await state(identity, ["5"])
        await eventually(lambda: emptied(identity))
    assert by_key(await on_the_bus(await bus("federation"))) == {"k": [str(number) for number in range(6)]}


async def test_keeps_facts_while_the_bus_is_full(transactions: MakeTransactions, own_nats: Nats) -> None:
    identity = await transactions("identity")
    connection, reader = await own_nats.connect("identity"), await own_nats.connect("federation")
    admin = await connect_admin(own_nats.server.url, own_nats.server.password("admin"))
    config = (await admin.jetstream().stream_info(STREAM)).config
    config.max_bytes = 2_000
    await admin.jetstream().update_stream(config)
    async with running(OutboxRelay(identity.pool, connection, "identity").run()):
        for number in range(20):
            await state(identity, [str(number)])

        async def stuck() -> bool:
            return 0 < await left(identity) < 20 and outbox.FAILURES.labels("identity")._value.get() > 0

        await eventually(stuck)
        config.max_bytes = 1_000_000
        await admin.jetstream().update_stream(config)
        await eventually(lambda: emptied(identity))
    assert by_key(await on_the_bus(reader)) == {"k": [str(number) for number in range(20)]}
    for client in (connection, reader, admin):
        await client.close()


async def test_measures_the_backlog(
    transactions: MakeTransactions, own_nats: Nats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BACKLOG_MEASURE_S", 0.05)
    identity = await transactions("identity")
    connection = await own_nats.connect("identity")
    await own_nats.server.stop()
    async with running(OutboxRelay(identity.pool, connection, "identity").run()):
        await state(identity, ["1", "2", "3"])

        async def measured() -> bool:
            facts = outbox.BACKLOG.labels("identity")._value.get()
            age_s = outbox.BACKLOG_AGE.labels("identity")._value.get()
            return bool(facts == 3 and age_s > 0)

        await eventually(measured)
    await connection.close()
