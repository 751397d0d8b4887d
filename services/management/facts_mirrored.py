"""Other nodes' events: their facts come under a tier charter and keep this node's list and counters equal to theirs."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from libs import names
from libs.errors import Invalid
from services.management import convert, store_mirror
from services.management.model import EVENT_NAME, Deadlines, Doubt, Event, Flag, ReportKind, Step, StepAction, flagged
from services.management.store_mirror import Change

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.tx import Tx
    from quintet.fact.v1.fact_pb2 import Fact
    from quintet.management.v1 import facts_pb2
    from services.management.model import SubOrder

# The status of a partial event while no fact has said one.
STATUS_UNKNOWN = "unknown"

# Steps that EventAdvanced tells of and that no loop declares.
_BESIDE_THE_LOOP = frozenset(
    (
        StepAction.WITHDRAW_SUB_ORDER,
        StepAction.EXTEND,
        StepAction.SUSPEND,
        StepAction.RESUME,
        StepAction.ESCALATE,
        StepAction.SUPERVISE,
        StepAction.RECKON_ANEW,
        StepAction.SPLIT,
        StepAction.OFFER_HANDOVER,
        StepAction.ACCEPT_HANDOVER,
        StepAction.REFUSE_HANDOVER,
        StepAction.WITHDRAW_HANDOVER,
        StepAction.LAPSE_HANDOVER,
        StepAction.DISPUTE_HANDOVER,
        StepAction.ESCALATE_HANDOVER,
        StepAction.DECIDE_HANDOVER,
        StepAction.BLOW_WHISTLE,
        StepAction.FINISH_WHISTLE,
    )
)


class MirrorHandlers:
    """Each writes what a fact of another node says; facts of our own are what we wrote already.

    They write no audit entries: the change stands in the log of the node that made it, the delivery in federation's.
    """

    def __init__(self, node: str) -> None:
        self._node = node

    async def event_opened(self, tx: Tx, fact: Fact, message: facts_pb2.EventOpened) -> None:
        event = message.event
        if not self.is_mirrored(fact, event.name, event.zone, event.node):
            return
        opened = _event(message, fallback=_stated_at(fact))
        step = Step(
            revision=event.revision,
            action=StepAction.OPEN,
            from_status="",
            to_status=event.status,
            actor=f"nodes/{event.node}",
            organisation=event.organisation,
            occurred_at=opened.occurred_at,
            recorded_at=opened.opened_at,
            explanation=opened.routing,
        )
        kind = ReportKind.REQUEST if message.request else ReportKind.WARNING if event.warning else ReportKind.OFFICER
        source = message.request or event.warning
        found = await store_mirror.insert(
            tx.conn, opened, step, kind, source, merged=False, moves=message.moves, counted=True
        )
        if found is None:
            await self._check_node(tx, event.name, event.node)

    async def report_merged(self, tx: Tx, fact: Fact, message: facts_pb2.ReportMerged) -> None:
        if not self.is_mirrored(fact, message.event, message.zone, message.node):
            return
        said = Change(
            name=message.event,
            node=message.node,
            step=_step(fact, message.revision, StepAction.MERGE, message.status, message.organisation),
            status=message.status,
            organisation=message.organisation,
            reports=message.reports,
            kind=ReportKind.REQUEST if message.request else ReportKind.OFFICER,
            source=message.request,
            moves=message.moves,
        )
        await self._apply(tx, fact, message.zone, said)

    async def event_advanced(self, tx: Tx, fact: Fact, message: facts_pb2.EventAdvanced) -> None:
        if not self.is_mirrored(fact, message.event, message.zone, message.node):
            return
        step = convert.step_of(message.step, revision=message.revision, fallback=_stated_at(fact))
        said = Change(
            name=message.event,
            node=message.node,
            step=step,
            status=message.status,
            organisation=message.organisation,
            closed_at=convert.time_of(message, "closed_at"),
            in_loop=step.action not in _BESIDE_THE_LOOP,
            answer=message.answer,
            returns=message.returns,
            deadlines=convert.deadlines_of(message.deadlines) if message.HasField("deadlines") else None,
            assignee=message.assignee,
            reports=message.reports if message.HasField("reports") else None,
            merged_into=message.merged_into,
        )
        await self._apply(tx, fact, message.zone, said)

    async def event_assigned(self, tx: Tx, fact: Fact, message: facts_pb2.EventAssigned) -> None:
        if not self.is_mirrored(fact, message.event, message.zone, message.node):
            return
        step = convert.step_of(message.step, revision=message.revision, fallback=_stated_at(fact))
        said = Change(message.event, message.node, step, organisation=message.organisation, assignee=message.assignee)
        await self._apply(tx, fact, message.zone, said)

    async def joint_disposal_started(self, tx: Tx, fact: Fact, message: facts_pb2.JointDisposalStarted) -> None:
        if not self.is_mirrored(fact, message.event, fact.zone, fact.node):
            return
        step = _step(fact, message.revision, StepAction.START_JOINT_DISPOSAL, "", message.lead, message.started_by)
        shares = [convert.sub_order_of(share, fallback=step.occurred_at) for share in message.sub_orders]
        deadlines = convert.deadlines_of(message.deadlines) if message.HasField("deadlines") else None
        said = Change(message.event, fact.node, step, organisation=message.lead, deadlines=deadlines)
        await self._apply_joint(tx, fact, said, shares)

    async def sub_order_completed(self, tx: Tx, fact: Fact, message: facts_pb2.SubOrderCompleted) -> None:
        if not self.is_mirrored(fact, message.event, fact.zone, fact.node):
            return
        step = _step(fact, message.revision, StepAction.COMPLETE_SUB_ORDER, "", "")
        share = convert.sub_order_of(message.sub_order, fallback=step.occurred_at)
        await self._apply_joint(tx, fact, Change(message.event, fact.node, step), [share])

    async def _apply_joint(self, tx: Tx, fact: Fact, said: Change, shares: Sequence[SubOrder]) -> None:
        event_id = await self._apply(tx, fact, fact.zone, said)
        await store_mirror.put_shares(tx.conn, event_id, shares)

    async def _apply(self, tx: Tx, fact: Fact, zone: str, said: Change) -> int:
        """Apply a change, to a partial event when the event is not known here; return the event's row."""
        event_id = await store_mirror.change(tx.conn, said)
        if event_id is None:
            await self._check_node(tx, said.name, said.node)
            partial = _partial(zone, said, _stated_at(fact))
            merged = said.kind is not None
            event_id = await store_mirror.insert(
                tx.conn,
                partial,
                said.step,
                said.kind,
                said.source,
                merged=merged,
                moves=said.moves,
                counted=said.reports is not None,
            )
        if event_id is None:
            raise Invalid("event", f"{said.name} appeared while it was being written")
        return event_id

    def is_mirrored(self, fact: Fact, name: str, zone: str, node: str) -> bool:
        """Tell whether the fact is another node's. Raises Invalid for one that speaks for somebody else."""
        if not fact.received_from or fact.node == self._node:
            return False
        if node != fact.node:
            raise Invalid("node", f"{name} is of {node or 'no node'}, and {fact.node} speaks of it")
        if names.parse(name, EVENT_NAME)["zone"] != zone:
            raise Invalid("zone", f"{name} is not in {zone}")
        return True

    async def _check_node(self, tx: Tx, name: str, node: str) -> None:
        """Raise Invalid when the event belongs to another node than the one that speaks of it."""
        handled_by = await store_mirror.node_of(tx.conn, name)
        if handled_by is not None and handled_by != node:
            raise Invalid("node", f"{name} is handled by {handled_by}, and {node} speaks of it")


def _stated_at(fact: Fact) -> datetime:
    return fact.time.ToDatetime(tzinfo=UTC)


def _step(fact: Fact, revision: int, action: str, status: str, organisation: str, actor: str = "") -> Step:
    """Return a step of which only the outcome was told: its node stands for who took it."""
    at = _stated_at(fact)
    return Step(
        revision=revision,
        action=action,
        from_status=status,
        to_status=status,
        actor=actor or f"nodes/{fact.node}",
        organisation=organisation,
        occurred_at=at,
        recorded_at=at,
    )


def _event(message: facts_pb2.EventOpened, *, fallback: datetime) -> Event:
    event = message.event
    occurred_at = convert.time_of(event, "occurred_at") or fallback
    return Event(
        name=event.name,
        zone=event.zone,
        node=event.node,
        type=event.type,
        type_version=event.type_version,
        title=event.title,
        description=event.description,
        place=convert.place_of(event.place),
        status=event.status,
        organisation=event.organisation,
        routing=convert.explanation_of(event.routing) if event.HasField("routing") else None,
        occurred_at=occurred_at,
        opened_at=convert.time_of(event, "opened_at") or fallback,
        step_at=occurred_at,
        deadlines=convert.deadlines_of(event),
        closed_at=convert.time_of(event, "closed_at"),
        revision=event.revision,
        reports=event.reports,
        warning=event.warning,
        flags=flagged(convert.flags_of(event.flags)),
        returns=event.returns,
        answer=event.answer,
        split_from=event.split_from,
        component=convert.component_of(event),
    )


def _partial(zone: str, said: Change, stated_at: datetime) -> Event:
    """Return what is known of an event from a later fact alone."""
    return Event(
        name=said.name,
        zone=zone,
        node=said.node,
        type="",
        status=said.status or STATUS_UNKNOWN,
        organisation=said.organisation or "",
        occurred_at=stated_at,
        opened_at=stated_at,
        step_at=said.step.occurred_at,
        deadlines=said.deadlines or Deadlines(),
        closed_at=said.closed_at,
        revision=said.step.revision,
        reports=1 if said.reports is None else said.reports,
        flags=(Flag(Doubt.HISTORY_MISSING, "", "this node was not told of its opening"),),
        returns=said.returns,
        answer=said.answer,
        partial=True,
        assignee=said.assignee or "",
        merged_into=said.merged_into,
    )
