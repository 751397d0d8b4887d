"""The facts that management states, each with its audit entry, in the transaction of the change."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from quintet.management.v1 import facts_pb2
from services.management.convert import deadlines_pb, event_pb, step_pb, sub_order_pb, time_pb
from services.management.model import ReportKind, StepAction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

    from libs.canonical import JsonValue
    from libs.tx import Tx
    from services.management.model import Event, Step, SubOrder
    from services.management.model_report import Report


# Steps that change how many reports an event has, beside the reports that it takes in.
_CHANGES_REPORTS = frozenset({StepAction.MERGE_INTO, StepAction.SPLIT})


class Origin(NamedTuple):
    """Where a report stood before it was moved by hand: `moves` counts that, `revision` is the event's without it."""

    moves: int = 0
    event: str = ""
    revision: int = 0


STRAIGHT = Origin()


def opened(tx: Tx, event: Event, report: Report, origin: Origin = STRAIGHT) -> None:
    request = _request(report)
    message = facts_pb2.EventOpened(
        event=event_pb(event, [request] if request else []),
        request=request,
        moves=origin.moves,
        from_event=origin.event,
        from_revision=origin.revision,
    )
    _state(tx, event, message, "open", type=event.type, source=report.source)


def merged(tx: Tx, event: Event, report: Report, origin: Origin = STRAIGHT) -> None:
    message = facts_pb2.ReportMerged(
        event=event.name,
        request=_request(report),
        status=event.status,
        organisation=event.organisation,
        due_at=time_pb(event.deadlines.due_at),
        revision=event.revision,
        zone=event.zone,
        node=event.node,
        reports=event.reports,
        moves=origin.moves,
        from_event=origin.event,
        from_revision=origin.revision,
    )
    _state(tx, event, message, "merge", source=report.source)


def advanced(tx: Tx, event: Event, step: Step, *, answer: str = "") -> None:
    """State a step; `answer` is what the reporters are told, "" when nothing new."""
    message = facts_pb2.EventAdvanced(
        event=event.name,
        step=step_pb(step),
        status=event.status,
        organisation=event.organisation,
        answer=answer,
        revision=event.revision,
        zone=event.zone,
        node=event.node,
        closed_at=time_pb(event.closed_at),
        deadlines=deadlines_pb(event.deadlines),
        assignee=event.assignee,
        returns=event.returns,
        reports=event.reports if step.action in _CHANGES_REPORTS else None,
        merged_into=event.merged_into,
    )
    detail = {"from": step.from_status, "to": step.to_status}
    _state(tx, event, message, step.action, **detail)


def assigned(tx: Tx, before: Event, event: Event, step: Step) -> None:
    message = facts_pb2.EventAssigned(
        event=event.name,
        step=step_pb(step),
        assignee=event.assignee,
        before=before.assignee,
        organisation=event.organisation,
        revision=event.revision,
        zone=event.zone,
        node=event.node,
    )
    _state(tx, event, message, step.action, assignee=event.assignee, before=before.assignee)


def joint_disposal_started(tx: Tx, event: Event, step: Step, shares: Sequence[SubOrder]) -> None:
    message = facts_pb2.JointDisposalStarted(
        event=event.name,
        title=event.title,
        lead=event.organisation,
        sub_orders=[sub_order_pb(share) for share in shares],
        due_at=time_pb(event.deadlines.due_at),
        revision=event.revision,
        started_by=step.actor,
        deadlines=deadlines_pb(event.deadlines),
    )
    _state(tx, event, message, step.action, organisations=[share.organisation for share in shares])


def sub_order_completed(tx: Tx, event: Event, step: Step, share: SubOrder) -> None:
    message = facts_pb2.SubOrderCompleted(
        event=event.name, sub_order=sub_order_pb(share), remaining=event.shares_open, revision=event.revision
    )
    _state(tx, event, message, step.action, share=share.id, organisation=share.organisation)


def _request(report: Report) -> str:
    return report.source if report.kind is ReportKind.REQUEST else ""


def _state(tx: Tx, event: Event, message: Message, action: str, **detail: JsonValue) -> None:
    # Facts of an event keep the order of its revisions: whoever states one holds the lock on its row.
    tx.publish(message, zone=event.zone, key=event.name)
    tx.audit(f"management.events.{action}", event.name, revision=event.revision, **detail)
