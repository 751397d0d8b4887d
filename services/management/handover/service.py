"""The servicer of HandoverService."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import Invalid, NotFound, Reason
from libs.ids import short_id
from quintet.management.v1 import handovers_pb2 as pb
from quintet.management.v1.handovers_pb2_grpc import HandoverServiceServicer
from services.management import convert, store_events
from services.management.handover import across, model_turns, store_handovers
from services.management.handover.convert_handovers import handover_pb, handovers_pb, state_of
from services.management.handover.model import WAITING, Handover, Offer, State
from services.management.handover.trail import Trail
from services.management.service_base import Context, Methods, check_etag, missing

if TYPE_CHECKING:
    from libs.access import Caller
    from libs.db import Connection
    from libs.tx import Tx
    from services.management.model import Event

READ_HANDOVERS = "management.handovers.read"
OFFER = "management.handovers.offer"
ANSWER = "management.handovers.answer"
DECIDE = "management.handovers.decide"
PAGE_SIZE = 50
PAGE_SIZE_MAX = 500

# Each inbox: the right that makes it somebody's, the organisation that counts, and the states.
_INBOXES = {
    pb.HANDOVER_INBOX_TO_ANSWER: (ANSWER, "x.to_organisation", (State.OFFERED,)),
    pb.HANDOVER_INBOX_OFFERED: (
        OFFER,
        "x.from_organisation",
        (State.OFFERED, State.DISPUTED, State.REFUSED, State.LAPSED),
    ),
    pb.HANDOVER_INBOX_TO_DECIDE: (DECIDE, "x.from_organisation", (State.DISPUTED,)),
}


class HandoverServicer(Methods, HandoverServiceServicer):
    """Hand-overs of one node's events, and those of other nodes as far as it was told."""

    @property
    def _trail(self) -> Trail:
        return Trail(self._book)

    async def OfferHandover(self, request: pb.OfferHandoverRequest, _context: Context) -> pb.OfferHandoverResponse:
        return await self._transactions.mutate(request, pb.OfferHandoverResponse, partial(self._offer, request))

    async def _offer(self, request: pb.OfferHandoverRequest, tx: Tx) -> pb.OfferHandoverResponse:
        event, caller = await self._lock_own(tx, request.event, OFFER)
        check_etag(event, request.etag)
        node = "" if request.node == self._transactions.node else request.node
        turn = model_turns.offer(
            event,
            Offer(request.organisation, request.reason, request.boundary, request.answer_min, node),
            await self._trail.earlier(tx, event),
            await self._trail.terms(tx, event),
            name=f"{event.name}/handovers/{short_id()}",
            actor=caller.subject,
            now=tx.now,
        )
        return pb.OfferHandoverResponse(handover=handover_pb(await self._trail.take(tx, event, turn), tx.now))

    async def AcceptHandover(self, request: pb.AcceptHandoverRequest, _context: Context) -> pb.AcceptHandoverResponse:
        return await self._transactions.mutate(request, pb.AcceptHandoverResponse, partial(self._accept, request))

    async def _accept(self, request: pb.AcceptHandoverRequest, tx: Tx) -> pb.AcceptHandoverResponse:
        event, handover, caller = await self._lock_answered(tx, request.name)
        if handover.to_node:
            told = await across.answer(tx, event, handover, accepted=True, note=request.note, actor=caller.subject)
            return pb.AcceptHandoverResponse(handover=handover_pb(told, tx.now))
        turn = model_turns.accept(event, handover, note=request.note, actor=caller.subject, now=tx.now)
        return pb.AcceptHandoverResponse(handover=handover_pb(await self._trail.take(tx, event, turn), tx.now))

    async def RefuseHandover(self, request: pb.RefuseHandoverRequest, _context: Context) -> pb.RefuseHandoverResponse:
        return await self._transactions.mutate(request, pb.RefuseHandoverResponse, partial(self._refuse, request))

    async def _refuse(self, request: pb.RefuseHandoverRequest, tx: Tx) -> pb.RefuseHandoverResponse:
        event, handover, caller = await self._lock_answered(tx, request.name)
        if handover.to_node:
            told = await across.answer(tx, event, handover, accepted=False, note=request.reason, actor=caller.subject)
            return pb.RefuseHandoverResponse(handover=handover_pb(told, tx.now))
        turn = model_turns.refuse(event, handover, reason=request.reason, actor=caller.subject, now=tx.now)
        return pb.RefuseHandoverResponse(handover=handover_pb(await self._trail.take(tx, event, turn), tx.now))

    async def WithdrawHandover(
        self, request: pb.WithdrawHandoverRequest, _context: Context
    ) -> pb.WithdrawHandoverResponse:
        return await self._transactions.mutate(request, pb.WithdrawHandoverResponse, partial(self._withdraw, request))

    async def _withdraw(self, request: pb.WithdrawHandoverRequest, tx: Tx) -> pb.WithdrawHandoverResponse:
        event, handover, caller = await self._lock(tx, request.name)
        caller.require(OFFER, zone=event.zone, organisation=handover.from_organisation)
        turn = model_turns.withdraw(event, handover, actor=caller.subject, now=tx.now)
        return pb.WithdrawHandoverResponse(handover=handover_pb(await self._trail.take(tx, event, turn), tx.now))

    async def DisputeHandover(
        self, request: pb.DisputeHandoverRequest, _context: Context
    ) -> pb.DisputeHandoverResponse:
        return await self._transactions.mutate(request, pb.DisputeHandoverResponse, partial(self._dispute, request))

    async def _dispute(self, request: pb.DisputeHandoverRequest, tx: Tx) -> pb.DisputeHandoverResponse:
        event, handover, caller = await self._lock(tx, request.name)
        caller.require(OFFER, zone=event.zone, organisation=handover.from_organisation)
        others = await self._trail.earlier(tx, event)
        turn = model_turns.dispute(
            event,
            handover,
            await self._trail.terms(tx, event),
            reason=request.reason,
            waiting=any(each.state in WAITING for each in others),
            actor=caller.subject,
            now=tx.now,
        )
        return pb.DisputeHandoverResponse(handover=handover_pb(await self._trail.take(tx, event, turn), tx.now))

    async def DecideHandover(self, request: pb.DecideHandoverRequest, _context: Context) -> pb.DecideHandoverResponse:
        return await self._transactions.mutate(request, pb.DecideHandoverResponse, partial(self._decide, request))

    async def _decide(self, request: pb.DecideHandoverRequest, tx: Tx) -> pb.DecideHandoverResponse:
        event, handover, caller = await self._lock(tx, request.name)
        caller.require(DECIDE, zone=event.zone)
        turn = model_turns.decide(
            event, handover, request.organisation, reason=request.reason, actor=caller.subject, now=tx.now
        )
        return pb.DecideHandoverResponse(handover=handover_pb(await self._trail.take(tx, event, turn), tx.now))

    # --------------------------------------------------------------------------------------------------------- reading

    async def GetHandover(self, request: pb.GetHandoverRequest, _context: Context) -> pb.GetHandoverResponse:
        async def read(conn: Connection) -> tuple[Handover, Event | None]:
            handover = await _get(conn, request.name)
            found = await store_events.get(conn, handover.event)
            return handover, found[0] if found else None

        handover, event = await self._transactions.read(read)
        parties = (handover.from_organisation, handover.to_organisation)
        current_caller().require(READ_HANDOVERS, zone=handover.zone, organisation=parties)
        shown = handover_pb(handover, self._transactions.clock.now())
        return pb.GetHandoverResponse(handover=shown, event=convert.event_pb(event) if event else None)

    async def ListHandovers(self, request: pb.ListHandoversRequest, _context: Context) -> pb.ListHandoversResponse:
        zone = convert.zone_of(request.parent)
        state = state_of(request.state)
        query = self._query(zone, request.inbox, event=request.event, state=state)
        of = f"handovers {zone} {request.event} {request.state} {request.inbox}"
        size = paging.size(request.page_size, default=PAGE_SIZE, most=PAGE_SIZE_MAX)
        after = paging.after(request.page_token, datetime, int, of=of)
        rows = await self._transactions.read(
            lambda conn: store_handovers.list_handovers(conn, query, after=after, limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda row: (row[1].offered_at, row[0]), of=of)
        shown = handovers_pb((handover for _, handover in page), self._transactions.clock.now())
        return pb.ListHandoversResponse(handovers=shown, next_page_token=token)

    async def CountHandovers(self, request: pb.CountHandoversRequest, _context: Context) -> pb.CountHandoversResponse:
        zone = convert.zone_of(request.parent)
        now = self._transactions.clock.now()

        async def read(conn: Connection) -> list[pb.HandoverCount]:
            counts = []
            for inbox in _INBOXES:
                total, overdue = await store_handovers.count(conn, self._query(zone, inbox), now)
                counts.append(pb.HandoverCount(inbox=inbox, total=total, overdue=overdue))
            return counts

        return pb.CountHandoversResponse(counts=await self._transactions.read(read))

    def _query(
        self, zone: str, inbox: pb.HandoverInbox.ValueType, *, event: str = "", state: State | None = None
    ) -> store_handovers.Query:
        """Return what is listed for the caller. Raises Invalid for a state that an inbox never holds."""
        zones = self._zones().codes(zone)
        caller = current_caller()
        if inbox == pb.HANDOVER_INBOX_UNSPECIFIED:
            states: tuple[State, ...] = (state,) if state else ()
            return store_handovers.Query(zones, caller.visibility(READ_HANDOVERS), event=event, states=states)
        permission, column, states = _INBOXES[inbox]
        if state is not None and state not in states:
            raise Invalid("state", f"must be one of {', '.join(states)} in this inbox")
        return store_handovers.Query(
            zones,
            caller.visibility(permission),
            column,
            event,
            (state,) if state else states,
            self._transactions.node,
            answering=permission == ANSWER,
        )

    async def _lock_answered(self, tx: Tx, name: str) -> tuple[Event, Handover, Caller]:
        """Return an event, locked, with a hand-over that the caller may answer here.

        Raises Forbidden, and WrongState when another node is to answer.
        """
        event = await store_events.lock(tx.conn, name.rpartition("/handovers/")[0])
        if event is None:
            raise missing(name.rpartition("/handovers/")[0])
        handover, caller = await _get(tx.conn, name), current_caller()
        if not handover.to_node:
            self._check_ours(event)
        caller.require(ANSWER, zone=event.zone, organisation=handover.to_organisation)
        across.check_here(handover, self._transactions.node)
        return event, handover, caller

    async def _lock(self, tx: Tx, name: str) -> tuple[Event, Handover, Caller]:
        """Return an own event, locked, with one of its hand-overs and the caller. Raises like `_check_ours`."""
        event = await store_events.lock(tx.conn, name.rpartition("/handovers/")[0])
        if event is None:
            raise missing(name.rpartition("/handovers/")[0])
        self._check_ours(event)
        return event, await _get(tx.conn, name), current_caller()


async def _get(conn: Connection, name: str) -> Handover:
    found = await store_handovers.get(conn, name)
    if found is None:
        raise NotFound(Reason.HANDOVER_NOT_FOUND, f"{name} does not exist", name=name)
    return found
