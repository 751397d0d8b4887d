"""Runs against what must hold of them at any time, and plans that cannot be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import WrongState
from services.management.plans.model_plan import (
    Change,
    ChangeKind,
    Plan,
    PlanStep,
    Run,
    RunState,
    StepState,
    finish,
    problems,
    stand_down,
    standing,
)
from services.management.warnings.model_indicator import Said

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
SAID = Said("做", "do")


def step(number: int, *after: int, minutes: int = 30, **changes: Any) -> PlanStep:
    values: dict[str, Any] = {
        "id": f"s{number}",
        "title": SAID,
        "instruction": SAID,
        "organisation": "organisations/works",
        "role": "",
        "deadline_minutes": minutes,
        "after": tuple(f"s{one}" for one in after),
    }
    return PlanStep(**(values | changes))


def run_of(*steps: PlanStep) -> Run:
    first = Change(1, START, ChangeKind.ACTIVATED, "people/a")
    return Run("zones/z/planRuns/r", "z", Plan("plans/p", SAID, 1, steps), (first,))


@st.composite
def graphs(draw: st.DrawFn) -> tuple[PlanStep, ...]:
    """Steps that wait for earlier ones only: every graph without circles is one of these."""
    count = draw(st.integers(1, 6))
    return tuple(
        step(number, *draw(st.sets(st.integers(0, number - 1))) if number else (), minutes=draw(st.integers(1, 20)))
        for number in range(count)
    )


@given(
    steps=graphs(),
    tries=st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 9)), max_size=25),
    ends=st.booleans(),
)
def test_no_step_finishes_before_those_it_waits_for_and_a_replay_shows_what_was_seen(
    steps: tuple[PlanStep, ...], tries: list[tuple[int, bool, int]], ends: bool
) -> None:
    run, now = run_of(*steps), START
    seen = [(now, standing(run, now))]
    finished: dict[str, datetime] = {}
    for number, skip, minutes in tries:
        now += timedelta(minutes=minutes, seconds=1)
        name = f"s{number}"
        ready = number < len(steps) and name not in finished and all(one in finished for one in steps[number].after)
        kind = ChangeKind.SKIPPED if skip else ChangeKind.DONE
        if not ready:
            with pytest.raises(WrongState):
                finish(run, name, kind, actor="people/a", note="", now=now)
            continue
        change = finish(run, name, kind, actor="people/a", note="", now=now)
        run = Run(run.name, run.zone, run.plan, (*run.changes, change))
        finished[name] = now
        seen.append((now, standing(run, now)))
    complete = len(finished) == len(steps)
    if ends and not complete:
        now += timedelta(minutes=1)
        change = stand_down(run, actor="people/a", note="", now=now)
        run = Run(run.name, run.zone, run.plan, (*run.changes, change))
        seen.append((now, standing(run, now)))
    # Whatever came later, the past is as it was seen.
    assert [standing(run, at) for at, _ in seen] == [state for _, state in seen]
    assert standing(run, START - timedelta(seconds=1)) is None

    last = standing(run, now)
    assert last is not None
    expected = RunState.COMPLETED if complete else RunState.STOOD_DOWN if ends else RunState.RUNNING
    assert last.state is expected
    for found in last.steps:
        if found.state is StepState.DONE:
            assert found.finished_at == finished[found.step.id]
            assert found.late == (finished[found.step.id] > START + timedelta(minutes=found.step.deadline_minutes))
        waiting = [one for one in found.step.after if one not in finished]
        assert (found.started_at is None) == bool(waiting)
        if found.started_at is not None:
            assert found.started_at == max([START, *(finished[one] for one in found.step.after)])


def test_what_was_stood_down_takes_no_more_steps() -> None:
    run = run_of(step(0), step(1, 0))
    run = Run(run.name, run.zone, run.plan, (*run.changes, stand_down(run, actor="people/a", note="over", now=START)))
    found = standing(run, START)
    assert found is not None
    assert [each.state for each in found.steps] == [StepState.CANCELLED] * 2
    with pytest.raises(WrongState):
        finish(run, "s0", ChangeKind.DONE, actor="people/a", note="", now=START)
    with pytest.raises(WrongState):
        stand_down(run, actor="people/a", note="", now=START)


def test_a_plan_says_what_is_wrong_by_field() -> None:
    steps = (step(0), step(1, 3), step(2, 1), step(3, 2), step(0, 9, title=Said("做", "")))
    assert problems(Plan("plans/p", Said("", "Flood"), 1, steps)) == [
        ("plan.title.zh", "is required: people read both languages"),
        ("plan.steps[4].title.en", "is required: people read both languages"),
        ("plan.steps[4].id", "s0 is the id of another step"),
        ("plan.steps[4].after[0]", "s9 is not a step of the plan"),
        ("plan.steps[1].after", "makes a circle: s1 > s3 > s2 > s1"),
    ]
    assert problems(Plan("plans/p", SAID, 1, (step(0, 0),))) == [("plan.steps[0].after", "makes a circle: s0 > s0")]
