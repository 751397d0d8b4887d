"""Rows and facts around a suspension and around the switch to an amendment: none lost, none under both contracts."""

from functools import partial

import pytest
import pytest_asyncio

from libs import rows
from libs.clock import ManualClock
from libs.errors import Invalid, WrongState
from libs.testing import eventually
from quintet.delivery.v1 import delivery_pb2
from quintet.delivery.v1 import facts_pb2 as delivery_facts
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2 as pb
from quintet.management.v1 import facts_pb2 as management_facts
from quintet.sharing.v1 import facts_pb2 as sharing_facts
from services.federation import contracts_store, machine, transfer_machine
from services.federation.tests.contracting import Two, terms
from services.federation.tests.pairs import fact, linked
from services.federation.tests.world import Node, World


@pytest_asyncio.fixture
async def tiers(timed: World, present: ManualClock) -> Two:
    """A district and its city, with the charter in force and flowing."""
    pair = await linked(timed)
    return Two(timed, pair.district, pair.city, present)


async def write(two: Two, day: int) -> None:
    """Let the provider's sharing state a row."""
    written = sharing_facts.ProductRowsWritten(
        product="products/p",
        version=1,
        fields=["station", "day", "mean"],
        rows=rows.dumps([("s", f"2026-01-{day:02}", 1.5)]),
        count=1,
        key_fields=["station", "day"],
    )
    await two.provider.state(fact("beijing", "d6", written))
    await two.provider.pump()


async def arrived(two: Two) -> list[tuple[int, str]]:
    """Return the days of the rows that the consumer has, each with the contract under which it came."""
    found = []
    for each in await two.consumer.received("ProductRowsWritten"):
        written = sharing_facts.ProductRowsWritten.FromString(each.data)
        found += [(int(str(row[1])[-2:]), each.contract) for row in rows.loads(written.rows, 3)]
    return found


async def test_rows_stand_still_while_a_transfer_is_suspended_by_either_side(two: Two) -> None:
    name = await two.in_force(terms())
    (transfer,) = await two.provider.transfers(name)
    await write(two, 1)
    for node in two.both:
        await step(two, node, transfer.name, transfer_machine.SUSPENSION)
        await eventually(partial(two.provider.transfers, name, pb.TRANSFER_STATE_SUSPENDED))
        await write(two, 2)
        await two.idle()
        await step(two, node, transfer.name, transfer_machine.START)
        await eventually(partial(two.provider.transfers, name, pb.TRANSFER_STATE_STARTED))
        await two.provider.pump()
    await write(two, 3)
    await eventually(partial(came, two, 2))
    assert [day for day, _ in await arrived(two)] == [1, 3]  # what stood still, sharing states again
    assert (await two.contract(two.consumer, name)).refused == 0


async def step(two: Two, node: Node, transfer: str, message: str) -> None:
    await two.take(node, lambda tx: node.negotiator.transfers.take(tx, transfer, message, "repairs"))


async def came(two: Two, count: int) -> bool:
    return len(await arrived(two)) >= count


async def test_an_amendment_takes_over_after_the_notice_and_no_row_goes_under_both(two: Two) -> None:
    old = await two.in_force(terms(notice_days=5))
    await write(two, 1)
    amended = await two.take(
        two.consumer, lambda tx: two.consumer.negotiator.amend(tx, old, terms(notice_days=5, retention_days=9))
    )
    new = amended.name
    assert (amended.version, amended.amends) == (2, old)
    with pytest.raises(WrongState, match="amends"):
        await two.consumer.transactions.run(lambda tx: two.consumer.negotiator.amend(tx, old, terms()))
    await two.state_is(two.provider, new, pb.CONTRACT_STATE_REQUESTED)
    await two.agreed(new)
    await two.pass_time(days=4)
    for node in two.both:
        await node.pump()
        assert (await two.contract(node, new)).awaits_switch
        active = await node.transactions.read(partial(contracts_store.active_with, peer=two.other(node).id))
        assert list(active) == [old]
    await write(two, 2)
    await two.pass_time(days=2)
    await write(two, 3)  # after the place of the switch, before the new transfer: sharing states it when that starts
    ended = await two.ended_alike(old)
    assert (ended.reason, ended.superseded_by) == (machine.SUPERSEDED, new)
    await eventually(partial(two.provider.transfers, new, pb.TRANSFER_STATE_STARTED))
    await two.provider.pump()
    await write(two, 5)
    await eventually(partial(came, two, 3))
    await two.idle()
    assert await arrived(two) == [(1, old), (2, old), (5, new)]
    for node in two.both:
        assert [each.refused for each in await node.contracts()] == [0, 0]


async def test_both_may_agree_to_waive_the_notice(two: Two) -> None:
    old = await two.in_force(terms(notice_days=300))
    amended = await two.take(two.provider, lambda tx: two.provider.negotiator.amend(tx, old, terms(waive_notice=True)))
    await two.state_is(two.consumer, amended.name, pb.CONTRACT_STATE_OFFERED)
    await two.take(two.consumer, lambda tx: two.consumer.negotiator.accept(tx, amended.name))
    await two.state_is(two.provider, amended.name, pb.CONTRACT_STATE_ACCEPTED)
    await two.agreed(amended.name)
    await two.pass_time(seconds=1)
    await two.provider.pump()
    await two.ended_alike(old)


async def test_what_ends_takes_its_amendment_with_it(two: Two) -> None:
    old = await two.in_force(terms(notice_days=5))
    amended = await two.take(two.consumer, lambda tx: two.consumer.negotiator.amend(tx, old, terms(retention_days=9)))
    await two.state_is(two.provider, amended.name, pb.CONTRACT_STATE_REQUESTED)
    await two.agreed(amended.name)
    await two.take(two.provider, lambda tx: two.provider.negotiator.terminate(tx, old, "a leak"))
    await two.ended_alike(old)
    assert "amends" in (await two.ended_alike(amended.name)).reason


async def test_an_end_that_crosses_the_switch_ends_both_at_both_nodes(two: Two) -> None:
    old = await two.in_force(terms())
    amended = await two.take(two.consumer, lambda tx: two.consumer.negotiator.amend(tx, old, terms(retention_days=9)))
    await two.state_is(two.provider, amended.name, pb.CONTRACT_STATE_REQUESTED)
    await two.agreed(amended.name)
    await two.idle()
    await two.look(two.provider)
    # The provider switches and the consumer ends the contract before they hear of each other.
    switched = two.provider.pump()
    await two.consumer.transactions.run(lambda tx: two.consumer.negotiator.terminate(tx, old, "no more need"))
    await switched
    for node in two.both:
        node.hub.wake(two.other(node).id)
    await two.ended_alike(amended.name)
    await two.ended_alike(old)


def charter(two: Two, *more: str) -> pb.Terms:
    kept = pb.Terms()
    kept.facts.add(type="quintet.management.v1.EventOpened", direction=pb.DIRECTION_UP)
    kept.facts.add(type="quintet.delivery.v1.RequestRated", direction=pb.DIRECTION_DOWN)
    for name in more:
        kept.facts.add(type=name, direction=pb.DIRECTION_DOWN)
    kept.zone, kept.purpose = "d10", "tier charter"
    return kept


async def test_a_charter_grows_without_joining_again_and_loses_nothing(tiers: Two) -> None:
    """Facts go both ways all the time while a kind of fact is added."""
    two, city, district = tiers, tiers.provider, tiers.consumer
    (old,) = [contract.name for contract in await city.contracts()]
    number = 0

    async def both_ways() -> None:
        nonlocal number
        number += 1
        opened, filed = management_facts.EventOpened(), delivery_facts.RequestRated()
        opened.event.name = f"zones/d10/events/{number}"
        filed.request = f"zones/d10/requests/{number}"
        await district.state(fact("sf-d10", "d10", opened))
        await city.state(fact("sf", "d10", filed))
        await district.pump()
        await city.pump()

    await both_ways()
    wider = charter(two, "quintet.delivery.v1.RequestFiled")
    amended = await two.take(city, lambda tx: city.negotiator.amend(tx, old, wider))
    await two.state_is(district, amended.name, pb.CONTRACT_STATE_OFFERED)
    await two.take(district, lambda tx: district.negotiator.accept(tx, amended.name))
    await two.state_is(city, amended.name, pb.CONTRACT_STATE_ACCEPTED)
    await both_ways()
    await two.agreed(amended.name)
    await both_ways()
    await two.pass_time(seconds=1)
    for _ in range(4):
        await both_ways()
    await two.state_is(district, old, pb.CONTRACT_STATE_TERMINATED)
    for _ in range(3):
        await both_ways()

    async def all_there() -> bool:
        await district.pump()
        up, down = await city.received("EventOpened"), await district.received("RequestRated")
        return len(up) >= number and len(down) >= number

    await eventually(all_there)
    await two.idle()
    for node, kind in ((city, "EventOpened"), (district, "RequestRated")):
        facts = await node.received(kind)
        assert [numbered(each) for each in facts] == list(range(1, number + 1))
        under = [each.contract for each in facts]
        assert set(under) == {old, amended.name}
        assert under == sorted(under, key=[old, amended.name].index)  # the one, then the other
        assert [each.refused for each in await node.contracts()] == [0, 0]

    request = delivery_pb2.Request(name="zones/d10/requests/new")
    await city.state(fact("sf", "d10", delivery_facts.RequestFiled(request=request)))
    await city.pump()
    await eventually(partial(district.received, "RequestFiled"))
    accepting = await city.transactions.read(lambda conn: contracts_store.accepting_from(conn, "sf-d10"))
    assert list(accepting) == [amended.name]  # nothing more is taken under the old one
    assert len([each for each in await city.facts() if each.type.endswith("ZoneDelegated")]) == 1


def numbered(fact: Fact) -> int:
    """Return the number in the name that a fact is about."""
    if fact.type.endswith("EventOpened"):
        name = management_facts.EventOpened.FromString(fact.data).event.name
    else:
        name = delivery_facts.RequestRated.FromString(fact.data).request
    return int(name.rpartition("/")[2])


async def test_a_charter_keeps_its_zone(tiers: Two) -> None:
    (old,) = [contract.name for contract in await tiers.provider.contracts()]
    other = charter(tiers)
    other.zone = "d6"
    with pytest.raises(Invalid, match=r"terms\.zone"):
        await tiers.provider.transactions.run(lambda tx: tiers.provider.negotiator.amend(tx, old, other))
