"""A zone that was delegated gets another code, at one node or at both: what names the former one goes on."""

from functools import partial

import pytest
import pytest_asyncio

from libs.clock import ManualClock
from libs.errors import NotFound, WrongState
from libs.testing import eventually
from libs.zones import ZoneRecord, ZoneTree
from quintet.delivery.v1 import delivery_pb2
from quintet.delivery.v1 import facts_pb2 as delivery_facts
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import membership_store, rows
from services.federation.terms import ActiveContract
from services.federation.tests.pairs import event, fact, in_force, names_at
from services.federation.tests.test_directives import DELIVERED, kept, send, state_is
from services.federation.tests.tiers import Tiers
from services.federation.tests.world import Node, World

FORMER, PRESENT = "d10", "district-10"


@pytest_asyncio.fixture
async def tiers(timed: World, present: ManualClock) -> Tiers:
    """The district has joined for `d10`; the city calls it `district-10` now."""
    city, district = await timed.node("sf", "city"), await timed.node("sf-d10", FORMER)
    found = Tiers(timed, city, district, await timed.node("sf-hill", "hill"), present, {})
    await timed.join(city, district, FORMER)
    await found.join(district)
    for node in (city, district):
        await eventually(partial(in_force, node))
        await node.pump()
    city.places.rename(FORMER, PRESENT)
    return found


@pytest.fixture(params=["the city only", "both"])
def both(request: pytest.FixtureRequest, tiers: Tiers) -> Tiers:
    """In the second round the district, whose file still says `d10`, has the new code, too."""
    if request.param == "both":
        tiers.district.places.rename(FORMER, PRESENT)
        assert tiers.district.tree.root == PRESENT
    return tiers


async def filed(city: Node, zone: str, number: int) -> None:
    request = delivery_pb2.Request(name=f"zones/{zone}/requests/{number}")
    await city.state(fact("sf", zone, delivery_facts.RequestFiled(request=request)))
    await city.pump()


async def test_facts_flow_both_ways_under_either_code(both: Tiers) -> None:
    city, district = both.city, both.district
    zones = [FORMER, "hill", *([PRESENT] if district.tree.root == PRESENT else [])]
    for number, zone in enumerate(zones):
        await district.state(event("sf-d10", zone, number))
    await district.pump()

    async def arrived() -> bool:
        return await names_at(city) == [f"zones/{zone}/events/{number}" for number, zone in enumerate(zones)]

    await eventually(arrived)
    for number, zone in enumerate((FORMER, PRESENT, "hill")):
        await filed(city, zone, number)
    await filed(city, "d6", 9)  # not theirs under any code

    async def down() -> bool:
        return len(await district.received("RequestFiled")) == 3

    await eventually(down)
    assert {each.zone for each in await district.received("RequestFiled")} == {FORMER, PRESENT, "hill"}


async def test_a_directive_finds_the_child_under_either_code(tiers: Tiers) -> None:
    tiers.district.places.rename(FORMER, PRESENT)
    for zone in (FORMER, PRESENT, "hill"):
        name = await send(tiers, tiers.city, zone)
        await state_is(tiers.city, name, DELIVERED)
        there = await kept(tiers.district, name)
        assert there is not None
        assert there.to_node == "sf-d10"


async def test_a_zone_is_delegated_once_whatever_it_is_called(tiers: Tiers) -> None:
    city = tiers.city
    for zone in (FORMER, PRESENT, "hill"):
        request = pb.CreateInvitationRequest(node="other", kind=pb.PEER_KIND_CHILD, zone=zone)
        with pytest.raises(WrongState, match="delegated"):
            await city.membership.invite(request)
    assert await delegations(city) == {FORMER: "sf-d10"}
    await city.transactions.run(lambda tx: city.members.standing.withdraw_zone(tx, PRESENT, "reform"))
    with pytest.raises(NotFound):
        await city.transactions.run(lambda tx: city.members.standing.withdraw_zone(tx, FORMER, "again"))
    assert await delegations(city) == {}


@pytest.mark.parametrize("offered", [FORMER, PRESENT])
async def test_a_child_joins_under_the_code_that_its_parent_has_now(tiers: Tiers, offered: str) -> None:
    """The child's file says `d10`; its own list of zones knows that this is `district-10` now."""
    city, district = tiers.city, tiers.district
    district.places.rename(FORMER, PRESENT)
    await city.transactions.run(lambda tx: city.members.standing.expel(tx, "sf-d10", "begins anew"))

    async def over() -> bool:
        return (await district.peer("sf")).state == pb.PEER_STATE_EXPELLED

    await eventually(over)
    await tiers.world.join(city, district, offered)
    assert await delegations(city) == {PRESENT: "sf-d10"}
    charter = (await district.contracts())[0]
    assert (charter.terms.zone, charter.state) == (PRESENT, pb.CONTRACT_STATE_VERIFIED)


async def delegations(node: Node) -> dict[str, str]:
    return await node.transactions.read(membership_store.all_delegations)


def test_a_row_filter_means_the_zone_and_not_its_code() -> None:
    tree = ZoneTree([ZoneRecord("city"), ZoneRecord(PRESENT, "city", aliases=(FORMER,))], root="city")
    terms = pb.Terms(zone="city")
    terms.filter.zones.append(FORMER)
    contract = ActiveContract(
        "contracts/x", pb.CONTRACT_KIND_EXCHANGE, "sf-d10", "sf", "sf-d10", terms, b"", None, zone_withdrawn=False
    )
    assert rows._in_zones(contract, tree, PRESENT)
    assert rows._in_zones(contract, tree, FORMER)
    assert not rows._in_zones(contract, tree, "city")
