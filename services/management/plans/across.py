"""Steps of plans that other nodes have: directives wanted when they start, and not wanted any more.

Federation gives them: it hears these facts and states what becomes of each (see directed.py for the way back).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from quintet.management.v1.facts_pb2 import DirectiveUnwanted, DirectiveWanted
from services.management.authority import authority
from services.management.plans import texts
from services.management.plans.model_plan import StepState, standing, started

if TYPE_CHECKING:
    from libs.tx import Tx
    from libs.zones import ZoneTree
    from services.management.plans.model_plan import Run, RunStep

SUBJECT_NAME = "zones/{zone}/planRuns/{run}/steps/{step}"
# A step that is late when it starts must still be answered: no sooner than this.
ANSWER_LEAST = timedelta(minutes=60)
ACKNOWLEDGE_WITHIN = timedelta(minutes=30)
TITLE_CHARS_MAX = 200
TEXT_CHARS_MAX = 4000


async def direct(tx: Tx, run: Run, tree: ZoneTree) -> None:
    """State which of the steps that the last change of a run has made start are for other nodes."""
    for found in started(run):
        zone = found.step.zone
        if zone and (await authority(tx.conn, tree, tree.canonical(zone))).node:
            tx.publish(_wanted(run, found), zone=zone, key=run.name)


def take_back(tx: Tx, before: Run, after: Run) -> None:
    """State which directives nobody has to act upon any more after the last change of a run."""
    last = after.changes[-1]
    was, now = standing(before, before.changes[-1].at), standing(after, last.at)
    if was is None or now is None:
        return
    for one, other in zip(was.steps, now.steps, strict=True):
        if one.directive and one.state is StepState.RUNNING and other.state is not StepState.RUNNING:
            unwanted(tx, after, one.step.id, one.directive, last.note)


def unwanted(tx: Tx, run: Run, step: str, directive: str, why: str) -> None:
    """State that nobody has to act upon a directive."""
    zh, en = texts.TAKEN_BACK.fill(why=why or run.name)
    message = DirectiveUnwanted(directive=directive, subject=f"{run.name}/steps/{step}", reason=f"{zh}\n{en}"[:1000])
    tx.publish(message, zone=run.zone, key=run.name)


def _wanted(run: Run, found: RunStep) -> DirectiveWanted:
    step, since = found.step, run.changes[-1].at
    expires_at = max(found.due_at, since + ANSWER_LEAST)
    lines = [step.instruction.zh, step.instruction.en, *(f"{each.zh} / {each.en}" for each in step.resources)]
    plan = texts.PART_OF.fill(
        zh_plan=run.plan.title.zh, en_plan=run.plan.title.en, level=str(run.plan.level), zone=run.zone
    )  # fmt: skip
    message = DirectiveWanted(
        subject=f"{run.name}/steps/{step.id}",
        zone=step.zone,
        organisation=step.organisation,
        title=f"{step.title.zh} / {step.title.en}"[:TITLE_CHARS_MAX],
        text="\n".join([*lines, *plan])[:TEXT_CHARS_MAX],
        issued_by=run.changes[-1].actor,
    )
    message.expires_at.FromDatetime(expires_at)
    message.acknowledge_by.FromDatetime(min(since + ACKNOWLEDGE_WITHIN, expires_at))
    return message
