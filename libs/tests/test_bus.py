"""The bus: acknowledged publishing, reading in order without a gap through interruptions."""

import pytest

from libs.bus import BATCH_FACTS_MAX, Bus, Outgoing, subject_of
from libs.errors import Away
from libs.ids import new_id
from libs.publisher import Ack
from libs.subscription import Subscription
from libs.testing import ConnectBus, Nats, eventually
from quintet.fact.v1.fact_pb2 import Fact


def outgoing(number: int, subject: str = "facts.identity.Counted") -> Outgoing:
    return Outgoing(subject, new_id(), str(number).encode())


async def publish(bus: Bus, numbers: range, subject: str = "facts.identity.Counted") -> None:
    results = await bus.publish_all([outgoing(number, subject) for number in numbers])
    assert all(isinstance(result, Ack) for result in results), results


async def read(subscription: Subscription, limit: int = 100) -> list[int]:
    return [int(item.data) for item in await subscription.fetch(limit, 0.5)]


@pytest.mark.parametrize(
    ("type_name", "subject"),
    [
        ("quintet.management.v1.EventOpened", "facts.management.EventOpened"),
        ("quintet.management.v2.EventOpened", "facts.unknown.quintet_management_v2_EventOpened"),
        ("quintet.management.v1.Outer.Inner", "facts.unknown.quintet_management_v1_Outer_Inner"),
        ("other.>.* x", "facts.unknown.other_____x"),
        ("", "facts.unknown._"),
    ],
)
def test_subjects(type_name: str, subject: str) -> None:
    assert subject_of(type_name) == subject


async def test_the_same_fact_is_stored_once(bus: ConnectBus) -> None:
    identity = await bus("identity")
    fact = Fact(id=new_id(), type="quintet.identity.v1.AccessChanged", key="k")
    first, again = await identity.publish(fact), await identity.publish(fact)
    assert (first.duplicate, again.duplicate) == (False, True)
    assert first.sequence == again.sequence


async def test_a_batch_is_stored_as_a_whole_or_not_at_all(bus: ConnectBus) -> None:
    identity, management = await bus("identity"), await bus("management")
    batch = [outgoing(number) for number in range(BATCH_FACTS_MAX)]
    assert await identity.publish_batch(batch)
    assert not await identity.publish_batch([outgoing(-1), batch[7], outgoing(-2)])  # one is there already
    assert not await identity.publish_batch([outgoing(-3) for _ in range(BATCH_FACTS_MAX + 1)])
    assert await identity.publish_batch([outgoing(BATCH_FACTS_MAX)])
    subscription = Subscription(management, "management", ["facts.identity.Counted"])
    seen: list[int] = []
    while numbers := await read(subscription):
        seen += numbers
        await subscription.ack()
    assert seen == list(range(BATCH_FACTS_MAX + 1))


async def test_a_part_states_its_own_facts_only(bus: ConnectBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libs.bus.PUBLISH_TIMEOUT_S", 0.3)
    identity = await bus("identity")
    with pytest.raises(Away):
        await identity.publish(Fact(id=new_id(), type="quintet.management.v1.EventOpened"))
    # The refusal costs the part its message, not its connection.
    await identity.publish(Fact(id=new_id(), type="quintet.identity.v1.AccessChanged"))


async def test_reads_in_order_what_it_asks_for(bus: ConnectBus) -> None:
    identity, management = await bus("identity"), await bus("management")
    subscription = Subscription(management, "management", ["facts.identity.Counted"])
    await publish(identity, range(5))
    await publish(identity, range(100, 105), "facts.identity.Other")
    await publish(identity, range(5, 10))
    assert await read(subscription) == list(range(10))
    await subscription.ack()
    assert await read(subscription) == []


async def test_reads_everything_without_subjects(bus: ConnectBus) -> None:
    identity, federation = await bus("identity"), await bus("federation")
    await publish(identity, range(2))
    await publish(federation, range(2, 4), "facts.unknown.other_v1_Thing")
    assert await read(Subscription(federation, "federation", [])) == [0, 1, 2, 3]


async def test_a_new_reader_starts_behind_the_last_acknowledged(bus: ConnectBus) -> None:
    identity, management = await bus("identity"), await bus("management")
    await publish(identity, range(30))
    dead = Subscription(management, "management", ["facts.identity.Counted"])
    assert await read(dead, 10) == list(range(10))
    await dead.ack()
    assert await read(dead, 10) == list(range(10, 20))
    # It dies here: without acknowledging, without a word. Nothing later may come before what it held.
    other = Subscription(await bus("management"), "management", ["facts.identity.Counted"])
    assert await read(other, 100) == list(range(10, 30))


async def test_two_readers_by_mistake_leave_no_gap(bus: ConnectBus) -> None:
    identity, management = await bus("identity"), await bus("management")
    await publish(identity, range(30))
    mine = Subscription(management, "management", ["facts.identity.Counted"])
    assert await read(mine, 10) == list(range(10))
    await mine.ack()
    intruder = await management.jetstream.pull_subscribe_bind("management", "FACTS")
    assert len(await intruder.fetch(5, 1)) == 5
    assert await read(mine, 5) == []  # noticed
    assert await read(mine, 100) == list(range(10, 30))


async def test_what_another_open_request_took_is_missed_and_comes_again(
    bus: ConnectBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.subscription.HEARTBEAT_S", 0.2)
    identity, management = await bus("identity"), await bus("management")
    other = Subscription(management, "management", ["facts.identity.Counted"])
    mine = Subscription(await bus("management"), "management", ["facts.identity.Counted"])
    assert await read(other) == []  # its request stays open
    assert await read(mine) == []
    await publish(identity, range(1))
    with pytest.raises(Away):
        await read(mine)
    await other.aclose()
    assert await read(mine) == [0]


async def test_closing_without_acknowledging_repeats(bus: ConnectBus) -> None:
    identity, management = await bus("identity"), await bus("management")
    await publish(identity, range(3))
    subscription = Subscription(management, "management", ["facts.identity.Counted"])
    assert await read(subscription) == [0, 1, 2]
    await subscription.aclose()
    assert await read(subscription) == [0, 1, 2]


async def test_a_deleted_consumer_is_made_again(bus: ConnectBus, nats: Nats) -> None:
    identity, management = await bus("identity"), await bus("management")
    subscription = Subscription(management, "management", ["facts.identity.Counted"])
    assert await read(subscription) == []
    await nats.clear()
    await publish(identity, range(3))

    with pytest.raises(Away):
        await read(subscription)
    assert await read(subscription) == [0, 1, 2]


async def test_survives_a_restart_of_the_server(own_nats: Nats) -> None:
    identity, management = await own_nats.connect("identity"), await own_nats.connect("management")
    subscription = Subscription(management, "management", ["facts.identity.Counted"])
    await publish(identity, range(10))
    assert await read(subscription, 5) == list(range(5))
    await subscription.ack()
    assert await read(subscription, 5) == list(range(5, 10))
    await own_nats.server.stop()
    assert not isinstance((await identity.publish_all([outgoing(10)]))[0], Ack)
    await own_nats.start()
    await eventually(lambda: published(identity, 10))
    seen: list[int] = []
    while 10 not in seen:
        seen += await read(subscription)
    assert seen[:6] == list(range(5, 11))
    await identity.close()
    await management.close()


async def published(bus: Bus, number: int) -> bool:
    return isinstance((await bus.publish_all([outgoing(number)]))[0], Ack)


async def test_a_server_that_is_not_there_is_away() -> None:
    with pytest.raises(Away):
        await Bus.connect("nats://127.0.0.1:9", timeout_s=0.3)


async def test_a_client_turned_away_for_good_is_replaced(bus: ConnectBus) -> None:
    identity = await bus("identity")
    await identity.client.close()
    assert await published(identity, 1)
    assert identity.reconnects == 1
