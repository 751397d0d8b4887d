"""Hand-overs of events: what is known of one, and what its deadlines go by. The turns are in model_turns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from services.management.deadlines.model_clocks import CalendarSet
from services.management.handover import texts
from services.management.model import Explanation, Tier
from services.management.texts import Text

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from services.management.deadlines.model_time import WorkingTime

# Working time.
ANSWER_DEFAULT_MIN = 4 * 60
DECISION_MIN = 8 * 60
# Over the whole life of an event, so that its trail stays short.
HANDOVERS_MAX = 50


class State(StrEnum):
    OFFERED = "offered"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"
    DISPUTED = "disputed"
    ORDERED = "ordered"
    DISMISSED = "dismissed"
    SUPERSEDED = "superseded"


WAITING = frozenset((State.OFFERED, State.DISPUTED))
DISPUTABLE = frozenset((State.REFUSED, State.LAPSED))


@dataclass(frozen=True, slots=True)
class Rung:
    """Whom a dispute is brought before."""

    role: str
    tier: Tier
    title: Text


LADDER = (
    Rung("supervisor", Tier.ZONE, texts.SUPERVISOR),
    Rung("leader", Tier.ZONE, texts.LEADER),
    Rung("leader", Tier.ABOVE, texts.LEADER_ABOVE),
)


@dataclass(frozen=True, slots=True)
class Handover:
    """One hand-over. The fields are those of handovers.proto; `rung` counts from 1, 0 while it is not disputed."""

    name: str
    event: str
    title: str
    zone: str
    node: str
    from_organisation: str
    to_organisation: str
    reason: str
    boundary: str
    state: State
    offered_by: str
    offered_at: datetime
    answer_due_at: datetime
    answered_by: str = ""
    answered_at: datetime | None = None
    answer: str = ""
    disputed_by: str = ""
    disputed_at: datetime | None = None
    dispute: str = ""
    decide_due_at: datetime | None = None
    rung: int = 0
    decided_by: str = ""
    decided_at: datetime | None = None
    decision: str = ""
    explanation: Explanation | None = None
    version: int = 1
    revision: int = 0
    to_node: str = ""

    @property
    def before(self) -> Rung | None:
        """Whom it is brought before."""
        return LADDER[self.rung - 1] if self.rung else None

    def is_overdue(self, now: datetime) -> bool:
        due_at = {State.OFFERED: self.answer_due_at, State.DISPUTED: self.decide_due_at}.get(self.state)
        return due_at is not None and due_at <= now


@dataclass(frozen=True, slots=True)
class Terms:
    """What deadlines of hand-overs go by: the calendars of the node, and that of the event's type."""

    calendars: CalendarSet
    calendar: str

    def answering(self, organisation: str) -> WorkingTime:
        return self.calendars.of(organisation, otherwise=self.deciding)

    @property
    def deciding(self) -> WorkingTime:
        return self.calendars.named(self.calendar)

    @property
    def zone(self) -> ZoneInfo:
        return self.deciding.zone


@dataclass(frozen=True, slots=True)
class Offer:
    """What somebody offers to whom; `node` is that of an organisation of another tier, "" for one of this node."""

    organisation: str
    reason: str
    boundary: str
    answer_min: int = 0
    node: str = ""
