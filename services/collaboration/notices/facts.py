"""What notices are made of: reminders and escalations that management states, here and at the tier below."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from quintet.management.v1.facts_pb2 import DeadlineReminder, EventEscalated
from quintet.management.v1.management_pb2 import EscalationTier
from services.collaboration.messages import time_of
from services.collaboration.notices import store, texts
from services.collaboration.notices.model import ROLE_OF_LAST_RESORT, Notice, NoticeKind, organisation_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from zoneinfo import ZoneInfo

    from google.protobuf.message import Message

    from libs.inbox import Handler
    from libs.tx import Tx
    from libs.zones import ZoneTree
    from quintet.fact.v1.fact_pb2 import Fact


class NoticeHandlers:
    """Tells the roles of one node."""

    def __init__(self, node: str, zones: Callable[[], ZoneTree], timezone: ZoneInfo) -> None:
        """`timezone` is the one in which moments are written."""
        self._node = node
        self._zones = zones
        self._timezone = timezone

    def handlers(self) -> Mapping[type[Message], Handler]:
        return {DeadlineReminder: self.reminded, EventEscalated: self.escalated}

    async def reminded(self, tx: Tx, fact: Fact, message: Message) -> None:
        """Tell the role that a reminder is for; of events that this node handles."""
        told = cast(DeadlineReminder, message)
        if fact.received_from:
            return
        passed = told.offset_min >= 0
        text = texts.reminder(told.title, told.clock, time_of(told.due_at), self._timezone, passed=passed)
        await self._tell(tx, fact, told, NoticeKind.REMINDER, told.organisation, text)

    async def escalated(self, tx: Tx, fact: Fact, message: Message) -> None:
        """Tell the role that an event is brought before; one below reaches this node where it stands above."""
        told = cast(EventEscalated, message)
        if fact.received_from and told.tier != EscalationTier.ESCALATION_TIER_ABOVE:
            return
        organisation = told.organisation if told.tier == EscalationTier.ESCALATION_TIER_ORGANISATION else ""
        text = texts.escalation(told.title, told.clock, time_of(told.due_at), self._timezone)
        await self._tell(tx, fact, told, NoticeKind.ESCALATION, organisation, text)

    async def _tell(
        self,
        tx: Tx,
        fact: Fact,
        told: DeadlineReminder | EventEscalated,
        kind: NoticeKind,
        organisation: str,
        text: tuple[str, str],
    ) -> None:
        role, (zh, en) = told.role, text
        held = await store.places(tx.conn, self._node, role)
        found = organisation_for(held, self._zones(), organisation, told.zone)
        if found is None:
            more_zh, more_en = texts.unheld(role)
            role, found, zh, en = ROLE_OF_LAST_RESORT, "", zh + more_zh, en + more_en
        notice = Notice(
            id=fact.id,
            kind=kind,
            title=told.title,
            text_zh=zh,
            text_en=en,
            event=told.event,
            due_at=time_of(told.due_at),
            role=role,
            organisation=found,
            zone=told.zone,
            node=told.node,
            urgent=kind is NoticeKind.ESCALATION,
            created_at=tx.now,
        )
        await store.add(tx.conn, notice)
