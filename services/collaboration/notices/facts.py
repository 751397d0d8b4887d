"""What notices are made of: what management states of deadlines, hand-overs and whistles, here and a tier below."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from quintet.management.v1.facts_pb2 import DeadlineReminder, EventEscalated, HandoverChanged, WhistleUnanswered
from quintet.management.v1.handovers_pb2 import HandoverState
from quintet.management.v1.management_pb2 import EscalationTier
from services.collaboration.messages import time_of
from services.collaboration.notices import store, texts
from services.collaboration.notices.model import ROLE_OF_LAST_RESORT, Notice, NoticeKind, organisation_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from zoneinfo import ZoneInfo

    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    from libs.inbox import Handler
    from libs.tx import Tx
    from libs.zones import ZoneTree
    from quintet.fact.v1.fact_pb2 import Fact
    from quintet.management.v1.handovers_pb2 import Handover

# Who of an organisation answers for what it is offered.
ANSWERING = "handler"
LEADING = "leader"


class NoticeHandlers:
    """Tells the roles of one node."""

    def __init__(self, node: str, zones: Callable[[], ZoneTree], timezone: ZoneInfo) -> None:
        """`timezone` is the one in which moments are written."""
        self._node = node
        self._zones = zones
        self._timezone = timezone

    def handlers(self) -> Mapping[type[Message], Handler]:
        return {
            DeadlineReminder: self.reminded,
            EventEscalated: self.escalated,
            HandoverChanged: self.handed_over,
            WhistleUnanswered: self.whistle_unanswered,
        }

    async def reminded(self, tx: Tx, fact: Fact, message: Message) -> None:
        """Tell the role that a reminder is for; of events that this node handles."""
        told = cast(DeadlineReminder, message)
        if fact.received_from:
            return
        due_at = time_of(told.due_at)
        zh, en = texts.reminder(told.title, told.clock, due_at, self._timezone, passed=told.offset_min >= 0)
        notice = Notice(
            id=fact.id,
            kind=NoticeKind.REMINDER,
            title=told.title,
            text_zh=zh,
            text_en=en,
            subject=told.event,
            due_at=due_at,
            role=told.role,
            organisation=told.organisation,
            zone=told.zone,
            node=told.node,
            urgent=False,
            created_at=tx.now,
        )
        await self._tell(tx, notice)

    async def escalated(self, tx: Tx, fact: Fact, message: Message) -> None:
        """Tell the role that an event is brought before; one below reaches this node where it stands above."""
        told = cast(EventEscalated, message)
        if fact.received_from and told.tier != EscalationTier.ESCALATION_TIER_ABOVE:
            return
        due_at = time_of(told.due_at)
        zh, en = texts.escalation(told.title, told.clock, due_at, self._timezone)
        notice = Notice(
            id=fact.id,
            kind=NoticeKind.ESCALATION,
            title=told.title,
            text_zh=zh,
            text_en=en,
            subject=told.event,
            due_at=due_at,
            role=told.role,
            organisation=told.organisation if told.tier == EscalationTier.ESCALATION_TIER_ORGANISATION else "",
            zone=told.zone,
            node=told.node,
            urgent=True,
            created_at=tx.now,
        )
        await self._tell(tx, notice)

    async def handed_over(self, tx: Tx, fact: Fact, message: Message) -> None:
        """Tell whoever has the next word about a hand-over, or has to know the last one."""
        told = cast(HandoverChanged, message).handover
        above = told.decide_tier == EscalationTier.ESCALATION_TIER_ABOVE
        disputed = told.state == HandoverState.HANDOVER_STATE_DISPUTED
        if told.state not in texts.HANDOVERS or (fact.received_from and not (disputed and above)):
            return
        due_at = _due(told)
        zh, en = texts.handover(told, time_of(due_at) if due_at else None, self._timezone)
        notice = Notice(
            id=fact.id,
            kind=NoticeKind.HANDOVER,
            title=told.title,
            text_zh=zh,
            text_en=en,
            subject=told.name,
            due_at=time_of(due_at) if due_at else None,
            role=told.decide_role if disputed else ANSWERING,
            organisation=_addressed(told),
            zone=told.zone,
            node=told.node,
            urgent=disputed or told.state == HandoverState.HANDOVER_STATE_ORDERED,
            created_at=tx.now,
        )
        await self._tell(tx, notice)

    async def whistle_unanswered(self, tx: Tx, fact: Fact, message: Message) -> None:
        """Tell those of the organisations that are this node's, wherever the whistle was blown."""
        told = cast(WhistleUnanswered, message)
        due_at = time_of(told.report_by)
        for place, organisation in enumerate(told.organisations):
            if not await store.is_here(tx.conn, self._node, organisation):
                continue
            zh, en = texts.whistle(told.zone, due_at, self._timezone, passed=told.role == LEADING)
            notice = Notice(
                id=f"{fact.id}-{place}",
                kind=NoticeKind.WHISTLE,
                title="",
                text_zh=zh,
                text_en=en,
                subject=told.whistle,
                due_at=due_at,
                role=told.role,
                organisation=organisation,
                zone=told.zone,
                node=told.node,
                urgent=True,
                created_at=tx.now,
            )
            await self._tell(tx, notice)

    async def _tell(self, tx: Tx, notice: Notice) -> None:
        """Keep a notice for those of its organisation, else of its zone, else for the role of last resort."""
        held = await store.places(tx.conn, self._node, notice.role)
        found = organisation_for(held, self._zones(), notice.organisation, notice.zone)
        if found is None:
            zh, en = texts.unheld(notice.role)
            notice = replace(notice, role=ROLE_OF_LAST_RESORT, text_zh=notice.text_zh + zh, text_en=notice.text_en + en)
        await store.add(tx.conn, replace(notice, organisation=found or ""))


def _addressed(handover: Handover) -> str:
    """Return the organisation that is told of a hand-over; none for a dispute, which is brought before a role."""
    if handover.state == HandoverState.HANDOVER_STATE_DISPUTED:
        return ""
    to = {HandoverState.HANDOVER_STATE_OFFERED, HandoverState.HANDOVER_STATE_ORDERED}
    return handover.to_organisation if handover.state in to else handover.from_organisation


def _due(handover: Handover) -> Timestamp | None:
    if handover.state == HandoverState.HANDOVER_STATE_OFFERED:
        return handover.answer_due_at
    disputed = handover.state == HandoverState.HANDOVER_STATE_DISPUTED
    return handover.decide_due_at if disputed and handover.HasField("decide_due_at") else None
