"""What the history of a type says about where an event of it belongs. Pure.

For each zone on the way from the widest to the event's own, the organisations' shares of the events that ended there
are mixed with those of the wider zone, which weighs as much as PRIOR_EVENTS events: a zone with few events of its own
speaks with the voice of what is around it (Dirichlet smoothing). A correction takes CORRECTION_EVENTS events away from
who should not have had the event. The words of the report then weigh in as in a naive Bayes classifier, each by how
much oftener it stands in what the organisation ended than in all, where that is more than chance.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from math import exp, log
from typing import TYPE_CHECKING

from services.management.model_words import spoken

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

PRIOR_EVENTS = 5.0
CORRECTION_EVENTS = 3
# A word counts once it was seen so often, and so many standard deviations (of Poisson) off what chance would have; by a
# factor of at most e to WORD_WEIGHT_MAX.
WORD_EVENTS_MIN = 3
WORD_DEVIATIONS_MIN = 2.5
WORD_WEIGHT_MAX = 1.5
WORDS_MAX = 40
WORDS_SHOWN_MAX = 3


@dataclass(frozen=True, slots=True)
class Ended:
    """An event that came to an end with an organisation. `suggestion` is what its routes said when it was opened."""

    type: str
    zone: str
    organisation: str
    suggestion: str
    description: str
    occurred_at: datetime
    closed_at: datetime


@dataclass(frozen=True, slots=True)
class Correction:
    """An organisation had an event and should not have had it."""

    type: str
    zone: str
    organisation: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Ranked:
    """One organisation for an event. `share` is of 1 for all together.

    `here` of `all_here` events in the event's zone ended with it, `everywhere` of the type. `corrections` are those in
    the zone. `words` speak for it, the strongest first.
    """

    organisation: str
    share: float
    here: int
    all_here: int
    everywhere: int
    corrections: int
    words: tuple[str, ...] = ()


def words_of(text: str) -> dict[str, str]:
    """Return what counts of a report, each with the word that it stands for; numbers tell of nobody's duty."""
    told = ((token, word) for token, word in spoken(text).items() if not any(sign.isdigit() for sign in token))
    return dict(islice(told, WORDS_MAX))


class Experience:
    """What is known of one type, learnt event by event. A zone is given by its path from the widest zone down."""

    def __init__(self) -> None:
        self.events = 0
        self._ended: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._corrected: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._words: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._by_organisation: Counter[str] = Counter()
        self._all_words: Counter[str] = Counter()

    def learn(self, path: Sequence[str], organisation: str, words: Collection[str]) -> None:
        """An event ended with an organisation."""
        self.events += 1
        self._by_organisation[organisation] += 1
        for zone in path:
            self._ended[zone][organisation] += 1
        for counted in (self._words[organisation], self._all_words):
            counted.update(iter(words))  # of a mapping the counter would add the values

    def correct(self, path: Sequence[str], organisation: str) -> None:
        """An organisation should not have had an event."""
        for zone in path:
            self._corrected[zone][organisation] += 1

    def rank(self, path: Sequence[str], words: Mapping[str, str]) -> list[Ranked]:
        """Return the organisations for an event with the words of `words_of`, the likeliest first.

        Empty when nothing is known.
        """
        weights = self._weights(path, words)
        total = sum(weights.values())
        own = path[-1]
        ranked = [
            Ranked(
                organisation=name,
                share=weight / total,
                here=self._ended[own][name],
                all_here=self._ended[own].total(),
                everywhere=self._by_organisation[name],
                corrections=self._corrected[own][name],
                words=self._telling(name, words),
            )
            for name, weight in weights.items()
        ]
        return sorted(ranked, key=lambda each: (-each.share, each.organisation))

    def first(self, path: Sequence[str], words: Collection[str]) -> str:
        """Return the likeliest organisation alone, "" when nothing is known."""
        weights = self._weights(path, words)
        return min(weights, key=lambda name: (-weights[name], name), default="")

    def _weights(self, path: Sequence[str], words: Collection[str]) -> dict[str, float]:
        shares = self._shares(path)
        heard = self._heard(words)
        if not heard:
            return shares
        return {name: share * exp(sum(self._lifts(name, heard))) for name, share in shares.items()}

    def _heard(self, words: Collection[str]) -> list[tuple[str, float]]:
        """Return the words that were seen often enough, each with its share of all events."""
        seen = ((word, self._all_words[word]) for word in words)
        return [(word, events / self.events) for word, events in seen if events >= WORD_EVENTS_MIN]

    def _lifts(self, organisation: str, heard: Sequence[tuple[str, float]]) -> list[float]:
        """Return what each word says for or against an organisation; 0 where chance would say as much."""
        own, events = self._words[organisation], self._by_organisation[organisation]
        found = []
        for word, share in heard:
            seen, expected = own.get(word, 0), events * share
            telling = (seen - expected) ** 2 >= WORD_DEVIATIONS_MIN**2 * expected
            lift = log((seen + 1) / (expected + 1)) if telling else 0.0
            found.append(max(-WORD_WEIGHT_MAX, min(WORD_WEIGHT_MAX, lift)))
        return found

    def _telling(self, organisation: str, words: Mapping[str, str]) -> tuple[str, ...]:
        """Return the words that speak for an organisation as they were said, the strongest first."""
        heard = self._heard(words)
        lifts = dict(zip((word for word, _ in heard), self._lifts(organisation, heard), strict=True))
        found = sorted((word for word, lift in lifts.items() if lift > 0), key=lambda word: (-lifts[word], word))
        return tuple(words[token] for token in found[:WORDS_SHOWN_MAX])

    def _shares(self, path: Sequence[str]) -> dict[str, float]:
        shares: dict[str, float] = {}
        for zone in path:
            counted = {
                name: max(0, events - CORRECTION_EVENTS * self._corrected[zone][name])
                for name, events in self._ended[zone].items()
            }
            total = sum(counted.values())
            prior = PRIOR_EVENTS if shares else 0.0
            if not total:
                continue
            names = counted.keys() | shares.keys()
            shares = {name: (counted.get(name, 0) + prior * shares.get(name, 0.0)) / (total + prior) for name in names}
        return {name: share for name, share in shares.items() if share}
