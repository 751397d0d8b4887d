"""When two reports are of the same thing (一案多投): same type, near in time, near in place or at one address."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from math import asin, cos, pi, radians, sin, sqrt
from typing import TYPE_CHECKING

from services.management import texts
from services.management.model import EventType, Explanation, MergePolicy, Place

if TYPE_CHECKING:
    from collections.abc import Iterable

EARTH_RADIUS_M = 6_371_008.8  # mean radius R1 of GRS 80
METRES_PER_DEGREE = EARTH_RADIUS_M * pi / 180
POLE_COSINE_MIN = 0.01  # nearer to a pole a degree of longitude means nothing; the search box just gets wide
# More open events of one type around one place are a data fault; the nearest of these are looked at.
CANDIDATES_MAX = 100

# What reporting tools and people write for "no address", normalised. Two of these never mean the same place.
ADDRESSES_GENERIC = frozenset({
    "", "not associated with a specific address", "no address", "no specific address", "address unknown", "unknown",
    "unspecified", "not specified", "none", "n a", "na", "null", "tbd", "various", "citywide", "city wide",
    "无", "无地址", "无具体地址", "地址不详", "地址未知", "不详", "未知", "暂无", "全市",
})  # fmt: skip

_NOT_WORD = re.compile(r"[^\w]+")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An open event of the same type that may be meant."""

    id: int
    name: str
    occurred_at: datetime
    address: str
    latitude: float | None
    longitude: float | None


@dataclass(frozen=True, slots=True)
class Match:
    """The event that a report is merged into, and why."""

    candidate: Candidate
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class Box:
    """Degrees in which everything within a radius lies."""

    south: float
    north: float
    west: float
    east: float


def address_key(address: str) -> str:
    """Return an address in the form in which equal ones are equal, "" for one that names no place."""
    plain = _NOT_WORD.sub(" ", unicodedata.normalize("NFKC", address).casefold()).strip()
    return "" if plain in ADDRESSES_GENERIC else plain


def distance_m(latitude: float, longitude: float, latitude_2: float, longitude_2: float) -> float:
    """Return the distance of two points in metres on the sphere (haversine formula)."""
    north = radians(latitude_2 - latitude)
    east = radians(longitude_2 - longitude)
    chord = sin(north / 2) ** 2 + cos(radians(latitude)) * cos(radians(latitude_2)) * sin(east / 2) ** 2
    return 2 * EARTH_RADIUS_M * asin(sqrt(min(1.0, chord)))


def box(latitude: float, longitude: float, radius_m: float) -> Box:
    """Return degrees around a point in which everything within the radius lies, cut off at the date line."""
    north = radius_m / METRES_PER_DEGREE
    widest = max(cos(radians(min(90.0, abs(latitude) + north))), POLE_COSINE_MIN)
    east = north / widest
    return Box(latitude - north, latitude + north, longitude - east, longitude + east)


def can_match(policy: MergePolicy, place: Place) -> bool:
    """Say whether a report at this place can be merged at all: it must be somewhere."""
    if policy.window_h <= 0:
        return False
    return bool(address_key(place.address)) or (policy.radius_m > 0 and place.latitude is not None)


def matches(event_type: EventType, place: Place, occurred_at: datetime, candidates: Iterable[Candidate]) -> list[Match]:
    """Return the candidates of the same type that the policy lets match, the nearest first, then the earliest."""
    found: list[tuple[float, datetime, str, Match]] = []
    for candidate in candidates:
        hours = abs((occurred_at - candidate.occurred_at).total_seconds()) / 3600
        if hours > event_type.merge.window_h:
            continue
        apart = _apart_m(place, candidate)
        near = apart is not None and event_type.merge.radius_m > 0 and apart <= event_type.merge.radius_m
        same_address = bool(address_key(place.address)) and address_key(place.address) == address_key(candidate.address)
        if near or same_address:
            explanation = _explain(event_type, place, candidate, hours, apart if near else None)
            order = 0.0 if apart is None else apart
            found.append((order, candidate.occurred_at, candidate.name, Match(candidate, explanation)))
    return [match for *_, match in sorted(found, key=lambda item: item[:3])]


def _apart_m(place: Place, candidate: Candidate) -> float | None:
    if place.latitude is None or place.longitude is None or candidate.latitude is None or candidate.longitude is None:
        return None
    return distance_m(place.latitude, place.longitude, candidate.latitude, candidate.longitude)


def _explain(
    event_type: EventType, place: Place, candidate: Candidate, hours: float, near_m: float | None
) -> Explanation:
    policy = event_type.merge
    inputs = {
        "event": candidate.name,
        "type": event_type.name,
        "hours": f"{hours:.1f}",
        "window_h": str(policy.window_h),
    }
    if near_m is None:
        inputs["address"] = place.address
        text = texts.MERGED_ADDRESS
    else:
        inputs |= {"distance_m": f"{near_m:.0f}", "radius_m": f"{policy.radius_m:g}"}
        text = texts.MERGED_NEAR
    zh, en = text.fill(**inputs)
    return Explanation(event_type.name, zh, en, inputs)
