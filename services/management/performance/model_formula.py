"""The language of scorecards: filters over what is known of an event. A closed list of words, nothing else. Pure.

    closed and not voided and (response <= 4h or first_time_right)
    type in (eventTypes/graffiti, eventTypes/noise) and rating >= 4

A filter of an event is true, false or not known: whether a reporter was satisfied is not known of an event that nobody
rated. "and", "or" and "not" carry that on as in SQL: "not" of what is not known is not known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

FORMULA_CHARS_MAX = 1000
NESTING_MAX = 20
VALUES_MAX = 100
NUMBER_MAX = 1_000_000
DURATION_MAX_S = 10 * 366 * 86_400

# What each word means stands in docs/management.md; how it is read from the tables in store_facts.
CONDITIONS = frozenset(
    (
        "all",
        "open",
        "closed",
        "voided",
        "dispatched",
        "responded",
        "has_deadline",
        "on_time",
        "on_time_as_opened",
        "first_time_right",
        "returned",
        "reopened",
        "rated",
        "extended",
        "suspended",
        "escalated",
        "supervised",
        "merged",
        "joint",
        "mirrored",
    )
)
NUMBERS = frozenset(("reports", "returns", "reopens", "organisations", "extensions", "ratings", "rating"))
DURATIONS = frozenset(("response", "handling", "total"))
TEXTS = frozenset(("type", "zone"))
UNITS_S = {"min": 60, "h": 3600, "d": 86_400}

_TOKEN = re.compile(
    r"""\s*(?:(?P<operator><=|>=|!=|=|<|>)|(?P<mark>[(),])|(?P<number>\d+(?:\.\d+)?)(?P<unit>[a-z]*)
    |(?P<word>[A-Za-z][A-Za-z0-9._/-]*))""",
    re.VERBOSE,
)


class FormulaError(ValueError):
    """A formula breaks a rule; the text says which, and where."""


class Operator(StrEnum):
    """How a value is compared."""

    LESS = "<"
    AT_MOST = "<="
    EQUAL = "="
    UNEQUAL = "!="
    AT_LEAST = ">="
    MORE = ">"


_SPANS = frozenset((Operator.LESS, Operator.AT_MOST, Operator.AT_LEAST, Operator.MORE))
_SAME = frozenset((Operator.EQUAL, Operator.UNEQUAL))


@dataclass(frozen=True, slots=True)
class Word:
    """One of CONDITIONS."""

    name: str


@dataclass(frozen=True, slots=True)
class Number:
    """One of NUMBERS compared with a number."""

    name: str
    operator: Operator
    value: float


@dataclass(frozen=True, slots=True)
class Duration:
    """One of DURATIONS compared with a number of seconds. How long something still takes is known as a least only."""

    name: str
    operator: Operator
    value_s: int


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of TEXTS is one of the values."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The contrary."""

    part: Formula


@dataclass(frozen=True, slots=True)
class Both:
    """All parts hold."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of the parts holds."""

    parts: tuple[Formula, ...]


Formula: TypeAlias = Word | Number | Duration | OneOf | Not | Both | Either


def parse(text: str) -> Formula:
    """Read a formula. Raises FormulaError."""
    if len(text) > FORMULA_CHARS_MAX:
        raise FormulaError(f"is longer than {FORMULA_CHARS_MAX} characters")
    reader = _Reader(_tokens(text))
    found = reader.either(0)
    if reader.here is not None:
        raise FormulaError(f"{reader.here.text!r} at {reader.here.at} stands where the formula could end")
    return found


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    at: int
    kind: str
    unit: str = ""


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise FormulaError(f"{text[at]!r} at {at + 1} is not of the language")
        kind = next(name for name in ("operator", "mark", "number", "word") if found[name] is not None)
        tokens.append(_Token(found[kind], found.start(kind) + 1, kind, found["unit"] or ""))
        at = found.end()
    return tokens


class _Reader:
    """Reads tokens from left to right: or binds weaker than and, and that weaker than not."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0

    @property
    def here(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def take(self, wanted: str) -> _Token:
        token = self.here
        if token is None:
            raise FormulaError(f"ends where {wanted} is expected")
        self._next += 1
        return token

    def is_next(self, text: str) -> bool:
        """Take the next token if it reads so."""
        token = self.here
        if token is None or token.text != text or token.kind == "number":
            return False
        self._next += 1
        return True

    def either(self, depth: int) -> Formula:
        parts = [self.both(depth)]
        while self.is_next("or"):
            parts.append(self.both(depth))
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def both(self, depth: int) -> Formula:
        parts = [self.single(depth)]
        while self.is_next("and"):
            parts.append(self.single(depth))
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def single(self, depth: int) -> Formula:
        if depth > NESTING_MAX:
            raise FormulaError(f"is nested deeper than {NESTING_MAX}")
        if self.is_next("not"):
            return Not(self.single(depth + 1))
        if self.is_next("("):
            found = self.either(depth + 1)
            self._close()
            return found
        return self._filter()

    def _filter(self) -> Formula:
        token = self.take("a filter")
        name = token.text
        if token.kind == "word" and name in CONDITIONS:
            return Word(name)
        if token.kind == "word" and name in TEXTS:
            return self._text(name)
        if token.kind == "word" and name in NUMBERS:
            operator = self._operator(name, frozenset(Operator))
            return Number(name, operator, self._number(name))
        if token.kind == "word" and name in DURATIONS:
            operator = self._operator(name, _SPANS)
            return Duration(name, operator, self._seconds(name))
        words = ", ".join(sorted(CONDITIONS | NUMBERS | DURATIONS | TEXTS))
        raise FormulaError(f"{name!r} at {token.at} is not a filter; there are {words}")

    def _text(self, name: str) -> Formula:
        if self.is_next("in"):
            if not self.is_next("("):
                raise FormulaError(f"{name} in: a list in brackets is expected")
            values = [self._value(name)]
            while self.is_next(","):
                values.append(self._value(name))
            self._close()
            if len(values) > VALUES_MAX:
                raise FormulaError(f"{name} in: has more than {VALUES_MAX} values")
            return OneOf(name, tuple(dict.fromkeys(values)))
        operator = self._operator(name, _SAME)
        found = OneOf(name, (self._value(name),))
        return found if operator is Operator.EQUAL else Not(found)

    def _operator(self, name: str, allowed: frozenset[Operator]) -> Operator:
        token = self.take(f"what {name} is compared by")
        if token.kind != "operator" or token.text not in allowed:
            known = " ".join(operator for operator in Operator if operator in allowed)
            raise FormulaError(f"{token.text!r} at {token.at}: {name} is compared by one of {known}")
        return Operator(token.text)

    def _number(self, name: str) -> float:
        token = self.take("a number")
        if token.kind != "number" or token.unit:
            raise FormulaError(f"{token.text + token.unit!r} at {token.at}: {name} is compared with a plain number")
        if float(token.text) > NUMBER_MAX:
            raise FormulaError(f"{token.text} at {token.at} is above {NUMBER_MAX}")
        return float(token.text)

    def _seconds(self, name: str) -> int:
        token = self.take("a duration")
        if token.kind != "number" or token.unit not in UNITS_S:
            text = f"{token.text + token.unit!r} at {token.at}"
            raise FormulaError(f"{text}: {name} is compared with a number and a unit: 30min, 4h, 2d")
        seconds = float(token.text) * UNITS_S[token.unit]
        if seconds > DURATION_MAX_S or seconds != int(seconds):
            raise FormulaError(f"{token.text}{token.unit} at {token.at} must be whole seconds of ten years at most")
        return int(seconds)

    def _value(self, name: str) -> str:
        token = self.take(f"a value of {name}")
        if token.kind != "word":
            raise FormulaError(f"{token.text!r} at {token.at} is not a value of {name}")
        return token.text

    def _close(self) -> None:
        token = self.take("')'")
        if token.text != ")":
            raise FormulaError(f"{token.text!r} at {token.at} stands where ')' is expected")
