"""The facts that management takes in: reports of residents and sensors, finished tasks, zones given to child nodes.

Other nodes' events are in facts_mirrored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import structlog

from libs.errors import Away, NotFound, Reason
from quintet.collaboration.v1 import collaboration_pb2
from quintet.collaboration.v1.facts_pb2 import TaskChanged
from quintet.delivery.v1.facts_pb2 import RequestFiled, RequestReopened
from quintet.federation.v1.facts_pb2 import ZoneDelegated, ZoneWithdrawn
from quintet.management.v1 import facts_pb2
from quintet.perception.v1.facts_pb2 import WarningRaised
from services.management import convert, stated, store_events, store_joint, store_zones
from services.management.authority import authority
from services.management.model import REQUEST_NAME, WARNING_NAME, Doubt, Flag, Place, ReportKind, flagged
from services.management.model_joint import Outcome, settle
from services.management.model_report import Report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from google.protobuf.message import Message

    from libs.inbox import Handler
    from libs.tx import Tx
    from libs.zones import ZoneTree
    from quintet.common.v1.common_pb2 import LocalText
    from quintet.fact.v1.fact_pb2 import Fact
    from services.management.deadlines.facts import LedgerHandlers
    from services.management.facts_mirrored import MirrorHandlers
    from services.management.intake import Intake

    M = TypeVar("M", bound=Message)

# Who acts where a fact and no person is the cause.
ACTOR = "services/management"

log = structlog.get_logger()


class FactHandlers:
    """What this node does about reports and tasks. Each runs in the transaction that marks the fact as taken."""

    def __init__(self, node: str, zones: Callable[[], ZoneTree], intake: Intake) -> None:
        self._node = node
        self._zones = zones
        self._intake = intake

    async def request_filed(self, tx: Tx, fact: Fact, message: RequestFiled) -> None:
        """Take in a request of a zone that this node handles; others are for the node that does.

        Raises Away while a zone that our own delivery knows is not known here, so that the fact waits, and NotFound for
        one that a peer sent here for a zone unknown to us: it becomes a dead letter, for somebody has to look.
        """
        request = message.request
        tree = self._zones()
        zone = tree.canonical(request.zone or convert.zone_of(request.name, REQUEST_NAME, field="name"))
        who = await authority(tx.conn, tree, zone)
        if not who.known:
            text = f"{request.name} is in a zone that is not known here"
            if fact.received_from:
                raise NotFound(Reason.ZONE_NOT_FOUND, text, zone=zone)
            raise Away(Reason.DEPENDENCY_AWAY, text, zone=zone)
        if not who.ours:
            return
        if await store_events.event_for(tx.conn, request.name):
            return  # another fact about a request that stands in an event already
        said = convert.time_of(request, "reported_at") or convert.time_of(request, "filed_at") or tx.now
        report = Report(
            kind=ReportKind.REQUEST,
            source=request.name,
            zone=zone,
            type=request.type,
            description=request.description,
            place=convert.place_of(request.place),
            occurred_at=said,
            flags=convert.flags_of(request.flags),
            component=convert.component_of(request.component),
        )
        await self._intake.take(tx, report, actor=ACTOR)

    async def warning_raised(self, tx: Tx, fact: Fact, message: WarningRaised) -> None:
        """Take in a warning of our own sensors whose rule names a type of event.

        Peers act on theirs. A warning about a zone that a child handles is taken in all the same, in the nearest zone
        above that is ours: who raised it must see to it that something happens.
        """
        warning = message.warning
        if fact.received_from or not warning.event_type or await store_events.event_for(tx.conn, warning.name):
            return
        tree = self._zones()
        raised_in = tree.canonical(convert.zone_of(warning.name, WARNING_NAME, field="name"))
        who = await authority(tx.conn, tree, raised_in)
        if not who.known:
            text = f"{warning.name} is in a zone that is not known here"
            raise Away(Reason.DEPENDENCY_AWAY, text, zone=raised_in)
        flags: tuple[Flag, ...] = ()
        if not who.ours:
            text = f"raised in {raised_in}, which {who.node or 'another node'} handles"
            flags = flagged((), Flag(Doubt.ZONE_DELEGATED, "zone", text))
        known = warning.HasField("point") and (warning.point.latitude, warning.point.longitude) != (0.0, 0.0)
        report = Report(
            kind=ReportKind.WARNING,
            source=warning.name,
            zone=who.nearest,
            type=warning.event_type,
            description=_both(warning.reason.text),
            place=Place(
                latitude=warning.point.latitude if known else None,
                longitude=warning.point.longitude if known else None,
            ),
            occurred_at=convert.time_of(warning, "since") or convert.time_of(warning, "raised_at") or tx.now,
            flags=flags,
        )
        await self._intake.take(tx, report, actor=ACTOR)

    async def zone_delegated(self, tx: Tx, fact: Fact, message: ZoneDelegated) -> None:
        """Leave a zone of ours to a child: what comes behind this fact in the stream is no longer for us."""
        if not fact.received_from:
            await store_zones.delegate(tx.conn, self._zones().canonical(message.zone), message.node)

    async def zone_withdrawn(self, tx: Tx, fact: Fact, message: ZoneWithdrawn) -> None:
        """Handle a zone of ours again."""
        if not fact.received_from:
            await store_zones.withdraw(tx.conn, self._zones().canonical(message.zone), message.node)

    async def task_changed(self, tx: Tx, fact: Fact, message: TaskChanged) -> None:
        """Settle the share of a joint disposal whose task was done or cancelled, once."""
        task = message.task
        done = task.state == collaboration_pb2.TASK_STATE_DONE
        if not done and task.state != collaboration_pb2.TASK_STATE_CANCELLED:
            return
        if fact.received_from or not task.event or not task.sub_order:
            return
        event = await store_events.lock(tx.conn, task.event)
        if event is None or event.node != self._node:
            return
        shares = await store_joint.list_sub_orders(tx.conn, event.id)
        share = next((share for share in shares if share.id == task.sub_order), None)
        if share is None or share.organisation != task.organisation:
            log.warning("management.task_without_share", task=task.name, about=task.event, sub_order=task.sub_order)
            return
        if not share.is_open:
            return
        at = convert.time_of(task, "done_at") or tx.now
        outcome = Outcome(done, at, task.note, message.actor or ACTOR)
        after, step, settled = settle(event, share, outcome, tx.now)
        await store_joint.put_sub_orders(tx.conn, event.id, [settled])
        await store_events.update(tx.conn, after, step)
        if done:
            stated.sub_order_completed(tx, after, step, settled)
        else:
            stated.advanced(tx, after, step)


def handlers(own: FactHandlers, mirrored: MirrorHandlers, ledger: LedgerHandlers) -> Mapping[type[Message], Handler]:
    """Return what to do about each type of fact that management reads."""
    return dict(
        [
            _on(RequestFiled, own.request_filed),
            _on(WarningRaised, own.warning_raised),
            _on(TaskChanged, own.task_changed),
            _on(ZoneDelegated, own.zone_delegated),
            _on(ZoneWithdrawn, own.zone_withdrawn),
            _on(facts_pb2.EventOpened, mirrored.event_opened),
            _on(facts_pb2.ReportMerged, mirrored.report_merged),
            _on(facts_pb2.EventAdvanced, mirrored.event_advanced),
            _on(facts_pb2.EventAssigned, mirrored.event_assigned),
            _on(facts_pb2.JointDisposalStarted, mirrored.joint_disposal_started),
            _on(facts_pb2.SubOrderCompleted, mirrored.sub_order_completed),
            _on(facts_pb2.ExceptionChanged, ledger.exception_changed),
            _on(RequestReopened, ledger.request_reopened),
        ]
    )


def _on(kind: type[M], handle: Callable[[Tx, Fact, M], Awaitable[None]]) -> tuple[type[Message], Handler]:
    # The consumer parses the bytes of a fact as the type under which its handler stands.
    return kind, cast("Handler", handle)


def _both(text: LocalText) -> str:
    return "\n".join(part for part in (text.zh, text.en) if part)
