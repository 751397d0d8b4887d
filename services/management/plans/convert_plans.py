"""Plans and their runs as protos, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.management.v1 import plans_pb2 as pb
from services.management.convert import explanation_pb, time_pb
from services.management.plans.model_plan import Change, Plan, PlanStep, Run, RunStep, Standing, Trigger
from services.management.warnings.convert_indicators import CATEGORIES, CATEGORY_NUMBERS, LEVELS, said_of, said_pb

if TYPE_CHECKING:
    from libs.zones import ZoneTree


def plan_of(plan: pb.Plan, tree: ZoneTree) -> Plan:
    """Read a plan as somebody wants it; its version is the store's affair."""
    trigger = None
    if plan.HasField("trigger"):
        zones = tuple(dict.fromkeys(tree.canonical(zone) for zone in plan.trigger.zones))
        trigger = Trigger(CATEGORIES[plan.trigger.category], zones)
    return Plan(
        name=plan.name,
        title=said_of(plan.title),
        level=int(plan.level),
        steps=tuple(_step_of(step, tree) for step in plan.steps),
        trigger=trigger,
        retired=plan.retired,
    )


def _step_of(step: pb.PlanStep, tree: ZoneTree) -> PlanStep:
    return PlanStep(
        id=step.id,
        title=said_of(step.title),
        instruction=said_of(step.instruction),
        organisation=step.organisation,
        role=step.role,
        deadline_minutes=step.deadline_minutes,
        after=tuple(dict.fromkeys(step.after)),
        resources=tuple(said_of(each) for each in step.resources),
        zone=tree.canonical(step.zone) if step.zone else "",
    )


def plan_pb(plan: Plan) -> pb.Plan:
    found = pb.Plan(
        name=plan.name,
        title=said_pb(plan.title),
        level=LEVELS[plan.level],
        steps=[_step_pb(step) for step in plan.steps],
        retired=plan.retired,
        version=plan.version,
    )
    if plan.trigger is not None:
        found.trigger.category = CATEGORY_NUMBERS[plan.trigger.category]
        found.trigger.zones.extend(plan.trigger.zones)
    return found


def _step_pb(step: PlanStep) -> pb.PlanStep:
    return pb.PlanStep(
        id=step.id,
        title=said_pb(step.title),
        instruction=said_pb(step.instruction),
        organisation=step.organisation,
        role=step.role,
        deadline_minutes=step.deadline_minutes,
        after=step.after,
        resources=[said_pb(each) for each in step.resources],
        zone=step.zone,
    )


def run_pb(run: Run, found: Standing, seen: int) -> pb.PlanRun:
    """Return a run as it stood after `seen` of its changes."""
    return pb.PlanRun(
        name=run.name,
        plan=run.plan.name,
        plan_version=run.plan.version,
        title=said_pb(run.plan.title),
        level=LEVELS[run.plan.level],
        zone=run.zone,
        state=pb.PlanRunState.Value(f"PLAN_RUN_STATE_{found.state.upper()}"),
        steps=[_run_step_pb(step) for step in found.steps],
        activated_at=time_pb(found.activated_at),
        activated_by=run.changes[0].actor,
        warning=run.warning,
        explanation=explanation_pb(run.explanation),
        ended_at=time_pb(found.ended_at),
        etag=seen,
    )


def _run_step_pb(step: RunStep) -> pb.PlanRunStep:
    return pb.PlanRunStep(
        step=_step_pb(step.step),
        state=pb.PlanStepState.Value(f"PLAN_STEP_STATE_{step.state.upper()}"),
        started_at=time_pb(step.started_at),
        due_at=time_pb(step.due_at),
        finished_at=time_pb(step.finished_at),
        actor=step.actor,
        note=step.note,
        late=step.late,
        directive=step.directive,
        acknowledged_at=time_pb(step.acknowledged_at),
        acknowledged_by=step.acknowledged_by,
        escalations=step.escalations,
    )


def change_pb(change: Change) -> pb.PlanChange:
    return pb.PlanChange(
        number=change.number,
        time=time_pb(change.at),
        kind=pb.PlanChangeKind.Value(f"PLAN_CHANGE_KIND_{change.kind.upper()}"),
        step=change.step,
        actor=change.actor,
        note=change.note,
        directive=change.directive,
    )
