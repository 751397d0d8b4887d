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
    from collections.abc import Iterator

    from libs.db import Connection
    from libs.tx import Tx
    from services.management.model import EventType
    from services.management.model_loop import Loop

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
        if problems := list(_problems(request.event_type, wanted, loop)):
            raise Invalid.many(problems)
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
        async def read(conn: Connection) -> EventType | None:
            if request.version:
                return await store_types.get_version(conn, request.name, request.version)
            return await store_types.get_type(conn, request.name)

        found = await self._transactions.look(read)
        if found is None:
            raise _missing(request.name, request.version)
        return pb.GetEventTypeResponse(event_type=convert.type_pb(found))

    async def ListEventTypes(self, request: pb.ListEventTypesRequest, _context: Context) -> pb.ListEventTypesResponse:
        size = paging.size(request.page_size)
        after = paging.after(request.page_token, str, of=_TYPES_LIST)
        rows = await self._transactions.read(
            lambda conn: store_types.list_types(conn, after=after[0] if after else "", limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda found: (found.name,), of=_TYPES_LIST)
        return pb.ListEventTypesResponse(event_types=[convert.type_pb(each) for each in page], next_page_token=token)

    async def ListEventTypeVersions(
        self, request: pb.ListEventTypeVersionsRequest, _context: Context
    ) -> pb.ListEventTypeVersionsResponse:
        size = paging.size(request.page_size)
        of = f"versions {request.name}"
        after = paging.after(request.page_token, int, of=of)
        rows = await self._transactions.look(
            lambda conn: store_types.list_versions(conn, request.name, before=after[0] if after else 0, limit=size + 1)
        )
        if not rows and not after:
            raise _missing(request.name)
        page, token = paging.page(rows, size, lambda found: (found.type.version,), of=of)
        versions = [
            pb.EventTypeVersion(
                event_type=convert.type_pb(each.type),
                changed_by=each.changed_by,
                changed_at=convert.time_pb(each.changed_at),
            )
            for each in page
        ]
        return pb.ListEventTypeVersionsResponse(versions=versions, next_page_token=token)


def _missing(name: str, version: int = 0) -> NotFound:
    text = f"{name} does not exist" + (f" in version {version}" if version else "")
    return NotFound(Reason.EVENT_TYPE_NOT_FOUND, text, name=name)


def _problems(given: pb.EventType, wanted: EventType, loop: Loop) -> Iterator[tuple[str, str]]:
    """Say what of a type contradicts itself or its loop: field and rule."""
    plain = [route.zone for route in wanted.routes if not route.on_duty_only and not route.open_events_max]
    if len(set(plain)) < len(plain):
        yield "eventType.routes", "must have one route per zone, besides those with conditions"
    pairs = [(route.zone, route.organisation) for route in wanted.routes]
    if len(set(pairs)) < len(pairs):
        yield "eventType.routes", "must name each organisation of a zone once"
    for state in wanted.step_deadlines:
        if state not in loop.states:
            yield "eventType.stepDeadlines", f"{state} is not a state of {wanted.loop}"
    if len(wanted.step_deadlines) < len(given.step_deadlines):
        yield "eventType.stepDeadlines", "must have one deadline per state"
    if len(wanted.evidence) < len(given.evidence):
        yield "eventType.evidence", "must name each action once"
    for name in wanted.evidence:
        action = loop.by_name.get(name)
        if action is None or action.on_request_only:
            yield "eventType.evidence", f"{name} is not an action of {wanted.loop} that anybody takes"
    if 0 < wanted.merge.automatic < wanted.merge.suggested:
        yield "eventType.merge.suggested", "must not be above automatic"
