"""What notices are made of: what management states of deadlines, hand-overs and whistles, here and a tier below."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from quintet.management.v1.facts_pb2 import (
    DeadlineReminder,
    EventEscalated,
    HandoverAcross,
    HandoverChanged,
    WhistleUnanswered,
)
from quintet.management.v1.handovers_pb2 import HandoverState
from quintet.management.v1.management_pb2 import EscalationTier
from services.collaboration.messages import time_of
from services.collaboration.notices import store, texts
from services.collaboration.notices.model import ROLE_OF_LAST_RESORT, Notice, NoticeKind, organisation_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from google.protobuf.message import Message

    from libs.inbox import Handler
    from libs.tx import Tx
    from libs.zones import ZoneTree
    from quintet.fact.v1.fact_pb2 import Fact
    from quintet.management.v1.handovers_pb2 import Handover

# Who of an organisation answers for what it is offered.
ANSWERING = "handler"
LEADING = "leader"


class About(NamedTuple):
    """What a notice is about."""

    kind: NoticeKind
    subject: str
    title: str
    zone: str
    node: str
    due_at: datetime | None


class To(NamedTuple):
    """Whom a notice is meant for, and whether they must acknowledge it."""

    role: str
    organisation: str
    urgent: bool = False


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
            HandoverAcross: self.offered_across,
            WhistleUnanswered: self.whistle_unanswered,
        }

    async def reminded(self, tx: Tx, fact: Fact, message: Message) -> None:
        """Tell the role that a reminder is for; of events that this node handles."""
        told = cast(DeadlineReminder, message)
        if fact.received_from:
            return
        due_at = time_of(told.due_at)
        text = texts.reminder(told.title, told.clock, due_at, self._timezone, passed=told.offset_min >= 0)
        what = About(NoticeKind.REMINDER, told.event, told.title, told.zone, told.node, due_at)
        await self._tell(tx, fact.id, what, text, To(told.role, told.organisation))

    async def escalated(self, tx: Tx, fact: Fact, message: Message) -> None:
        """Tell the role that an event is brought before; one below reaches this node where it stands above."""
        told = cast(EventEscalated, message)
        if fact.received_from and told.tier != EscalationTier.ESCALATION_TIER_ABOVE:
            return
        due_at = time_of(told.due_at)
        text = texts.escalation(told.title, told.clock, due_at, self._timezone)
        what = About(NoticeKind.ESCALATION, told.event, told.title, told.zone, told.node, due_at)
        within = told.organisation if told.tier == EscalationTier.ESCALATION_TIER_ORGANISATION else ""
        await self._tell(tx, fact.id, what, text, To(told.role, within, urgent=True))

    async def handed_over(self, tx: Tx, fact: Fact, message: Message) -> None:
        """Tell whoever has the next word about a hand-over, or has to know the last one."""
        told = cast(HandoverChanged, message).handover
        if told.to_node and told.state == HandoverState.HANDOVER_STATE_OFFERED:
            return  # those who answer are at another node: see `offered_across`
        above = told.decide_tier == EscalationTier.ESCALATION_TIER_ABOVE
        disputed = told.state == HandoverState.HANDOVER_STATE_DISPUTED
        if told.state not in texts.HANDOVERS or (fact.received_from and not (disputed and above)):
            return
        await self._tell_of_handover(tx, fact, told, disputed=disputed)

    async def offered_across(self, tx: Tx, fact: Fact, message: Message) -> None:
        """Tell an organisation of this node that one of another tier offers it an event."""
        told = cast(HandoverAcross, message).handover
        if fact.received_from and told.to_node == self._node and told.state == HandoverState.HANDOVER_STATE_OFFERED:
            await self._tell_of_handover(tx, fact, told, disputed=False)

    async def _tell_of_handover(self, tx: Tx, fact: Fact, told: Handover, *, disputed: bool) -> None:
        due_at = _due(told)
        text = texts.handover(told, due_at, self._timezone)
        what = About(NoticeKind.HANDOVER, told.name, told.title, told.zone, told.node, due_at)
        urgent = disputed or told.state == HandoverState.HANDOVER_STATE_ORDERED
        to = To(told.decide_role if disputed else ANSWERING, _addressed(told), urgent=urgent)
        await self._tell(tx, fact.id, what, text, to)

    async def whistle_unanswered(self, tx: Tx, fact: Fact, message: Message) -> None:
        """Tell those of the organisations that are this node's, wherever the whistle was blown."""
        told = cast(WhistleUnanswered, message)
        due_at = time_of(told.report_by)
        text = texts.whistle(told.zone, due_at, self._timezone, passed=told.role == LEADING)
        what = About(NoticeKind.WHISTLE, told.whistle, "", told.zone, told.node, due_at)
        ours = await store.of_node(tx.conn, self._node, told.organisations)
        for place, organisation in enumerate(told.organisations):
            if organisation in ours:
                await self._tell(tx, f"{fact.id}-{place}", what, text, To(told.role, organisation, urgent=True))

    async def _tell(self, tx: Tx, notice_id: str, what: About, text: tuple[str, str], to: To) -> None:
        """Keep a notice for those of its organisation, else of its zone, else for the role of last resort."""
        role, (zh, en) = to.role, text
        held = await store.places(tx.conn, self._node, role)
        found = organisation_for(held, self._zones(), to.organisation, what.zone)
        if found is None:
            more_zh, more_en = texts.unheld(role)
            role, found, zh, en = ROLE_OF_LAST_RESORT, "", zh + more_zh, en + more_en
        notice = Notice(
            id=notice_id,
            kind=what.kind,
            title=what.title,
            text_zh=zh,
            text_en=en,
            subject=what.subject,
            due_at=what.due_at,
            role=role,
            organisation=found,
            zone=what.zone,
            node=what.node,
            urgent=to.urgent,
            created_at=tx.now,
        )
        await store.add(tx.conn, notice)


def _addressed(handover: Handover) -> str:
    """Return the organisation that is told of a hand-over; none for a dispute, which is brought before a role."""
    if handover.state == HandoverState.HANDOVER_STATE_DISPUTED:
        return ""
    to = {HandoverState.HANDOVER_STATE_OFFERED, HandoverState.HANDOVER_STATE_ORDERED}
    return handover.to_organisation if handover.state in to else handover.from_organisation


def _due(handover: Handover) -> datetime | None:
    if handover.state == HandoverState.HANDOVER_STATE_OFFERED:
        return time_of(handover.answer_due_at)
    disputed = handover.state == HandoverState.HANDOVER_STATE_DISPUTED
    return time_of(handover.decide_due_at) if disputed and handover.HasField("decide_due_at") else None
