"""Other nodes' events: their facts come under a tier charter and keep this node's list and counters equal to theirs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING

import structlog

from libs import names
from libs.errors import Invalid
from services.management import convert, store_events, store_mirror
from services.management.model import EVENT_NAME, Deadlines, Doubt, Event, Flag, ReportKind, Step, StepAction, flagged
from services.management.store_mirror import Change
from services.management.tiers import store_moves

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.tx import Tx
    from quintet.fact.v1.fact_pb2 import Fact
    from quintet.management.v1 import facts_pb2
    from services.management.model import SubOrder

log = structlog.get_logger()

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
        StepAction.TAKE_OVER,
        StepAction.MOVE,
        StepAction.TAKE_UP,
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
            await self._check_home(tx, fact, event.name, event.revision)

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

    async def event_moved(self, tx: Tx, fact: Fact, message: facts_pb2.EventMoved) -> Event | None:
        """Keep an event as its home leaves it; return it, locked, None when that is known. Its home is not changed yet.

        Raises Invalid for one that speaks for somebody else.
        """
        told = message.event
        if not self.is_mirrored(fact, told.name, told.zone, message.from_node):
            return None
        if not await self.is_home(tx, fact, told.name, told.revision):
            return None
        step = convert.step_of(message.step, revision=told.revision, fallback=_stated_at(fact))
        said = Change(
            name=told.name,
            node=message.from_node,
            step=step,
            status=told.status,
            organisation=told.organisation,
            closed_at=convert.time_of(told, "closed_at"),
            answer=told.answer,
            reports=told.reports,
            deadlines=convert.deadlines_of(told),
            returns=told.returns,
            assignee="",
        )
        event_id = await self._apply(tx, fact, told.zone, said)
        if event_id is not None and told.sub_orders:
            shares = [convert.sub_order_of(share, fallback=step.occurred_at) for share in told.sub_orders]
            await store_mirror.put_shares(tx.conn, event_id, shares)
        return await store_events.lock(tx.conn, told.name)

    async def is_home(self, tx: Tx, fact: Fact, name: str, revision: int) -> bool:
        """Tell whether a fact about another node's event is the word of its home.

        False for what nobody needs any more: of a node that was its home when it made this revision, or from above of
        an event that this node never knew. Raises Invalid for a node that speaks of what is not its own.
        """
        home = await store_moves.home_of(tx.conn, name, fact.received_from)
        if home is None:
            return await store_moves.is_below(tx.conn, fact.received_from)
        if home.node == fact.node and home.told_rightly:
            return True
        await self._check_home(tx, fact, name, revision)
        return False

    async def _apply_joint(self, tx: Tx, fact: Fact, said: Change, shares: Sequence[SubOrder]) -> None:
        event_id = await self._apply(tx, fact, fact.zone, said)
        if event_id is not None:
            await store_mirror.put_shares(tx.conn, event_id, shares)

    async def _apply(self, tx: Tx, fact: Fact, zone: str, said: Change) -> int | None:
        """Apply a change, to a partial event when the event is not known here; return the event's row.

        None for an event from above that this node never knew: what a node above has in the zones of this one is told
        only of what was moved there.
        """
        event_id = await store_mirror.change(tx.conn, replace(said, heard_from=fact.received_from))
        if event_id is not None:
            return event_id
        home = await store_moves.home_of(tx.conn, said.name, fact.received_from)
        if home is not None:
            # What its former home did before it moved: its steps belong to the history, its state does not count.
            await self._check_home(tx, fact, said.name, said.step.revision)
            return await store_mirror.change(tx.conn, replace(said, node=home.node))
        if not await store_moves.is_below(tx.conn, fact.received_from):
            log.info("management.event_from_above_unknown", about=said.name, node=said.node)
            return None
        return await self._keep_partial(tx, fact, zone, said)

    async def _keep_partial(self, tx: Tx, fact: Fact, zone: str, said: Change) -> int:
        partial = _partial(zone, said, _stated_at(fact))
        event_id = await store_mirror.insert(
            tx.conn,
            partial,
            said.step,
            said.kind,
            said.source,
            merged=said.kind is not None,
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

    async def _check_home(self, tx: Tx, fact: Fact, name: str, revision: int) -> None:
        """Raise Invalid when a known event is not at home at the node that speaks of it, nor was with this revision."""
        home = await store_moves.home_of(tx.conn, name, fact.received_from)
        if home is None or (home.node == fact.node and home.told_rightly):
            return
        if await store_moves.was_home(tx.conn, name, fact.node, revision):
            return
        text = f"{name} is handled by {home.node}, and {fact.node} speaks of it by {fact.received_from}"
        raise Invalid("node", text)


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
        component=convert.component_of(event.component),
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
