"""Contingency plans and their runs. A run is its changes: how it stood at any time follows from those until then. Pure.

All times are aware and in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from libs.errors import Reason, WrongState
from services.management.model import Explanation
from services.management.warnings.model_indicator import Said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.management.warnings.model_indicator import Problem

PLAN_RUN_NAME = "zones/{zone}/planRuns/{run}"


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One thing to do, by an organisation in a role, within so many minutes of the activation, after other steps.

    `zone` is the one whose people do it, "" for people of this node.
    """

    id: str
    title: Said
    instruction: Said
    organisation: str
    role: str
    deadline_minutes: int
    after: tuple[str, ...] = ()
    resources: tuple[Said, ...] = ()
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Trigger:
    """Warnings that activate a plan by themselves: those of a kind of danger, of the plan's level, for a zone."""

    category: str
    zones: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """One version of a plan. `level` is 1 to 4."""

    name: str
    title: Said
    level: int
    steps: tuple[PlanStep, ...]
    trigger: Trigger | None = None
    retired: bool = False
    version: int = 0


class ChangeKind(StrEnum):
    """What may befall a run."""

    ACTIVATED = "activated"
    DONE = "done"
    SKIPPED = "skipped"
    STOOD_DOWN = "stood_down"
    DIRECTED = "directed"
    ACKNOWLEDGED = "acknowledged"
    ESCALATED = "escalated"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a run's history. `step` is "" for the run as a whole, `directive` for what is about none."""

    number: int
    at: datetime
    kind: ChangeKind
    actor: str
    step: str = ""
    note: str = ""
    directive: str = ""


class RunState(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOOD_DOWN = "stood_down"


class StepState(StrEnum):
    """Where a step of a run stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class RunStep:
    """A step of a run at some time. `late` is whether it was, or is by now, past its due time when it finished.

    `directive` is the one by which another node has it, "" for none.
    """

    step: PlanStep
    state: StepState
    due_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    actor: str = ""
    note: str = ""
    late: bool = False
    directive: str = ""
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    escalations: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """A plan that was activated in a zone. The plan is the version with which it was activated."""

    name: str
    zone: str
    plan: Plan
    changes: tuple[Change, ...]
    warning: str = ""
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run stood at a time: `ended_at` is None while it goes on."""

    state: RunState
    steps: tuple[RunStep, ...]
    activated_at: datetime
    ended_at: datetime | None = None


def standing(run: Run, at: datetime) -> Standing | None:
    """Return how a run stood at a time, None before it was activated.

    A step starts when the last of those that it waits for has finished, done or skipped. A run is completed when all
    its steps have finished. Standing down cancels what had not.
    """
    seen = [change for change in run.changes if change.at <= at]
    if not seen:
        return None
    activated_at = seen[0].at
    finished = {change.step: change for change in seen if change.kind in {ChangeKind.DONE, ChangeKind.SKIPPED}}
    stood_down = next((change.at for change in seen if change.kind is ChangeKind.STOOD_DOWN), None)
    steps = tuple(
        directed(_step(step, activated_at, finished, stood_down, at), [each for each in seen if each.step == step.id])
        for step in run.plan.steps
    )
    if stood_down is not None:
        return Standing(RunState.STOOD_DOWN, steps, activated_at, stood_down)
    if len(finished) == len(steps):
        return Standing(RunState.COMPLETED, steps, activated_at, max(change.at for change in finished.values()))
    return Standing(RunState.RUNNING, steps, activated_at)


def _step(
    step: PlanStep,
    activated_at: datetime,
    finished: Mapping[str, Change],
    stood_down: datetime | None,
    at: datetime,
) -> RunStep:
    due_at = activated_at + timedelta(minutes=step.deadline_minutes)
    before = [finished.get(one) for one in step.after]
    started_at = max([activated_at, *(change.at for change in before if change)]) if all(before) else None
    change = finished.get(step.id)
    if change is not None:
        late = change.kind is ChangeKind.DONE and change.at > due_at
        state = StepState.DONE if change.kind is ChangeKind.DONE else StepState.SKIPPED
        return RunStep(step, state, due_at, started_at, change.at, change.actor, change.note, late)
    if stood_down is not None:
        return RunStep(step, StepState.CANCELLED, due_at, started_at, late=stood_down > due_at)
    state = StepState.WAITING if started_at is None else StepState.RUNNING
    return RunStep(step, state, due_at, started_at, late=at > due_at)


def directed(step: RunStep, changes: Sequence[Change]) -> RunStep:
    """Return a step with what became of its directive, by the changes of the step."""
    for change in changes:
        match change.kind:
            case ChangeKind.DIRECTED:
                step = replace(step, directive=change.directive, acknowledged_at=None, acknowledged_by="")
            case ChangeKind.ACKNOWLEDGED:
                step = replace(step, acknowledged_at=change.at, acknowledged_by=change.actor)
            case ChangeKind.ESCALATED:
                step = replace(step, escalations=step.escalations + 1)
            case ChangeKind.UNANSWERED:
                step = replace(step, directive="")
            case _:
                pass
    return step


def started(run: Run) -> tuple[RunStep, ...]:
    """Return the steps that the last change of a run has made start."""
    at = run.changes[-1].at
    now = standing(run, at)
    before = standing(replace(run, changes=run.changes[:-1]), at)
    running = {each.step.id for each in before.steps if each.state is StepState.RUNNING} if before else set()
    if now is None:
        return ()
    return tuple(each for each in now.steps if each.state is StepState.RUNNING and each.step.id not in running)


def moved(
    run: Run, step: str, kind: ChangeKind, directive: str, *, actor: str, note: str, said_at: datetime, now: datetime
) -> Change | None:
    """Return the change that a directive makes to its step; None for what is known, and for a step that is not running.

    `said_at` is when it happened at the other node: a clock there that is ahead is not believed.
    """
    found = standing(run, _after(run, now))
    present = next((each for each in found.steps if each.step.id == step), None) if found else None
    if present is None or present.state is not StepState.RUNNING:
        return None
    others = present.directive not in {"", directive}
    known = {
        ChangeKind.DIRECTED: bool(present.directive),
        ChangeKind.ACKNOWLEDGED: others or present.acknowledged_at is not None,
        ChangeKind.UNANSWERED: others or _was_unanswered(run, step, directive),
    }
    if known.get(kind, others):
        return None
    return Change(len(run.changes) + 1, _after(run, min(said_at, now)), kind, actor, step, note, directive)


def _was_unanswered(run: Run, step: str, directive: str) -> bool:
    return any(
        change.kind is ChangeKind.UNANSWERED and (change.step, change.directive) == (step, directive)
        for change in run.changes
    )


def finish(run: Run, step: str, kind: ChangeKind, *, actor: str, note: str, now: datetime) -> Change:
    """Return the change that a step is done or skipped. Raises WrongState unless it is running."""
    found = _running(run, now)
    present = next((each for each in found.steps if each.step.id == step), None)
    if present is None or present.state is not StepState.RUNNING:
        text = f"step {step} of {run.name} is {present.state if present else 'not there'}"
        raise WrongState(Reason.WRONG_STATE, text, name=run.name, step=step)
    return Change(len(run.changes) + 1, _after(run, now), kind, actor, step, note)


def stand_down(run: Run, *, actor: str, note: str, now: datetime) -> Change:
    """Return the change that a run is stood down. Raises WrongState unless it goes on."""
    _running(run, now)
    return Change(len(run.changes) + 1, _after(run, now), ChangeKind.STOOD_DOWN, actor, note=note)


def _running(run: Run, now: datetime) -> Standing:
    found = standing(run, _after(run, now))
    if found is None or found.state is not RunState.RUNNING:
        text = f"{run.name} is {found.state if found else 'not activated'}"
        raise WrongState(Reason.WRONG_STATE, text, name=run.name)
    return found


def _after(run: Run, now: datetime) -> datetime:
    """Return the time of the next change: a clock that was set back does not reorder what happened."""
    return max(now, run.changes[-1].at)


# --------------------------------------------------------------------------------------------------------------- rules


def problems(plan: Plan) -> list[Problem]:
    """Return what is wrong with a plan: (field in JSON spelling, rule)."""
    found: list[Problem] = []
    found += _missing("plan.title", plan.title)
    ids = [step.id for step in plan.steps]
    for place, step in enumerate(plan.steps):
        path = f"plan.steps[{place}]"
        found += _missing(f"{path}.title", step.title)
        found += _missing(f"{path}.instruction", step.instruction)
        for number, resource in enumerate(step.resources):
            found += _missing(f"{path}.resources[{number}]", resource)
        if step.id in ids[:place]:
            found.append((f"{path}.id", f"{step.id} is the id of another step"))
        for number, before in enumerate(step.after):
            if before not in ids:
                found.append((f"{path}.after[{number}]", f"{before} is not a step of the plan"))
    circle = _circle(plan.steps)
    if circle:
        place = ids.index(circle[0])
        found.append((f"plan.steps[{place}].after", f"makes a circle: {' > '.join(circle)}"))
    return found


def _missing(path: str, said: Said) -> list[Problem]:
    rule = "is required: people read both languages"
    return [(f"{path}.{language}", rule) for language in ("zh", "en") if not getattr(said, language)]


def _circle(steps: Sequence[PlanStep]) -> list[str]:
    """Return steps that wait for each other, the first one again at the end; none when every step can start."""
    waiting = {step.id: set(step.after) & {each.id for each in steps} for step in steps}
    while ready := [step for step, before in waiting.items() if not before & waiting.keys()]:
        for step in ready:
            del waiting[step]
    if not waiting:
        return []
    path = [next(iter(waiting))]
    while (following := min(waiting[path[-1]] & waiting.keys())) not in path:
        path.append(following)
    return [*path[path.index(following) :], following]
