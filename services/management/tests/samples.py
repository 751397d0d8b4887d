"""Zones, types and reports for the tests of management."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from libs.zones import ZoneRecord, ZoneTree
from services.management.loop_yaml import load_loops
from services.management.model import Allowance, EventType, MergePolicy, Place, ReportKind, Route
from services.management.model_report import Report

NODE = "sf"
CHILD = "sf-d10"
NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)  # where libs.testing's clock stands
YESTERDAY = NOW - timedelta(days=1)

FOLDER = Path(__file__).parent.parent
MIGRATIONS = FOLDER / "migrations"
LOOPS = {name: replace(loop, version=1) for name, loop in load_loops(FOLDER / "loops").items()}
SEVEN = LOOPS["loops/seven-step"]

WORKS = "organisations/public-works"
SEWERS = "organisations/sewer-ops"
PARKS = "organisations/parks"


# The zones that every node of the tests knows, each with the one above.
ZONES = (
    ("us-ca-sf", ""),
    ("us-ca-sf-d6", "us-ca-sf"),
    ("us-ca-sf-d10", "us-ca-sf"),
    ("us-ca-sf-d10-potrero-hill", "us-ca-sf-d10"),
    ("cn-110000", ""),
)


# What some of them are called; of the others only their codes are known.
ZONE_TITLES = {
    "us-ca-sf": ("旧金山市", "San Francisco"),
    "us-ca-sf-d6": ("第六区", "District 6"),
    "us-ca-sf-d10": ("第十区", "District 10"),
}


def tree(root: str = "us-ca-sf") -> ZoneTree:
    """The zones as the node of the zone `root` has them."""
    return ZoneTree([ZoneRecord(code, parent=parent) for code, parent in ZONES], root=root)


GRAFFITI = EventType(
    name="eventTypes/graffiti",
    title_zh="涂鸦",
    title_en="Graffiti",
    loop="loops/seven-step",
    deadline=Allowance(48 * 60),
    merge=MergePolicy(radius_m=100, window_h=72),
    routes=(
        Route("us-ca-sf", WORKS),
        Route("us-ca-sf-d10-potrero-hill", PARKS),
    ),
    version=1,
)
NOISE = EventType(
    name="eventTypes/noise", title_en="Noise", loop="loops/seven-step", deadline=Allowance(24 * 60), version=1
)

TWIN_PEAKS = Place(address="501 TWIN PEAKS BLVD, SAN FRANCISCO, CA", latitude=37.7544, longitude=-122.4477)


def north_of(place: Place, metres: float, address: str = "") -> Place:
    """A place so many metres north, at another address."""
    assert place.latitude is not None
    return Place(address=address, latitude=place.latitude + metres / 111_195, longitude=place.longitude)


def report(number: int = 1, **changes: Any) -> Report:
    values: dict[str, Any] = {
        "kind": ReportKind.REQUEST,
        "source": f"zones/us-ca-sf-d6/requests/r{number}",
        "zone": "us-ca-sf-d6",
        "type": GRAFFITI.name,
        "description": "Tags on the wall",
        "place": TWIN_PEAKS,
        "occurred_at": YESTERDAY,
    }
    return Report(**(values | changes))
