"""Event types."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import Invalid, NotFound, Reason
from quintet.management.v1 import management_pb2 as pb
from services.management import convert, store_types
from services.management.service_base import Context, Methods

if TYPE_CHECKING:
    from libs.tx import Tx

_TYPES_LIST = "event types"


class EventTypeMethods(Methods):
    """Methods for event types."""

    async def PutEventType(self, request: pb.PutEventTypeRequest, _context: Context) -> pb.PutEventTypeResponse:
        return await self._transactions.mutate(request, pb.PutEventTypeResponse, partial(self._put_type, request))

    async def _put_type(self, request: pb.PutEventTypeRequest, tx: Tx) -> pb.PutEventTypeResponse:
        wanted = convert.type_of(request.event_type)
        loop = await self._loops.named(tx.conn, wanted.loop)
        if loop is None:
            raise Invalid("eventType.loop", f"{wanted.loop} is not a loop of this node")
        zones = [route.zone for route in wanted.routes]
        if len(set(zones)) < len(zones):
            raise Invalid("eventType.routes", "must have one route per zone")
        strange = [state for state in wanted.step_deadlines if state not in loop.states]
        if strange:
            raise Invalid("eventType.stepDeadlines", f"{strange[0]} is not a state of {wanted.loop}")
        if len(wanted.step_deadlines) < len(request.event_type.step_deadlines):
            raise Invalid("eventType.stepDeadlines", "must have one deadline per state")
        if len(wanted.evidence) < len(request.event_type.evidence):
            raise Invalid("eventType.evidence", "must name each action once")
        for name in wanted.evidence:
            action = loop.by_name.get(name)
            if action is None or action.on_request_only:
                raise Invalid("eventType.evidence", f"{name} is not an action of {wanted.loop} that anybody takes")
        if wanted.calendar and wanted.calendar not in (await self._book.calendars(tx.conn)).by_name:
            raise Invalid("eventType.calendar", f"{wanted.calendar} is not a calendar of this node")
        # A type counts in the whole node, so whoever writes it needs the right in the whole node.
        caller = current_caller()
        caller.require("management.event_types.write", zone=self._zones().root)
        stored, changed = await store_types.put_type(tx.conn, wanted, actor=caller.subject, now=tx.now)
        if changed:
            tx.audit("management.event_types.put", stored.name, version=stored.version)
        return pb.PutEventTypeResponse(event_type=convert.type_pb(stored), changed=changed)

    async def GetEventType(self, request: pb.GetEventTypeRequest, _context: Context) -> pb.GetEventTypeResponse:
        found = await self._transactions.read(lambda conn: store_types.get_type(conn, request.name))
        if found is None:
            raise NotFound(Reason.EVENT_TYPE_NOT_FOUND, f"{request.name} does not exist", name=request.name)
        return pb.GetEventTypeResponse(event_type=convert.type_pb(found))

    async def ListEventTypes(self, request: pb.ListEventTypesRequest, _context: Context) -> pb.ListEventTypesResponse:
        size = paging.size(request.page_size)
        after = paging.after(request.page_token, str, of=_TYPES_LIST)
        rows = await self._transactions.read(
            lambda conn: store_types.list_types(conn, after=after[0] if after else "", limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda found: (found.name,), of=_TYPES_LIST)
        return pb.ListEventTypesResponse(event_types=[convert.type_pb(each) for each in page], next_page_token=token)
