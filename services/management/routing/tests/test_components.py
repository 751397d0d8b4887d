"""Reports that name a component: it is one of the catalogue, and who looks after it gets the event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Invalid
from quintet.common.v1 import common_pb2
from quintet.management.v1 import catalogue_pb2, routing_pb2
from quintet.management.v1 import management_pb2 as pb
from services.management.model import Doubt
from services.management.tests.samples import GRAFFITI, NOISE, PARKS, SEWERS, WORKS
from services.management.tests.story import OFFICER, events, filed, walk

if TYPE_CHECKING:
    from services.management.tests.conftest import MakeNode, Node

CITY, D6, D10, HILL = "us-ca-sf", "us-ca-sf-d6", "us-ca-sf-d10", "us-ca-sf-d10-potrero-hill"
LAMP = "componentTypes/lamp-post"


async def put_lamps(node: Node, *owners: tuple[str, str], event_types: tuple[str, ...] = (GRAFFITI.name,)) -> None:
    """Lamp posts, of which graffiti can be reported, with who looks after them where."""
    wanted = catalogue_pb2.ComponentType(
        name=LAMP,
        title=common_pb2.LocalText(zh="路灯杆", en="Lamp posts"),
        owners=[catalogue_pb2.ComponentOwner(zone=zone, organisation=name) for zone, name in owners],
        event_types=event_types,
    )
    await node.call("PutComponentType", catalogue_pb2.PutComponentTypeRequest(component_type=wanted), "people/admin")


async def reported(node: Node, zone: str, code: str = "", kind: str = LAMP, **more: Any) -> pb.Event:
    values: dict[str, Any] = {
        "parent": f"zones/{zone}",
        "type": GRAFFITI.name,
        "description": "Tags on a lamp post",
        "component": common_pb2.Component(type=kind, code=code),
    } | more
    event: pb.Event = (await node.call("OpenEvent", pb.OpenEventRequest(**values), OFFICER)).event
    return event


async def test_the_owner_of_the_deepest_zone_comes_before_the_routes_of_the_type(city: Node) -> None:
    await put_lamps(city, (CITY, SEWERS), (D10, PARKS))
    for zone, owner, owner_zone in ((D6, SEWERS, CITY), (D10, PARKS, D10), (HILL, PARKS, D10)):
        event = await reported(city, zone, f"L-{zone}")
        assert (event.component.type, event.component.code) == (LAMP, f"L-{zone}")
        why = event.routing
        assert (why.rule, why.inputs["organisation"], why.inputs["owner_zone"]) == (LAMP, owner, owner_zone)
        assert f"“路灯杆”在区域 {owner_zone} 由 {owner} 管护，先于类型 {GRAFFITI.name} 的派遣规则" in why.text.zh
        assert f"“Lamp posts” in {owner_zone} is looked after by {owner}" in why.text.en
        await walk(city, event.name, "file")
        assert (await walk(city, event.name, "dispatch")).organisation == owner
        request = routing_pb2.SuggestOrganisationsRequest(event=event.name)
        suggested = (await city.call("SuggestOrganisations", request, "people/dispatcher")).suggestions[0]
        assert (suggested.organisation, suggested.source) == (owner, routing_pb2.SUGGESTION_SOURCE_RULE)
        assert suggested.explanation == why
    assert (await reported(city, D10, component=None)).routing.inputs["organisation"] == WORKS, "of no component"


async def test_where_nobody_looks_after_it_the_routes_of_the_type_count(city: Node) -> None:
    await put_lamps(city, (D10, PARKS))
    event = await reported(city, D6)
    assert event.routing.rule == GRAFFITI.name
    assert event.routing.inputs["organisation"] == WORKS
    assert "“路灯杆”在 us-ca-sf-d6 没有登记权属单位" in event.routing.text.zh
    assert "nobody is said to look after “Lamp posts” in us-ca-sf-d6" in event.routing.text.en


async def test_a_component_must_be_of_the_catalogue_and_of_this_type_of_event(city: Node) -> None:
    await put_lamps(city, event_types=(NOISE.name,))
    for kind, problem in (
        (LAMP, f"component.type: {GRAFFITI.name} is not one of the event types that can be reported of {LAMP}"),
        ("componentTypes/none", "component.type: componentTypes/none is not a component type of this node"),
        ("lamp", "component.type"),
        ("", "component.type"),
    ):
        with pytest.raises(Invalid, match=problem):
            await reported(city, D6, "17", kind)
    with pytest.raises(Invalid, match=r"component\.code"):
        await reported(city, D6, "1" * 65, LAMP)
    assert await events(city) == []


async def test_no_request_is_lost_for_what_it_calls_the_thing(city: Node) -> None:
    await put_lamps(city, (CITY, SEWERS))
    await city.hear(filed(1, component=common_pb2.Component(type=LAMP, code="17")))
    await city.hear(filed(2, zone=D6, place=None, component=common_pb2.Component(type="componentTypes/none")))
    known, unknown = await events(city)
    assert (known.component.code, known.routing.inputs["organisation"], len(known.flags)) == ("17", SEWERS, 0)
    assert [(flag.code, flag.field) for flag in unknown.flags] == [(Doubt.COMPONENT_UNKNOWN, "component.type")]
    assert (unknown.component.type, unknown.routing.inputs["organisation"]) == ("componentTypes/none", WORKS)


async def test_the_tier_above_sees_the_component(make_node: MakeNode) -> None:
    street, city = await make_node("sf-d10", root=D10), await make_node("sf", D10)
    await put_lamps(street, (D10, PARKS))
    event = await reported(street, HILL, "L 17")
    await street.report_to(city)
    (seen,) = await events(city)
    assert (seen.component, seen.routing) == (event.component, event.routing)
