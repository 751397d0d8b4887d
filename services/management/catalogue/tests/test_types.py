"""Event types and component types as reference data: classes, versions, and what they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Forbidden, Invalid, NotFound, Reason
from quintet.common.v1 import common_pb2
from quintet.management.v1 import catalogue_pb2
from quintet.management.v1 import management_pb2 as pb
from services.management.tests.samples import GRAFFITI, NOISE, PARKS, WORKS

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

ADMIN = "people/admin"
CITY = "us-ca-sf"
APPEARANCE = pb.MajorClass(code="03", title=common_pb2.LocalText(zh="市容环境类", en="City appearance"))


async def put_component(node: Node, name: str, subject: str = ADMIN, **more: Any) -> Any:
    wanted = catalogue_pb2.ComponentType(name=f"componentTypes/{name}", **more)
    request = catalogue_pb2.PutComponentTypeRequest(component_type=wanted)
    return await node.call("PutComponentType", request, subject)


async def components(node: Node, event_type: str = "", subject: str = "") -> list[str]:
    request = catalogue_pb2.ListComponentTypesRequest(event_type=event_type, page_size=1)
    names: list[str] = []
    while True:
        page = await node.call("ListComponentTypes", request, subject)
        names += [found.name.removeprefix("componentTypes/") for found in page.component_types]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return names


async def test_component_types_are_versioned(city: Node) -> None:
    bin_of: dict[str, Any] = {
        "title": common_pb2.LocalText(zh="果皮箱", en="Litter bin"),
        "code": "0303",
        "major_class": APPEARANCE,
        "owners": [catalogue_pb2.ComponentOwner(zone=CITY, organisation=WORKS)],
        "event_types": [GRAFFITI.name],
    }
    first = await put_component(city, "bin", **bin_of)
    assert (first.changed, first.component_type.version) == (True, 1)
    assert (first.component_type.major_class, first.component_type.code) == (APPEARANCE, "0303")
    assert not (await put_component(city, "bin", **bin_of)).changed
    bin_of["owners"] = [catalogue_pb2.ComponentOwner(zone="us-ca-sf-d10", organisation=PARKS)]
    second = (await put_component(city, "bin", **bin_of)).component_type

    async def get(version: int) -> Any:
        request = catalogue_pb2.GetComponentTypeRequest(name="componentTypes/bin", version=version)
        return (await city.call("GetComponentType", request, "")).component_type

    assert [await get(version) for version in (0, 1, 2)] == [second, first.component_type, second]
    with pytest.raises(NotFound) as caught:
        await get(3)
    assert caught.value.reason == Reason.COMPONENT_TYPE_NOT_FOUND


async def test_what_can_be_reported_of_which_component(city: Node) -> None:
    await put_component(city, "bin", event_types=[GRAFFITI.name])
    await put_component(city, "lamp", event_types=[GRAFFITI.name, NOISE.name])
    await put_component(city, "tree")
    assert await components(city) == ["bin", "lamp", "tree"]
    assert await components(city, GRAFFITI.name) == ["bin", "lamp"]
    await put_component(city, "bin", event_types=[NOISE.name])
    assert await components(city, GRAFFITI.name) == ["lamp"]


async def test_component_types_name_what_is_there(city: Node) -> None:
    for more, problem in (
        ({"event_types": [NOISE.name, "eventTypes/none"]}, r"eventTypes\[1\]: eventTypes/none is not an event type"),
        ({"event_types": [NOISE.name] * 2}, "must name each type once"),
        (
            {"owners": [catalogue_pb2.ComponentOwner(zone=CITY, organisation=WORKS)] * 2},
            "must have one owner per zone",
        ),
        ({"major_class": pb.MajorClass()}, "code"),
    ):
        with pytest.raises(Invalid, match=problem):
            await put_component(city, "bin", **more)
    for subject in ("people/admin.d10", "people/dispatcher"):
        with pytest.raises(Forbidden):
            await put_component(city, "bin", subject)
    assert await components(city) == []


async def test_past_versions_of_an_event_type_can_be_read(city: Node) -> None:
    wanted = pb.EventType(name="eventTypes/spill", deadline=pb.Allowance(minutes=1), major_class=APPEARANCE)
    need = pb.EvidenceNeed(action="dispose", evidence=2, photos=1)
    for minutes in (1, 2, 3):
        wanted.deadline.minutes = minutes
        if minutes == 3:
            wanted.evidence.append(need)
        await city.call("PutEventType", pb.PutEventTypeRequest(event_type=wanted), ADMIN)

    async def get(version: int) -> Any:
        request = pb.GetEventTypeRequest(name=wanted.name, version=version)
        return (await city.call("GetEventType", request, "")).event_type

    assert [(await get(version)).deadline.minutes for version in (0, 1, 2, 3)] == [3, 1, 2, 3]
    assert (list((await get(0)).evidence), (await get(0)).major_class) == ([need], APPEARANCE)
    with pytest.raises(NotFound, match="in version 4"):
        await get(4)

    request = pb.ListEventTypeVersionsRequest(name=wanted.name, page_size=2)
    page = await city.call("ListEventTypeVersions", request, ADMIN)
    assert [(each.event_type.version, each.changed_by) for each in page.versions] == [(3, ADMIN), (2, ADMIN)]
    request.page_token = page.next_page_token
    rest = await city.call("ListEventTypeVersions", request, ADMIN)
    assert [each.event_type.version for each in rest.versions] == [1]
    with pytest.raises(NotFound):
        await city.call("ListEventTypeVersions", pb.ListEventTypeVersionsRequest(name="eventTypes/none"), ADMIN)
    with pytest.raises(Forbidden):
        await city.call("ListEventTypeVersions", request, "people/resident.01")
