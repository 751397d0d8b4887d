"""The threshold rule: when a run of values becomes a warning, and when the warning ends. Pure.

An alarm with hysteresis and on-delay as in IEC 62682 (alarm management): the value must stay beyond `raise_at` for the
minimum duration, and the warning lasts until the value is back at `clear_at`. Everything goes by the readings' own
times. Only good readings are judged, each series in the order of its times: a reading that is not later than the last
one judged comes too late to be judged, and a second one of the same time is a duplicate; neither changes anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.perception.model import Thresholds


@dataclass(frozen=True, slots=True)
class Watch:
    """What a rule has seen of one series. `last` is the time of the last reading judged, None before the first.

    `since` is when the value went beyond the threshold, None while it is not; first, peak and readings are about the
    readings from then on, and mean nothing before.
    """

    last: datetime | None = None
    since: datetime | None = None
    first: float = 0.0
    peak: float = 0.0
    readings: int = 0
    raised: bool = False


@dataclass(frozen=True, slots=True)
class Raised:
    """The value stayed beyond the threshold from `since` to `time`, in `readings` readings from `first` to `value`."""

    since: datetime
    time: datetime
    first: float
    value: float
    peak: float
    readings: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The value has come back."""

    time: datetime
    value: float
    peak: float


def step(limits: Thresholds, watch: Watch, time: datetime, value: float) -> tuple[Watch, Raised | Ended | None]:
    """Judge one good reading; return the watch after it and what it brought about.

    A reading that is not later than the last one judged changes nothing.
    """
    if watch.last is not None and time <= watch.last:
        return watch, None
    if watch.raised and limits.back(value):
        return Watch(time), Ended(time, value, watch.peak)
    if not watch.raised and not limits.beyond(value):
        return Watch(time), None
    if watch.since is None:
        after = Watch(time, time, value, value, 1)
    else:
        peak = limits.worse(watch.peak, value)
        after = Watch(time, watch.since, watch.first, peak, watch.readings + 1, watch.raised)
    since = after.since or time
    if after.raised or time - since < limits.minimum_duration:
        return after, None
    event = Raised(since, time, after.first, value, after.peak, after.readings)
    return replace(after, raised=True), event
