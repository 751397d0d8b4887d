"""How like an event a case is: a score from 0 to 1 and what it is made of. Pure.

score = 0.4 type + 0.4 words + 0.1 place + 0.1 usefulness, each part from 0 to 1:

- type: 1 for the same type, 0.5 for one of the same major class of the catalogue (the first two digits of its code).
- words: of the event's words the share that the case has, each weighed by how rare it is in the library:
  ln(1 + n / df) for n cases of which df have it, at least one: what is in none weighs no more than what is in one.
- place: 1 for the same kind of place.
- usefulness: (helped + 1) / (helped + did not + 2), Laplace's estimate, so that one word does not decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

from services.management.cases import texts
from services.management.cases.model_place import PlaceClass
from services.management.model import Explanation

if TYPE_CHECKING:
    from collections.abc import Sequence

TYPE_WEIGHT, WORDS_WEIGHT, PLACE_WEIGHT, USEFUL_WEIGHT = 0.4, 0.4, 0.1, 0.1
# Below this a case is not suggested: neither the type nor half of the words.
SCORE_MIN = 0.25
SAME_CLASS = 0.5
CLASS_DIGITS = 2
WORDS_SHOWN = 6
RULE = "rules/case-similarity"


@dataclass(frozen=True, slots=True)
class Subject:
    """The event as it is compared. `code` is that of its type, "" for none; `words` each with its spelling there."""

    type: str
    code: str
    words: Mapping[str, str]
    place: PlaceClass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A published case as it is compared."""

    name: str
    type: str
    code: str
    words: frozenset[str]
    place: PlaceClass
    helped: int
    did_not_help: int


@dataclass(frozen=True, slots=True)
class Library:
    """How many cases there are, and how many of them have each of the event's words."""

    cases: int
    with_word: Mapping[str, int]

    def weight(self, word: str) -> float:
        return log(1 + self.cases / max(1, self.with_word.get(word, 0)))


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A case with its score and why."""

    name: str
    score: float
    explanation: Explanation


def ranked(subject: Subject, candidates: Sequence[Candidate], library: Library, *, limit: int) -> list[Suggestion]:
    """Return the cases that are like an event, best first; equals by name."""
    found = [suggestion(subject, each, library) for each in candidates]
    found = [each for each in found if each.score >= SCORE_MIN]
    return sorted(found, key=lambda each: (-each.score, each.name))[:limit]


def suggestion(subject: Subject, candidate: Candidate, library: Library) -> Suggestion:
    """Return one case with its score."""
    kind = _type_part(subject, candidate)
    shared = [word for word in subject.words if word in candidate.words]
    whole = sum(library.weight(word) for word in subject.words)
    words = sum(library.weight(word) for word in shared) / whole if whole else 0.0
    same_place = subject.place is not PlaceClass.UNKNOWN and subject.place is candidate.place
    useful = (candidate.helped + 1) / (candidate.helped + candidate.did_not_help + 2)
    score = TYPE_WEIGHT * kind + WORDS_WEIGHT * words + PLACE_WEIGHT * same_place + USEFUL_WEIGHT * useful
    by_weight = sorted(shared, key=lambda word: (-library.weight(word), word))
    telling = [subject.words[word] for word in by_weight[:WORDS_SHOWN]]
    zh, en = texts.why(kind, words, telling, subject.place if same_place else "", candidate)
    inputs = {
        "type": f"{kind:g}",
        "words": f"{words:.2f}",
        "shared": " ".join(telling),
        "place": str(candidate.place) if same_place else "",
        "helped": str(candidate.helped),
        "didNotHelp": str(candidate.did_not_help),
    }
    return Suggestion(candidate.name, round(score, 4), Explanation(RULE, zh, en, inputs))


def _type_part(subject: Subject, candidate: Candidate) -> float:
    if subject.type == candidate.type:
        return 1.0
    codes = subject.code[:CLASS_DIGITS], candidate.code[:CLASS_DIGITS]
    return SAME_CLASS if codes[0] and codes[0] == codes[1] else 0.0
