"""Joint disposal."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from quintet.management.v1 import management_pb2 as pb
from services.management import convert, stated, store_events, store_joint
from services.management.model_joint import Draft, start
from services.management.service_base import Context, Methods, check_etag

if TYPE_CHECKING:
    from libs.tx import Tx


class JointMethods(Methods):
    """Methods for events that several organisations dispose of together."""

    async def StartJointDisposal(
        self, request: pb.StartJointDisposalRequest, _context: Context
    ) -> pb.StartJointDisposalResponse:
        return await self._transactions.mutate(request, pb.StartJointDisposalResponse, partial(self._start, request))

    async def _start(self, request: pb.StartJointDisposalRequest, tx: Tx) -> pb.StartJointDisposalResponse:
        event, caller = await self._lock_own(tx, request.name, "management.events.dispatch")
        check_etag(event, request.etag)
        drafts = [Draft(draft.organisation, draft.instruction) for draft in request.sub_orders]
        after, step, shares = start(
            await self._loops.of(tx.conn, event),
            event,
            drafts,
            request.lead,
            reason=request.reason,
            actor=caller.subject,
            now=tx.now,
        )
        after = await self._book.handed(tx.conn, after)
        await store_joint.put_sub_orders(tx.conn, after.id, shares)
        requests = await store_events.update(tx.conn, after, step)
        stated.joint_disposal_started(tx, after, step, shares)
        every = await store_joint.list_sub_orders(tx.conn, after.id)
        return pb.StartJointDisposalResponse(event=convert.event_pb(after, requests, every))
