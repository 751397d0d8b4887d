"""What becomes of the directives of a plan's steps: acknowledged, answered, escalated, come to nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING

import structlog

from libs import names
from libs.errors import Invalid
from quintet.federation.v1 import directive_pb2
from services.management.plans import store_plans, texts
from services.management.plans.across import SUBJECT_NAME, direct, unwanted
from services.management.plans.activating import ACTOR, state
from services.management.plans.model_plan import PLAN_RUN_NAME, ChangeKind, moved

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from libs.tx import Tx
    from libs.zones import ZoneTree
    from quintet.fact.v1.fact_pb2 import Fact
    from quintet.federation.v1.facts_pb2 import DirectiveChanged, DirectiveEscalated, DirectiveNotGiven
    from services.management.plans.model_plan import Change, Run

_OPEN = frozenset(
    (
        directive_pb2.DIRECTIVE_STATE_SENT,
        directive_pb2.DIRECTIVE_STATE_DELIVERED,
        directive_pb2.DIRECTIVE_STATE_ACKNOWLEDGED,
    )
)

log = structlog.get_logger()


class Directed:
    """Moves the steps that other nodes have."""

    def __init__(self, node: str, zones: Callable[[], ZoneTree]) -> None:
        self._node = node
        self._zones = zones

    async def changed(self, tx: Tx, fact: Fact, message: DirectiveChanged) -> None:
        """Move a step by the state of its directive; take one back that came too late for its run."""
        directive = message.directive
        if fact.received_from or directive.from_node != self._node:
            return
        found = await self._step(tx, directive.subject)
        if found is None:
            return
        run, step = found
        told = [
            moved(run, step, kind, directive.name, actor=actor, note=note, said_at=at, now=tx.now)
            for kind, actor, note, at in _said(directive, tx.now)
        ]
        for change in told:
            run = await self._keep(tx, run, change) if change else run
        if not any(told) and directive.state in _OPEN and not _is_known(run, step, directive.name):
            unwanted(tx, run, step, directive.name, "")

    async def escalated(self, tx: Tx, fact: Fact, message: DirectiveEscalated) -> None:
        """Note on the step that nobody acknowledged or answered in time."""
        directive = message.directive
        if fact.received_from or directive.from_node != self._node:
            return
        found = await self._step(tx, directive.subject)
        if found is None:
            return
        run, step = found
        note = texts.both(texts.ESCALATED.get(message.reason, texts.LATE))
        change = moved(
            run, step, ChangeKind.ESCALATED, directive.name, actor=ACTOR, note=note, said_at=tx.now, now=tx.now
        )  # fmt: skip
        if change:
            await self._keep(tx, run, change)

    async def not_given(self, tx: Tx, fact: Fact, message: DirectiveNotGiven) -> None:
        """Note on the step that people of this node have to see to it."""
        found = None if fact.received_from else await self._step(tx, message.subject)
        if found is None:
            return
        run, step = found
        note = texts.both(texts.NOT_GIVEN, reason=message.text)
        change = moved(run, step, ChangeKind.UNANSWERED, "", actor=ACTOR, note=note, said_at=tx.now, now=tx.now)
        if change:
            await self._keep(tx, run, change)

    async def _step(self, tx: Tx, subject: str) -> tuple[Run, str] | None:
        """Return the run, locked, and the step that a directive is about; None when it is about something else."""
        try:
            parts = names.parse(subject, SUBJECT_NAME)
        except Invalid:
            return None
        name = names.build(PLAN_RUN_NAME, zone=parts["zone"], run=parts["run"])
        run = await store_plans.get_run(tx.conn, name, lock=True)
        if run is None or all(step.id != parts["step"] for step in run.plan.steps):
            log.warning("plans.directive_without_step", subject=subject)
            return None
        return run, parts["step"]

    async def _keep(self, tx: Tx, run: Run, change: Change) -> Run:
        change = replace(change, number=len(run.changes) + 1, at=max(change.at, run.changes[-1].at))
        after = replace(run, changes=(*run.changes, change))
        await store_plans.add(tx.conn, run.name, change)
        state(tx, after)
        await direct(tx, after, self._zones())
        return after


def _said(
    directive: directive_pb2.Directive, now: datetime
) -> list[tuple[ChangeKind, str, str, datetime]]:  # fmt: skip
    """Return what the state of a directive says of its step, oldest first: states in between may be left out."""
    sent = ChangeKind.DIRECTED, directive.issued_by or ACTOR, "", now
    said = [sent] if directive.state in {*_OPEN, directive_pb2.DIRECTIVE_STATE_ANSWERED} else []
    if directive.HasField("acknowledged_at"):
        at = directive.acknowledged_at.ToDatetime(tzinfo=UTC)
        said.append((ChangeKind.ACKNOWLEDGED, directive.acknowledged_by, "", at))
    if directive.state == directive_pb2.DIRECTIVE_STATE_ANSWERED:
        at = directive.answered_at.ToDatetime(tzinfo=UTC)
        said.append((ChangeKind.DONE, directive.answered_by, directive.answer, at))
    elif directive.state == directive_pb2.DIRECTIVE_STATE_EXPIRED:
        said.append((ChangeKind.UNANSWERED, ACTOR, texts.both(texts.EXPIRED), now))
    elif directive.state == directive_pb2.DIRECTIVE_STATE_CANCELLED:
        note = texts.both(texts.CANCELLED, reason=directive.reason)
        said.append((ChangeKind.UNANSWERED, ACTOR, note, now))
    return said


def _is_known(run: Run, step: str, directive: str) -> bool:
    return any((change.step, change.directive) == (step, directive) for change in run.changes)
