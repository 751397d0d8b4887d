"""Time, injected: nothing below a composition root asks the machine what time it is."""

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Says what time it is: aware, in UTC, never going backwards by more than the machine's own clock does."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands still until told, for tests and for replaying the past."""

    def __init__(self, start: datetime) -> None:
        """`start` must be aware; it is kept in UTC. Raises ValueError for a naive time."""
        self._now = _utc(start)

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Move forward and return the new time. Raises ValueError for a negative step."""
        if by < timedelta(0):
            raise ValueError("a clock does not go backwards")
        self._now += by
        return self._now

    def set(self, to: datetime) -> None:
        """Jump to an aware time, also a past one: records of the past arrive out of order."""
        self._now = _utc(to)


def _utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("a clock needs an aware time")
    return time.astimezone(UTC)
