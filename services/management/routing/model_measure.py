"""How right suggestions would have been: each event of the past, judged with what was known when it occurred. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.management.routing.model_history import Correction, Ended, Experience, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of how many suggestions how many were right."""

    suggested: int = 0
    right: int = 0

    @property
    def share(self) -> float:
        return self.right / self.suggested if self.suggested else 0.0

    def and_one(self, organisation: str, ended_with: str) -> Accuracy:
        """Count one more suggestion; none for ""."""
        if not organisation:
            return self
        return Accuracy(self.suggested + 1, self.right + (organisation == ended_with))


def measure(
    events: Sequence[Ended],
    corrections: Sequence[Correction],
    path: Callable[[str], Sequence[str]],
    tried: Collection[str],
) -> tuple[int, Accuracy, Accuracy]:
    """Return how many events in the zones `tried` there are, and how right rules and history were about them.

    All events teach, in the order in which they were closed; no event is judged with anything that happened after it
    occurred, itself included.
    """
    known: defaultdict[str, Experience] = defaultdict(Experience)
    rules, history, count = Accuracy(), Accuracy(), 0
    words = [words_of(event.description) for event in events]
    moments: list[tuple[datetime, int, int]] = []
    for number, event in enumerate(events):
        # An event that is said to have been closed before it occurred must not teach about itself either.
        moments += [(min(event.occurred_at, event.closed_at), 0, number), (event.closed_at, 1, number)]
    moments += [(correction.at, 2, number) for number, correction in enumerate(corrections)]
    for _, kind, number in sorted(moments):
        if kind == 2:  # noqa: PLR2004 - the third kind of moment
            correction = corrections[number]
            known[correction.type].correct(path(correction.zone), correction.organisation)
            continue
        event = events[number]
        if kind == 1:
            known[event.type].learn(path(event.zone), event.organisation, words[number])
        elif event.zone in tried:
            count += 1
            first = known[event.type].first(path(event.zone), words[number])
            history = history.and_one(first, event.organisation)
            rules = rules.and_one(event.suggestion, event.organisation)
    return count, rules, history
