"""The servicer of ComponentTypeService."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import Invalid, NotFound, Reason
from quintet.management.v1 import catalogue_pb2 as pb
from quintet.management.v1.catalogue_pb2_grpc import ComponentTypeServiceServicer
from services.management import store_types
from services.management.catalogue import store_components
from services.management.catalogue.convert_components import component_type_of, component_type_pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.management.service_base import Context


class ComponentTypeServicer(ComponentTypeServiceServicer):
    """Component types of one node."""

    def __init__(self, transactions: Transactions, zones: Callable[[], ZoneTree]) -> None:
        self._transactions = transactions
        self._zones = zones

    async def PutComponentType(
        self, request: pb.PutComponentTypeRequest, _context: Context
    ) -> pb.PutComponentTypeResponse:
        return await self._transactions.mutate(request, pb.PutComponentTypeResponse, partial(self._put, request))

    async def _put(self, request: pb.PutComponentTypeRequest, tx: Tx) -> pb.PutComponentTypeResponse:
        wanted = component_type_of(request.component_type)
        zones = [owner.zone for owner in wanted.owners]
        if len(set(zones)) < len(zones):
            raise Invalid("componentType.owners", "must have one owner per zone")
        if len(set(wanted.event_types)) < len(wanted.event_types):
            raise Invalid("componentType.eventTypes", "must name each type once")
        there = await store_types.there(tx.conn, wanted.event_types)
        strange = [place for place, name in enumerate(wanted.event_types) if name not in there]
        if strange:
            field = f"componentType.eventTypes[{strange[0]}]"
            raise Invalid(field, f"{wanted.event_types[strange[0]]} is not an event type of this node")
        # A type counts in the whole node, so whoever writes it needs the right in the whole node.
        caller = current_caller()
        caller.require("management.component_types.write", zone=self._zones().root)
        stored, changed = await store_components.put(tx.conn, wanted, actor=caller.subject, now=tx.now)
        if changed:
            tx.audit("management.component_types.put", stored.name, version=stored.version)
        return pb.PutComponentTypeResponse(component_type=component_type_pb(stored), changed=changed)

    async def GetComponentType(
        self, request: pb.GetComponentTypeRequest, _context: Context
    ) -> pb.GetComponentTypeResponse:
        found = await self._transactions.look(lambda conn: store_components.get(conn, request.name, request.version))
        if found is None:
            text = f"{request.name} does not exist" + (f" in version {request.version}" if request.version else "")
            raise NotFound(Reason.COMPONENT_TYPE_NOT_FOUND, text, name=request.name)
        return pb.GetComponentTypeResponse(component_type=component_type_pb(found))

    async def ListComponentTypes(
        self, request: pb.ListComponentTypesRequest, _context: Context
    ) -> pb.ListComponentTypesResponse:
        size = paging.size(request.page_size)
        of = f"component types {request.event_type}"
        after = paging.after(request.page_token, str, of=of)
        rows = await self._transactions.look(
            lambda conn: store_components.list_types(
                conn, event_type=request.event_type, after=after[0] if after else "", limit=size + 1
            )
        )
        page, token = paging.page(rows, size, lambda found: (found.name,), of=of)
        return pb.ListComponentTypesResponse(
            component_types=[component_type_pb(each) for each in page], next_page_token=token
        )
