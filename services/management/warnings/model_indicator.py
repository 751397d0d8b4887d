"""Indicators: what they count, how their window slides, and when a threshold is crossed. Pure.

All times are aware and in UTC. A window is made of steps; a step is named by its beginning. The figure at a moment is
made of the step that the moment lies in and those before it, window / step in all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

STEPS_MAX = 1440
# A fact that is older than the window by up to this still finds the step where it belongs.
LATE_MINUTES_MAX = 1440
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Aggregation(StrEnum):
    """How facts become one figure."""

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MAX = "max"
    LATEST = "latest"
    STANDING = "standing"


# These read a field of the fact.
OF_A_FIELD = frozenset({Aggregation.SUM, Aggregation.MEAN, Aggregation.MAX, Aggregation.LATEST})


@dataclass(frozen=True, slots=True)
class Said:
    """A text for people in the two languages that every node speaks."""

    zh: str = ""
    en: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """A field of a fact has the value `equals`, or is `is_set` or not: one of the two is None."""

    field: str
    equals: str | None = None
    is_set: bool | None = None


@dataclass(frozen=True, slots=True)
class Selector:
    """Facts of a type for which all conditions hold."""

    type: str
    where: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Threshold:
    """Crossed at `value` on one side, back at `clear_value`. `level` is 1 (red) to 4 (blue).

    `category` is a word of CAP 1.2.
    """

    level: int
    at_least: bool
    value: float
    clear_value: float
    minimum_minutes: int
    zones: tuple[str, ...]
    category: str = "Other"
    publishes: bool = False
    headline: Said = Said()
    instruction: Said = Said()


@dataclass(frozen=True, slots=True)
class Indicator:
    """One version of a declared figure."""

    name: str
    title: Said
    unit: Said
    facts: tuple[Selector, ...]
    aggregation: Aggregation
    field: str = ""
    window_minutes: int = 0
    step_minutes: int = 1
    ends: tuple[Selector, ...] = ()
    due_field: str = ""
    thresholds: tuple[Threshold, ...] = ()
    version: int = 0
    counted_since: datetime = _EPOCH

    @property
    def standing(self) -> bool:
        return self.aggregation is Aggregation.STANDING

    def counts_like(self, other: Indicator) -> bool:
        """Say whether what was counted for the one is right for the other."""
        return self._counting() == other._counting()

    def _counting(self) -> tuple[object, ...]:
        window = self.window_minutes, self.step_minutes
        return self.facts, self.aggregation, self.field, window, self.ends, self.due_field


def step_at(time: datetime, step_minutes: int) -> datetime:
    """Return the beginning of the step that a moment lies in; steps are counted from 1970-01-01T00:00Z."""
    length = timedelta(minutes=step_minutes)
    return _EPOCH + (time - _EPOCH) // length * length


def first_step(indicator: Indicator, last: datetime) -> datetime:
    """Return the first step of the window whose last step is `last`."""
    return last - timedelta(minutes=indicator.window_minutes - indicator.step_minutes)


def oldest_kept(indicator: Indicator, now: datetime) -> datetime:
    """Return the oldest step that is kept: a fact from before counts nowhere."""
    late = timedelta(minutes=LATE_MINUTES_MAX)
    if indicator.standing:
        return step_at(now, 1) - late
    return first_step(indicator, step_at(now, indicator.step_minutes)) - late


@dataclass(frozen=True, slots=True)
class Bucket:
    """The facts of a step, of one zone or of several: how many, their sum, the greatest and the latest value."""

    facts: int = 0
    total: float = 0.0
    greatest: float = 0.0
    latest: float = 0.0
    latest_at: datetime = _EPOCH

    def with_value(self, value: float, at: datetime) -> Bucket:
        return joined([self, Bucket(1, value, value, value, at)])


def joined(buckets: Iterable[Bucket]) -> Bucket:
    """Return several buckets as one."""
    found = [bucket for bucket in buckets if bucket.facts]
    if not found:
        return Bucket()
    latest = max(found, key=lambda bucket: bucket.latest_at)
    return Bucket(
        facts=sum(bucket.facts for bucket in found),
        total=sum(bucket.total for bucket in found),
        greatest=max(bucket.greatest for bucket in found),
        latest=latest.latest,
        latest_at=latest.latest_at,
    )


def figure(aggregation: Aggregation, bucket: Bucket) -> float | None:
    """Return the figure of all that a window holds; None when there is none without a fact."""
    if aggregation in {Aggregation.COUNT, Aggregation.STANDING}:
        return float(bucket.facts)
    if aggregation is Aggregation.SUM:
        return bucket.total
    if not bucket.facts:
        return None
    return {
        Aggregation.MEAN: bucket.total / bucket.facts,
        Aggregation.MAX: bucket.greatest,
        Aggregation.LATEST: bucket.latest,
    }[aggregation]


# ---------------------------------------------------------------------------------------------------------- thresholds


class Turn(StrEnum):
    """What a look at the figure changed."""

    NONE = "none"
    CROSSED = "crossed"
    BACK = "back"


@dataclass(frozen=True, slots=True)
class Watched:
    """Where one threshold stands in one zone: since when the figure is beyond it, and whether it was crossed."""

    beyond_since: datetime | None = None
    crossed: bool = False


def judge(threshold: Threshold, watched: Watched, value: float | None, now: datetime) -> tuple[Watched, Turn]:
    """Return where a threshold stands after a look at the figure, and what that changed.

    It is crossed when the figure was beyond its value at every look for the minimum duration, and back only when the
    figure has come to the clear value. No figure changes nothing.
    """
    if value is None:
        return watched, Turn.NONE
    sign = 1.0 if threshold.at_least else -1.0
    beyond = sign * value >= sign * threshold.value
    if watched.crossed:
        if sign * value <= sign * threshold.clear_value:
            return Watched(), Turn.BACK
        return watched, Turn.NONE
    if not beyond:
        return Watched(), Turn.NONE
    since = watched.beyond_since or now
    if now - since < timedelta(minutes=threshold.minimum_minutes):
        return Watched(since), Turn.NONE
    return Watched(since, crossed=True), Turn.CROSSED


# --------------------------------------------------------------------------------------------------------------- rules

Problem = tuple[str, str]


def prepared(indicator: Indicator) -> Indicator:
    """Fill in what a declaration may leave out."""
    if indicator.standing or indicator.step_minutes:
        return indicator
    return replace(indicator, step_minutes=1)


def problems(indicator: Indicator) -> list[Problem]:
    """Return what is wrong with a declaration whatever the facts are like: (field in JSON spelling, rule)."""
    found = [
        (f"indicator.{name}.{language}", "is required: people read both languages")
        for name, said in (("title", indicator.title), ("unit", indicator.unit))
        for language in ("zh", "en")
        if not getattr(said, language).strip()
    ]
    found += _standing_problems(indicator) if indicator.standing else _window_problems(indicator)
    if (indicator.aggregation in OF_A_FIELD) != bool(indicator.field):
        rule = "is required" if indicator.aggregation in OF_A_FIELD else "is for SUM, MEAN, MAX and LATEST only"
        found.append(("indicator.field", rule))
    return found + _threshold_problems(indicator.thresholds)


def _window_problems(indicator: Indicator) -> list[Problem]:
    found: list[Problem] = []
    window, step = indicator.window_minutes, indicator.step_minutes
    if window < 1:
        found.append(("indicator.windowMinutes", "is required"))
    elif window % step:
        found.append(("indicator.windowMinutes", f"must be a multiple of stepMinutes, {step}"))
    elif window // step > STEPS_MAX:
        found.append(("indicator.stepMinutes", f"must divide the window into at most {STEPS_MAX} steps"))
    for name, given in (("ends", indicator.ends), ("dueField", indicator.due_field)):
        if given:
            found.append((f"indicator.{name}", "is for STANDING only"))
    return found


def _standing_problems(indicator: Indicator) -> list[Problem]:
    found: list[Problem] = []
    if not indicator.ends:
        found.append(("indicator.ends", "is required"))
    if indicator.window_minutes:
        found.append(("indicator.windowMinutes", "is not for STANDING: it counts what stands now"))
    return found


def _threshold_problems(thresholds: tuple[Threshold, ...]) -> list[Problem]:
    found: list[Problem] = []
    for place, threshold in enumerate(thresholds):
        path = f"indicator.thresholds[{place}]"
        side = "below" if threshold.at_least else "above"
        sign = 1 if threshold.at_least else -1
        if sign * threshold.clear_value >= sign * threshold.value:
            found.append((f"{path}.clearValue", f"must be {side} value, or the threshold would flutter"))
        if threshold.publishes and threshold.level <= 2:  # noqa: PLR2004 - levels I and II
            found.append((f"{path}.publishes", "levels I and II are published by people: one drafts, another approves"))
        found += [
            (f"{path}.{name}.{language}", "is required: people read both languages")
            for name, said in (("headline", threshold.headline), ("instruction", threshold.instruction))
            for language in ("zh", "en")
            if not getattr(said, language).strip()
        ]
    levels = [threshold.level for threshold in thresholds]
    if len(set(levels)) < len(levels):
        found.append(("indicator.thresholds", "must have one threshold per level"))
    return found
