"""Which days of a series are to be stated: days of the node's time zone, over by the readings' own times. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from zoneinfo import ZoneInfo


def day_of(time: datetime, timezone: ZoneInfo) -> date:
    """Return the local date of an aware time."""
    return time.astimezone(timezone).date()


def span_of(day: date, timezone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the first moment of a local day and of the next, in UTC. A day may last 23 or 25 hours."""
    return _start(day, timezone), _start(day + timedelta(days=1), timezone)


def days_to_state(touched: Iterable[date], latest_before: date | None, latest_now: date | None) -> list[date]:
    """Return the days that a batch has completed or changed after they were complete, oldest first.

    `touched` are the days of the new good readings; `latest_before` and `latest_now` the day of the series' latest
    reading before and after the batch. A day is complete as soon as there is a reading of a later day.
    """
    if latest_now is None:
        return []
    open_before = () if latest_before is None else (latest_before,)
    return sorted({day for day in (*touched, *open_before) if day < latest_now})


def _start(day: date, timezone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=timezone).astimezone(UTC)
