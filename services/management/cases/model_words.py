"""What two texts in Chinese and English have in common: words of English without their endings, pairs of Chinese
characters. Pure.

Chinese has no spaces and a dictionary would have to know every new word; pairs of neighbours find 井盖 in 井盖破损 and
破损的井盖 alike.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import islice

TOKENS_MAX = 400
_RUN = re.compile(r"(?P<han>[\u3400-\u4dbf\u4e00-\u9fff]+)|(?P<latin>[a-z0-9]+)")
_COMMON = frozenset(
    {
        "a", "an", "and", "are", "as", "at", "be", "been", "but", "by", "can", "for", "from", "had", "has",
        "have", "he", "her", "his", "i", "in", "into", "is", "it", "its", "no", "not", "of", "on", "or", "our",
        "she", "so", "some", "than", "that", "the", "their", "them", "then", "there", "they", "this", "to",
        "up", "was", "we", "were", "when", "which", "who", "will", "with", "you", "your",
    }
)  # fmt: skip
# Endings that are dropped from words long enough to be still recognised, the longest first: (ending, what stays of it,
# the least length of the word). "pipes", "piping" and "pipe" are one word; that some others are, too, does little harm.
_ENDINGS = (("ies", "y", 5), ("sses", "ss", 6), ("xes", "x", 5), ("ches", "ch", 6), ("shes", "sh", 6), ("ing", "", 6),
    ("ed", "", 5), ("s", "", 4))  # fmt: skip
_SILENT_LENGTH_MIN = 4


def plain(text: str) -> str:
    """Fold width and case, so that a full-width A, an "A" and an "a" are one spelling."""
    return unicodedata.normalize("NFKC", text).casefold()


def tokens(*texts: str) -> list[str]:
    """Return what texts are compared by, each once, in their order, at most TOKENS_MAX."""
    return list(spoken(*texts))


def spoken(*texts: str) -> dict[str, str]:
    """Return what texts are compared by, each with the word for which it stands."""
    found: dict[str, str] = {}
    for text in texts:
        for run in _RUN.finditer(plain(text)):
            if run["han"]:
                for pair in _pairs(run["han"]):
                    found.setdefault(pair, pair)
            elif run["latin"] not in _COMMON:
                found.setdefault(_stem(run["latin"]), run["latin"])
    return dict(islice(found.items(), TOKENS_MAX))


def _pairs(run: str) -> list[str]:
    return [run[place : place + 2] for place in range(len(run) - 1)] or [run]


def _stem(word: str) -> str:
    for ending, stays, length_min in _ENDINGS:
        if word.endswith(ending) and len(word) >= length_min and not word.endswith(("ss", "us")):
            word = word.removesuffix(ending) + stays
            break
    return word.removesuffix("e") if len(word) >= _SILENT_LENGTH_MIN else word
