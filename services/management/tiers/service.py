"""The servicer of TierService."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import NotFound, Reason
from libs.ids import short_id
from quintet.management.v1 import facts_pb2
from quintet.management.v1 import tiers_pb2 as pb
from quintet.management.v1.tiers_pb2_grpc import TierServiceServicer
from services.management import convert, store_events
from services.management.service_base import Context, Methods, missing
from services.management.tiers import store_moves, store_take_overs
from services.management.tiers.convert_tiers import state_of, take_over_pb
from services.management.tiers.model import Wanted, ask

if TYPE_CHECKING:
    from libs.tx import Tx

ASK = "management.take_overs.ask"
READ_TAKE_OVERS = "management.take_overs.read"
PAGE_SIZE = 50
PAGE_SIZE_MAX = 500


class TierServicer(Methods, TierServiceServicer):
    """What one node asks of the nodes below it, and what it was asked."""

    async def TakeOverEvent(self, request: pb.TakeOverEventRequest, _context: Context) -> pb.TakeOverEventResponse:
        return await self._transactions.mutate(request, pb.TakeOverEventResponse, partial(self._ask, request))

    async def _ask(self, request: pb.TakeOverEventRequest, tx: Tx) -> pb.TakeOverEventResponse:
        event = await store_events.lock(tx.conn, request.event)
        if event is None:
            raise missing(request.event)
        caller = current_caller()
        caller.require(ASK, zone=event.zone)
        asked = ask(
            event,
            Wanted(request.organisation, request.reason, request.wait_min),
            node=self._transactions.node,
            is_above=await store_moves.is_home_above(tx.conn, event.id),
            waiting=await store_take_overs.waits(tx.conn, event.name, tx.now),
            name=f"{event.name}/takeOvers/{short_id()}",
            actor=caller.subject,
            now=tx.now,
        )
        await store_take_overs.insert(tx.conn, asked)
        shown = take_over_pb(asked, tx.now)
        tx.publish(facts_pb2.TakeOverAsked(take_over=shown), zone=event.zone, key=event.name)
        tx.audit("management.take_overs.ask", asked.name, of=asked.from_node, organisation=asked.organisation)
        return pb.TakeOverEventResponse(take_over=shown)

    async def GetTakeOver(self, request: pb.GetTakeOverRequest, _context: Context) -> pb.GetTakeOverResponse:
        asked = await self._transactions.read(lambda conn: store_take_overs.get(conn, request.name))
        if asked is None:
            raise NotFound(Reason.TAKE_OVER_NOT_FOUND, f"{request.name} does not exist", name=request.name)
        current_caller().require(READ_TAKE_OVERS, zone=asked.zone, organisation=asked.organisation)
        return pb.GetTakeOverResponse(take_over=take_over_pb(asked, self._transactions.clock.now()))

    async def ListTakeOvers(self, request: pb.ListTakeOversRequest, _context: Context) -> pb.ListTakeOversResponse:
        zone = convert.zone_of(request.parent)
        visible = current_caller().visibility(READ_TAKE_OVERS)
        query = store_take_overs.Query(self._zones().codes(zone), visible, request.event, state_of(request.state))
        of = f"take overs {zone} {request.event} {request.state}"
        size = paging.size(request.page_size, default=PAGE_SIZE, most=PAGE_SIZE_MAX)
        after = paging.after(request.page_token, datetime, int, of=of)
        now = self._transactions.clock.now()
        rows = await self._transactions.read(
            lambda conn: store_take_overs.list_take_overs(conn, query, now, after=after, limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda row: (row[1].asked_at, row[0]), of=of)
        return pb.ListTakeOversResponse(
            take_overs=[take_over_pb(asked, now) for _, asked in page], next_page_token=token
        )
