"""A plan from its activation, by a person or by a warning, to its replay."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from libs.errors import AlreadyExists, Forbidden, Invalid, NotFound, WrongState
from quintet.management.v1 import plans_pb2 as pb
from services.management.warnings.tests.samples import (
    ADMIN,
    CITY,
    D6,
    D10,
    OFFICER,
    SEWERS,
    WORKS,
    act,
    content,
    published,
)

if TYPE_CHECKING:
    from datetime import datetime

    from services.management.warnings.tests.conftest import Centre

PUMPS, CREW = "people/handler.ops", "people/handler.works"


def flood(**changes: Any) -> pb.Plan:
    """Close the road and start the pumps; when both are done, clean up."""

    def step(name: str, zh: str, en: str, organisation: str, minutes: int, *after: str) -> dict[str, Any]:
        said = {"zh": zh, "en": en}
        return {"id": name, "title": said, "instruction": said, "organisation": organisation,
                "deadlineMinutes": minutes, "after": list(after),
                "resources": [{"zh": "卡车", "en": "A lorry"}]}  # fmt: skip

    values = {
        "name": "plans/flood-iii",
        "title": {"zh": "防汛三级预案", "en": "Flood plan III"},
        "level": "LEVEL_III",
        "steps": [
            step("close-road", "封路", "Close the road", WORKS, 20),
            step("pumps", "启动水泵", "Start the pumps", SEWERS, 30),
            step("clean", "清理", "Clean up", WORKS, 60, "close-road", "pumps"),
        ],
        "trigger": {"category": "WARNING_CATEGORY_MET", "zones": [D6, D10]},
    }
    return json_format.ParseDict(values | changes, pb.Plan())


async def put(centre: Centre, plan: pb.Plan) -> pb.PutPlanResponse:
    answer: pb.PutPlanResponse = await centre.ask("PutPlan", pb.PutPlanRequest(plan=plan), ADMIN)
    return answer


async def activated(centre: Centre, **more: Any) -> pb.PlanRun:
    plan = (await put(centre, flood())).plan
    request = pb.ActivatePlanRequest(parent=f"zones/{D10}", plan=plan.name, reason="the creek rises", **more)
    run: pb.PlanRun = (await centre.ask("ActivatePlan", request, OFFICER)).run
    return run


async def finish(centre: Centre, run: pb.PlanRun, step: str, subject: str, **more: Any) -> pb.PlanRun:
    request = pb.FinishPlanStepRequest(name=run.name, step=step, note="as planned", **more)
    after: pb.PlanRun = (await centre.ask("FinishPlanStep", request, subject)).run
    return after


async def replay(centre: Centre, run: pb.PlanRun, at: datetime) -> pb.ReplayPlanRunResponse:
    time = Timestamp()
    time.FromDatetime(at)
    answer: pb.ReplayPlanRunResponse = await centre.ask(
        "ReplayPlanRun", pb.ReplayPlanRunRequest(name=run.name, at=time), OFFICER
    )
    return answer


async def runs(centre: Centre) -> list[pb.PlanRun]:
    return list((await centre.ask("ListPlanRuns", pb.ListPlanRunsRequest(parent=f"zones/{CITY}"), OFFICER)).runs)


def states(run: pb.PlanRun) -> list[str]:
    return [pb.PlanStepState.Name(step.state).removeprefix("PLAN_STEP_STATE_") for step in run.steps]


async def test_steps_start_when_those_they_wait_for_have_finished(centre: Centre) -> None:
    run = await activated(centre)
    start = centre.clock.now()
    assert states(run) == ["RUNNING", "RUNNING", "WAITING"]
    assert (run.title.zh, run.title.en, run.activated_by) == ("防汛三级预案", "Flood plan III", OFFICER)
    with pytest.raises(WrongState):
        await finish(centre, run, "clean", CREW)
    with pytest.raises(Forbidden):
        await finish(centre, run, "pumps", CREW)

    centre.clock.advance(timedelta(minutes=10))
    await finish(centre, run, "close-road", CREW)
    centre.clock.advance(timedelta(minutes=25))
    [shown] = await runs(centre)
    assert [step.late for step in shown.steps] == [False, True, False]
    run = await finish(centre, run, "pumps", PUMPS, skip=True)
    assert states(run) == ["DONE", "SKIPPED", "RUNNING"]
    assert run.steps[2].started_at.ToDatetime(tzinfo=start.tzinfo) == start + timedelta(minutes=35)
    centre.clock.advance(timedelta(minutes=30))
    run = await finish(centre, run, "clean", CREW)
    assert (run.state, run.steps[2].late) == (pb.PLAN_RUN_STATE_COMPLETED, True)
    with pytest.raises(WrongState):
        await finish(centre, run, "clean", CREW)
    assert [fact.type.rpartition(".")[2] for fact, _ in await centre.stated()] == ["PlanRunChanged"] * 4


async def test_a_run_is_replayed_as_it_stood_at_any_time(centre: Centre) -> None:
    run = await activated(centre)
    start = centre.clock.now()
    centre.clock.advance(timedelta(minutes=10))
    await finish(centre, run, "close-road", CREW)
    centre.clock.advance(timedelta(minutes=50))
    down = pb.StandDownPlanRunRequest(name=run.name, reason="the water is gone")
    await centre.ask("StandDownPlanRun", down, OFFICER)

    assert not (await replay(centre, run, start - timedelta(seconds=1))).HasField("run")
    seen = {minutes: await replay(centre, run, start + timedelta(minutes=minutes)) for minutes in (0, 15, 40, 60)}
    assert {minutes: states(answer.run) for minutes, answer in seen.items()} == {
        0: ["RUNNING", "RUNNING", "WAITING"],
        15: ["DONE", "RUNNING", "WAITING"],
        40: ["DONE", "RUNNING", "WAITING"],
        60: ["DONE", "CANCELLED", "CANCELLED"],
    }
    assert [answer.run.steps[1].late for answer in seen.values()] == [False, False, True, True]
    assert [(change.kind, change.step, change.note) for change in seen[60].changes] == [
        (pb.PLAN_CHANGE_KIND_ACTIVATED, "", "the creek rises"),
        (pb.PLAN_CHANGE_KIND_DONE, "close-road", "as planned"),
        (pb.PLAN_CHANGE_KIND_STOOD_DOWN, "", "the water is gone"),
    ]
    assert len(seen[15].changes) == 2
    assert seen[60].run.state == pb.PLAN_RUN_STATE_STOOD_DOWN


async def test_a_run_keeps_the_plan_with_which_it_was_activated(centre: Centre) -> None:
    run = await activated(centre)
    changed = await put(centre, flood(title={"zh": "新预案", "en": "New plan"}))
    assert (changed.plan.version, changed.changed) == (2, True)
    assert not (await put(centre, flood(title={"zh": "新预案", "en": "New plan"}))).changed
    found = (await centre.ask("GetPlanRun", pb.GetPlanRunRequest(name=run.name), OFFICER)).run
    assert (found.plan_version, found.title.en) == (1, "Flood plan III")


async def test_a_warning_activates_the_plans_that_answer_it_once(centre: Centre) -> None:
    await put(centre, flood())
    await put(centre, flood(name="plans/flood-ii", level="LEVEL_II"))
    await put(centre, flood(name="plans/fire", trigger={"category": "WARNING_CATEGORY_FIRE", "zones": [D10]}))
    warning = await published(centre, audience={"zones": ["us-ca-sf-d10-potrero-hill"]})
    await published(centre, exercise=True)
    await act(centre, "Revise", warning.name, content=content(centre))
    await act(centre, "Publish", warning.name)
    for fact, _ in await centre.stated():
        await centre.take_in(fact)
    [run] = await runs(centre)
    assert (run.plan, run.warning, run.zone) == ("plans/flood-iii", warning.name, D10)
    assert "防汛三级预案" in run.explanation.text.zh
    assert "Flood plan III" in run.explanation.text.en
    assert run.explanation.inputs["warning"] == warning.name

    request = pb.ActivatePlanRequest(
        parent=f"zones/{D10}", plan="plans/flood-iii", reason="again", warning=warning.name
    )
    with pytest.raises(AlreadyExists):
        await centre.ask("ActivatePlan", request, OFFICER)
    request.plan = "plans/flood-ii"
    assert (await centre.ask("ActivatePlan", request, OFFICER)).run.warning == warning.name


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"title": {"zh": "预案"}}, "plan.title.en"),
        ({"trigger": {"category": "WARNING_CATEGORY_MET", "zones": ["cn-110000"]}}, "plan.trigger.zones[0]"),
        ({"steps": []}, "plan.steps"),
    ],
)
async def test_a_plan_that_cannot_be_is_refused_by_field(centre: Centre, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        await put(centre, flood(**changes))
    assert [found for found, _ in refused.value.violations] == [field]


async def test_plans_are_for_those_who_may(centre: Centre) -> None:
    plan = flood()
    with pytest.raises(Forbidden):
        await centre.ask("PutPlan", pb.PutPlanRequest(plan=plan), OFFICER)
    await put(centre, plan)
    request = pb.ActivatePlanRequest(parent=f"zones/{D10}", plan=plan.name, reason="x")
    with pytest.raises(Forbidden):
        await centre.ask("ActivatePlan", request, CREW)
    await put(centre, flood(retired=True))
    with pytest.raises(WrongState):
        await centre.ask("ActivatePlan", request, OFFICER)
    request.plan = "plans/none"
    with pytest.raises(NotFound):
        await centre.ask("ActivatePlan", request, OFFICER)
    with pytest.raises(NotFound):
        await centre.ask("GetPlanRun", pb.GetPlanRunRequest(name=f"zones/{D10}/planRuns/none"), OFFICER)
