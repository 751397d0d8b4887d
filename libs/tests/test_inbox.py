"""Consumers: each fact takes effect once, in order of its key, whatever fails in between; poison blocks nobody."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
import structlog
from google.protobuf.message import Message

from libs import context, inbox
from libs.bus import Bus, Outgoing, subject_of
from libs.db import Connection
from libs.deadletters import discard_dead, list_dead, retry_dead
from libs.errors import Away, NotFound, Reason
from libs.ids import new_id
from libs.inbox import FactConsumer, in_turn
from libs.publisher import Ack
from libs.subscription import Subscription
from libs.testing import ConnectBus, Database, MakeDatabase, MakeTransactions, Nats, eventually, running
from libs.tx import Transactions, Tx
from quintet.fact.v1.fact_pb2 import Fact
from quintet.identity.v1.facts_pb2 import AccessChanged, ZoneChanged

SEEN = "CREATE TABLE seen (id bigserial PRIMARY KEY, key text NOT NULL, subject text NOT NULL)"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

Fault = Callable[[str], None]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "WAITING_DELAY_FIRST_S", 0.02)
    monkeypatch.setattr(inbox, "WAITING_DELAY_MAX_S", 0.1)
    monkeypatch.setattr(inbox, "WAITING_POLL_S", 0.2)
    monkeypatch.setattr(inbox, "RECOVERY_DELAY_MAX_S", 0.2)
    monkeypatch.setattr(inbox, "FETCH_TIMEOUT_S", 0.3)
    monkeypatch.setattr("libs.duty.LOCK_RETRY_S", 0.05)


@pytest.fixture(autouse=True)
def unexpected() -> Iterator[None]:
    """Interruptions and failing handlers are expected here; faults of the consumer itself are not."""
    with structlog.testing.capture_logs() as logs:
        yield
    assert [entry for entry in logs if entry["event"] == "inbox.failed"] == []


@pytest.fixture
async def made(database: MakeDatabase, tmp_path: Path) -> Database:
    folder = tmp_path / "management" / "migrations"
    folder.mkdir(parents=True)
    (folder / "0001_seen.sql").write_text(SEEN)
    return await database(management=[folder])


@pytest.fixture
async def management(transactions: MakeTransactions, made: Database) -> Transactions:
    return await transactions("management", on=made)


def fact(subject: str, key: str = "k", traceparent: str = "") -> Fact:
    message = AccessChanged(subject=subject)
    return Fact(
        id=new_id(),
        type="quintet.identity.v1.AccessChanged",
        key=key,
        data=message.SerializeToString(),
        traceparent=traceparent,
    )


async def publish(bus: Bus, facts: Sequence[Fact]) -> None:
    outgoing = [Outgoing(subject_of(each.type), new_id(), each.SerializeToString()) for each in facts]
    assert all(isinstance(result, Ack) for result in await bus.publish_all(outgoing))


def noting(fault: Fault = lambda _: None) -> Callable[[Tx, Fact, Message], Awaitable[None]]:
    """A handler that notes what it sees, and then fails where `fault` raises."""

    async def handle(tx: Tx, fact: Fact, message: Message) -> None:
        assert isinstance(message, AccessChanged)
        await tx.conn.execute("INSERT INTO seen (key, subject) VALUES ($1, $2)", fact.key, message.subject)
        fault(message.subject)

    return handle


def consumer(management: Transactions, bus: Bus, fault: Fault = lambda _: None) -> FactConsumer:
    return FactConsumer(management, bus, "management", {AccessChanged: noting(fault)})


async def seen(management: Transactions, key: str = "k") -> list[str]:
    async def read(conn: Connection) -> list[str]:
        return [row["subject"] for row in await conn.fetch("SELECT subject FROM seen WHERE key = $1 ORDER BY id", key)]

    return await management.read(read)


async def becomes(management: Transactions, expected: list[str], key: str = "k") -> None:
    async def same() -> bool:
        found = await seen(management, key)
        assert len(found) <= len(expected), found
        return found == expected

    await eventually(same)


async def test_a_fact_goes_to_all_who_hear_of_its_kind_in_their_order(management: Transactions) -> None:
    heard: list[str] = []

    def hearer(name: str) -> inbox.Handler:
        async def handle(_tx: Tx, _fact: Fact, _message: Message) -> None:
            heard.append(name)

        return handle

    joined = in_turn({ZoneChanged: hearer("first")}, {AccessChanged: hearer("other")}, {ZoneChanged: hearer("second")})
    for kind in (ZoneChanged, AccessChanged):
        await management.run(lambda tx, kind=kind: joined[kind](tx, Fact(), kind()))  # type: ignore[misc]
    assert heard == ["first", "second", "other"]


async def test_each_fact_takes_effect_once(management: Transactions, bus: ConnectBus) -> None:
    identity = await bus("identity")
    facts = [fact(str(number)) for number in range(250)]
    await publish(identity, facts)
    await publish(identity, facts[:50])  # again, long after the bus has forgotten their ids
    await publish(identity, [*facts[-1:], fact("last"), *facts[-1:]])
    async with running(consumer(management, await bus("management")).run()):
        await becomes(management, [*(str(number) for number in range(250)), "last"])
    assert context.caller_subject.get() == ""


async def test_acts_as_its_part_in_the_trace_of_the_fact(management: Transactions, bus: ConnectBus) -> None:
    async def handle(tx: Tx, _fact: Fact, _message: Message) -> None:
        tx.audit("management.events.open", "zones/z/events/1")
        tx.publish(AccessChanged(), zone="us-ca-sf", key="k")

    await publish(await bus("identity"), [fact("a", traceparent=TRACE)])
    consumer = FactConsumer(management, await bus("management"), "management", {AccessChanged: handle})

    async def entry(conn: Connection) -> tuple[str, str, bytes] | None:
        row = await conn.fetchrow("SELECT actor, trace_id, fact FROM audit_entries, outbox")
        return (row["actor"], row["trace_id"], row["fact"]) if row else None

    async with running(consumer.run()):
        found = await eventually(lambda: management.read(entry))
    assert isinstance(found, tuple)
    actor, trace_id, stated = found
    assert (actor, trace_id) == ("services/management", "0af7651916cd43dd8448eb211c80319c")
    assert Fact.FromString(stated).traceparent[3:35] == trace_id


async def test_poison_ends_as_a_dead_letter_and_blocks_nobody(management: Transactions, bus: ConnectBus) -> None:
    def fault(subject: str) -> None:
        if subject == "poison":
            raise ZeroDivisionError(subject)

    keyed = [fact("1"), fact("poison"), fact("2"), fact("3")]
    await publish(await bus("identity"), [fact("other", "l"), *keyed, fact("more", "l")])
    async with running(consumer(management, await bus("management"), fault).run()):
        await becomes(management, ["other", "more"], "l")
        await becomes(management, ["1", "2", "3"])
        dead = await management.read(list_dead)
    assert [(letter.fact_id, letter.key, letter.attempts) for letter in dead] == [
        (keyed[1].id, "k", inbox.MAX_DELIVERIES)
    ]
    assert "ZeroDivisionError" in dead[0].error
    assert Fact.FromString(dead[0].fact) == keyed[1]


async def test_transient_failures_hold_back_their_key_only_and_as_long_as_they_last(
    management: Transactions, bus: ConnectBus
) -> None:
    attempts = 0
    mended = False

    def fault(subject: str) -> None:
        nonlocal attempts
        if subject == "1" and not mended:
            attempts += 1
            raise Away(Reason.DEPENDENCY_AWAY, "not yet")

    identity = await bus("identity")
    await publish(identity, [fact("1"), fact("2"), fact("other", "l")])
    async with running(consumer(management, await bus("management"), fault).run()):
        await becomes(management, ["other"], "l")
        await publish(identity, [fact("3"), fact("more", "l")])
        await becomes(management, ["other", "more"], "l")

        async def tried_often() -> bool:
            return attempts > inbox.MAX_DELIVERIES * 2

        await eventually(tried_often)
        assert await seen(management) == []
        mended = True
        await becomes(management, ["1", "2", "3"])
    assert await management.read(list_dead) == []


async def test_dead_letters_are_retried_or_discarded(management: Transactions, bus: ConnectBus) -> None:
    broken = True

    def fault(_subject: str) -> None:
        if broken:
            raise NotFound(Reason.EVENT_NOT_FOUND, "no such event")

    facts = [fact("1", "a"), fact("2", "b"), fact("3", "c")]
    await publish(await bus("identity"), facts)

    async def all_dead() -> bool:
        return len(await management.read(list_dead)) == 3

    async with running(consumer(management, await bus("management"), fault).run()):
        await eventually(all_dead)
        first = await management.read(lambda conn: list_dead(conn, limit=1))
        rest = await management.read(lambda conn: list_dead(conn, after=first[0].fact_id))
        assert sorted(letter.fact_id for letter in [*first, *rest]) == sorted(each.id for each in facts)
        broken = False
        assert await management.run(lambda tx: discard_dead(tx.conn, facts[0].id))
        assert not await management.run(lambda tx: discard_dead(tx.conn, facts[0].id))
        assert await management.run(lambda tx: retry_dead(tx.conn, facts[1].id))
        assert not await management.run(lambda tx: retry_dead(tx.conn, facts[0].id))
        await becomes(management, ["2"], "b")
        assert await seen(management, "a") == []
        assert [letter.fact_id for letter in await management.read(list_dead)] == [facts[2].id]


async def test_bytes_that_are_no_fact_become_a_dead_letter(management: Transactions, bus: ConnectBus) -> None:
    identity = await bus("identity")
    subject = subject_of("quintet.identity.v1.AccessChanged")
    await identity.publish_all([Outgoing(subject, "x", b"\xff\xff"), Outgoing(subject, "y", b"")])
    nonsense = fact("")
    nonsense.data = b"\xff"
    await publish(identity, [nonsense, fact("after")])
    async with running(consumer(management, await bus("management")).run()):
        await becomes(management, ["after"])
        dead = await management.read(list_dead)
    assert sorted(letter.fact for letter in dead) == sorted([b"", nonsense.SerializeToString(), b"\xff\xff"])


async def test_handle_all_gets_every_fact_in_batches(transactions: MakeTransactions, bus: ConnectBus) -> None:
    federation = await transactions("federation")
    batches: list[list[str]] = []
    failed: list[int] = []

    async def take(_tx: Tx, facts: list[Fact]) -> None:
        assert context.caller_subject.get() == "services/federation"
        if len(facts) > 1 and not failed:
            failed.append(len(facts))
            raise ZeroDivisionError  # once, so that the facts come one by one
        batches.append([each.id for each in facts])

    sender = await bus("federation")
    facts = [fact(str(number)) for number in range(2 * inbox.INBOX_BATCH_FACTS_WHOLE)]
    facts[3] = Fact(id=new_id(), type="quintet.identity.v1.ZoneChanged", data=ZoneChanged().SerializeToString())
    facts[4] = Fact(id=new_id(), type="of.another.world")
    await publish(sender, facts)
    consumer = FactConsumer(federation, await bus("federation"), "federation", handle_all=take)

    async def done() -> bool:
        return sum(len(batch) for batch in batches) == len(facts)

    async with running(consumer.run()):
        await eventually(done)
    assert [fact_id for batch in batches for fact_id in batch] == [each.id for each in facts]
    sizes = [len(batch) for batch in batches]
    assert sizes[: failed[0]] == [1] * failed[0]
    assert 1 < max(sizes) <= inbox.INBOX_BATCH_FACTS_WHOLE


def test_needs_handlers_or_handle_all() -> None:
    async def take(_tx: Tx, _facts: list[Fact]) -> None:
        """Take nothing."""

    with pytest.raises(ValueError, match="handlers or handle_all"):
        FactConsumer(None, None, "management")  # type: ignore[arg-type]  # refused before they are looked at
    with pytest.raises(ValueError, match="handlers or handle_all"):
        FactConsumer(None, None, "management", {AccessChanged: noting()}, handle_all=take)  # type: ignore[arg-type]


async def test_lost_acknowledgements_repeat_nothing(
    management: Transactions, bus: ConnectBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledge = Subscription.ack
    lost = 0

    async def ack(self: Subscription) -> None:
        nonlocal lost
        lost += 1
        if lost % 3:
            await self.aclose()  # the acknowledgement is lost, and the connection with it
        else:
            await acknowledge(self)

    monkeypatch.setattr(Subscription, "ack", ack)
    monkeypatch.setattr(inbox, "INBOX_BATCH_FACTS", 10)
    await publish(await bus("identity"), [fact(str(number)) for number in range(55)])
    async with running(consumer(management, await bus("management")).run()):
        await becomes(management, [str(number) for number in range(55)])
    assert lost > 6


async def test_survives_killed_consumers_lost_databases_and_restarted_buses(
    management: Transactions, made: Database, own_nats: Nats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "INBOX_BATCH_FACTS", 7)
    identity, reader = await own_nats.connect("identity"), await own_nats.connect("management")

    def shaky(subject: str) -> None:
        if int(subject) % 31 == 0 and shaken.add(subject):  # type: ignore[func-returns-value]
            raise ZeroDivisionError

    shaken: set[str] = set()
    for disturbance in range(12):
        await publish(
            identity,
            [fact(str(disturbance * 100 + number), key) for number in range(100) for key in ("k", "l")],
        )
        async with running(consumer(management, reader, shaky).run()):
            await asyncio.sleep(0.05 * (disturbance % 4))
            if disturbance % 3 == 1:
                await made.cut()
            if disturbance % 4 == 2:
                await own_nats.server.stop()
                await own_nats.start()
                await eventually(lambda: connected(identity))
    expected = [str(number) for number in range(1200)]
    async with running(consumer(management, reader).run()):
        await becomes(management, expected)
        await becomes(management, expected, "l")
    await identity.close()
    await reader.close()


async def connected(bus: Bus) -> bool:
    return bus.client.is_connected


async def test_replicas_take_over_without_disorder(
    made: Database, transactions: MakeTransactions, bus: ConnectBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "INBOX_BATCH_FACTS", 5)
    replicas = [await transactions("management", on=made) for _ in range(3)]
    await publish(await bus("identity"), [fact(str(number)) for number in range(300)])
    loops = [consumer(replica, await bus("management")).run() for replica in replicas]
    async with running(*loops) as tasks:
        for task in tasks[:2]:
            await asyncio.sleep(0.1)
            task.cancel()
        await becomes(replicas[2], [str(number) for number in range(300)])


async def test_who_is_ended_in_the_middle_of_its_work_leaves_nothing_open(
    management: Transactions, bus: ConnectBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A part that starts again in a process that goes on, on the same connection to the bus.
    identity, reader = await bus("identity"), await bus("management")
    monkeypatch.setattr("libs.subscription.HEARTBEAT_S", 14.0)  # when it is noticed what another request took
    begun = asyncio.Event()

    async def never(_tx: Tx, _fact: Fact, _message: Message) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with running(FactConsumer(management, reader, "management", {AccessChanged: never}).run()):
        await publish(identity, [fact("0")])
        await begun.wait()
        await publish(identity, [fact(str(number)) for number in range(1, 50)])
    async with running(consumer(management, reader).run()), asyncio.timeout(12.0):
        await becomes(management, [str(number) for number in range(50)])
