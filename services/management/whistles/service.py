"""The servicer of WhistleService."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from libs import names, paging
from libs.access import current_caller
from libs.errors import Invalid, NotFound, Reason, Stale, WrongState
from libs.ids import short_id
from quintet.management.v1 import whistles_pb2 as pb
from quintet.management.v1.whistles_pb2_grpc import WhistleServiceServicer
from services.management import convert, stated, store_events
from services.management.model import StepAction, step_between
from services.management.service_base import Context, Methods, missing
from services.management.whistles import stating, store_whistles
from services.management.whistles.convert_whistles import point_of, whistle_pb
from services.management.whistles.model import (
    RADIUS_DEFAULT_M,
    WHISTLE_NAME,
    Arrival,
    Rating,
    Summons,
    Whistle,
    check_blown,
    finish,
    rate,
    remind_at,
    report_in,
)

if TYPE_CHECKING:
    from libs.db import Connection
    from libs.tx import Tx
    from services.management.model import Event

READ_WHISTLES = "management.whistles.read"
BLOW = "management.whistles.blow"
REPORT_IN = "management.whistles.report_in"
PAGE_SIZE = 50
PAGE_SIZE_MAX = 500
_FINISHED = {pb.WHISTLE_STATE_BLOWN: False, pb.WHISTLE_STATE_FINISHED: True}


class WhistleServicer(Methods, WhistleServiceServicer):
    """Calls to places in one node's zones, and those that other nodes make to its organisations."""

    async def BlowWhistle(self, request: pb.BlowWhistleRequest, _context: Context) -> pb.BlowWhistleResponse:
        return await self._transactions.mutate(request, pb.BlowWhistleResponse, partial(self._blow, request))

    async def _blow(self, request: pb.BlowWhistleRequest, tx: Tx) -> pb.BlowWhistleResponse:
        zone = await self._zone_of_ours(tx.conn, convert.zone_of(request.parent))
        caller = current_caller()
        caller.require(BLOW, zone=zone)
        place, report_by = convert.place_of(request.place), convert.time_of(request, "report_by") or tx.now
        check_blown(place, request.organisations, report_by, tx.now)
        whistle = Whistle(
            name=names.build(WHISTLE_NAME, zone=zone, whistle=f"{tx.now.year}-{short_id()}"),
            zone=zone,
            node=self._transactions.node,
            event=request.event,
            place=place,
            radius_m=request.radius_m or RADIUS_DEFAULT_M,
            instruction=request.instruction,
            summons=tuple(Summons(organisation) for organisation in request.organisations),
            blown_by=caller.subject,
            blown_at=tx.now,
            report_by=report_by,
            remind_at=remind_at(tx.now, report_by),
        )
        if request.event:
            event = await self._event(tx, request.event, zone)
            await self._step(tx, event, StepAction.BLOW_WHISTLE, caller.subject, request.instruction)
        await store_whistles.insert(tx.conn, whistle)
        stating.changed(tx, whistle, "blow")
        return pb.BlowWhistleResponse(whistle=whistle_pb(whistle, tx.now))

    async def ReportIn(self, request: pb.ReportInRequest, _context: Context) -> pb.ReportInResponse:
        return await self._transactions.mutate(request, pb.ReportInResponse, partial(self._report_in, request))

    async def _report_in(self, request: pb.ReportInRequest, tx: Tx) -> pb.ReportInResponse:
        whistle = await _get(tx.conn, request.name, lock=True)
        caller = current_caller()
        caller.require(REPORT_IN, zone=whistle.zone, organisation=request.organisation)
        arrival = Arrival(
            request.organisation, caller.subject, tx.now, *point_of(request, "position"), note=request.note
        )
        after = report_in(whistle, arrival)
        if whistle.node == self._transactions.node:
            await store_whistles.update(tx.conn, after)
            stating.changed(tx, after, "report_in", request.organisation)
        else:
            # The node that keeps it has the last word; until it speaks, this is what is known here.
            after = replace(after, version=whistle.version)
            await store_whistles.note(tx.conn, after)
            stating.reported_in(tx, after, arrival)
        return pb.ReportInResponse(whistle=whistle_pb(after, tx.now))

    async def FinishWhistle(self, request: pb.FinishWhistleRequest, _context: Context) -> pb.FinishWhistleResponse:
        return await self._transactions.mutate(request, pb.FinishWhistleResponse, partial(self._finish, request))

    async def _finish(self, request: pb.FinishWhistleRequest, tx: Tx) -> pb.FinishWhistleResponse:
        whistle, subject = await self._lock_ours(tx, request.name)
        if request.etag and request.etag != whistle.version:
            text = f"{whistle.name} is at version {whistle.version}, not {request.etag}"
            raise Stale(Reason.ETAG_STALE, text, name=whistle.name, etag=str(whistle.version))
        after = finish(whistle, request.outcome, actor=subject, now=tx.now)
        event = await store_events.lock(tx.conn, whistle.event) if whistle.event else None
        if event is not None and event.is_open and event.node == self._transactions.node:
            await self._step(tx, event, StepAction.FINISH_WHISTLE, subject, request.outcome)
        await store_whistles.update(tx.conn, after)
        stating.changed(tx, after, "finish")
        return pb.FinishWhistleResponse(whistle=whistle_pb(after, tx.now))

    async def RateWhistle(self, request: pb.RateWhistleRequest, _context: Context) -> pb.RateWhistleResponse:
        return await self._transactions.mutate(request, pb.RateWhistleResponse, partial(self._rate, request))

    async def _rate(self, request: pb.RateWhistleRequest, tx: Tx) -> pb.RateWhistleResponse:
        whistle, subject = await self._lock_ours(tx, request.name)
        rating = Rating(request.score, request.solved, request.note, subject, tx.now)
        after = rate(whistle, request.organisation, rating)
        await store_whistles.update(tx.conn, after)
        stating.changed(tx, after, "rate", request.organisation)
        stating.rated(tx, after, request.organisation)
        return pb.RateWhistleResponse(whistle=whistle_pb(after, tx.now))

    # --------------------------------------------------------------------------------------------------------- reading

    async def GetWhistle(self, request: pb.GetWhistleRequest, _context: Context) -> pb.GetWhistleResponse:
        whistle = await self._transactions.read(lambda conn: _get(conn, request.name))
        current_caller().require(READ_WHISTLES, zone=whistle.zone, organisation=whistle.organisations)
        return pb.GetWhistleResponse(whistle=whistle_pb(whistle, self._transactions.clock.now()))

    async def ListWhistles(self, request: pb.ListWhistlesRequest, _context: Context) -> pb.ListWhistlesResponse:
        zone = convert.zone_of(request.parent)
        query = store_whistles.Query(
            self._zones().codes(zone),
            current_caller().visibility(READ_WHISTLES),
            _FINISHED.get(request.state),
            request.organisation,
            request.event,
        )
        of = f"whistles {zone} {request.state} {request.organisation} {request.event}"
        size = paging.size(request.page_size, default=PAGE_SIZE, most=PAGE_SIZE_MAX)
        after = paging.after(request.page_token, datetime, int, of=of)

        async def read(conn: Connection) -> tuple[list[tuple[int, Whistle]], int]:
            rows = await store_whistles.list_whistles(conn, query, after=after, limit=size + 1)
            return rows, await store_whistles.waiting(conn, query)

        rows, waiting = await self._transactions.read(read)
        page, token = paging.page(rows, size, lambda row: (row[1].blown_at, row[0]), of=of)
        now = self._transactions.clock.now()
        return pb.ListWhistlesResponse(
            whistles=[whistle_pb(whistle, now) for _, whistle in page], next_page_token=token, waiting=waiting
        )

    # ---------------------------------------------------------------------------------------------------------- common

    async def _lock_ours(self, tx: Tx, name: str) -> tuple[Whistle, str]:
        """Return a whistle of this node, locked, and who calls.

        Raises NotFound, Forbidden, and WrongState when another node keeps it.
        """
        whistle = await _get(tx.conn, name, lock=True)
        caller = current_caller()
        caller.require(BLOW, zone=whistle.zone)
        if whistle.node != self._transactions.node:
            text = f"{name} is kept by node {whistle.node}"
            raise WrongState(Reason.NOT_AUTHORITATIVE, text, name=name, node=whistle.node)
        return whistle, caller.subject

    async def _event(self, tx: Tx, name: str, zone: str) -> Event:
        """Return the event of a whistle, locked: one of this node, open, and in the zone that calls."""
        event = await store_events.lock(tx.conn, name)
        if event is None:
            raise missing(name)
        self._check_ours(event)
        if not self._zones().covers(zone, event.zone):
            raise Invalid("event", f"must be an event of {zone} or below it")
        if not event.is_open:
            raise WrongState(Reason.WRONG_STATE, f"{name} is {event.status}", name=name, status=event.status)
        return event

    async def _step(self, tx: Tx, event: Event, action: StepAction, actor: str, reason: str) -> None:
        after = replace(event, revision=event.revision + 1)
        step = step_between(event, after, action, actor=actor, now=tx.now, reason=reason)
        await store_events.update(tx.conn, after, step)
        stated.advanced(tx, after, step)


async def _get(conn: Connection, name: str, *, lock: bool = False) -> Whistle:
    found = await store_whistles.get(conn, name, lock=lock)
    if found is None:
        raise NotFound(Reason.WHISTLE_NOT_FOUND, f"{name} does not exist", name=name)
    return found
