"""Steps of plans that other nodes have: wanted as directives, moved by what becomes of these."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from libs.errors import Invalid
from quintet.federation.v1 import directive_pb2
from quintet.federation.v1.facts_pb2 import DirectiveChanged, DirectiveEscalated, DirectiveNotGiven, ZoneDelegated
from quintet.management.v1 import facts_pb2
from quintet.management.v1 import plans_pb2 as pb
from services.management.plans.tests.test_plans import CREW, PUMPS, finish, flood, put, replay, runs, states
from services.management.tests.conftest import received
from services.management.warnings.tests.samples import CITY, D6, D10, OFFICER, SEWERS, WORKS

if TYPE_CHECKING:
    from datetime import datetime

    from services.management.warnings.tests.conftest import Centre

DISTRICT_OFFICER = "people/duty-officer.d10"


def plan(**of_pumps: Any) -> pb.Plan:
    """The city's crew closes the road; the district's starts the pumps, and cleans up when both are done."""
    made = flood(name="plans/flood-across")
    made.steps[1].MergeFrom(pb.PlanStep(zone=D10))
    made.steps[2].MergeFrom(pb.PlanStep(zone=D10))
    for name, value in of_pumps.items():
        setattr(made.steps[1], name, value)
    return made


@pytest_asyncio.fixture
async def run(centre: Centre) -> pb.PlanRun:
    """A run at the city, whose tenth district is another node."""
    await centre.hear(ZoneDelegated(zone=D10, node="sf-d10"), zone=D10)
    await put(centre, plan())
    request = pb.ActivatePlanRequest(parent=f"zones/{CITY}", plan="plans/flood-across", reason="the creek rises")
    activated: pb.PlanRun = (await centre.ask("ActivatePlan", request, OFFICER)).run
    return activated


async def told(centre: Centre, kind: type[Any]) -> list[Any]:
    return [message for _, message in await centre.stated() if isinstance(message, kind)]


def directive(centre: Centre, run: pb.PlanRun, state: str, step: str = "pumps", **more: Any) -> directive_pb2.Directive:
    """A directive of this node as federation states it."""
    made = directive_pb2.Directive(
        name=f"directives/{step}", from_node="sf", to_node="sf-d10", zone=D10, subject=f"{run.name}/steps/{step}",
        state=directive_pb2.DirectiveState.Value(f"DIRECTIVE_STATE_{state}"), issued_by=OFFICER, **more,
    )  # fmt: skip
    if state in {"ACKNOWLEDGED", "ANSWERED"}:
        made.acknowledged_by = DISTRICT_OFFICER
        made.acknowledged_at.FromDatetime(centre.clock.now())
    if state == "ANSWERED":
        made.answer, made.answered_by = "Both pumps run", DISTRICT_OFFICER
        made.answered_at.FromDatetime(centre.clock.now())
    return made


async def hear(centre: Centre, run: pb.PlanRun, state: str, step: str = "pumps", **more: Any) -> pb.PlanRun:
    message = DirectiveChanged(directive=directive(centre, run, state, step, **more))
    for _ in range(2):  # facts may come twice
        await centre.hear(message, zone=D10)
    (shown,) = await runs(centre)
    return shown


def time_of(stamp: Any, centre: Centre) -> datetime:
    found: datetime = stamp.ToDatetime(tzinfo=centre.clock.now().tzinfo)
    return found


async def test_a_step_for_another_node_is_wanted_as_a_directive_in_both_languages(
    centre: Centre, run: pb.PlanRun
) -> None:
    assert states(run) == ["RUNNING", "RUNNING", "WAITING"]
    (wanted,) = await told(centre, facts_pb2.DirectiveWanted)
    assert (wanted.subject, wanted.zone, wanted.organisation) == (f"{run.name}/steps/pumps", D10, SEWERS)
    assert wanted.title == "启动水泵 / Start the pumps"
    assert "启动水泵\nStart the pumps\n卡车 / A lorry\n预案“防汛三级预案”" in wanted.text
    assert 'plan "Flood plan III", level 3' in wanted.text
    assert wanted.issued_by == OFFICER
    start = centre.clock.now()
    # Due within 30 minutes: whoever is told now has an hour to answer all the same.
    assert time_of(wanted.acknowledge_by, centre) == start + timedelta(minutes=30)
    assert time_of(wanted.expires_at, centre) == start + timedelta(minutes=60)


async def test_acknowledgement_and_answer_move_the_step_and_start_the_next(centre: Centre, run: pb.PlanRun) -> None:
    start = centre.clock.now()
    shown = await hear(centre, run, "SENT")
    assert shown.steps[1].directive == "directives/pumps"
    await hear(centre, run, "DELIVERED")
    centre.clock.advance(timedelta(minutes=5))
    shown = await hear(centre, run, "ACKNOWLEDGED")
    assert (shown.steps[1].acknowledged_by, states(shown)[1]) == (DISTRICT_OFFICER, "RUNNING")
    assert time_of(shown.steps[1].acknowledged_at, centre) == start + timedelta(minutes=5)
    centre.clock.advance(timedelta(minutes=5))
    shown = await hear(centre, run, "ANSWERED")
    assert states(shown) == ["RUNNING", "DONE", "WAITING"]
    assert (shown.steps[1].actor, shown.steps[1].note) == (DISTRICT_OFFICER, "Both pumps run")
    await finish(centre, run, "close-road", CREW)
    wanted = await told(centre, facts_pb2.DirectiveWanted)
    assert [each.subject.rpartition("/")[2] for each in wanted] == ["pumps", "clean"]
    assert not await told(centre, facts_pb2.DirectiveUnwanted)

    answer = await replay(centre, run, centre.clock.now())
    assert [(pb.PlanChangeKind.Name(each.kind)[17:], each.step, each.directive) for each in answer.changes] == [
        ("ACTIVATED", "", ""),
        ("DIRECTED", "pumps", "directives/pumps"),
        ("ACKNOWLEDGED", "pumps", "directives/pumps"),
        ("DONE", "pumps", "directives/pumps"),
        ("DONE", "close-road", ""),
    ]
    assert (await replay(centre, run, start + timedelta(minutes=5))).run.steps[1].acknowledged_by == DISTRICT_OFFICER


async def test_an_answer_alone_says_all(centre: Centre, run: pb.PlanRun) -> None:
    shown = await hear(centre, run, "ANSWERED")
    assert (shown.steps[1].directive, shown.steps[1].acknowledged_by) == ("directives/pumps", DISTRICT_OFFICER)
    assert states(shown)[1] == "DONE"


async def test_nobody_there_acts_and_people_here_see_to_it(centre: Centre, run: pb.PlanRun) -> None:
    await hear(centre, run, "DELIVERED")
    late = DirectiveEscalated(directive=directive(centre, run, "DELIVERED"), reason="NOT_ACKNOWLEDGED")
    await centre.hear(late, zone=D10)
    shown = await hear(centre, run, "EXPIRED")
    assert (shown.steps[1].escalations, shown.steps[1].directive, states(shown)[1]) == (1, "", "RUNNING")
    changes = (await replay(centre, run, centre.clock.now())).changes
    assert "指令逾期无人签收" in changes[-2].note
    assert "nobody acknowledged the directive in time" in changes[-2].note
    assert "it is for this node to see to" in changes[-1].note
    assert states(await finish(centre, run, "pumps", PUMPS))[1] == "DONE"
    # What is answered too late changes nothing.
    assert states(await hear(centre, run, "ANSWERED")) == ["RUNNING", "DONE", "WAITING"]


async def test_a_directive_that_cannot_be_given_is_told(centre: Centre, run: pb.PlanRun) -> None:
    message = DirectiveNotGiven(subject=f"{run.name}/steps/pumps", reason="CONTRACT_NOT_ACTIVE", text="no charter")
    for _ in range(2):
        await centre.hear(message, zone=D10)
    changes = (await replay(centre, run, centre.clock.now())).changes
    assert [pb.PlanChangeKind.Name(each.kind)[17:] for each in changes] == ["ACTIVATED", "UNANSWERED"]
    assert "指令无法下达（no charter）" in changes[1].note
    assert "the directive cannot be given (no charter)" in changes[1].note


async def test_what_is_done_here_is_wanted_there_no_more(centre: Centre, run: pb.PlanRun) -> None:
    await hear(centre, run, "DELIVERED")
    await finish(centre, run, "pumps", PUMPS)
    (unwanted,) = await told(centre, facts_pb2.DirectiveUnwanted)
    assert unwanted.directive == "directives/pumps"
    assert "as planned" in unwanted.reason


async def test_standing_down_takes_back_what_is_open_and_what_comes_late(centre: Centre, run: pb.PlanRun) -> None:
    await put(centre, plan())
    await hear(centre, run, "DELIVERED")
    down = pb.StandDownPlanRunRequest(name=run.name, reason="the water is gone")
    await centre.ask("StandDownPlanRun", down, OFFICER)
    assert [each.directive for each in await told(centre, facts_pb2.DirectiveUnwanted)] == ["directives/pumps"]
    # Given while the run was stood down: federation hears that nobody wants it.
    await hear(centre, run, "SENT", "clean")
    unwanted = await told(centre, facts_pb2.DirectiveUnwanted)
    assert {each.directive for each in unwanted} == {"directives/pumps", "directives/clean"}
    shown = await hear(centre, run, "ACKNOWLEDGED")
    assert (states(shown)[1], shown.steps[1].acknowledged_by) == ("CANCELLED", "")


async def test_other_directives_are_nothing_to_plans(centre: Centre, run: pb.PlanRun) -> None:
    before = len(await told(centre, facts_pb2.PlanRunChanged))
    other = directive(centre, run, "ACKNOWLEDGED")
    other.subject = f"zones/{D10}/events/e1"
    await centre.hear(DirectiveChanged(directive=other), zone=D10)
    other.subject = f"{run.name}/steps/none"
    await centre.hear(DirectiveChanged(directive=other), zone=D10)
    # One that came from above, and the word of another node's bus.
    other.subject, other.from_node = f"{run.name}/steps/pumps", "us-ca"
    await centre.hear(DirectiveChanged(directive=other), zone=D10)
    theirs = DirectiveChanged(directive=directive(centre, run, "ACKNOWLEDGED"))
    await centre.take_in(received(centre.fact(theirs, node="sf-d10", zone=D10)))
    assert len(await told(centre, facts_pb2.PlanRunChanged)) == before


async def test_a_step_for_a_zone_of_this_node_stays_here(centre: Centre) -> None:
    made = flood(name="plans/at-home")
    made.steps[0].zone = D6
    await put(centre, made)
    request = pb.ActivatePlanRequest(parent=f"zones/{CITY}", plan=made.name, reason="x")
    await centre.ask("ActivatePlan", request, OFFICER)
    assert not await told(centre, facts_pb2.DirectiveWanted)
    made.steps[0].zone = "cn-110000"
    with pytest.raises(Invalid) as refused:
        await put(centre, made)
    assert [field for field, _ in refused.value.violations] == ["plan.steps[0].zone"]
    assert made.steps[0].organisation == WORKS
