"""What identity makes of the facts of federation."""

from google.protobuf.message import Message

from libs.ids import new_id
from libs.testing import eventually
from libs.tx import Tx
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1.facts_pb2 import ZoneDelegated, ZoneWithdrawn
from quintet.identity.v1 import directory_pb2 as d
from quintet.identity.v1.facts_pb2 import ZoneChanged
from services.identity.facts import handlers

from .conftest import Node, zone

D10 = "us-ca-sf-d10"


def fact(message: Message, received_from: str = "") -> Fact:
    return Fact(
        id=new_id(), type=message.DESCRIPTOR.full_name, node="sf", zone=D10, key=f"zones/{D10}",
        data=message.SerializeToString(), received_from=received_from,
    )  # fmt: skip


async def handle(node: Node, message: Message, received_from: str = "") -> None:
    async def work(tx: Tx) -> None:
        await handlers()[type(message)](tx, fact(message, received_from), message)

    await node.transactions.run(work)


async def delegated_to(node: Node, code: str = D10) -> str:
    admin = await node.admin()
    response: d.GetZoneResponse = await admin.call(admin.directory.GetZone, d.GetZoneRequest(name=f"zones/{code}"))
    return response.zone.delegated_to


async def stated(node: Node) -> list[str]:
    return [each.zone.delegated_to for each in await node.facts(ZoneChanged) if each.zone.name == f"zones/{D10}"]


async def test_a_delegated_zone_says_so_and_comes_back(node: Node) -> None:
    await node.grow()
    for message in (ZoneDelegated(zone=D10, node="sf-d10"), ZoneDelegated(zone=D10, node="sf-d10")):
        await handle(node, message)
    assert await delegated_to(node) == "sf-d10"
    await handle(node, ZoneWithdrawn(zone=D10, node="sf-d10"))
    assert await delegated_to(node) == ""
    assert await stated(node) == ["", "sf-d10", ""]


async def test_a_late_withdrawal_does_not_take_the_zone_from_the_next_node(node: Node) -> None:
    await node.grow()
    await handle(node, ZoneDelegated(zone=D10, node="sf-d10-new"))
    await handle(node, ZoneWithdrawn(zone=D10, node="sf-d10"))
    assert await delegated_to(node) == "sf-d10-new"


async def test_a_put_keeps_the_delegation(node: Node) -> None:
    await node.grow()
    await handle(node, ZoneDelegated(zone=D10, node="sf-d10"))
    admin = await node.admin()
    wanted = zone(D10, "us-ca-sf", "10", "Bayview", "Hunters Point")
    wanted.delegated_to = "somebody"
    response = await admin.call(admin.directory.PutZone, d.PutZoneRequest(zone=wanted))
    assert response.zone.delegated_to == "sf-d10"
    assert (await stated(node))[-1] == "sf-d10"


async def test_a_zone_that_comes_after_its_delegation_has_it(node: Node) -> None:
    await handle(node, ZoneDelegated(zone=D10, node="sf-d10"))
    await node.grow()
    assert await delegated_to(node) == "sf-d10"


async def test_how_other_nodes_delegate_is_their_own_business(node: Node) -> None:
    await node.grow()
    await handle(node, ZoneDelegated(zone=D10, node="sf-potrero-hill"), received_from="sf-d10")
    assert await delegated_to(node) == ""


async def test_facts_from_the_bus_take_effect_once(node: Node) -> None:
    await node.grow()
    bus = await node.nats.connect("federation")
    try:
        sent = fact(ZoneDelegated(zone=D10, node="sf-d10"))
        await bus.publish(sent)
        await eventually(lambda: delegated_to(node))
        await handle(node, ZoneWithdrawn(zone=D10, node="sf-d10"))
        await bus.publish(sent)
        again = fact(ZoneDelegated(zone="us-ca-sf-d6", node="sf-d6"))
        await bus.publish(again)
        await eventually(lambda: delegated_to(node, "us-ca-sf-d6"))
        assert await delegated_to(node) == ""
    finally:
        await bus.close()
