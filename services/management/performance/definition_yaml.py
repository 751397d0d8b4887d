"""Definitions of scorecards as YAML that a supervisor writes, read with every fault named by its line and key."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import yaml

from services.management.performance.model_formula import Formula, FormulaError, Word, parse
from services.management.performance.model_scorecard import (
    APPEAL_DAYS_DEFAULT,
    EXCLUDED_ALWAYS,
    EXCLUDED_DEFAULT,
    CountsBy,
    Credit,
    Definition,
    Indicator,
    SubjectKind,
)
from services.management.warnings.model_indicator import Said

if TYPE_CHECKING:
    from collections.abc import Iterable
    from enum import StrEnum

    E = TypeVar("E", bound=StrEnum)

SOURCE_BYTES_MAX = 64 * 1024
INDICATORS_MAX = 30
CODES_MAX = 30
TITLE_CHARS_MAX = 120
WEIGHT_MAX = 1000
SAMPLE_MAX = 100_000
APPEAL_DAYS_MAX = 90
PERCENT_MAX = 100
NAME = re.compile(r"scorecardDefinitions/[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
WORD = re.compile(r"[a-z][a-z0-9_]{0,62}")
CODE = re.compile(r"[A-Z][A-Z0-9_]{0,62}")
WHOLE = re.compile(r"\d{1,9}")
PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,2})?)%?")

_KEYS = ("name", "title", "counts_by", "subjects", "excludes", "appeal_days", "indicators")
_INDICATOR_KEYS = ("id", "title", "of", "that", "credited_to", "weight", "min_sample", "points")


class DefinitionError(ValueError):
    """A definition breaks rules; `problems` holds one "line 12: key: rule" each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class _At(NamedTuple):
    """A value of the file, absent when `node` is None; `line` is where it stands or is missed."""

    node: yaml.Node | None
    key: str
    line: int


def parse_definition(source: str) -> Definition:
    """Read a definition. Raises DefinitionError with all faults."""
    if len(source.encode()) > SOURCE_BYTES_MAX:
        raise DefinitionError([f"line 1: file: is larger than {SOURCE_BYTES_MAX} bytes"])
    try:
        node = yaml.compose(source, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        rule = getattr(error, "problem", None) or "is not YAML"
        raise DefinitionError([f"line {mark.line + 1 if mark else 1}: file: {rule}"]) from error
    reader = _Reader()
    found = _definition(reader, source, _At(node, "", 1))
    if found is None or reader.problems:
        raise DefinitionError(reader.problems)
    return found


class _Reader:
    """Takes typed values out of YAML nodes, noting each fault with its line; what is missing reads as empty."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def problem(self, at: _At, rule: str) -> None:
        self.problems.append(f"line {at.line}: {at.key or 'file'}: {rule}")

    def mapping(self, at: _At, known: Iterable[str]) -> dict[str, _At]:
        """Return the values of the known keys, those that are missing too; {} where there is no mapping."""
        if not isinstance(at.node, yaml.MappingNode):
            self.problem(at, "is required" if at.node is None else "must be a mapping")
            return {}
        found: dict[str, _At] = {}
        for name, value in at.node.value:
            path = f"{at.key}.{name.value}" if at.key else str(name.value)
            here = _At(value, path, name.start_mark.line + 1)
            if name.value not in known:
                self.problem(here, "is not a known key")
            elif name.value in found:
                self.problem(here, "stands here twice")
            found[str(name.value)] = here
        return {key: found.get(key, _At(None, f"{at.key}.{key}" if at.key else key, at.line)) for key in known}

    def items(self, at: _At, most: int) -> list[_At]:
        if at.node is None:
            self.problem(at, "is required")
        elif not isinstance(at.node, yaml.SequenceNode) or not at.node.value:
            self.problem(at, "must be a list of at least one item")
        elif len(at.node.value) > most:
            self.problem(at, f"has more than {most} items")
        else:
            return [
                _At(each, f"{at.key}[{place}]", each.start_mark.line + 1) for place, each in enumerate(at.node.value)
            ]
        return []

    def text(self, at: _At, pattern: re.Pattern[str] | None = None) -> str:
        if at.node is None:
            self.problem(at, "is required")
        elif not isinstance(at.node, yaml.ScalarNode) or not at.node.value.strip() or "\0" in at.node.value:
            self.problem(at, "must be text")
        elif pattern is not None and not pattern.fullmatch(at.node.value):
            self.problem(at, f"{at.node.value!r} must match {pattern.pattern}")
        else:
            return str(at.node.value)
        return ""

    def whole(self, at: _At, default: int, least: int, most: int) -> int:
        if at.node is None:
            return default
        text = self.text(at, WHOLE)
        if text and not least <= int(text) <= most:
            self.problem(at, f"must be {least} to {most}")
        return int(text) if text else default

    def percent(self, at: _At) -> Decimal:
        text = self.text(at, PERCENT).removesuffix("%")
        if text and Decimal(text) > PERCENT_MAX:
            self.problem(at, f"must be 0 to {PERCENT_MAX}")
        return Decimal(text or 0)

    def choice(self, at: _At, kind: type[E], default: E) -> E:
        if at.node is None:
            return default
        text = self.text(at)
        known = tuple(kind)
        if text and text not in known:
            self.problem(at, f"{text!r} is not one of {', '.join(known)}")
            return default
        return kind(text) if text else default

    def title(self, at: _At) -> Said:
        found = self.mapping(at, ("zh", "en"))
        texts = [self.text(each).strip() for each in found.values()]
        if any(len(text) > TITLE_CHARS_MAX for text in texts):
            self.problem(at, f"is longer than {TITLE_CHARS_MAX} characters")
        return Said(*texts)

    def formula(self, at: _At) -> tuple[str, Formula]:
        text = " ".join(self.text(at).split())
        try:
            return text, parse(text) if text else Word("all")
        except FormulaError as error:
            self.problem(at, str(error))
            return text, Word("all")


def _definition(reader: _Reader, source: str, at: _At) -> Definition | None:
    found = reader.mapping(at, _KEYS)
    if not found:
        return None
    excludes: tuple[str, ...] = EXCLUDED_DEFAULT
    if found["excludes"].node is not None:
        excludes = tuple(reader.text(each, CODE) for each in reader.items(found["excludes"], CODES_MAX))
    kinds = reader.items(found["subjects"], len(SubjectKind))
    listed = reader.items(found["indicators"], INDICATORS_MAX)
    indicators = [_indicator(reader, each) for each in listed]
    for place, each in enumerate(listed):
        if indicators[place].id in {before.id for before in indicators[:place] if before.id}:
            reader.problem(each, f"{indicators[place].id!r} stands in the list twice")
    return Definition(
        name=reader.text(found["name"], NAME),
        title=reader.title(found["title"]),
        counts_by=reader.choice(found["counts_by"], CountsBy, CountsBy.OPENED),
        subjects=tuple(dict.fromkeys(reader.choice(each, SubjectKind, SubjectKind.ZONE) for each in kinds)),
        excludes=tuple(dict.fromkeys((*EXCLUDED_ALWAYS, *excludes))),
        appeal_days=reader.whole(found["appeal_days"], APPEAL_DAYS_DEFAULT, 1, APPEAL_DAYS_MAX),
        indicators=tuple(indicators),
        source=source,
    )


def _indicator(reader: _Reader, at: _At) -> Indicator:
    found = reader.mapping(at, _INDICATOR_KEYS)
    if not found:
        nothing = Word("all")
        return Indicator("", Said(), "", "", nothing, nothing, Credit.HANDLER, 0, 0, Decimal(0), Decimal(1))
    of, denominator = reader.formula(found["of"])
    that, numerator = reader.formula(found["that"])
    rates = reader.mapping(found["points"], ("none_at", "full_at"))
    none_at, full_at = (reader.percent(rates[key]) if rates else Decimal(0) for key in ("none_at", "full_at"))
    if rates and none_at == full_at:
        reader.problem(found["points"], "none_at and full_at must differ")
    return Indicator(
        id=reader.text(found["id"], WORD),
        title=reader.title(found["title"]),
        of=of,
        that=that,
        denominator=denominator,
        numerator=numerator,
        credit=reader.choice(found["credited_to"], Credit, Credit.HANDLER),
        weight=reader.whole(found["weight"], 1, 0, WEIGHT_MAX),
        min_sample=reader.whole(found["min_sample"], 1, 1, SAMPLE_MAX),
        none_at=none_at,
        full_at=full_at,
    )
