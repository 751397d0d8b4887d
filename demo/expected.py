"""What must come out, computed from the data alone: the reconciliation compares the nodes with this."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from demo.records import Record

BEIJING = ZoneInfo("Asia/Shanghai")


class Value(Protocol):
    """One reading: a station, an aware time and a value."""

    @property
    def station(self) -> str: ...
    @property
    def time(self) -> datetime: ...
    @property
    def value(self) -> float: ...


def complete_days(values: Iterable[Value]) -> dict[tuple[str, date], float]:
    """The mean by station and local day, for the days that are over: the station has a reading of a later day."""
    by_day: dict[tuple[str, date], list[float]] = defaultdict(list)
    latest: dict[str, date] = {}
    for value in values:
        day = value.time.astimezone(BEIJING).date()
        by_day[value.station, day].append(value.value)
        latest[value.station] = max(day, latest.get(value.station, day))
    return {
        (station, day): sum(found) / len(found) for (station, day), found in by_day.items() if day < latest[station]
    }


def outcome(records: Iterable[Record]) -> str:
    """The status in which an event that stands for these requests must end: open while one of them is on record."""
    return "dispatched" if any(record.closed is None for record in records) else "evaluated"
