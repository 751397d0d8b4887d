"""A call to a place, and who came. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, TypeVar

from libs.errors import AlreadyExists, Invalid, Reason, WrongState
from services.management.model import Place
from services.management.model_merge import distance_m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    T = TypeVar("T")

WHISTLE_NAME = "zones/{zone}/whistles/{whistle}"
RADIUS_DEFAULT_M = 200.0
REPORT_WITHIN_MAX = timedelta(days=7)
# Those who are not there are reminded so long before the deadline, or halfway where there is less time.
REMIND_BEFORE = timedelta(minutes=15)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody of an organisation says that they are at the place. Degrees in WGS 84; None when not said."""

    organisation: str
    by: str
    at: datetime
    latitude: float | None = None
    longitude: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Rating:
    """What the zone that called says of an organisation: `score` from 1, bad, to 5, good."""

    score: int
    solved: bool
    note: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Summons:
    """The call to one organisation. `distance_m` is how far from the place it reported in."""

    organisation: str
    arrival: Arrival | None = None
    distance_m: float = 0.0
    late_min: int = 0
    reminded_at: datetime | None = None
    escalated_at: datetime | None = None
    rating: Rating | None = None


@dataclass(frozen=True, slots=True)
class Whistle:
    """One call. The fields are those of whistles.proto."""

    name: str
    zone: str
    node: str
    place: Place
    radius_m: float
    instruction: str
    summons: tuple[Summons, ...]
    blown_by: str
    blown_at: datetime
    report_by: datetime
    remind_at: datetime
    event: str = ""
    finished_by: str = ""
    finished_at: datetime | None = None
    outcome: str = ""
    version: int = 1

    @property
    def organisations(self) -> tuple[str, ...]:
        return tuple(each.organisation for each in self.summons)

    @property
    def missing(self) -> tuple[str, ...]:
        """Return the organisations that have not reported in."""
        return tuple(each.organisation for each in self.summons if each.arrival is None)

    @property
    def waiting(self) -> int:
        """Return how many are waited for."""
        return len(self.missing) if self.finished_at is None else 0

    @property
    def next_at(self) -> datetime | None:
        """Return when those who are not there are to be reminded, or their absence told; None for never."""
        absent = [each for each in self.summons if each.arrival is None] if self.finished_at is None else []
        if any(each.reminded_at is None and each.escalated_at is None for each in absent):
            return self.remind_at
        return self.report_by if any(each.escalated_at is None for each in absent) else None


def remind_at(blown_at: datetime, report_by: datetime) -> datetime:
    """Return when those who are not there yet are reminded."""
    return report_by - min(REMIND_BEFORE, (report_by - blown_at) / 2)


def check_blown(place: Place, organisations: Sequence[str], report_by: datetime, now: datetime) -> None:
    """Raise Invalid with all that is wrong with a call."""
    wrong: list[tuple[str, str]] = []
    if not place.address and place.latitude is None:
        wrong.append(("place", "must have an address or a point"))
    if len(set(organisations)) < len(organisations):
        wrong.append(("organisations", "must name each organisation once"))
    if not now < report_by <= now + REPORT_WITHIN_MAX:
        wrong.append(("reportBy", f"must lie in the future, at most {REPORT_WITHIN_MAX.days} days from now"))
    if wrong:
        raise Invalid.many(wrong)


def report_in(whistle: Whistle, arrival: Arrival) -> Whistle:
    """Return the whistle with somebody at the place, late or not.

    Raises WrongState for an organisation that was not called, after the end, and too far from the place; AlreadyExists
    when the organisation is there; Invalid without a position where the place has one.
    """
    summons = _summons(whistle, arrival.organisation)
    if summons.arrival is not None:
        text = f"{arrival.organisation} reported in at {summons.arrival.at.isoformat(timespec='minutes')}"
        raise AlreadyExists(Reason.ALREADY_REPORTED, text, name=whistle.name, by=summons.arrival.by)
    if whistle.finished_at is not None and arrival.at > whistle.finished_at:
        raise WrongState(Reason.WRONG_STATE, f"{whistle.name} is finished", name=whistle.name)
    distance = _distance(whistle, arrival)
    if distance > whistle.radius_m:
        text = f"{distance:.0f} m from the place of {whistle.name}; at most {whistle.radius_m:.0f} m"
        raise WrongState(
            Reason.NOT_ON_SITE,
            text,
            name=whistle.name,
            distance_m=f"{distance:.0f}",
            radius_m=f"{whistle.radius_m:.0f}",
        )
    late = max(0, ceil((arrival.at - whistle.report_by) / MINUTE))
    return _changed(whistle, replace(summons, arrival=arrival, distance_m=distance, late_min=late))


def finish(whistle: Whistle, outcome: str, *, actor: str, now: datetime) -> Whistle:
    """Return the whistle at its end. Raises WrongState for one that is finished."""
    if whistle.finished_at is not None:
        raise WrongState(Reason.WRONG_STATE, f"{whistle.name} is finished", name=whistle.name)
    return replace(whistle, finished_by=actor, finished_at=now, outcome=outcome, version=whistle.version + 1)


def rate(whistle: Whistle, organisation: str, rating: Rating) -> Whistle:
    """Return the whistle with a rating. Raises WrongState before the end, AlreadyExists for a second one."""
    summons = _summons(whistle, organisation)
    if whistle.finished_at is None:
        raise WrongState(Reason.WRONG_STATE, f"{whistle.name} is not finished", name=whistle.name)
    if summons.rating is not None:
        text = f"{summons.rating.by} rated {organisation} already"
        raise AlreadyExists(Reason.ALREADY_RATED, text, name=whistle.name)
    return _changed(whistle, replace(summons, rating=rating))


def remind(whistle: Whistle, now: datetime) -> tuple[Whistle, tuple[str, ...]]:
    """Return the whistle after its reminder, and who is reminded: nobody before the time, or after the deadline."""
    if whistle.finished_at is not None or not whistle.remind_at <= now < whistle.report_by:
        return whistle, ()
    return _noted(whistle, lambda each: each.reminded_at is None, lambda each: replace(each, reminded_at=now))


def miss(whistle: Whistle, now: datetime) -> tuple[Whistle, tuple[str, ...]]:
    """Return the whistle after its deadline, and whose absence goes to their leaders: nobody's before the time."""
    if whistle.finished_at is not None or now < whistle.report_by:
        return whistle, ()
    return _noted(whistle, lambda each: each.escalated_at is None, lambda each: replace(each, escalated_at=now))


def _noted(
    whistle: Whistle, wanted: Callable[[Summons], bool], change: Callable[[Summons], Summons]
) -> tuple[Whistle, tuple[str, ...]]:
    told = tuple(each.organisation for each in whistle.summons if each.arrival is None and wanted(each))
    if not told:
        return whistle, ()
    summons = tuple(change(each) if each.organisation in told else each for each in whistle.summons)
    return replace(whistle, summons=summons, version=whistle.version + 1), told


def _distance(whistle: Whistle, arrival: Arrival) -> float:
    place = whistle.place
    if place.latitude is None or place.longitude is None:
        return 0.0
    if arrival.latitude is None or arrival.longitude is None:
        raise Invalid("position", "is required: the place has a position")
    return distance_m(place.latitude, place.longitude, arrival.latitude, arrival.longitude)


def _summons(whistle: Whistle, organisation: str) -> Summons:
    found = next((each for each in whistle.summons if each.organisation == organisation), None)
    if found is None:
        text = f"{whistle.name} does not call {organisation}"
        raise WrongState(Reason.NOT_SUMMONED, text, name=whistle.name, organisation=organisation)
    return found


def _changed(whistle: Whistle, summons: Summons) -> Whistle:
    every = tuple(summons if each.organisation == summons.organisation else each for each in whistle.summons)
    return replace(whistle, summons=every, version=whistle.version + 1)
