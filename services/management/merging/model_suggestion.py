"""What may be the same as what, and what became of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from libs.errors import Reason, WrongState
from services.management.model import Explanation


class State(StrEnum):
    """What became of a suggestion. LAPSED is not stored: it follows from the events."""

    OPEN = "open"
    ACCEPTED = "accepted"
    DISMISSED = "dismissed"
    LAPSED = "lapsed"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """An event that may be the same as an earlier one. `id` is the row."""

    id: int
    event: str
    same_as: str
    type: str
    score: float
    explanation: Explanation
    state: State
    suggested_at: datetime
    decided_by: str = ""
    decided_at: datetime | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        return f"{self.event}/mergeSuggestions/{self.id}"


@dataclass(frozen=True, slots=True)
class Quality:
    """How good merging was for one type, "" for all. The fields are those of MergeQuality in merging.proto."""

    type: str
    automatic: int = 0
    undone: int = 0
    by_hand: int = 0
    suggested: int = 0
    accepted: int = 0
    dismissed: int = 0

    @property
    def automatic_precision(self) -> float | None:
        return _share(self.automatic, self.undone)

    @property
    def suggestion_precision(self) -> float | None:
        return _share(self.accepted, self.dismissed)


def decided(suggestion: Suggestion, state: State, *, actor: str, reason: str, now: datetime) -> Suggestion:
    """Return a suggestion that somebody decided. Raises WrongState unless it is open."""
    if suggestion.state is not State.OPEN:
        text = f"{suggestion.name} is {suggestion.state}"
        raise WrongState(Reason.WRONG_STATE, text, name=suggestion.name, state=suggestion.state)
    return replace(suggestion, state=state, decided_by=actor, decided_at=now, reason=reason)


def total(found: list[Quality]) -> Quality:
    """Return the sum of the figures of all types."""
    return Quality(
        "",
        *(
            sum(getattr(each, name) for each in found)
            for name in ("automatic", "undone", "by_hand", "suggested", "accepted", "dismissed")
        ),
    )


def _share(right: int, wrong: int) -> float | None:
    return right / (right + wrong) if right + wrong else None
