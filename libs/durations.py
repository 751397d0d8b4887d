"""ISO 8601 durations as contracts name them: "P1D", "PT15M", "P1M"."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

_FORM = re.compile(
    r"P(?=.)(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,4})D)?"
    r"(?:T(?=.)(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,7})S)?)?"
)
_MONTHS_PER_YEAR = 12


@dataclass(frozen=True)
class Duration:
    """Whole months, whose length depends on when they begin, and a rest of fixed length."""

    months: int
    rest: timedelta

    def after(self, time: datetime, times: int = 1) -> datetime:
        """Return `time` and `times` this long, a last day of a month at the latest. Raises OverflowError."""
        place = time.month - 1 + self.months * times
        year, month = time.year + place // _MONTHS_PER_YEAR, place % _MONTHS_PER_YEAR + 1
        if year > time.max.year:
            raise OverflowError(f"the year {year} is too far away")
        day = min(time.day, calendar.monthrange(year, month)[1])
        return time.replace(year=year, month=month, day=day) + self.rest * times

    @property
    def shortest(self) -> timedelta:
        """The least that it can be."""
        return timedelta(days=28 * self.months) + self.rest


def parse(text: str) -> Duration:
    """Return the duration. Raises ValueError for anything else, fractions included, and for one of no length."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not an ISO 8601 duration of whole numbers")
    years, months, weeks, days, hours, minutes, seconds = (int(each or 0) for each in found.groups())
    rest = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    duration = Duration(years * _MONTHS_PER_YEAR + months, rest)
    if not duration.shortest:
        raise ValueError(f"{text!r} has no length")
    return duration
