"""What a report says beyond counts: types that rise, and places where there is more than elsewhere. Pure.

The statistics are those of the analysis (model_rise, model_hotspots); the figures that they rest on are kept with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.management.analysis.model_hotspots import HotCell

# Sums are taken over a cell and those around it: of two cells at most so far apart they have events in common.
CELLS_SHARED = 2


class Title(NamedTuple):
    """A name for people in both languages."""

    zh: str
    en: str


NOTHING = Title("", "")


@dataclass(frozen=True, slots=True)
class Issue:
    """A type that rises in a zone: what was observed and expected, and how likely chance alone makes that."""

    zone: Title
    type: Title
    observed: int
    expected: float
    season: float
    dispersion: float
    p_value: float
    q_value: float


@dataclass(frozen=True, slots=True)
class Emerging:
    """What rises, the least likely first: of `tested` types and zones, against `windows` windows of `hours` before.

    `rate` is the false discovery rate, `found` how many there are with those that are not listed.
    """

    issues: tuple[Issue, ...]
    found: int
    tested: int
    windows: int
    hours: int
    rate: float


@dataclass(frozen=True, slots=True)
class HotSpot:
    """A place where there is more than elsewhere: the middle of its cell in degrees, and the zone that most lie in."""

    zone: Title
    latitude: float
    longitude: float
    observed: int
    expected: float
    score: float
    p_value: float
    q_value: float


@dataclass(frozen=True, slots=True)
class HotSpots:
    """Hot spots that share no events, the hottest first. `cells` of `cell_m` metres were tested, `hot` of them are."""

    spots: tuple[HotSpot, ...]
    hot: int
    cells: int
    cells_min: int
    cell_m: float
    located: int
    rate: float


def apart(cells: Iterable[HotCell], most: int) -> list[HotCell]:
    """Return the hottest cells whose surroundings share no events, at most `most`; `cells` are the hottest first."""
    found: list[HotCell] = []
    for cell in cells:
        if len(found) == most:
            break
        if all(_far(cell, other) for other in found):
            found.append(cell)
    return found


def _far(cell: HotCell, other: HotCell) -> bool:
    rows, columns = cell.square.row - other.square.row, cell.square.column - other.square.column
    return max(abs(rows), abs(columns)) > CELLS_SHARED
