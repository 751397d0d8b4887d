"""An objective that is missed raises the alarm at both ends, and is cleared at both when it is met again."""

from datetime import timedelta
from typing import Any

import pytest_asyncio

from libs.clock import ManualClock
from libs.testing import eventually
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import alarms
from services.federation.contracts_service import ContractsHandler
from services.federation.objectives import DELIVERY, FRESHNESS
from services.federation.tests.contracting import Two, terms
from services.federation.tests.pairs import rows_fact
from services.federation.tests.world import Node, World

FRESHNESS_S = 600
DELIVERY_S = 60


class Linked:
    """A provider and a consumer whose link the test cuts and restores."""

    def __init__(self, world: World, provider: Node, consumer: Node, clock: ManualClock) -> None:
        self.world = world
        self.provider = provider
        self.consumer = consumer
        self.clock = clock
        self.contract = ""

    async def cut(self) -> None:
        for task in self.dialling:
            task.cancel()
        for node, peer in ((self.provider, "sf"), (self.consumer, "beijing")):
            node.hub.session(peer).close()

        async def down() -> bool:
            return not self.provider.hub.connected("sf") and not self.consumer.hub.connected("beijing")

        await eventually(down)

    async def link(self) -> None:
        self.dialling = [await self.world.dial(self.consumer)]

    async def state_rows(self) -> None:
        await self.provider.state(rows_fact(1, 3, self.clock.now()))
        await self.provider.pump()

    async def look(self) -> None:
        for node in (self.provider, self.consumer):
            await node.transactions.run(node.objectives.look)

    async def alarms(self) -> list[set[str]]:
        """Look once more; what is set at the provider, and at the consumer."""
        await self.look()
        found = []
        for node in (self.provider, self.consumer):
            rows = await node.transactions.read(lambda conn: alarms.of_contracts(conn, [self.contract]))
            found.append({each.name for each in rows[self.contract]})
        return found

    async def alarms_are(self, *names: str) -> None:
        async def reached() -> bool:
            return await self.alarms() == [set(names)] * 2

        await eventually(reached)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))


@pytest_asyncio.fixture
async def linked(timed: World, present: ManualClock) -> Linked:
    consumer, provider = await timed.node("sf", "city"), await timed.node("beijing", "d6")
    found = Linked(timed, provider, consumer, present)
    await timed.join(provider, consumer)
    await found.link()
    objectives = terms(freshness_s=FRESHNESS_S, delivery_s=DELIVERY_S)
    found.contract = await Two(timed, consumer, provider, present).in_force(objectives)
    return found


async def test_nothing_is_missed_while_the_link_is_up(linked: Linked) -> None:
    for _ in range(5):
        await linked.state_rows()
        linked.pass_time(DELIVERY_S / 3)
        await linked.alarms_are()


async def test_what_waits_too_long_raises_both_alarms_at_both_ends(linked: Linked) -> None:
    await linked.state_rows()
    await linked.alarms_are()
    await linked.cut()
    await linked.state_rows()
    linked.pass_time(DELIVERY_S - 1)
    assert (await linked.alarms())[0] == set()
    linked.pass_time(DELIVERY_S)
    await linked.alarms_are(DELIVERY)
    linked.pass_time(FRESHNESS_S)
    await linked.alarms_are(DELIVERY, FRESHNESS)
    await linked.link()
    await linked.alarms_are()


async def test_a_consumer_that_hears_nothing_does_not_believe_that_all_is_well(linked: Linked) -> None:
    await linked.alarms_are()
    await linked.cut()
    linked.pass_time(FRESHNESS_S + DELIVERY_S)
    assert (await linked.alarms())[1] == {DELIVERY, FRESHNESS}
    await linked.link()
    await linked.alarms_are()


async def test_the_contract_names_what_is_missed(linked: Linked) -> None:
    await linked.cut()
    await linked.state_rows()
    linked.pass_time(FRESHNESS_S * 2)
    await linked.look()
    unused: Any = None
    handler = ContractsHandler(
        "beijing", linked.provider.transactions, linked.provider.negotiator, unused, unused, unused
    )
    answer = await handler.get(pb.GetContractRequest(name=linked.contract))
    assert sorted(answer.contract.alarms) == ["DELIVERY", "FRESHNESS"]


async def test_the_alarm_ends_with_the_contract(linked: Linked) -> None:
    await linked.cut()
    await linked.state_rows()
    linked.pass_time(FRESHNESS_S * 2)
    await linked.look()
    node = linked.provider
    await node.transactions.run(lambda tx: node.negotiator.terminate(tx, linked.contract, "the end"))
    assert (await linked.alarms())[0] == set()


async def test_a_consumer_cannot_state_what_it_does_not_owe(linked: Linked) -> None:
    """Only the provider owes facts under an exchange."""
    peer = await linked.provider.peer("sf")
    envelope = link_pb2.Envelope(flow=link_pb2.FlowStatement(contract=linked.contract))
    handle = linked.provider.objectives.handle
    refusal = await linked.provider.transactions.run(lambda tx: handle(tx, peer, envelope))
    assert refusal is not None
    assert refusal[0] == "NOT_PERMITTED"
