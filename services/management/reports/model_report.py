"""Reports: which period each kind is about, and what stands in it. Pure.

All times are aware and in UTC; days are those of the city's time zone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from libs.errors import Invalid
from services.management.reports.model_findings import NOTHING, Emerging, HotSpots, Title

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

REPORT_NAME = "zones/{zone}/reports/{report}"
PERIOD_MAX = timedelta(days=366)
# Up to so long a period is drawn by hours, up to the second by days, beyond it by weeks.
HOURLY_MAX = timedelta(days=2)
DAILY_MAX = timedelta(days=62)
WEEK_DAYS = 7


class Kind(StrEnum):
    """What a report is about."""

    DAILY = "daily"
    WEEKLY = "weekly"
    TOPICAL = "topical"


class Period(NamedTuple):
    """From `start` until before `end`."""

    start: datetime
    end: datetime

    @property
    def before(self) -> Period:
        """The period of the same length that ends where this one begins."""
        return Period(self.start - (self.end - self.start), self.start)


@dataclass(frozen=True, slots=True)
class Tally:
    """Events opened in a period; closed in it, of those with a deadline and within it; open at its end, late ones."""

    opened: int = 0
    closed: int = 0
    timed: int = 0
    on_time: int = 0
    waiting: int = 0
    late: int = 0

    @property
    def on_time_rate(self) -> float | None:
        """The share of what was closed within its deadline; None when nothing with a deadline was closed."""
        return self.on_time / self.timed if self.timed else None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table: a type, a zone or an organisation."""

    title: Title
    now: Tally
    before: Tally = Tally()


@dataclass(frozen=True, slots=True)
class Bucket:
    """What was opened and closed in a stretch of the period."""

    start: datetime
    opened: int
    closed: int


@dataclass(frozen=True, slots=True)
class Mark:
    """What a subject came to in the latest published scorecard; `points` is None without any."""

    subject: Title
    points: float | None


@dataclass(frozen=True, slots=True)
class Marks:
    """The latest published scorecard of the zone: its titles, version, period and hash in hex."""

    name: str
    zh: str
    en: str
    version: int
    period: Period
    content_hash: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class About:
    """What the zone, organisation and type of a report were called when it was made; "" where it is of all."""

    zone: Title
    organisation: Title = NOTHING
    type: Title = NOTHING


@dataclass(frozen=True, slots=True)
class Content:
    """All that a report says. `emerging` and `hot_spots` are None in reports that do not look for them."""

    about: About
    now: Tally
    before: Tally
    buckets: tuple[Bucket, ...]
    types: tuple[Line, ...]
    zones: tuple[Line, ...]
    organisations: tuple[Line, ...]
    marks: Marks | None = None
    emerging: Emerging | None = None
    hot_spots: HotSpots | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A report as it was made. `organisation` and `type` are "" for all. `id` is the row."""

    name: str
    kind: Kind
    zone: str
    organisation: str
    type: str
    period: Period
    made_by: str
    made_at: datetime
    content: Content
    id: int = 0


def period_of(kind: Kind, day: str, zone: ZoneInfo, now: datetime) -> Period:
    """Return the day, or the week around it, in the city's time; the last whole one for "". Raises Invalid."""
    today = now.astimezone(zone).date()
    days = WEEK_DAYS if kind is Kind.WEEKLY else 1
    try:
        chosen = date.fromisoformat(day) if day else today - timedelta(days=days)
        first = chosen - timedelta(days=chosen.weekday()) if kind is Kind.WEEKLY else chosen
        period = Period(_midnight(first, zone), _midnight(first + timedelta(days=days), zone))
    except (ValueError, OverflowError) as error:
        raise Invalid("day", "must be a day of the calendar") from error
    if period.end > now:
        raise Invalid("day", "the period is not over")
    return period


def edges(period: Period, zone: ZoneInfo) -> list[Period]:
    """Return the stretches by which a period is drawn: hours, days or weeks of the city's time."""
    length = period.end - period.start
    if length <= HOURLY_MAX:
        count = -(-length // timedelta(hours=1))
        cuts = [period.start + timedelta(hours=hour) for hour in range(count)]
    else:
        days = 1 if length <= DAILY_MAX else WEEK_DAYS
        first = period.start.astimezone(zone).date()
        later = (_midnight(first + timedelta(days=step), zone) for step in range(days, length.days + 2, days))
        cuts = [period.start, *(cut for cut in later if cut < period.end)]
    return [Period(*each) for each in pairwise([*cuts, period.end])]


def rising(lines: Sequence[Line], most: int) -> tuple[Line, ...]:
    """Return the lines with most events opened, at most `most`; of equal ones the first by name."""
    return tuple(sorted(lines, key=lambda line: (-line.now.opened, -line.now.waiting, line.title.en))[:most])


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)
