"""When two reports are of the same thing (一案多投): near in place and time, of one type, in like words. Pure.

How alike they are is a score of 0 to 1, the weighted mean of six parts. A part of which nothing is known, such as the
distance of a report without coordinates, drops out, and the others weigh more. What decides is stated by the type: see
MergePolicy.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from math import asin, cos, pi, radians, sin, sqrt
from typing import TYPE_CHECKING, NamedTuple

from services.management import texts
from services.management.model import EventType, Explanation, MergePolicy, Place
from services.management.model_component import component_key
from services.management.model_words import likeness

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.management.model_component import Component
    from services.management.model_report import Report

EARTH_RADIUS_M = 6_371_008.8  # mean radius R1 of GRS 80
METRES_PER_DEGREE = EARTH_RADIUS_M * pi / 180
POLE_COSINE_MIN = 0.01  # nearer to a pole a degree of longitude means nothing; the search box just gets wide
# More open events of one type around one place are a data fault; the nearest of these are looked at.
CANDIDATES_MAX = 100
# Beyond radius and window things fade: at twice as much nothing is left, and nothing is suggested.
REACH = 2
# Types that are merged by address alone have no radius to go by.
REACH_MIN_M = 100.0
SUGGESTED_DEFAULT = 0.6
# More of them would be a list to search rather than a hint.
SUGGESTIONS_MAX = 3

# What reporting tools and people write for "no address", normalised. Two of these never mean the same place.
ADDRESSES_GENERIC = frozenset({
    "", "not associated with a specific address", "no address", "no specific address", "address unknown", "unknown",
    "unspecified", "not specified", "none", "n a", "na", "null", "tbd", "various", "citywide", "city wide",
    "无", "无地址", "无具体地址", "地址不详", "地址未知", "不详", "未知", "暂无", "全市",
})  # fmt: skip

_NOT_WORD = re.compile(r"[^\w]+")


class Part(StrEnum):
    """What a score is made of."""

    TYPE = "type"
    DISTANCE = "distance"
    TIME = "time"
    ADDRESS = "address"
    COMPONENT = "component"
    WORDS = "words"


# One component is one thing, whatever else is said: it weighs as much as all the others together.
WEIGHTS = {
    Part.TYPE: 0.10, Part.DISTANCE: 0.30, Part.TIME: 0.15, Part.ADDRESS: 0.15, Part.COMPONENT: 1.0, Part.WORDS: 0.30,
}  # fmt: skip
# Another type of the same family.
KIN = 0.5
# Another address in the same words, such as the next house of the street.
ADDRESS_ALIKE_MAX = 0.5


@dataclass(frozen=True, slots=True)
class Candidate:
    """An open event that may be meant, of the same type or of one of its family."""

    id: int
    name: str
    occurred_at: datetime
    address: str
    latitude: float | None
    longitude: float | None
    type: str = ""
    description: str = ""
    component_key: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """An event that a report may be of, how alike they are, and why."""

    candidate: Candidate
    score: float
    explanation: Explanation


class Judged(NamedTuple):
    """What a report is merged into without asking, the best first; what is suggested when there is none of those."""

    matches: list[Match]
    suggestions: list[Match]


@dataclass(frozen=True, slots=True)
class Box:
    """Degrees in which everything within a radius lies."""

    south: float
    north: float
    west: float
    east: float


@dataclass(frozen=True, slots=True)
class Score:
    """How alike a report and an event are. `parts` are value and weight of all that is known; the weights sum to 1.

    `same_component` is None unless both name a component by its code.
    """

    apart_m: float | None
    hours: float
    same_type: bool
    same_address: bool
    same_component: bool | None
    parts: tuple[tuple[Part, float, float], ...]

    @property
    def value(self) -> float:
        return round(sum(value * weight for _, value, weight in self.parts), 6)


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


def reach_m(policy: MergePolicy) -> float:
    """Return how far off something may be that is suggested, in metres."""
    return max(REACH * policy.radius_m, REACH_MIN_M)


def can_match(policy: MergePolicy, place: Place, component: Component | None = None) -> bool:
    """Say whether a report can be compared with others at all: it must be somewhere, or of a component with a code."""
    somewhere = bool(address_key(place.address)) or place.latitude is not None
    return policy.window_h > 0 and (somewhere or bool(component_key(component)))


def judge(event_type: EventType, report: Report, candidates: Iterable[Candidate]) -> Judged:
    """Return what the policy of the type makes of candidates.

    Without a threshold of its own that of the same component comes first, then the nearest, then the earliest; with
    one, the most alike.
    """
    policy = event_type.merge
    matches: list[tuple[float, datetime, str, Match]] = []
    suggestions: list[tuple[float, datetime, str, Match]] = []
    for candidate in candidates:
        found = score(event_type, report, candidate)
        value = found.value
        if _is_within(policy, found) and value >= policy.automatic:
            nearest = -1.0 if found.same_component else found.apart_m or 0.0
            order = -value if policy.automatic else nearest
            match = Match(candidate, value, _merged(event_type, report, candidate, found))
            matches.append((order, candidate.occurred_at, candidate.name, match))
        elif value >= (policy.suggested or SUGGESTED_DEFAULT) and _is_in_reach(policy, found):
            match = Match(candidate, value, _suggested(event_type, candidate, found))
            suggestions.append((-value, candidate.occurred_at, candidate.name, match))
    return Judged(_in_order(matches), _in_order(suggestions)[:SUGGESTIONS_MAX])


def score(event_type: EventType, report: Report, candidate: Candidate) -> Score:
    """Return how alike a report and an event are."""
    policy, place = event_type.merge, report.place
    same_type = candidate.type == event_type.name
    hours = abs((report.occurred_at - candidate.occurred_at).total_seconds()) / 3600
    apart = _apart_m(place, candidate)
    key, key_2 = address_key(place.address), address_key(candidate.address)
    same_component = _same_component(report, candidate)
    known: dict[Part, float | None] = {
        Part.TYPE: 1.0 if same_type else KIN,
        Part.DISTANCE: None if apart is None else max(0.0, 1 - apart / reach_m(policy)),
        Part.TIME: max(0.0, 1 - hours / (REACH * policy.window_h)),
        Part.ADDRESS: _address(key, key_2),
        Part.COMPONENT: None if same_component is None else float(same_component),
        Part.WORDS: likeness(report.description, candidate.description),
    }
    whole = sum(WEIGHTS[part] for part, value in known.items() if value is not None)
    parts = tuple((part, value, WEIGHTS[part] / whole) for part, value in known.items() if value is not None)
    return Score(apart, hours, same_type, bool(key) and key == key_2, same_component, parts)


def _same_component(report: Report, candidate: Candidate) -> bool | None:
    key = component_key(report.component)
    return key == candidate.component_key if key and candidate.component_key else None


def _address(key: str, key_2: str) -> float | None:
    if not (key and key_2):
        return None
    return 1.0 if key == key_2 else ADDRESS_ALIKE_MAX * (likeness(key, key_2) or 0.0)


def _is_within(policy: MergePolicy, found: Score) -> bool:
    """Tell whether a report is so near, or surely of the same thing, that it may be merged without asking."""
    if not found.same_type or found.hours > policy.window_h:
        return False
    if found.same_component is not None:  # two lamp posts of one crossing are two things
        return found.same_component
    return found.same_address or (found.apart_m is not None and 0 < policy.radius_m >= found.apart_m)


def _is_in_reach(policy: MergePolicy, found: Score) -> bool:
    near = found.apart_m is not None and found.apart_m <= reach_m(policy)
    return found.hours <= REACH * policy.window_h and (near or found.same_address or bool(found.same_component))


def _in_order(found: list[tuple[float, datetime, str, Match]]) -> list[Match]:
    return [match for *_, match in sorted(found, key=lambda item: item[:3])]


def _apart_m(place: Place, candidate: Candidate) -> float | None:
    if place.latitude is None or place.longitude is None or candidate.latitude is None or candidate.longitude is None:
        return None
    return distance_m(place.latitude, place.longitude, candidate.latitude, candidate.longitude)


def _inputs(event_type: EventType, candidate: Candidate, found: Score) -> dict[str, str]:
    inputs = {
        "event": candidate.name,
        "type": event_type.name,
        "hours": f"{found.hours:.1f}",
        "window_h": str(event_type.merge.window_h),
        "score": f"{found.value:.2f}",
    }
    inputs |= {f"{part}_part": f"{value:.2f} x {weight:.2f}" for part, value, weight in found.parts}
    if found.apart_m is not None:
        inputs |= {"distance_m": f"{found.apart_m:.0f}", "radius_m": f"{event_type.merge.radius_m:g}"}
    return inputs


def _merged(event_type: EventType, report: Report, candidate: Candidate, found: Score) -> Explanation:
    policy, inputs = event_type.merge, _inputs(event_type, candidate, found)
    text = texts.MERGED_NEAR
    if found.same_component and report.component is not None:
        text = texts.MERGED_COMPONENT
        inputs["component"] = f"{report.component.type} {report.component.code}"
    elif found.apart_m is None or not 0 < policy.radius_m >= found.apart_m:
        text = texts.MERGED_ADDRESS
        inputs["address"] = report.place.address
    zh, en = texts.scored(text, found.parts, inputs)
    return Explanation(event_type.name, zh, en, inputs)


def _suggested(event_type: EventType, candidate: Candidate, found: Score) -> Explanation:
    least = event_type.merge.suggested or SUGGESTED_DEFAULT
    inputs = _inputs(event_type, candidate, found) | {"least": f"{least:.2f}", "event_type": candidate.type}
    zh, en = texts.scored(texts.SUGGESTED, found.parts, inputs)
    return Explanation(event_type.name, zh, en, inputs)
