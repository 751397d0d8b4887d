"""One thing done to several events, each on its own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from libs.errors import DomainError, Invalid
from quintet.management.v1 import management_pb2
from quintet.management.v1 import worklists_pb2 as pb
from services.management.worklists.service_assign import AssignMethods

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.management.service_base import Context

    One = Callable[[Any, Context], Awaitable[Any]]


class BulkMethods(AssignMethods):
    """The methods for one event, called for several."""

    async def BulkWork(self, request: pb.BulkWorkRequest, context: Context) -> pb.BulkWorkResponse:
        names = [target.name for target in request.targets]
        if len(set(names)) < len(names):
            raise Invalid("targets", "must name each event once")
        if request.WhichOneof("operation") is None:
            raise Invalid("operation", "must be one of claim, assign, transfer, release and advance")
        _check_evidence(request)
        # One after the other: each is a durable commit of its own, and others want the database too.
        results = [await self._one(request, target, context) for target in request.targets]
        return pb.BulkWorkResponse(results=results, done=sum(result.HasField("event") for result in results))

    async def _one(self, request: pb.BulkWorkRequest, target: pb.BulkTarget, context: Context) -> pb.BulkResult:
        call, asked = self._asked_of(request, target)
        try:
            response = await call(asked, context)
        except DomainError as error:
            refused = pb.BulkError(code=error.code.name, reason=error.reason, message=error.message)
            return pb.BulkResult(name=target.name, error=refused)
        return pb.BulkResult(name=target.name, event=response.event)

    def _asked_of(self, request: pb.BulkWorkRequest, target: pb.BulkTarget) -> tuple[One, Any]:
        """Return the method for one event and what it is asked; its request_id is the bulk's for this event."""
        common: dict[str, Any] = {
            "name": target.name,
            "etag": target.etag,
            "request_id": _id_for(request.request_id, target.name),
        }
        which = request.WhichOneof("operation")
        if which == "assign":
            return self.AssignEvent, pb.AssignEventRequest(
                **common, assignee=request.assign.assignee, reason=request.assign.reason
            )
        if which == "transfer":
            wanted = request.transfer
            return self.TransferWork, pb.TransferWorkRequest(
                **common, holder=wanted.holder, to=wanted.to, reason=wanted.reason
            )
        if which == "release":
            return self.ReleaseEvent, pb.ReleaseEventRequest(**common, reason=request.release.reason)
        if which == "advance":
            step = request.advance
            return self._beside.events.AdvanceEvent, management_pb2.AdvanceEventRequest(
                **common,
                action=step.action,
                reason=step.reason,
                organisation=step.organisation,
                answer=step.answer,
                evidence=target.evidence,
            )
        return self.ClaimEvent, pb.ClaimEventRequest(**common)


def _check_evidence(request: pb.BulkWorkRequest) -> None:
    """Raise Invalid for evidence that no step would show: it must not be dropped without a word."""
    if request.WhichOneof("operation") == "advance":
        return
    for place, target in enumerate(request.targets):
        if target.evidence:
            raise Invalid(f"targets[{place}].evidence", "must be empty unless the operation is advance")


def _id_for(request_id: str, name: str) -> str:
    """Return an id for one event of a bulk, "" for a bulk without: a hash, as ids have 64 characters."""
    return hashlib.sha256(f"{request_id} {name}".encode()).hexdigest() if request_id else ""
