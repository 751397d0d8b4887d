"""What perception knows of devices, their models and the rules over them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING

from libs.errors import Invalid, Reason, WrongState

if TYPE_CHECKING:
    from collections.abc import Collection

    from libs.zones import ZoneTree

# A device's clock may be wrong. A reading from further ahead would stop rules and days until time has caught up.
CLOCK_AHEAD_MAX_S = 300
# Far beyond any quantity that is measured, and small enough that sums of squares of a day's values stay finite.
VALUE_ABS_MAX = 1e100


class Comparison(IntEnum):
    """On which side of its threshold a rule raises; numbered as in the proto."""

    ABOVE = 1
    BELOW = 2


class WarningState(IntEnum):
    """Numbered as in the proto."""

    RAISED = 1
    ENDED = 2


class Verdict(IntEnum):
    """What people say of a warning; numbered as in the proto."""

    NONE = 0
    TRUE_ALARM = 1
    FALSE_ALARM = 2


@dataclass(frozen=True, slots=True)
class Text:
    """A text for people."""

    zh: str = ""
    en: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """Degrees in WGS 84."""

    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Indicator:
    """One thing that a model measures. Values outside [minimum, maximum] are not plausible; None for no limit."""

    code: str
    title: Text
    unit: str
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """What devices of a kind measure."""

    name: str
    title: Text
    indicators: tuple[Indicator, ...]


@dataclass(frozen=True, slots=True)
class Device:
    """One sensor or station. last_seen is when a reading last came in."""

    name: str
    zone: str
    id: str
    model: str
    title: Text
    point: Point | None
    organisation: str
    last_seen: datetime | None = None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a warning is raised and ended: what a rule says about values, in the indicator's unit."""

    comparison: Comparison
    raise_at: float
    clear_at: float
    minimum_duration: timedelta

    def beyond(self, value: float) -> bool:
        """Say whether the value is at the raising threshold or past it."""
        return value >= self.raise_at if self.comparison is Comparison.ABOVE else value <= self.raise_at

    def back(self, value: float) -> bool:
        """Say whether the value has come back. At a threshold that both raises and clears it has not."""
        cleared = value <= self.clear_at if self.comparison is Comparison.ABOVE else value >= self.clear_at
        return cleared and not self.beyond(value)

    def worse(self, one: float, other: float) -> float:
        """Return the more extreme of two values."""
        return max(one, other) if self.comparison is Comparison.ABOVE else min(one, other)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as it is now; revision counts its changes."""

    name: str
    title: Text
    zone: str
    indicator: str
    thresholds: Thresholds
    level: int
    event_type: str
    disabled: bool
    revision: int = 1
    true_alarms: int = 0
    false_alarms: int = 0


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning: who raised it about what, when and why. Times are those of readings."""

    name: str
    zone: str
    rule: str
    device: str
    organisation: str
    indicator: str
    level: int
    state: WarningState
    since: datetime
    raised_at: datetime
    ended_at: datetime | None
    value: float
    peak: float
    reason: Text
    inputs: dict[str, str]
    event_type: str
    verdict: Verdict
    point: Point | None


@dataclass(frozen=True, slots=True)
class Reading:
    """One value as it came in. time is aware; its precision is the microsecond."""

    device: str
    indicator: str
    time: datetime
    value: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a reading of a batch was not stored; index counts from 0."""

    index: int
    field: str
    rule: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch."""

    accepted: int
    duplicates: int
    refused: tuple[Refusal, ...]


def check_model(model: DeviceModel) -> None:
    """Raise Invalid when fields of the model contradict each other."""
    violations: list[tuple[str, str]] = []
    codes: set[str] = set()
    for index, indicator in enumerate(model.indicators):
        path = f"deviceModel.indicators[{index}]"
        if indicator.code in codes:
            violations.append((f"{path}.code", f"{indicator.code} is there twice"))
        codes.add(indicator.code)
        if None not in (indicator.minimum, indicator.maximum) and _above(indicator.minimum, indicator.maximum):
            violations.append((f"{path}.minimum", "must be at most the maximum"))
    if violations:
        raise Invalid.many(violations)


def check_rule(rule: Rule, *, known_indicator: bool) -> None:
    """Raise Invalid when the rule contradicts itself, or no model of the node has its indicator."""
    violations: list[tuple[str, str]] = []
    limits = rule.thresholds
    if limits.comparison is Comparison.ABOVE and limits.clear_at > limits.raise_at:
        violations.append(("rule.clearAt", "must be at most raiseAt, as the rule raises above"))
    if limits.comparison is Comparison.BELOW and limits.clear_at < limits.raise_at:
        violations.append(("rule.clearAt", "must be at least raiseAt, as the rule raises below"))
    if not known_indicator:
        violations.append(("rule.indicator", f"no device model measures {rule.indicator}"))
    if violations:
        raise Invalid.many(violations)


def check_zone(tree: ZoneTree, zone: str, field: str) -> None:
    """Raise Invalid for a zone that is not one of the node's, WrongState for one that is delegated to a child node."""
    if not tree.covers(tree.root, zone):
        raise Invalid(field, f"{zone} is not a zone of this node")
    if node := tree.authority(zone):
        raise WrongState(Reason.ZONE_DELEGATED, f"{zone} is delegated to {node}", zone=zone, node=node)


def fault_of(reading: Reading, indicators: Collection[str], now: datetime) -> tuple[str, str] | None:
    """Return the field and rule that a reading of a known device breaks; None when it is fit to be stored."""
    if reading.indicator not in indicators:
        return "indicator", "must be a code of the device's model"
    if not abs(reading.value) <= VALUE_ABS_MAX:  # so written, also not-a-number is refused
        return "value", f"must lie between {-VALUE_ABS_MAX:g} and {VALUE_ABS_MAX:g}"
    if reading.time > now + timedelta(seconds=CLOCK_AHEAD_MAX_S):
        return "time", f"must not lie more than {CLOCK_AHEAD_MAX_S} s ahead of the node's clock"
    return None


def is_suspect(value: float, minimum: float | None, maximum: float | None) -> bool:
    """Say whether a value lies outside of what its indicator can plausibly be."""
    return (minimum is not None and value < minimum) or (maximum is not None and value > maximum)


def _above(minimum: float | None, maximum: float | None) -> bool:
    return minimum is not None and maximum is not None and minimum > maximum
