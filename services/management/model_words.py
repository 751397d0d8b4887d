"""What texts in Chinese and English have in common, without a dictionary of either. Pure.

A text is cut into runs of Chinese and of other letters. Chinese has no spaces, and a dictionary would have to know
every new word: pairs of neighbours find 井盖 in 井盖破损 and 破损的井盖 alike. English counts by its words without
endings and without those that every text has.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import islice
from math import sqrt
from typing import NamedTuple

TOKENS_MAX = 400
# What was seen stands at the beginning of a report; the rest costs time on every comparison.
TEXT_CHARS_MAX = 600
TEXTS_KEPT_MAX = 4_000
# Two reports of one thing in people's own words are about as alike as this, seldom more; of two things hardly a fifth.
LIKE_AS_CAN_BE = 0.5

_RUN = re.compile(r"(?P<han>[\u3400-\u9fff]+)|(?P<other>[^\W_\u3400-\u9fff]+)(?:'s)?")
# Words and characters that say nothing of what was seen.
_EMPTY_WORDS = frozenset(
    {
        "a", "an", "and", "are", "as", "at", "be", "been", "but", "by", "can", "for", "from", "had", "has",
        "have", "he", "her", "his", "i", "in", "into", "is", "it", "its", "me", "my", "no", "not", "of", "on", "or",
        "our", "out", "please", "she", "so", "some", "than", "that", "the", "their", "them", "then", "there", "they",
        "this", "to", "up", "was", "we", "were", "when", "which", "who", "will", "with", "you", "your",
    }
)  # fmt: skip
_EMPTY_CHARACTERS = re.compile(r"[的了在是有和与我你他她它们这那个请被把都也就很]")
# Endings that are dropped from words long enough to be still recognised, the longest first: (ending, what stays of it,
# the least length of the word). "pipes", "piping" and "pipe" are one word; that some others are, too, does little harm.
_ENDINGS = (("ings", "", 7), ("ies", "y", 5), ("sses", "ss", 6), ("xes", "x", 5), ("ches", "ch", 6), ("shes", "sh", 6),
    ("ing", "", 6), ("ed", "", 5), ("s", "", 4))  # fmt: skip
_SILENT_LENGTH_MIN = 4


class Features(NamedTuple):
    """What counts of a text when two are compared, by script."""

    chinese: frozenset[str]
    other: frozenset[str]


def plain(text: str) -> str:
    """Fold width and case, so that a full-width A, an "A" and an "a" are one spelling."""
    return unicodedata.normalize("NFKC", text).casefold()


def tokens(*texts: str) -> list[str]:
    """Return what texts are searched by, each once, in their order, at most TOKENS_MAX."""
    return list(spoken(*texts))


def spoken(*texts: str) -> dict[str, str]:
    """Return what texts are searched by, pairs of Chinese and stems of words, each with what it stands for."""
    found: dict[str, str] = {}
    for text in texts:
        for run in _RUN.finditer(plain(text)):
            if run["han"]:
                for pair in _pairs(run["han"]) or [run["han"]]:
                    found.setdefault(pair, pair)
            elif run["other"] not in _EMPTY_WORDS:
                found.setdefault(_stem(run["other"]), run["other"])
    return dict(islice(found.items(), TOKENS_MAX))


@lru_cache(maxsize=TEXTS_KEPT_MAX)
def features(text: str) -> Features:
    """Return what counts of a text in a comparison; of a long one only the first TEXT_CHARS_MAX characters.

    Of Chinese that is single characters too (路灯坏 gives 路, 灯, 坏, 路灯, 灯坏): reports are short.
    """
    chinese: set[str] = set()
    other: set[str] = set()
    for run in _RUN.finditer(plain(text[:TEXT_CHARS_MAX])):
        if run["han"]:
            for part in _EMPTY_CHARACTERS.split(run["han"]):
                chinese.update(part, _pairs(part))
        elif run["other"] not in _EMPTY_WORDS:
            other.add(_stem(run["other"]))
    return Features(frozenset(chinese), frozenset(other))


def likeness(text: str, text_2: str) -> float | None:
    """Return how alike two texts are, 0 to 1 from LIKE_AS_CAN_BE on; None where they have no script in common.

    It is the cosine of the two sets (Ochiai's coefficient): a short report of the same thing as a long one is not held
    against it as much as by Jaccard's. On the pairs of merging/tests/likeness.py it tells one thing from two with an
    area under the curve of 0.99; trigrams as in pg_trgm reach 0.73 there, as Chinese reports share few runs of three.
    """
    first, second = features(text), features(text_2)
    pairs = [(one, two) for one, two in zip(first, second, strict=True) if one and two]
    if not pairs:
        return None
    common = sum(len(one & two) for one, two in pairs)
    cosine = common / sqrt(sum(len(one) for one, _ in pairs) * sum(len(two) for _, two in pairs))
    return min(1.0, cosine / LIKE_AS_CAN_BE)


def _pairs(run: str) -> list[str]:
    return [run[place : place + 2] for place in range(len(run) - 1)]


def _stem(word: str) -> str:
    for ending, stays, length_min in _ENDINGS:
        if word.endswith(ending) and len(word) >= length_min and not word.endswith(("ss", "us")):
            word = word.removesuffix(ending) + stays
            break
    return word.removesuffix("e") if len(word) >= _SILENT_LENGTH_MIN else word
