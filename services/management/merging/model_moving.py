"""Reports that are moved by hand: an event merged into another (并案), a report split off (拆案). Pure.

Every report stands in exactly one event at any time. How often it was moved goes with it, so that whoever hears of its
moves in another order ends with the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from libs.errors import Exhausted, Invalid, Reason, WrongState
from services.management.merging import texts
from services.management.model import MERGED_STATUS, Event, Explanation, ReportKind, Step, StepAction, step_between
from services.management.model_report import Report, merge_report

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each makes a fact and a step of its own.
REPORTS_MOVED_MAX = 500
BY_HAND = "rules/merged-by-hand"
SPLIT_OFF = "rules/split-by-hand"


@dataclass(frozen=True, slots=True)
class Standing:
    """A report where it stands: the revision of the event that it made, and whether the event was there before.

    `said` is the report as it came in. `explanation` and `reason` are those of the step by which it came here, made at
    `since`.
    """

    said: Report
    revision: int
    merged: bool
    moves: int
    since: datetime
    reason: str = ""
    explanation: Explanation | None = None


class Moved(NamedTuple):
    """A report that was moved: the event after it came there, the step, and the report as it stood before."""

    event: Event
    step: Step
    before: Standing


class Merged(NamedTuple):
    """An event that ended by being merged, its last step, and what became of its reports, in their order."""

    event: Event
    step: Step
    moved: list[Moved]

    @property
    def into(self) -> Event:
        return self.moved[-1].event


def merge_events(
    event: Event, into: Event, reports: Sequence[Standing], *, reason: str, actor: str, now: datetime
) -> Merged:
    """Return two open events of one node after the first was merged into the second.

    Raises Invalid for an event and itself, WrongState for one that is closed, suspended or shared, Exhausted for more
    than REPORTS_MOVED_MAX reports.
    """
    _check(event, into, reports)
    inputs = {"event": event.name, "into": into.name, "person": actor}
    explanation = Explanation(BY_HAND, *texts.BY_HAND.fill(**inputs), inputs)
    moved: list[Moved] = []
    after = into
    for report in reports:
        after, step = merge_report(after, report.said, explanation, actor=actor, now=now)
        moved.append(Moved(after, replace(step, reason=reason), report))
    ended = replace(
        event,
        status=MERGED_STATUS,
        closed_at=now,
        step_at=now,
        reports=0,
        revision=event.revision + 1,
        merged_into=into.name,
        assignee="",
        assigned_as="",
        deadlines=replace(event.deadlines, step_due_at=None),
        clocks=replace(event.clocks, signalled=(), next_at=None),
    )
    text = Explanation(BY_HAND, *texts.MERGED_INTO.fill(**inputs), inputs)
    step = step_between(event, ended, StepAction.MERGE_INTO, actor=actor, now=now, reason=reason, explanation=text)
    return Merged(ended, step, moved)


def split_off(event: Event, report: Standing, name: str, *, reason: str, actor: str, now: datetime) -> Moved:
    """Return an event without one of its reports, which the event `name` will stand for.

    Raises WrongState for the report for which it was opened, and for one of an imported past.
    """
    if not report.merged:
        text = f"{event.name} was opened for this report"
        raise WrongState(Reason.WRONG_STATE, text, name=event.name)
    if report.said.kind is ReportKind.IMPORT:
        text = f"{report.said.source} is of the past, which is imported as it was"
        raise WrongState(Reason.WRONG_STATE, text, name=event.name)
    of_it = report.said.kind is ReportKind.WARNING and event.warning == report.said.source
    after = replace(
        event, reports=event.reports - 1, revision=event.revision + 1, warning="" if of_it else event.warning
    )
    inputs = {"event": event.name, "opened": name, "person": actor}
    explanation = Explanation(SPLIT_OFF, *texts.SPLIT_OFF.fill(**inputs), inputs)
    step = step_between(event, after, StepAction.SPLIT, actor=actor, now=now, reason=reason, explanation=explanation)
    return Moved(after, step, report)


def opening(opened: Event, moved: Moved) -> Step:
    """Return the first step of the event of a report that was split off: what became of it until then, and why."""
    before, step = moved.before, moved.step
    why = before.explanation
    inputs = {
        "event": moved.event.name,
        "person": step.actor,
        "merged_at": before.since.isoformat(timespec="minutes"),
        "why_zh": (why.zh if why else "") or before.reason,
        "why_en": (why.en if why else "") or before.reason,
    }
    return Step(
        revision=opened.revision,
        action=StepAction.OPEN,
        from_status="",
        to_status=opened.status,
        actor=step.actor,
        organisation=opened.organisation,
        occurred_at=opened.occurred_at,
        recorded_at=opened.opened_at,
        reason=step.reason,
        explanation=Explanation(SPLIT_OFF, *texts.OPENED_BY_SPLIT.fill(**inputs), inputs),
    )


def _check(event: Event, into: Event, reports: Sequence[Standing]) -> None:
    if event.name == into.name:
        raise Invalid("into", "must be another event")
    for each in (event, into):
        if not each.is_open:
            text = f"{each.name} is {each.status}: only open events are merged"
            raise WrongState(Reason.WRONG_STATE, text, name=each.name, status=each.status)
    if event.deadlines.suspended_until is not None:
        text = f"{event.name} is suspended: {event.clocks.suspension}"
        raise WrongState(Reason.EVENT_SUSPENDED, text, name=event.name, suspension=event.clocks.suspension)
    if event.shares_open:
        text = f"{event.shares_open} sub-orders of {event.name} are not done"
        raise WrongState(Reason.SUB_ORDER_OPEN, text, name=event.name, open=str(event.shares_open))
    if len(reports) > REPORTS_MOVED_MAX:
        text = f"{event.name} has more than {REPORTS_MOVED_MAX} reports; merge the other into it"
        raise Exhausted(Reason.QUOTA, text, name=event.name)
