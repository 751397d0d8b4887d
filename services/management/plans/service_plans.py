"""Contingency plans and their runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import AlreadyExists, Exhausted, Forbidden, Invalid, NotFound, Reason, WrongState
from quintet.management.v1 import plans_pb2 as pb
from quintet.management.v1.plans_pb2_grpc import PlanServiceServicer
from services.management.convert import time_of, zone_of
from services.management.plans import store_plans
from services.management.plans.across import direct, take_back
from services.management.plans.activating import activate, state
from services.management.plans.convert_plans import change_pb, plan_of, plan_pb, run_pb
from services.management.plans.model_plan import Change, ChangeKind, Plan, Run, finish, problems, stand_down, standing
from services.management.warnings import store_warnings
from services.management.warnings.service_warnings import missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.management.service_base import Context

WRITE_PLANS = "management.plans.write"
ACTIVATE, ACT, READ_RUNS = "management.plans.activate", "management.plan_runs.act", "management.plan_runs.read"
PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 500
_LIST = "plans"


class PlanServicer(PlanServiceServicer):
    """Plans for the response levels I to IV, and what became of them."""

    def __init__(self, transactions: Transactions, zones: Callable[[], ZoneTree]) -> None:
        """`zones` gives the zones as they are at the moment of the question."""
        self._transactions = transactions
        self._zones = zones

    async def PutPlan(self, request: pb.PutPlanRequest, _context: Context) -> pb.PutPlanResponse:
        return await self._transactions.mutate(request, pb.PutPlanResponse, partial(self._put, request))

    async def _put(self, request: pb.PutPlanRequest, tx: Tx) -> pb.PutPlanResponse:
        tree = self._zones()
        wanted = plan_of(request.plan, tree)
        found = problems(wanted)
        for place, zone in enumerate(wanted.trigger.zones if wanted.trigger else ()):
            if not tree.covers(tree.root, zone):
                found.append((f"plan.trigger.zones[{place}]", f"{zone} is not a zone of this node"))
        for place, step in enumerate(wanted.steps):
            if step.zone and not tree.covers(tree.root, step.zone):
                found.append((f"plan.steps[{place}].zone", f"{step.zone} is not a zone of this node"))
        if found:
            raise Invalid.many(found)
        # A plan may be activated in the whole node, so whoever writes it needs the right in the whole node.
        caller = current_caller()
        caller.require(WRITE_PLANS, zone=tree.root)
        stored, changed = await store_plans.put(tx.conn, wanted, actor=caller.subject, now=tx.now)
        if await store_plans.count(tx.conn) > store_plans.PLANS_MAX:
            raise Exhausted(Reason.QUOTA, f"a node has at most {store_plans.PLANS_MAX} plans")
        if changed:
            tx.audit("management.plans.put", stored.name, version=stored.version)
        return pb.PutPlanResponse(plan=plan_pb(stored), changed=changed)

    async def GetPlan(self, request: pb.GetPlanRequest, _context: Context) -> pb.GetPlanResponse:
        found = await self._transactions.read(lambda conn: _plan(conn, request.name))
        return pb.GetPlanResponse(plan=plan_pb(found))

    async def ListPlans(self, request: pb.ListPlansRequest, _context: Context) -> pb.ListPlansResponse:
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        after = paging.after(request.page_token, str, of=_LIST)
        rows = await self._transactions.read(
            lambda conn: store_plans.page(conn, after=after[0] if after else "", limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda found: (found.name,), of=_LIST)
        return pb.ListPlansResponse(plans=[plan_pb(each) for each in page], next_page_token=token)

    # ----------------------------------------------------------------------------------------------------------- runs

    async def ActivatePlan(self, request: pb.ActivatePlanRequest, _context: Context) -> pb.ActivatePlanResponse:
        return await self._transactions.mutate(request, pb.ActivatePlanResponse, partial(self._activate, request))

    async def _activate(self, request: pb.ActivatePlanRequest, tx: Tx) -> pb.ActivatePlanResponse:
        tree = self._zones()
        zone = tree.canonical(zone_of(request.parent))
        if not tree.covers(tree.root, zone):
            raise NotFound(Reason.ZONE_NOT_FOUND, f"{request.parent} is not known here", zone=zone)
        caller = current_caller()
        caller.require(ACTIVATE, zone=zone)
        plan = await _plan(tx.conn, request.plan)
        if plan.retired:
            raise WrongState(Reason.WRONG_STATE, f"{plan.name} is retired", name=plan.name)
        if request.warning and await store_warnings.get(tx.conn, request.warning) is None:
            raise missing(request.warning)
        run = await activate(
            tx, plan, zone, tree, actor=caller.subject, note=request.reason, warning=request.warning
        )  # fmt: skip
        if run is None:
            text = f"{plan.name} answers {request.warning} already"
            raise AlreadyExists(Reason.PLAN_RUN_EXISTS, text, plan=plan.name, warning=request.warning)
        return pb.ActivatePlanResponse(run=_present(run, tx.now))

    async def GetPlanRun(self, request: pb.GetPlanRunRequest, _context: Context) -> pb.GetPlanRunResponse:
        run = await self._transactions.read(lambda conn: _run(conn, request.name))
        current_caller().require(READ_RUNS, zone=run.zone)
        return pb.GetPlanRunResponse(run=_present(run, self._transactions.clock.now()))

    async def ListPlanRuns(self, request: pb.ListPlanRunsRequest, _context: Context) -> pb.ListPlanRunsResponse:
        tree = self._zones()
        zone = tree.canonical(zone_of(request.parent))
        current_caller().require(READ_RUNS, zone=zone)
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        of = f"plan runs {request.parent}"
        after = paging.after(request.page_token, datetime, str, of=of)
        rows = await self._transactions.read(
            lambda conn: store_plans.runs(conn, tree.codes(zone), after=after, limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda run: (run.changes[0].at, run.name), of=of)
        now = self._transactions.clock.now()
        return pb.ListPlanRunsResponse(runs=[_present(run, now) for run in page], next_page_token=token)

    async def FinishPlanStep(self, request: pb.FinishPlanStepRequest, _context: Context) -> pb.FinishPlanStepResponse:
        return await self._transactions.mutate(request, pb.FinishPlanStepResponse, partial(self._finish, request))

    async def _finish(self, request: pb.FinishPlanStepRequest, tx: Tx) -> pb.FinishPlanStepResponse:
        run = await _run(tx.conn, request.name, lock=True)
        step = next((each for each in run.plan.steps if each.id == request.step), None)
        if step is None:
            raise Invalid("step", f"must be one of {', '.join(each.id for each in run.plan.steps)}")
        caller = current_caller()
        # A post in a part of the run's zone answers for the organisation there.
        if not any(
            caller.allows(ACT, zone=zone, organisation=step.organisation)
            for zone in self._zones().descendants(run.zone)
        ):
            raise Forbidden(Reason.NOT_PERMITTED, f"{ACT} is not granted for {step.organisation}", permission=ACT)
        kind = ChangeKind.SKIPPED if request.skip else ChangeKind.DONE
        change = finish(run, step.id, kind, actor=caller.subject, note=request.note, now=tx.now)
        return pb.FinishPlanStepResponse(run=await self._changed(tx, run, change))

    async def StandDownPlanRun(
        self, request: pb.StandDownPlanRunRequest, _context: Context
    ) -> pb.StandDownPlanRunResponse:
        return await self._transactions.mutate(request, pb.StandDownPlanRunResponse, partial(self._stand_down, request))

    async def _stand_down(self, request: pb.StandDownPlanRunRequest, tx: Tx) -> pb.StandDownPlanRunResponse:
        run = await _run(tx.conn, request.name, lock=True)
        caller = current_caller()
        caller.require(ACTIVATE, zone=run.zone)
        change = stand_down(run, actor=caller.subject, note=request.reason, now=tx.now)
        return pb.StandDownPlanRunResponse(run=await self._changed(tx, run, change))

    async def ReplayPlanRun(self, request: pb.ReplayPlanRunRequest, _context: Context) -> pb.ReplayPlanRunResponse:
        run = await self._transactions.read(lambda conn: _run(conn, request.name))
        current_caller().require(READ_RUNS, zone=run.zone)
        at = time_of(request, "at") or self._transactions.clock.now()
        found = standing(run, at)
        seen = [change for change in run.changes if change.at <= at]
        return pb.ReplayPlanRunResponse(
            run=run_pb(run, found, len(seen)) if found else None, changes=[change_pb(change) for change in seen]
        )

    async def _changed(self, tx: Tx, run: Run, change: Change) -> pb.PlanRun:
        after = replace(run, changes=(*run.changes, change))
        await store_plans.add(tx.conn, run.name, change)
        shown = state(tx, after)
        take_back(tx, run, after)
        await direct(tx, after, self._zones())
        return shown


async def _plan(conn: Connection, name: str) -> Plan:
    found = await store_plans.get(conn, name)
    if found is None:
        raise NotFound(Reason.PLAN_NOT_FOUND, f"{name} does not exist", name=name)
    return found


async def _run(conn: Connection, name: str, *, lock: bool = False) -> Run:
    found = await store_plans.get_run(conn, name, lock=lock)
    if found is None:
        raise NotFound(Reason.PLAN_RUN_NOT_FOUND, f"{name} does not exist", name=name)
    return found


def _present(run: Run, now: datetime) -> pb.PlanRun:
    """Return a run as it stands now; a change may be a little later than a clock that was set back."""
    found = standing(run, max(now, run.changes[-1].at))
    if found is None:
        raise ValueError(f"{run.name} was never activated")
    return run_pb(run, found, len(run.changes))
