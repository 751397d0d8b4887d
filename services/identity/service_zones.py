"""Zones and organisations: the first half of DirectoryService."""

from dataclasses import replace
from functools import partial

from libs import paging
from libs.access import current_caller
from libs.db import Connection
from libs.errors import Exhausted, Invalid, NotFound, Reason, WrongState
from libs.tx import Transactions, Tx
from libs.zones import parse_boundary
from quintet.common.v1.common_pb2 import Flag
from quintet.identity.v1 import directory_pb2, directory_pb2_grpc
from quintet.identity.v1.facts_pb2 import OrganisationChanged, ZoneChanged
from services.identity import messages, store_zones
from services.identity.model import (
    ORGANISATION_DEPTH_MAX,
    ZONE_DEPTH_MAX,
    ZONES,
    ZONES_MAX,
    Organisation,
    Zone,
    check_aliases,
    folded,
)
from services.identity.resolver import AccessResolver

# A fact on the bus holds 512 KiB, and the other fields of the zone need room too.
BOUNDARY_BYTES_MAX = 480 * 1024
# Half of what one answer may have, so that whatever else is in the zones fits as well.
PAGE_BYTES_MAX = 2 * 1024 * 1024
WRITE_ZONES = "identity.zones.write"
WRITE_ORGANISATIONS = "identity.organisations.write"


class ZoneMethods(directory_pb2_grpc.DirectoryServiceServicer):
    """The methods of DirectoryService that are about places and bodies."""

    def __init__(self, transactions: Transactions, resolver: AccessResolver, root: str) -> None:
        """`root` is the code of the node's own zone."""
        self._transactions = transactions
        self._resolver = resolver
        self._root = root

    # ----------------------------------------------------------------------------------------------------------- zones

    async def PutZone(self, request: directory_pb2.PutZoneRequest, _context: object) -> directory_pb2.PutZoneResponse:
        zone = messages.zone_of(request.zone)
        check_aliases(zone)
        if len(zone.boundary.encode()) > BOUNDARY_BYTES_MAX:
            raise Invalid("zone.boundary", f"must have at most {BOUNDARY_BYTES_MAX} bytes: simplify it")
        parse_boundary(zone.boundary, field="zone.boundary")
        if zone.code == self._root and zone.parent:
            raise Invalid("zone.parent", "must be empty for the node's own zone")
        current_caller().require(WRITE_ZONES, zone=zone.code)
        return await self._transactions.mutate(
            request, directory_pb2.PutZoneResponse, partial(self._put_zone, zone=zone)
        )

    async def _put_zone(self, tx: Tx, zone: Zone) -> directory_pb2.PutZoneResponse:
        await store_zones.lock_zones(tx.conn)
        before = await store_zones.get_zone(tx.conn, zone.code)
        if before is None and await store_zones.count_zones(tx.conn) >= ZONES_MAX:
            raise Exhausted(Reason.QUOTA, f"a node has at most {ZONES_MAX} zones")
        moved = before is None or before.parent != zone.parent
        if moved:
            self._require_move(before, zone)
        path = await store_zones.zone_path(tx.conn, zone.parent) if zone.parent else []
        _check_parent(zone, path)
        await self._check_names(tx.conn, zone)
        depth = len(path) + (0 if (path or [zone.code])[-1] == self._root else 1)
        zone = replace(zone, depth=depth, delegated_to=await store_zones.get_delegation(tx.conn, zone.code))
        changed = zone != before
        if changed:
            await store_zones.save_zone(tx.conn, zone)
            if moved and await store_zones.greatest_depth(tx.conn) > ZONE_DEPTH_MAX:
                raise _too_deep()
            publish_zone(tx, zone)
        tx.audit("identity.zones.put", zone.name, changed=changed, parent=zone.parent)
        return directory_pb2.PutZoneResponse(zone=messages.zone_message(zone), changed=changed)

    def _require_move(self, before: Zone | None, zone: Zone) -> None:
        """Who puts a zone somewhere needs the right there too, and where it was; at the top, in the whole node."""
        current_caller().require(WRITE_ZONES, zone=zone.parent or self._root)
        if before is not None:
            current_caller().require(WRITE_ZONES, zone=before.parent or self._root)

    async def _check_names(self, conn: Connection, zone: Zone) -> None:
        taken = await store_zones.alias_owner(conn, zone)
        if taken is None:
            return
        name, owner = taken
        for index, alias in enumerate(zone.aliases):
            if folded(alias) == folded(name):
                raise Invalid(f"zone.aliases[{index}]", f"is a name of zones/{owner}")
        raise Invalid("zone", f"has a name that is an alias of zones/{owner}: {name!r}")

    async def GetZone(self, request: directory_pb2.GetZoneRequest, _context: object) -> directory_pb2.GetZoneResponse:
        code = request.name.removeprefix(ZONES)
        zone = await self._transactions.read(lambda conn: store_zones.find_zone(conn, code))
        if zone is None:
            raise NotFound(Reason.ZONE_NOT_FOUND, f"{request.name} does not exist", name=request.name)
        return directory_pb2.GetZoneResponse(zone=messages.zone_message(zone))

    async def ListZones(
        self, request: directory_pb2.ListZonesRequest, _context: object
    ) -> directory_pb2.ListZonesResponse:
        after = paging.after(request.page_token, int, str, of="zones")
        size = paging.size(request.page_size)
        zones, more = await self._transactions.read(
            lambda conn: store_zones.list_zones(conn, after=after, limit=size, bytes_max=PAGE_BYTES_MAX)
        )
        rows = [*zones, zones[-1]] if more else zones
        page, token = paging.page(rows, len(zones), lambda zone: (zone.depth, zone.code), of="zones")
        return directory_pb2.ListZonesResponse(
            zones=[messages.zone_message(zone) for zone in page], next_page_token=token
        )

    async def ResolvePlace(
        self, request: directory_pb2.ResolvePlaceRequest, _context: object
    ) -> directory_pb2.ResolvePlaceResponse:
        place = request.place
        found = self._resolver.tree().resolve(
            zone_hint=place.zone_hint,
            neighbourhood=place.neighbourhood,
            address=place.address,
            latitude=place.point.latitude if place.HasField("point") else None,
            longitude=place.point.longitude if place.HasField("point") else None,
        )
        return directory_pb2.ResolvePlaceResponse(
            zone=found.zone,
            confidence=found.confidence,
            reason=found.reason,
            flags=[Flag(code=doubt.code, field=doubt.field, reason=doubt.reason) for doubt in found.flags],
        )

    # --------------------------------------------------------------------------------------------------- organisations

    async def PutOrganisation(
        self, request: directory_pb2.PutOrganisationRequest, _context: object
    ) -> directory_pb2.PutOrganisationResponse:
        organisation = messages.organisation_of(request.organisation)
        current_caller().require(WRITE_ORGANISATIONS, zone=organisation.zone)
        return await self._transactions.mutate(
            request,
            directory_pb2.PutOrganisationResponse,
            partial(self._put_organisation, organisation=organisation),
        )

    async def _put_organisation(self, tx: Tx, organisation: Organisation) -> directory_pb2.PutOrganisationResponse:
        await store_zones.lock_organisations(tx.conn)
        before = await store_zones.get_organisation(tx.conn, organisation.name)
        if before is not None:
            current_caller().require(WRITE_ORGANISATIONS, zone=before.zone)
        if await store_zones.missing(tx.conn, zones=[organisation.zone], organisations=[]):
            raise Invalid("organisation.zone", "names no zone of this node", reason=Reason.ZONE_NOT_FOUND)
        path = await store_zones.organisation_path(tx.conn, organisation.parent) if organisation.parent else []
        if organisation.parent and not path:
            reason = Reason.ORGANISATION_NOT_FOUND
            raise Invalid("organisation.parent", "names no organisation of this node", reason=reason)
        if organisation.name in path or len(path) > ORGANISATION_DEPTH_MAX:
            text = f"{organisation.parent} is below {organisation.name}, or too deep"
            raise WrongState(Reason.WRONG_STATE, text, name=organisation.name)
        changed = organisation != before
        if changed:
            await store_zones.save_organisation(tx.conn, organisation)
            message = OrganisationChanged(organisation=messages.organisation_message(organisation))
            tx.publish(message, zone=organisation.zone, key=organisation.name)
        tx.audit("identity.organisations.put", organisation.name, changed=changed, zone=organisation.zone)
        return directory_pb2.PutOrganisationResponse(
            organisation=messages.organisation_message(organisation), changed=changed
        )

    async def ListOrganisations(
        self, request: directory_pb2.ListOrganisationsRequest, _context: object
    ) -> directory_pb2.ListOrganisationsResponse:
        after = paging.after(request.page_token, str, of="organisations")
        size = paging.size(request.page_size)
        organisations = await self._transactions.read(
            lambda conn: store_zones.list_organisations(conn, after=after[0] if after else "", limit=size + 1)
        )
        page, token = paging.page(organisations, size, lambda item: (item.name,), of="organisations")
        return directory_pb2.ListOrganisationsResponse(
            organisations=[messages.organisation_message(item) for item in page], next_page_token=token
        )


def publish_zone(tx: Tx, zone: Zone) -> None:
    """State that a zone is now so."""
    tx.publish(ZoneChanged(zone=messages.zone_message(zone)), zone=zone.code, key=zone.name)


def _check_parent(zone: Zone, path: list[str]) -> None:
    """Raise unless the parent, whose path to the top this is, exists and does not lie below the zone."""
    if zone.parent and not path and zone.parent != zone.code:
        raise Invalid("zone.parent", "names no zone of this node", reason=Reason.ZONE_NOT_FOUND)
    if zone.code in (zone.parent, *path):
        text = f"zones/{zone.parent} lies below {zone.name}"
        raise WrongState(Reason.ZONE_CIRCLE, text, name=zone.name)
    if len(path) > ZONE_DEPTH_MAX:
        raise _too_deep()


def _too_deep() -> WrongState:
    return WrongState(Reason.WRONG_STATE, f"zones lie at most {ZONE_DEPTH_MAX} levels deep")
