"""People to visit in person, ticked off one by one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from libs import names, paging
from libs.access import current_caller
from libs.errors import Exhausted, Forbidden, Invalid, NotFound, Reason, WrongState
from quintet.management.v1 import visits_pb2 as pb
from quintet.management.v1.visits_pb2_grpc import VisitServiceServicer
from services.management.convert import time_of, time_pb
from services.management.warnings import store_visits, store_warnings
from services.management.warnings.model_visit import masked_name, masked_place
from services.management.warnings.model_warning import PUBLIC_WARNING_NAME, State
from services.management.warnings.service_warnings import missing
from services.management.warnings.store_visits import VISITS_MAX, Visit

if TYPE_CHECKING:
    from libs.access import Caller
    from libs.tx import Transactions, Tx
    from services.management.service_base import Context

VISIT_NAME = PUBLIC_WARNING_NAME + "/visits/{visit}"
WRITE, READ, TICK = (f"management.visits.{verb}" for verb in ("write", "read", "tick"))
PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 500
_NUMBER_DIGITS_MAX = 9
_OUTCOME = "VISIT_OUTCOME_"


class VisitServicer(VisitServiceServicer):
    """The list of those whom a message cannot reach."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def AddVisits(self, request: pb.AddVisitsRequest, _context: Context) -> pb.AddVisitsResponse:
        return await self._transactions.mutate(request, pb.AddVisitsResponse, partial(self._add, request))

    async def _add(self, request: pb.AddVisitsRequest, tx: Tx) -> pb.AddVisitsResponse:
        warning = await store_warnings.lock(tx.conn, request.name)
        if warning is None:
            raise missing(request.name)
        current_caller().require(WRITE, zone=warning.zone)
        if warning.state in {State.ENDED, State.REVIEWED, State.DISCARDED}:
            raise WrongState(Reason.WRONG_STATE, f"{warning.name} is {warning.state}", name=warning.name)
        visits = [Visit(draft.who, draft.where, draft.why, draft.assigned_to) for draft in request.visits]
        total = await store_visits.add(tx.conn, warning.name, visits)
        if total > VISITS_MAX:
            raise Exhausted(Reason.QUOTA, f"a warning has at most {VISITS_MAX} visits", name=warning.name)
        tx.audit(WRITE, warning.name, visits=len(visits))
        return pb.AddVisitsResponse(visits=total)

    async def ListVisits(self, request: pb.ListVisitsRequest, _context: Context) -> pb.ListVisitsResponse:
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        of = f"visits {request.name} {request.open_only} {request.purpose}"
        after = paging.after(request.page_token, int, of=of)

        async def work(tx: Tx) -> pb.ListVisitsResponse:
            warning = await store_warnings.get(tx.conn, request.name)
            if warning is None:
                raise missing(request.name)
            caller = current_caller()
            theirs = _assignees(caller, warning.zone)
            start = after[0] if after else 0
            rows = await store_visits.page(
                tx.conn, warning.name, theirs, open_only=request.open_only, after=start, limit=size + 1
            )
            page, token = paging.page(rows, size, lambda row: (row.number,), of=of)
            clear = request.purpose != pb.VISIT_PURPOSE_UNSPECIFIED
            if clear and page:
                purpose = pb.VisitPurpose.Name(request.purpose)
                shown = [row.number for row in page]
                tx.audit(READ, warning.name, purpose=purpose, first=shown[0], last=shown[-1], visits=len(shown))
            counts = (await store_warnings.counted(tx.conn, [warning.name])).get(warning.name)
            return pb.ListVisitsResponse(
                visits=[_visit_pb(warning.name, row, clear=clear) for row in page],
                total=counts.visits if counts else 0,
                done=counts.visits_done if counts else 0,
                next_page_token=token,
            )

        # Not a read-only transaction: who saw personal data, and for what, is written down.
        return await self._transactions.run(work)

    async def TickVisit(self, request: pb.TickVisitRequest, _context: Context) -> pb.TickVisitResponse:
        return await self._transactions.mutate(request, pb.TickVisitResponse, partial(self._tick, request))

    async def _tick(self, request: pb.TickVisitRequest, tx: Tx) -> pb.TickVisitResponse:
        parts = names.parse(request.name, VISIT_NAME)
        name = names.build(PUBLIC_WARNING_NAME, zone=parts["zone"], warning=parts["warning"])
        number = parts["visit"]
        known = number.isascii() and number.isdigit() and len(number) <= _NUMBER_DIGITS_MAX
        warning = await store_warnings.get(tx.conn, name)
        visit = await store_visits.lock(tx.conn, name, int(number)) if warning and known else None
        if warning is None or visit is None:
            raise NotFound(Reason.VISIT_NOT_FOUND, f"{request.name} does not exist", name=request.name)
        caller = current_caller()
        if not (caller.allows(WRITE, zone=warning.zone) or visit.assigned_to in _speaks_for(caller)):
            raise Forbidden(Reason.NOT_PERMITTED, f"{request.name} is assigned to somebody else", permission=TICK)
        if visit.visited_at is not None:
            raise WrongState(Reason.WRONG_STATE, f"{request.name} was ticked off already", name=request.name)
        at = time_of(request, "visited_at") or tx.now
        if at > tx.now:
            raise Invalid("visitedAt", "must not be in the future")
        done = Visit(
            **{field: getattr(visit, field) for field in ("who", "place", "why", "assigned_to", "number")},
            outcome=pb.VisitOutcome.Name(request.outcome).removeprefix(_OUTCOME).lower(),
            note=request.note,
            visited_at=at,
            visited_by=caller.subject,
        )
        await store_visits.tick(tx.conn, name, done)
        tx.audit(TICK, request.name, outcome=done.outcome)
        return pb.TickVisitResponse(visit=_visit_pb(name, done, clear=False))


def _speaks_for(caller: Caller) -> frozenset[str]:
    return frozenset({caller.subject}) | caller.grants.organisations


def _assignees(caller: Caller, zone: str) -> list[str] | None:
    """Return whose visits the caller may see: None for all, else those assigned to them and their organisations."""
    return None if caller.allows(WRITE, zone=zone) else sorted(_speaks_for(caller))


def _visit_pb(warning: str, visit: Visit, *, clear: bool) -> pb.Visit:
    return pb.Visit(
        name=f"{warning}/visits/{visit.number}",
        who=visit.who if clear else masked_name(visit.who),
        where=visit.place if clear else masked_place(visit.place),
        why=visit.why,
        assigned_to=visit.assigned_to,
        outcome=pb.VisitOutcome.Value(_OUTCOME + (visit.outcome or "unspecified").upper()),
        visited_at=time_pb(visit.visited_at),
        visited_by=visit.visited_by,
        note=visit.note,
    )
