"""Events: opened, advanced, read, listed, counted."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import NotFound, Reason, WrongState
from quintet.management.v1 import management_pb2 as pb
from services.management import convert, stated, store_counters, store_events, store_joint, store_lists, store_types
from services.management.evidence import store_evidence
from services.management.evidence.model_evidence import check_shown, needed
from services.management.model import ReportKind
from services.management.model_loop import Command, advance, said_time
from services.management.model_report import Report
from services.management.routing import store_history
from services.management.service_base import READ, Context, Methods, check_etag, missing

if TYPE_CHECKING:
    from libs.db import Connection
    from libs.tx import Tx
    from services.management.model import Event, Step, SubOrder
    from services.management.model_loop import Action

EVENTS_PAGE_SIZE = 50
EVENTS_PAGE_SIZE_MAX = 500


class EventMethods(Methods):
    """Methods for events."""

    async def OpenEvent(self, request: pb.OpenEventRequest, _context: Context) -> pb.OpenEventResponse:
        return await self._transactions.mutate(request, pb.OpenEventResponse, partial(self._open, request))

    async def _open(self, request: pb.OpenEventRequest, tx: Tx) -> pb.OpenEventResponse:
        zone = await self._zone_of_ours(tx.conn, convert.zone_of(request.parent))
        caller = current_caller()
        caller.require("management.events.open", zone=zone)
        event_type = await store_types.get_type(tx.conn, request.type)
        if event_type is None:
            raise NotFound(Reason.EVENT_TYPE_NOT_FOUND, f"{request.type} does not exist", name=request.type)
        if event_type.retired:
            raise WrongState(Reason.EVENT_TYPE_RETIRED, f"{request.type} takes no new reports", name=request.type)
        report = Report(
            kind=ReportKind.OFFICER,
            source="",
            zone=zone,
            type=request.type,
            description=request.description,
            place=convert.place_of(request.place),
            occurred_at=said_time(convert.time_of(request, "occurred_at"), tx.now),
            component=convert.component_of(request.component),
        )
        taken = await self._intake.take(tx, report, actor=caller.subject, event_type=event_type)
        requests = await store_events.requests_of(tx.conn, taken.event.id) if taken.merged else []
        shares = await _shares(tx.conn, taken.event)
        return pb.OpenEventResponse(event=convert.event_pb(taken.event, requests, shares), merged=taken.merged)

    async def AdvanceEvent(self, request: pb.AdvanceEventRequest, _context: Context) -> pb.AdvanceEventResponse:
        return await self._transactions.mutate_at_once(
            request, pb.AdvanceEventResponse, partial(self._advance, request)
        )

    async def _advance(self, request: pb.AdvanceEventRequest, tx: Tx) -> pb.AdvanceEventResponse:
        event, requests, caller = await self._own(tx, request.name, "management.events.advance")
        loop = await self._loops.of(tx.conn, event)
        action = loop.by_name.get(request.action)
        if action is not None:
            caller.require(action.permission, zone=event.zone, organisation=event.organisation)
        check_etag(event, request.etag)
        command = Command(
            action=request.action,
            actor=caller.subject,
            now=tx.now,
            reason=request.reason,
            organisation=request.organisation,
            answer=request.answer,
            occurred_at=convert.time_of(request, "occurred_at"),
            evidence=tuple(request.evidence),
        )
        after, step = advance(loop, event, command)
        if action is not None:
            await self._check_evidence(tx, event, action, request)
        after = await self._book.advanced(tx.conn, event, after, loop)
        store_events.write(tx, event, after, step)
        if action is not None and action.counts_return and event.organisation:
            store_history.correct(tx, event, step)
        stated.advanced(tx, after, step, answer=after.answer if action is not None and action.sets_answer else "")
        return pb.AdvanceEventResponse(event=convert.event_pb(after, requests, await _shares(tx.conn, after)))

    async def _check_evidence(self, tx: Tx, event: Event, action: Action, request: pb.AdvanceEventRequest) -> None:
        need = needed(action, await self._book.type_of(tx.conn, event))
        shown = await store_evidence.shown(tx.conn, event.id, request.evidence) if request.evidence else []
        check_shown(action.action, need, request.evidence, shown)

    async def GetEvent(self, request: pb.GetEventRequest, _context: Context) -> pb.GetEventResponse:
        async def read(conn: Connection) -> tuple[Event, list[str], list[SubOrder]]:
            found = await store_events.get(conn, request.name)
            if found is None:
                raise missing(request.name)
            return *found, await _shares(conn, found[0])

        event, requests, shares = await self._transactions.read(read)
        current_caller().require(READ, zone=event.zone, organisation=event.handlers)
        return pb.GetEventResponse(event=convert.event_pb(event, requests, shares))

    async def ListEvents(self, request: pb.ListEventsRequest, _context: Context) -> pb.ListEventsResponse:
        zone = convert.zone_of(request.parent)
        query = store_lists.Query(
            zones=self._zones().codes(zone),
            status=request.status,
            type=request.type,
            organisation=request.organisation,
            request=request.request,
            node=self._transactions.node if request.own_only else "",
            component=convert.component_sought(request.component, "component"),
        )
        of = f"events {zone} {query.status} {query.type} {query.organisation} {query.request} {query.node}"
        if query.component:
            of += f" {query.component}"
        size = paging.size(request.page_size, default=EVENTS_PAGE_SIZE, most=EVENTS_PAGE_SIZE_MAX)
        after = paging.after(request.page_token, datetime, int, of=of)
        visible = current_caller().visibility(READ)
        rows = await self._transactions.read(
            lambda conn: store_lists.list_events(conn, query, visible, after=after, limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda event: (event.opened_at, event.id), of=of)
        return pb.ListEventsResponse(events=[convert.event_pb(event) for event in page], next_page_token=token)

    async def ListEventSteps(self, request: pb.ListEventStepsRequest, _context: Context) -> pb.ListEventStepsResponse:
        size = paging.size(request.page_size)
        of = f"steps {request.name}"
        after = paging.after(request.page_token, int, of=of)

        async def read(conn: Connection) -> tuple[Event, list[Step]]:
            found = await store_events.get(conn, request.name)
            if found is None:
                raise missing(request.name)
            steps = await store_lists.list_steps(conn, found[0].id, after=after[0] if after else 0, limit=size + 1)
            return found[0], steps

        event, rows = await self._transactions.read(read)
        current_caller().require(READ, zone=event.zone, organisation=event.handlers)
        page, token = paging.page(rows, size, lambda step: (step.revision,), of=of)
        return pb.ListEventStepsResponse(steps=[convert.step_pb(step) for step in page], next_page_token=token)

    async def GetCounters(self, request: pb.GetCountersRequest, _context: Context) -> pb.GetCountersResponse:
        tree = self._zones()
        zone = tree.canonical(convert.zone_of(request.zone, field="zone"))
        current_caller().require("management.counters.read", zone=zone)
        counts = await self._transactions.read(lambda conn: store_counters.counts(conn, tree.codes(zone)))
        return convert.counters_pb(zone, self._transactions.node, counts)


async def _shares(conn: Connection, event: Event) -> list[SubOrder]:
    return await store_joint.list_sub_orders(conn, event.id) if event.shares else []
