"""Repeated complaints (重复投诉): the same type at the same place again, soon after it was closed. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from math import cos, floor, radians
from typing import TYPE_CHECKING, NamedTuple

from services.management.model_merge import METRES_PER_DEGREE, POLE_COSINE_MIN, distance_m

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import timedelta

RADIUS_M = 50.0
WITHIN_DAYS = 30
CHAIN_EVENTS_MIN = 2
# Events of one type around one place that one event is compared with; more are a fault of the data, the latest count.
NEIGHBOURS_MAX = 200


@dataclass(frozen=True, slots=True)
class Happening:
    """What counts of an event here. `address_key` is as `model_merge.address_key` makes it."""

    name: str
    type: str
    zone: str
    organisation: str
    address: str
    address_key: str
    occurred_at: datetime
    closed_at: datetime | None = None
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """Events that followed each other, by when they occurred: each but the first came back after one before it."""

    events: tuple[Happening, ...]

    @property
    def latest(self) -> Happening:
        return self.events[-1]


class _Place(NamedTuple):
    """Where events of a type are looked for: a square of the radius, or an address."""

    type: str
    key: tuple[int, int] | str


def chains(events: Iterable[Happening], *, radius_m: float, within: timedelta) -> list[Chain]:
    """Return the chains of at least two events, the longest first, then the latest.

    An event comes back when one of its type at the same address, or within `radius_m` metres, was closed before it
    occurred and not longer before than `within`; of several it follows the one closed last. What occurs while the
    earlier one is still open is more of the same rather than a repetition.
    """
    known: dict[_Place, list[Happening]] = defaultdict(list)
    first_of: dict[str, str] = {}
    members: dict[str, list[Happening]] = defaultdict(list)
    for event in sorted(events, key=lambda event: (event.occurred_at, event.name)):
        before = _before(event, known, radius_m, within)
        first = first_of[before.name] if before is not None else event.name
        first_of[event.name] = first
        members[first].append(event)
        for place in _places(event, radius_m):
            known[place].append(event)
    found = [Chain(tuple(each)) for each in members.values() if len(each) >= CHAIN_EVENTS_MIN]
    return sorted(found, key=lambda chain: (-len(chain.events), -chain.latest.occurred_at.timestamp()))


def _before(
    event: Happening, known: dict[_Place, list[Happening]], radius_m: float, within: timedelta
) -> Happening | None:
    """Return the event that this one repeats."""
    found: list[tuple[datetime, str, Happening]] = []
    for place in _around(event, radius_m):
        for other in known.get(place, ())[-NEIGHBOURS_MAX:]:
            closed_at = other.closed_at
            if closed_at is None or not closed_at <= event.occurred_at <= closed_at + within:
                continue
            if _same_place(event, other, radius_m):
                found.append((closed_at, other.name, other))
    return max(found)[2] if found else None


def _same_place(event: Happening, other: Happening, radius_m: float) -> bool:
    if event.address_key and event.address_key == other.address_key:
        return True
    if event.latitude is None or event.longitude is None or other.latitude is None or other.longitude is None:
        return False
    return distance_m(event.latitude, event.longitude, other.latitude, other.longitude) <= radius_m


def _places(event: Happening, radius_m: float) -> Iterator[_Place]:
    """Yield where an event lies."""
    if event.address_key:
        yield _Place(event.type, event.address_key)
    if event.latitude is not None and event.longitude is not None:
        row = floor(event.latitude / _step(radius_m))
        yield _Place(event.type, (row, _column(row, event.longitude, radius_m)))


def _around(event: Happening, radius_m: float) -> Iterator[_Place]:
    """Yield where everything lies that may be at the place of an event."""
    if event.address_key:
        yield _Place(event.type, event.address_key)
    if event.latitude is not None and event.longitude is not None:
        middle = floor(event.latitude / _step(radius_m))
        reach = _step(radius_m) / min(_narrow(row, radius_m) for row in (middle - 2, middle + 2))
        for row in (middle - 1, middle, middle + 1):
            first = _column(row, event.longitude - reach, radius_m)
            for column in range(first, _column(row, event.longitude + reach, radius_m) + 1):
                yield _Place(event.type, (row, column))


def _step(radius_m: float) -> float:
    """Return the height of a row of squares in degrees."""
    return max(radius_m, 1.0) / METRES_PER_DEGREE


def _narrow(row: int, radius_m: float) -> float:
    """Return how much shorter a degree of longitude is in a row than at the equator."""
    return max(POLE_COSINE_MIN, cos(radians(min(90.0, abs(row + 0.5) * _step(radius_m)))))


def _column(row: int, longitude: float, radius_m: float) -> int:
    """Return the column of a point in a row: each row has squares of its own width."""
    return floor(longitude * _narrow(row, radius_m) / _step(radius_m))


def repeated(found: Sequence[Chain]) -> int:
    """Return how many events came back."""
    return sum(len(chain.events) - 1 for chain in found)
