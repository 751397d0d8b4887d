"""The figures of docs/examples/management/scorecards/handling.yaml, counted by hand from the scripts of the events."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from services.management.performance.tests.lives import Life

INDICATORS = ("response", "resolution", "satisfaction", "on_time", "first_time_right", "returns", "reopens")
TIERS = {"us-ca-sf": "level-0", "us-ca-sf-d6": "level-1", "us-ca-sf-d10": "level-1"}
PATHS = {
    "us-ca-sf": ("us-ca-sf",),
    "us-ca-sf-d6": ("us-ca-sf", "us-ca-sf-d6"),
    "us-ca-sf-d10": ("us-ca-sf", "us-ca-sf-d10"),
    "us-ca-sf-d10-potrero-hill": ("us-ca-sf", "us-ca-sf-d10", "us-ca-sf-d10-potrero-hill"),
}
# By kind, subject and indicator: the events that met it, and those that did not.
Figures = dict[tuple[str, str, str], tuple[set[str], set[str]]]


def figures(lives: Iterable[Life], now: datetime) -> Figures:
    """Return what each figure must count. Events that contradict themselves are in none."""
    found: Figures = defaultdict(lambda: (set(), set()))
    for life in lives:
        if life.is_reversed:
            continue
        for indicator in INDICATORS:
            met = _met(life, indicator, now)
            if met is None:
                continue
            for kind, subject in subjects(life, indicator):
                found[kind, subject, indicator][0 if met else 1].add(life.event)
    return found


def subjects(life: Life, indicator: str = "") -> list[tuple[str, str]]:
    credited = life.sent[0][1] if indicator in {"first_time_right", "returns"} and life.sent else life.handler
    zones = [("ZONE", f"zones/{zone}") for zone in PATHS[life.zone]]
    return [*zones, ("TIER", TIERS.get(life.zone, "level-2")), *([("ORGANISATION", credited)] if credited else [])]


def _met(life: Life, indicator: str, now: datetime) -> bool | None:  # noqa: PLR0911 - one line per indicator
    voided, closed = life.state == "voided", life.closed_at
    if indicator == "satisfaction":
        return sum(life.ratings) / len(life.ratings) >= 4 if life.ratings else None
    if indicator == "on_time":
        return None if voided else (closed or now) <= life.due_at
    if indicator == "reopens":
        return False if closed and not voided else None
    if not life.sent:
        return None
    if indicator == "first_time_right":
        organisations = {organisation for _, organisation in life.sent}
        return len(organisations) == 1 and not any(action == "return" for action, _, _ in life.steps)
    if indicator == "returns":
        return any(action == "return" for action, _, _ in life.steps)
    if voided:
        return None
    if indicator == "response":
        return (life.response_at or now) - life.sent[0][0] <= timedelta(hours=4)
    return closed is not None
