"""Taking events, giving them, handing them on, putting them back: one at a time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from libs.access import current_caller
from libs.errors import Forbidden, Reason, WrongState
from quintet.management.v1 import management_pb2
from quintet.management.v1 import worklists_pb2 as pb
from services.management import convert, stated, store_events, store_joint
from services.management.model import StepAction
from services.management.service_base import check_etag
from services.management.worklists import store_assign
from services.management.worklists.model_assign import (
    check_entitled,
    check_holder,
    check_open,
    give,
    may_act,
    put_back,
)
from services.management.worklists.service_base import WorkMethods

if TYPE_CHECKING:
    from libs.access import Caller, Grants
    from libs.tx import Tx
    from services.management.model import Event, Step
    from services.management.service_base import Context

CLAIM = "management.work.claim"
ASSIGN = "management.work.assign"
PEOPLE = "people/"


class AssignMethods(WorkMethods):
    """Methods that say who has an event. What somebody else may do is asked before the transaction begins."""

    async def ClaimEvent(self, request: pb.ClaimEventRequest, _context: Context) -> pb.ClaimEventResponse:
        return await self._transactions.mutate(request, pb.ClaimEventResponse, partial(self._claim, request))

    async def _claim(self, request: pb.ClaimEventRequest, tx: Tx) -> pb.ClaimEventResponse:
        event, caller = await self._lock_open(tx, request.name, CLAIM, request.etag)
        if not caller.subject.startswith(PEOPLE):
            raise Forbidden(Reason.NOT_PERMITTED, "only people take events", permission=CLAIM)
        if event.assignee == caller.subject:
            return pb.ClaimEventResponse(event=await self._told(tx, event))
        if event.assignee:
            text = f"{event.name} is with {event.assignee}"
            raise WrongState(Reason.ALREADY_ASSIGNED, text, name=event.name, assignee=event.assignee)
        if not may_act(await self._loops.of(tx.conn, event), event, caller.grants):
            text = f"{caller.subject} cannot take the next step of {event.name}"
            raise Forbidden(Reason.NOT_PERMITTED, text, name=event.name, status=event.status)
        after, step = give(event, StepAction.CLAIM, caller.grants, actor=caller.subject, now=tx.now)
        return pb.ClaimEventResponse(event=await self._store(tx, event, after, step))

    async def AssignEvent(self, request: pb.AssignEventRequest, _context: Context) -> pb.AssignEventResponse:
        whose = await self._beside.people.grants(request.assignee)
        return await self._transactions.mutate(request, pb.AssignEventResponse, partial(self._assign, request, whose))

    async def _assign(self, request: pb.AssignEventRequest, whose: Grants, tx: Tx) -> pb.AssignEventResponse:
        event, caller = await self._lock_open(tx, request.name, ASSIGN, request.etag)
        if event.assignee == request.assignee:
            return pb.AssignEventResponse(event=await self._told(tx, event))
        check_entitled(await self._loops.of(tx.conn, event), event, whose)
        after, step = give(
            event, StepAction.ASSIGN, whose, actor=caller.subject, now=tx.now, reason=request.reason
        )  # fmt: skip
        return pb.AssignEventResponse(event=await self._store(tx, event, after, step))

    async def TransferWork(self, request: pb.TransferWorkRequest, _context: Context) -> pb.TransferWorkResponse:
        whose = await self._beside.people.grants(request.to)
        return await self._transactions.mutate(
            request, pb.TransferWorkResponse, partial(self._transfer, request, whose)
        )  # fmt: skip

    async def _transfer(self, request: pb.TransferWorkRequest, whose: Grants, tx: Tx) -> pb.TransferWorkResponse:
        holder = request.holder or current_caller().subject
        event, caller = await self._lock_held(tx, request.name, holder, request.etag)
        if event.assignee == request.to:
            return pb.TransferWorkResponse(event=await self._told(tx, event))
        check_entitled(await self._loops.of(tx.conn, event), event, whose)
        after, step = give(
            event, StepAction.TRANSFER, whose, actor=caller.subject, now=tx.now, reason=request.reason
        )  # fmt: skip
        return pb.TransferWorkResponse(event=await self._store(tx, event, after, step))

    async def ReleaseEvent(self, request: pb.ReleaseEventRequest, _context: Context) -> pb.ReleaseEventResponse:
        return await self._transactions.mutate(request, pb.ReleaseEventResponse, partial(self._release, request))

    async def _release(self, request: pb.ReleaseEventRequest, tx: Tx) -> pb.ReleaseEventResponse:
        event, caller = await self._lock_held(tx, request.name, "", request.etag)
        after, step = put_back(event, actor=caller.subject, now=tx.now, reason=request.reason)
        return pb.ReleaseEventResponse(event=await self._store(tx, event, after, step))

    async def _lock_open(self, tx: Tx, name: str, permission: str, etag: int) -> tuple[Event, Caller]:
        event, caller = await self._lock_own(tx, name, permission)
        check_etag(event, etag)
        check_open(event)
        return event, caller

    async def _lock_held(self, tx: Tx, name: str, holder: str, etag: int) -> tuple[Event, Caller]:
        """Lock an event that somebody has: `holder`, or anybody for "". Only they and who may assign may go on."""
        event, caller = await self._lock_open(tx, name, CLAIM, etag)
        if event.assignee != caller.subject:
            caller.require(ASSIGN, zone=event.zone, organisation=event.organisation)
        check_holder(event, holder)
        return event, caller

    async def _store(self, tx: Tx, before: Event, after: Event, step: Step) -> management_pb2.Event:
        requests = await store_assign.assign(tx.conn, after, step)
        stated.assigned(tx, before, after, step)
        shares = await store_joint.list_sub_orders(tx.conn, after.id) if after.shares else []
        return convert.event_pb(after, requests, shares)

    async def _told(self, tx: Tx, event: Event) -> management_pb2.Event:
        """Return an event that stays as it is."""
        requests = await store_events.requests_of(tx.conn, event.id)
        shares = await store_joint.list_sub_orders(tx.conn, event.id) if event.shares else []
        return convert.event_pb(event, requests, shares)
