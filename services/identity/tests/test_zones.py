"""Zones and organisations through the running service."""

import json

import pytest

from libs import paging
from libs.errors import DomainError, Forbidden, Invalid, NotFound, Reason, Unauthenticated, WrongState
from libs.ids import new_id
from quintet.common.v1.common_pb2 import LocalText, Place, Point
from quintet.identity.v1 import directory_pb2 as d
from quintet.identity.v1.facts_pb2 import OrganisationChanged, ZoneChanged

from .conftest import Client, Node, post, zone

SQUARE = {"type": "Polygon", "coordinates": [[[-122.41, 37.75], [-122.39, 37.75], [-122.39, 37.77], [-122.41, 37.75]]]}


async def put(client: Client, wanted: d.Zone, request_id: str = "") -> d.PutZoneResponse:
    return await client.call(client.directory.PutZone, d.PutZoneRequest(zone=wanted, request_id=request_id))


async def refusal(client: Client, wanted: d.Zone) -> DomainError:
    with pytest.raises(DomainError) as raised:
        await put(client, wanted)
    return raised.value


def field(error: DomainError) -> str:
    assert isinstance(error, Invalid), error
    return error.violations[0][0]


async def test_a_zone_is_put_once_and_stated_once(node: Node) -> None:
    admin = await node.admin()
    first = await put(admin, zone("us-ca-sf-d10", "us-ca-sf", "10"))
    again = await put(admin, zone("us-ca-sf-d10", "us-ca-sf", "10"))
    assert (first.changed, again.changed) == (True, False)
    assert first.zone == again.zone == zone("us-ca-sf-d10", "us-ca-sf", "10")
    renamed = await put(admin, zone("us-ca-sf-d10", "us-ca-sf", "10", "Bayview"))
    assert renamed.changed
    stated = [list(fact.zone.aliases) for fact in await node.facts(ZoneChanged) if fact.zone.parent]
    assert stated == [["10"], ["10", "Bayview"]]


async def test_a_repeated_request_gets_its_first_answer(node: Node) -> None:
    admin = await node.admin()
    request_id = new_id()
    first = await put(admin, zone("us-ca-sf-d10", "us-ca-sf"), request_id)
    assert await put(admin, zone("us-ca-sf-d10", "us-ca-sf"), request_id) == first
    with pytest.raises(DomainError) as raised:
        await put(admin, zone("us-ca-sf-d10", "us-ca-sf", "10"), request_id)
    assert raised.value.reason == Reason.REQUEST_ID_REUSED


async def test_zones_make_a_tree(node: Node) -> None:
    await node.grow()
    admin = await node.admin()
    unknown = await refusal(admin, zone("us-ca-sf-d1", "nowhere"))
    assert (field(unknown), unknown.reason) == ("zone.parent", Reason.ZONE_NOT_FOUND)
    circle = await refusal(admin, zone("us-ca-sf-d10", "us-ca-sf-d10-potrero-hill"))
    assert isinstance(circle, WrongState)
    assert circle.reason == Reason.ZONE_CIRCLE
    assert (await refusal(admin, zone("us-ca-sf-d10", "us-ca-sf-d10"))).reason == Reason.ZONE_CIRCLE
    assert (await refusal(admin, zone("us-ca-sf-d1", "us-ca-sf-d1"))).reason == Reason.ZONE_CIRCLE
    assert field(await refusal(admin, zone("us-ca-sf", "us-ca-sf-d10"))) == "zone.parent"


async def test_a_partners_zone_stands_beside_our_own(node: Node) -> None:
    await node.grow()
    beijing = d.Zone(name="zones/cn-110000", kind=d.ZONE_KIND_CITY, title=LocalText(zh="北京市", en="Beijing"))
    local = await node.person("admin.d10", post("node_admin", "us-ca-sf-d10"))
    with pytest.raises(Forbidden):
        await put(local, beijing)
    admin = await node.admin()
    assert (await put(admin, beijing)).changed
    assert not (await put(admin, beijing)).changed
    await put(admin, zone("cn-110101", "cn-110000"))
    listed = await admin.call(admin.directory.ListZones, d.ListZonesRequest())
    names = [each.name.removeprefix("zones/") for each in listed.zones]
    assert names[:2] == ["us-ca-sf", "cn-110000"]  # our own first
    assert names[-2:] == ["cn-110101", "us-ca-sf-d10-potrero-hill"]


async def test_forged_page_tokens_are_bad_input(node: Node) -> None:
    admin = await node.admin()
    for number in (2**62, -(2**62)):
        _, token = paging.page([0, 0], 1, lambda _, number=number: (number, "x"), of="zones")  # type: ignore[misc]
        request = d.ListZonesRequest(page_token=token)
        listed = await admin.call(admin.directory.ListZones, request)
        assert len(listed.zones) == (0 if number > 0 else 1)


async def test_names_of_zones_are_unique(node: Node) -> None:
    await node.grow()
    admin = await node.admin()
    assert field(await refusal(admin, zone("us-ca-sf-d1", "us-ca-sf", "one", "BAYVIEW"))) == "zone.aliases[1]"
    assert field(await refusal(admin, zone("us-ca-sf-d1", "us-ca-sf", "us-ca-sf-d6"))) == "zone.aliases[0]"
    assert field(await refusal(admin, zone("us-ca-sf-d1", "us-ca-sf", "one", "One"))) == "zone.aliases[1]"
    assert field(await refusal(admin, zone("10", "us-ca-sf"))) == "zone"


@pytest.mark.parametrize(
    "boundary",
    [
        "not json",
        '{"type": "Point", "coordinates": [1, 2]}',
        '{"type": "Polygon", "coordinates": []}',
        '{"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}',
        '{"type": "Polygon", "coordinates": [[[0, 0], [400, 0], [400, 1], [0, 0]]]}',
        json.dumps(SQUARE) + " " * 500_000,
    ],
)
async def test_boundaries_are_polygons(node: Node, boundary: str) -> None:
    wanted = zone("us-ca-sf-d10", "us-ca-sf")
    wanted.boundary = boundary
    assert field(await refusal(await node.admin(), wanted)) == "zone.boundary"


async def test_former_codes_resolve(node: Node) -> None:
    await node.grow()
    admin = await node.admin()
    await put(admin, zone("us-ca-sf-d6", "us-ca-sf", "us-ca-sf-district-6"))
    for name in ("zones/us-ca-sf-d6", "zones/us-ca-sf-district-6"):
        found = await admin.call(admin.directory.GetZone, d.GetZoneRequest(name=name))
        assert found.zone.name == "zones/us-ca-sf-d6"
    with pytest.raises(NotFound) as raised:
        await admin.call(admin.directory.GetZone, d.GetZoneRequest(name="zones/us-ca-sf-d66"))
    assert raised.value.reason == Reason.ZONE_NOT_FOUND


async def test_lists_give_parents_before_children_page_by_page(node: Node) -> None:
    await node.grow()
    admin = await node.admin()
    # A zone moved up brings those below it along.
    await put(admin, zone("a-new-tier", "us-ca-sf"))
    await put(admin, zone("us-ca-sf-d10", "a-new-tier", "10", "Bayview"))
    seen: list[str] = []
    token = ""
    while True:
        request = d.ListZonesRequest(page_size=2, page_token=token)
        page = await admin.call(admin.directory.ListZones, request)
        assert len(page.zones) <= 2
        seen += [each.name.removeprefix("zones/") for each in page.zones]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["us-ca-sf", "a-new-tier", "us-ca-sf-d6", "us-ca-sf-d10", "us-ca-sf-d10-potrero-hill"]
    with pytest.raises(Invalid) as raised:
        await admin.call(admin.directory.ListOrganisations, d.ListOrganisationsRequest(page_token="x"))
    assert raised.value.reason == Reason.PAGE_TOKEN_INVALID


async def test_places_resolve_with_the_zones_of_the_moment(node: Node) -> None:
    admin = await node.admin()

    async def resolve(**place: object) -> d.ResolvePlaceResponse:
        request = d.ResolvePlaceRequest(place=Place(**place))  # type: ignore[arg-type]
        return await admin.call(admin.directory.ResolvePlace, request)

    before = await resolve(zone_hint="10")
    assert (before.zone, before.confidence) == ("us-ca-sf", 0)
    assert "ZONE_UNKNOWN" in {flag.code for flag in before.flags}
    await node.grow()
    bounded = zone("us-ca-sf-d10", "us-ca-sf", "10", "Bayview")
    bounded.boundary = json.dumps(SQUARE)
    await put(admin, bounded)
    assert (await resolve(zone_hint="10")).zone == "us-ca-sf-d10"
    assert (await resolve(neighbourhood="potrero hill")).zone == "us-ca-sf-d10-potrero-hill"
    found = await resolve(point=Point(latitude=37.755, longitude=-122.395))
    assert (found.zone, found.reason) == ("us-ca-sf-d10", "point '37.755, -122.395' is in us-ca-sf-d10")
    assert "COORDINATES_ZERO" in {flag.code for flag in (await resolve(point=Point())).flags}


async def test_who_may_write_zones(node: Node) -> None:
    await node.grow()
    with pytest.raises(Unauthenticated):
        await put(node.client(), zone("us-ca-sf-d10", "us-ca-sf"))
    resident = await node.person("resident.01", post("resident"))
    with pytest.raises(Forbidden):
        await put(resident, zone("us-ca-sf-d10", "us-ca-sf"))
    local = await node.person("admin.d10", post("node_admin", "us-ca-sf-d10"))
    assert (await put(local, zone("us-ca-sf-d10", "us-ca-sf", "10"))).changed
    with pytest.raises(Forbidden):  # away from the city that they do not administer
        await put(local, zone("us-ca-sf-d10-potrero-hill", "us-ca-sf"))
    with pytest.raises(Forbidden):
        await put(local, zone("us-ca-sf-d6", "us-ca-sf"))
    with pytest.raises(Forbidden):
        await put(local, zone("us-ca-sf-d7", "us-ca-sf"))
    assert (await resident.call(resident.directory.ListZones, d.ListZonesRequest())).zones


async def test_organisations_are_put_listed_and_stated(node: Node) -> None:
    await node.grow()
    admin = await node.admin()

    async def put_organisation(name: str, parent: str = "", in_zone: str = "us-ca-sf") -> bool:
        organisation = d.Organisation(
            name=f"organisations/{name}", title=LocalText(en=name), zone=in_zone, parent=parent
        )
        request = d.PutOrganisationRequest(organisation=organisation)
        response: d.PutOrganisationResponse = await admin.call(admin.directory.PutOrganisation, request)
        assert response.organisation == organisation
        return response.changed

    assert await put_organisation("street-crew", "organisations/public-works", "us-ca-sf-d10")
    assert not await put_organisation("street-crew", "organisations/public-works", "us-ca-sf-d10")
    stated = [fact.organisation.name for fact in await node.facts(OrganisationChanged)]
    assert stated == ["organisations/public-works", "organisations/parks", "organisations/street-crew"]
    listed = await admin.call(admin.directory.ListOrganisations, d.ListOrganisationsRequest(page_size=2))
    assert [each.name for each in listed.organisations] == ["organisations/parks", "organisations/public-works"]
    rest = d.ListOrganisationsRequest(page_size=2, page_token=listed.next_page_token)
    assert len((await admin.call(admin.directory.ListOrganisations, rest)).organisations) == 1
    with pytest.raises(WrongState):
        await put_organisation("public-works", "organisations/street-crew")
    with pytest.raises(Invalid, match=r"organisation\.zone"):
        await put_organisation("x", in_zone="nowhere")
    with pytest.raises(Invalid, match=r"organisation\.parent"):
        await put_organisation("x", "organisations/nobody")


async def test_an_organisation_of_elsewhere_is_not_ones_own_to_take(node: Node) -> None:
    await node.grow()
    local = await node.person("admin.d10", post("node_admin", "us-ca-sf-d10"))
    taken = d.Organisation(name="organisations/parks", zone="us-ca-sf-d10")
    with pytest.raises(Forbidden):
        await local.call(local.directory.PutOrganisation, d.PutOrganisationRequest(organisation=taken))
