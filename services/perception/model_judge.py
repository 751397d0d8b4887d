"""What the new readings of one series mean to the rules over it: warnings raised and ended, watches to keep. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from services.perception.model import Rule, Thresholds, Warned, WarningState
from services.perception.model_alarm import Ended, Raised, Watch, step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Watching:
    """What one rule watches in one series, with the rule as it was when this began. warning is the running one."""

    rule: str
    revision: int
    thresholds: Thresholds
    watch: Watch
    warning: Warned | None = None


@dataclass(slots=True)
class Judgement:
    """What is to be written and stated. A warning may be both raised and ended."""

    raised: list[Warned]
    ended: list[Warned]
    events: list[Warned]  # every raising and ending in the order in which they came about
    peaks: list[Warned]  # warnings that go on and have a new peak
    keep: list[Watching]
    forget: list[str]  # rules that watch nothing in this series any more


def judge(
    rules: Iterable[Rule],
    before: Mapping[str, Watching],
    readings: Sequence[tuple[datetime, float]],
    last: datetime | None,
    warn: Callable[[Rule, Raised], Warned],
) -> Judgement:
    """Judge the new good readings of a series, ordered by time.

    `rules` are those in force for the series now, `before` what was being watched, by rule; `last` is the time of the
    last reading judged so far; `warn` makes the warning. A running warning is judged by the rule as it was when it was
    raised, whatever became of the rule; the reading that ends it is not judged again by the rule of now. What a rule
    had begun to watch without a warning is forgotten when the rule has changed.
    """
    found = Judgement([], [], [], [], [], [])
    current = {rule.name: rule for rule in rules}
    for name in sorted(current.keys() | before.keys()):
        _judge_one(name, current.get(name), before.get(name), readings, last, warn, found)
    return found


def _judge_one(
    name: str,
    rule: Rule | None,
    before: Watching | None,
    readings: Sequence[tuple[datetime, float]],
    last: datetime | None,
    warn: Callable[[Rule, Raised], Warned],
    found: Judgement,
) -> None:
    watching = _resume(rule, before, last)
    watch = watching.watch if watching is not None else Watch(last=last)
    for time, value in readings:
        if watching is None:
            break
        watch, event = step(watching.thresholds, watch, time, value)
        if isinstance(event, Raised) and rule is not None:
            warning = warn(rule, event)
            found.raised.append(warning)
            found.events.append(warning)
            watching = replace(watching, warning=warning)
        elif isinstance(event, Ended) and watching.warning is not None:
            warning = replace(watching.warning, state=WarningState.ENDED, ended_at=event.time, peak=event.peak)
            found.ended.append(warning)
            found.events.append(warning)
            watching = _begin(rule, event.time)
    if watching is not None and watch.since is not None:
        found.keep.append(_carried_on(replace(watching, watch=watch), found))
    elif before is not None:
        found.forget.append(name)


def _carried_on(watching: Watching, found: Judgement) -> Watching:
    """Note the new peak of a warning that goes on."""
    warning = watching.warning
    if warning is None or watching.watch.peak == warning.peak:
        return watching
    worse = replace(warning, peak=watching.watch.peak)
    found.peaks.append(worse)
    return replace(watching, warning=worse)


def _resume(rule: Rule | None, before: Watching | None, last: datetime | None) -> Watching | None:
    if before is not None and (before.warning is not None or (rule is not None and rule.revision == before.revision)):
        return replace(before, watch=replace(before.watch, last=last))
    return _begin(rule, last)


def _begin(rule: Rule | None, last: datetime | None) -> Watching | None:
    return None if rule is None else Watching(rule.name, rule.revision, rule.thresholds, Watch(last=last))
