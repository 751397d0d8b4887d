"""After joining: suspended and resumed, left, expelled, revoked, and a zone that is taken back."""

from functools import partial

import pytest
import pytest_asyncio

from libs.errors import NotFound, WrongState
from libs.testing import eventually
from quintet.delivery.v1 import delivery_pb2
from quintet.delivery.v1 import facts_pb2 as delivery_facts
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import alarms
from services.federation.tests.pairs import Pair, caught_up, event, fact, names_at
from services.federation.tests.world import PEOPLE, Node


@pytest_asyncio.fixture
async def pair(pair: Pair) -> Pair:
    """Both look after their streams."""
    for node in pair.both:
        pair.world.look_after(node)
    return pair


async def apart(pair: Pair) -> bool:
    return not pair.city.hub.connected("sf-d10")


async def together(pair: Pair) -> bool:
    return pair.city.hub.connected("sf-d10") and pair.district.hub.connected("sf")


async def send(pair: Pair, number: int) -> None:
    await pair.district.state(event("sf-d10", "d10", number))
    await pair.district.pump()


async def set_alarms(node: Node) -> list[str]:
    return [each.name for each in await node.transactions.read(alarms.all_set)]


async def state_is(node: Node, peer: str, state: int) -> bool:
    return (await node.peer(peer)).state == state


async def zone_facts(node: Node) -> list[str]:
    return [each.type.rpartition(".")[2] for each in await node.facts() if "Zone" in each.type]


async def test_a_suspended_peer_exchanges_nothing_and_loses_nothing(pair: Pair) -> None:
    city = pair.city
    await send(pair, 1)
    await eventually(lambda: names_at(city))
    for _ in range(2):
        await city.transactions.run(lambda tx: city.members.standing.suspend(tx, "sf-d10", "under inquiry"))
    await eventually(partial(apart, pair))
    await send(pair, 2)

    async def told() -> bool:
        return "SUSPENDED_BY_PEER" in await set_alarms(pair.district)

    await eventually(told)
    await eventually(lambda: refused(pair.district, "under inquiry"))
    assert await names_at(city) == ["zones/d10/events/1"]

    await city.transactions.run(lambda tx: city.members.standing.resume(tx, "sf-d10", "settled"))

    async def caught_up() -> bool:
        return await names_at(city) == ["zones/d10/events/1", "zones/d10/events/2"]

    await eventually(caught_up)

    async def calm() -> bool:
        return await set_alarms(pair.district) == []

    await eventually(calm)


async def refused(node: Node, text: str) -> bool:
    return text in (await node.peer("sf")).last_error


async def test_an_expelled_child_gives_its_zone_back_and_may_be_invited_again(pair: Pair) -> None:
    city, district = pair.city, pair.district
    for _ in range(2):
        await city.transactions.run(lambda tx: city.members.standing.expel(tx, "sf-d10", "moved away"))
    await eventually(partial(state_is, district, "sf", pb.PEER_STATE_EXPELLED))
    await eventually(partial(apart, pair))
    assert await zone_facts(city) == ["ZoneDelegated", "ZoneWithdrawn"]
    for node in (city, district):
        assert {each.state for each in await node.contracts()} == {pb.CONTRACT_STATE_TERMINATED}
    assert await set_alarms(district) == ["MEMBERSHIP_ENDED"]
    with pytest.raises(WrongState):
        await city.transactions.run(lambda tx: city.members.standing.resume(tx, "sf-d10", "no"))

    await pair.world.join(city, district, "d10")
    await eventually(partial(together, pair))

    async def charter() -> bool:
        return (await city.contracts())[0].state == pb.CONTRACT_STATE_FINALIZED

    await eventually(charter)


async def test_a_child_leaves_by_its_own_will(pair: Pair) -> None:
    city, district = pair.city, pair.district
    with pytest.raises(WrongState):
        await city.transactions.run(lambda tx: city.members.standing.leave(tx, "sf-d10", "a parent does not leave"))
    with pytest.raises(WrongState):
        await district.transactions.run(lambda tx: district.members.standing.expel(tx, "sf", "nor a child expel"))
    await district.transactions.run(lambda tx: district.members.standing.leave(tx, "sf", "merged with another"))
    await eventually(partial(state_is, city, "sf-d10", pb.PEER_STATE_LEFT))
    await eventually(partial(apart, pair))
    assert await zone_facts(city) == ["ZoneDelegated", "ZoneWithdrawn"]
    assert "merged with another" in (await city.peer("sf-d10")).state_reason


async def test_a_zone_that_is_taken_back_leaves_the_charter(pair: Pair) -> None:
    city = pair.city
    with pytest.raises(NotFound):
        await city.transactions.run(lambda tx: city.members.standing.withdraw_zone(tx, "d6", "nobody has it"))
    assert await city.transactions.run(lambda tx: city.members.standing.withdraw_zone(tx, "d10", "reform")) == "sf-d10"
    assert await zone_facts(city) == ["ZoneDelegated", "ZoneWithdrawn"]

    async def told() -> bool:
        return await set_alarms(pair.district) == ["ZONE_TAKEN_BACK"]

    await eventually(told)
    await send(pair, 1)  # the child finishes what it has open
    await eventually(lambda: names_at(city))


async def test_each_request_is_handled_here_or_sent_down_and_never_both(pair: Pair) -> None:
    """The fact of the withdrawal divides them, wherever it stands in a batch."""
    city = pair.city
    for number in (1, 2):
        request = delivery_pb2.Request(name=f"zones/d10/requests/{number}")
        await city.state(fact("sf", "d10", delivery_facts.RequestFiled(request=request)))
        if number == 1:
            await city.transactions.run(lambda tx: city.members.standing.withdraw_zone(tx, "d10", "reform"))
    await city.state(fact("sf", "d10", delivery_facts.RequestRated(request="zones/d10/requests/1")))
    await city.pump()
    await eventually(lambda: pair.district.received("RequestRated"))
    filed = [delivery_facts.RequestFiled.FromString(each.data) for each in await pair.district.received("RequestFiled")]
    assert [each.request.name for each in filed] == ["zones/d10/requests/1"]


def filed(number: int, node: str = "sf", zone: str = "d10") -> Fact:
    request = delivery_pb2.Request(name=f"zones/{zone}/requests/{number}")
    return fact(node, zone, delivery_facts.RequestFiled(request=request))


async def handled(node: Node) -> list[str]:
    """Return the requests that a node handles itself, in order: those stated while none of its children has d10."""
    mine, delegated = [], False
    for each in await node.facts():
        kind = each.type.rpartition(".")[2]
        if kind in {"ZoneDelegated", "ZoneWithdrawn"}:
            delegated = kind == "ZoneDelegated"
        elif kind == "RequestFiled" and not delegated:
            mine.append(delivery_facts.RequestFiled.FromString(each.data).request.name)
    return mine


async def returned(node: Node) -> None:
    while await node.transactions.run(node.members.standing.state_again):
        pass


async def test_what_an_expelled_child_never_received_is_handled_here(pair: Pair) -> None:
    """Received, queued, not yet seen by the exporter, and filed after: each request is at one node."""
    city, district = pair.city, pair.district
    await city.state(filed(1))
    await city.pump()
    await eventually(partial(caught_up, city, "sf-d10"))
    await pair.cut()
    await city.state(filed(2))
    await city.state(fact("sf", "d10", delivery_facts.RequestRated(request="zones/d10/requests/1")))
    await city.pump()
    await city.state(filed(3))
    await city.transactions.run(lambda tx: city.members.standing.expel(tx, "sf-d10", "moved away"))
    await city.state(filed(4))
    await returned(city)
    assert await handled(city) == ["zones/d10/requests/4"]  # nothing comes back before the place of the end
    await city.pump()
    for _ in range(2):
        await returned(city)
        await city.pump()
    assert sorted(await handled(city)) == [f"zones/d10/requests/{number}" for number in (2, 3, 4)]
    there = [delivery_facts.RequestFiled.FromString(each.data) for each in await district.received("RequestFiled")]
    assert [each.request.name for each in there] == ["zones/d10/requests/1"]
    ids = [each.id for each in await city.facts()]
    assert len(set(ids)) == len(ids)  # who passed over the first takes the second
    assert {each.node for each in await city.facts() if each.type.endswith("RequestFiled")} == {"sf"}


async def test_what_comes_back_waits_for_nobody_to_join_again(pair: Pair) -> None:
    """The queue is forgotten when the child is admitted anew, before the exporter has come to the end of the first."""
    city, district = pair.city, pair.district
    await pair.cut()
    await city.state(filed(1))
    await city.pump()
    await city.transactions.run(lambda tx: city.members.standing.expel(tx, "sf-d10", "moved away"))
    await district.transactions.run(lambda tx: district.members.standing.ended_by_peer(tx, "sf", "EXPELLED", "moved"))
    await pair.world.join(city, district, "d10")
    await returned(city)
    await pair.dial()
    await eventually(partial(zone_is_given_again, city))
    await city.pump()
    await eventually(partial(caught_up, city, "sf-d10"))
    await returned(city)
    assert await handled(city) == ["zones/d10/requests/1"]
    assert await district.received("RequestFiled") == []


async def zone_is_given_again(node: Node) -> bool:
    return await zone_facts(node) == ["ZoneDelegated", "ZoneWithdrawn", "ZoneDelegated"]


async def test_a_queue_that_comes_back_is_not_freed_before(pair: Pair) -> None:
    city = pair.city
    await pair.cut()
    await city.state(filed(1))
    await city.pump()
    await city.transactions.run(lambda tx: city.members.standing.expel(tx, "sf-d10", "moved away"))
    long_ago = "UPDATE peers SET state_since = state_since - interval '8 days'"
    await city.transactions.run(lambda tx: tx.conn.execute(long_ago))
    await city.transactions.run(city.members.standing.free)
    await city.pump()
    await returned(city)
    assert await handled(city) == ["zones/d10/requests/1"]
    await city.transactions.run(city.members.standing.free)
    assert await city.transactions.read(lambda conn: conn.fetchval("SELECT count(*) FROM peer_outbox")) == 0


async def test_revoked_certificates_end_the_stream_and_need_two_people(pair: Pair) -> None:
    city, district = pair.city, pair.district
    await city.transactions.run(lambda tx: city.members.standing.revoke(tx, "sf-d10", "a laptop was lost"))
    await eventually(partial(apart, pair))
    await send(pair, 1)

    async def without() -> bool:
        return (await district.peer("sf")).certificate == "" or await refused(district, "revoked")

    await eventually(without)
    for person in PEOPLE:
        assert await names_at(city) == []
        await city.approve(district, person)

    await eventually(lambda: names_at(city))
    assert len(await city.contracts()) == 1

    async def calm() -> bool:
        return not await set_alarms(district)

    await eventually(calm)
