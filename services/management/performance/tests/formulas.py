"""Formulas by chance, written out; and what they mean, said once more in Python with three values."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from services.management.performance.model_formula import (
    DURATIONS,
    NUMBERS,
    Both,
    Duration,
    Either,
    Formula,
    Not,
    Number,
    OneOf,
    Operator,
    Word,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

OPERATORS = {
    Operator.LESS: operator.lt,
    Operator.AT_MOST: operator.le,
    Operator.EQUAL: operator.eq,
    Operator.UNEQUAL: operator.ne,
    Operator.AT_LEAST: operator.ge,
    Operator.MORE: operator.gt,
}
_SPANS = (Operator.LESS, Operator.AT_MOST, Operator.AT_LEAST, Operator.MORE)
DEPTH_MAX = 2
VALUES = ("eventTypes/graffiti", "eventTypes/noise", "us-ca-sf-d6", "us-ca-sf-d10")


def formulas(words: tuple[str, ...]) -> st.SearchStrategy[Formula]:
    """Formulas of such conditions and of everything that is compared."""
    leaves = st.one_of(
        st.sampled_from(words).map(Word),
        st.builds(
            Number,
            st.sampled_from(sorted(NUMBERS)),
            st.sampled_from(Operator),
            st.sampled_from((0.0, 1.0, 2.0, 3.5, 4.0)),
        ),
        st.builds(
            Duration,
            st.sampled_from(sorted(DURATIONS)),
            st.sampled_from(_SPANS),
            st.integers(1, 40).map(lambda hours: hours * 3600),
        ),
        st.builds(
            OneOf,
            st.sampled_from(("type", "zone")),
            st.lists(st.sampled_from(VALUES), min_size=1, max_size=3, unique=True).map(tuple),
        ),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            inner.map(Not),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: Both(tuple(parts))),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: Either(tuple(parts))),
        ),
        max_leaves=8,
    )


def drawn(chance: random.Random, words: tuple[str, ...], depth: int = 0) -> Formula:
    """Return a formula by chance, for tests that wait for a database and cannot be driven by hypothesis."""
    if depth > DEPTH_MAX or chance.random() < 0.4:
        kind = chance.randrange(4)
        if kind == 0:
            return Word(chance.choice(words))
        if kind == 1:
            value = chance.choice((0.0, 1.0, 2.0, 3.5, 4.0))
            return Number(chance.choice(sorted(NUMBERS)), chance.choice(list(Operator)), value)
        if kind == 2:
            return Duration(chance.choice(sorted(DURATIONS)), chance.choice(_SPANS), chance.randint(1, 40) * 3600)
        return OneOf("type", (chance.choice(VALUES[:2]),))
    if chance.random() < 0.25:
        return Not(drawn(chance, words, depth + 1))
    parts = tuple(drawn(chance, words, depth + 1) for _ in range(chance.choice((2, 3))))
    return Both(parts) if chance.random() < 0.5 else Either(parts)


def written(formula: Formula) -> str:
    """Return a formula as somebody writes it, every part in brackets."""
    text = ""
    match formula:
        case Word(name):
            text = name
        case Number(name, compared, value):
            text = f"{name} {compared} {value:g}"
        case Duration(name, compared, seconds):
            text = f"{name} {compared} {seconds // 60}min"
        case OneOf(name, values):
            text = f"{name} in ({', '.join(values)})"
        case Not(part):
            text = f"not ({written(part)})"
        case Both(parts):
            text = " and ".join(f"({written(part)})" for part in parts)
        case Either(parts):
            text = " or ".join(f"({written(part)})" for part in parts)
    return text


def holds(formula: Formula, known: Mapping[str, Any]) -> bool | None:
    """Return whether a formula holds of an event, None for not known.

    `known` has conditions as bool or None, numbers, texts, and durations in seconds: (so long, whether it is over).
    """
    match formula:
        case Word(name):
            found: bool | None = known[name]
            return found
        case Number(name, compared, value):
            return None if known[name] is None else bool(OPERATORS[compared](known[name], value))
        case Duration(name, compared, seconds):
            return _compared(known[name], compared, seconds)
        case OneOf(name, values):
            return known[name] in values
        case Not(part):
            inner = holds(part, known)
            return None if inner is None else not inner
        case Both(parts) | Either(parts):
            settles = isinstance(formula, Either)
            inners = [holds(part, known) for part in parts]
            return settles if settles in inners else None if None in inners else not settles


def _compared(span: tuple[float, bool] | None, compared: Operator, seconds: int) -> bool | None:
    if span is None:
        return None
    so_long, is_over = span
    now, for_ever = OPERATORS[compared](so_long, seconds), OPERATORS[compared](float("inf"), seconds)
    # What goes on will only grow: it is settled when nothing longer would be judged otherwise.
    return now if is_over or now == for_ever else None
