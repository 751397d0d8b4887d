"""Finding texts in Chinese and English by pairs of characters, without a dictionary of either.

A text is cut into runs of letters and digits, and a run into all pairs of neighbours (bigrams): 残疾人证 gives 残疾,
疾人, 人证, and "permit" gives pe, er, rm, mi, it. Whoever asks for 残疾证 or "permits" still finds most pairs. How
many of the pairs asked for a text has is its score, so that everybody can see why one stands before another.
"""

import re
import unicodedata
from dataclasses import dataclass
from math import ceil

# Texts with fewer of the pairs asked for are not found: a single common pair says nothing.
SHARE_MIN = 0.5
# A query of the longest accepted length has fewer; a single character may stand for many, which is cut off here.
QUERY_GRAMS_MAX = 200
# What has the words as they were typed stands before all else.
EXACT_BONUS = 5 * QUERY_GRAMS_MAX

_RUN = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Query:
    """`plain` is the text in the spelling of the index, `grams` what to look for, `least` how many must be there."""

    plain: str
    grams: tuple[str, ...]
    least: int


def plain(text: str) -> str:
    """Fold width, case and spacing, so that a full-width A, an "A" and an "a" are one spelling."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def grams(*texts: str) -> list[str]:
    """Return all pairs of the texts, and all single characters for the sake of queries of one, each once, sorted."""
    found: set[str] = set()
    for run in _runs(*texts):
        found.update(run)
        found.update(_pairs(run))
    return sorted(found)


def query(text: str) -> Query | None:
    """Return what to look for; None when the text has neither letter nor digit."""
    found: dict[str, None] = {}
    for run in _runs(text):
        found.update(dict.fromkeys(_pairs(run) or [run]))
    if not found:
        return None
    wanted = tuple(found)[:QUERY_GRAMS_MAX]
    return Query(plain(text), wanted, ceil(len(wanted) * SHARE_MIN))


def _runs(*texts: str) -> list[str]:
    return [run for text in texts for run in _RUN.findall(plain(text))]


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)]
