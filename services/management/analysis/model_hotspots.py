"""Hot spots in space and time: cells of a grid whose surroundings hold more events than chance would put there. Pure.

Each cell is taken together with the eight around it, and its sum compared with what sums of so many cells come to in
the whole area: the statistic Gi* with weights w_ij = 1 for a cell itself and its neighbours, 0 for all others,

    Gi* = (sum_j w_ij x_j - X W_i) / (S sqrt((n sum_j w_ij^2 - W_i^2) / (n - 1))),
    X = sum_j x_j / n,  S^2 = sum_j x_j^2 / n - X^2,  W_i = sum_j w_ij

(Ord, Getis: Local Spatial Autocorrelation Statistics, Geographical Analysis 27, 1995, formula 14). Where there is
nothing but chance it has mean 0 and variance 1. It is usually read as normal, but sums of few events are skewed,
and then far too many cells are hot; so the p value is the upper tail of the negative binomial distribution with the
mean and the variance that Gi* itself takes for the sum. It is corrected over all cells of a period by Benjamini and
Hochberg. The area are the cells in which anything was ever reported in the time looked at, of whatever type: water
and woods would make everything else hot.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import cos, radians, sqrt
from typing import TYPE_CHECKING, NamedTuple

from services.management.analysis.model_tails import adjusted, upper_tail
from services.management.model_merge import METRES_PER_DEGREE, POLE_COSINE_MIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CELL_M = 250
# With fewer cells there is no saying what is usual.
CELLS_MIN = 30
NEIGHBOURHOOD_EVENTS_MIN = 5
FALSE_DISCOVERY_RATE = 0.05


class Square(NamedTuple):
    """A cell of the grid: its row counted from the equator to the north, its column from Greenwich to the east."""

    row: int
    column: int


class Bounds(NamedTuple):
    """Degrees; the northern and eastern edges are not in it."""

    south: float
    west: float
    north: float
    east: float


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells of `north_deg` by `east_deg` degrees."""

    north_deg: float
    east_deg: float

    def bounds(self, square: Square) -> Bounds:
        south, west = square.row * self.north_deg, square.column * self.east_deg
        return Bounds(south, west, south + self.north_deg, west + self.east_deg)


@dataclass(frozen=True, slots=True)
class HotCell:
    """A cell whose surroundings are hot. `events` are its own, `around` those of it and its neighbours."""

    square: Square
    events: int
    around: int
    expected: float
    score: float
    p_value: float
    q_value: float


def grid(cell_m: float, latitude: float) -> Grid:
    """Return a grid of cells of `cell_m` metres, square at the whole degree of latitude next to `latitude`."""
    north = cell_m / METRES_PER_DEGREE
    return Grid(north, north / max(POLE_COSINE_MIN, cos(radians(min(89.0, abs(round(latitude)))))))


def hot(
    counts: Mapping[Square, int],
    area: Iterable[Square],
    *,
    rate: float = FALSE_DISCOVERY_RATE,
    events_min: int = NEIGHBOURHOOD_EVENTS_MIN,
) -> list[HotCell]:
    """Return the hot cells of one period, the hottest first. `area` are all cells, those without an event too."""
    cells = set(area) | counts.keys()
    n = len(cells)
    mean = sum(counts.values()) / n if n else 0.0
    variance = sum(count * count for count in counts.values()) / n - mean * mean if n else 0.0
    if n < CELLS_MIN or variance <= 0:
        return []
    spread = sqrt(variance)
    found: list[HotCell] = []
    for square, (around, weight) in _sums(counts, cells).items():
        if around < events_min or weight >= n:
            continue
        expected = mean * weight
        deviation = spread * sqrt((n * weight - weight * weight) / (n - 1))
        score = (around - expected) / deviation
        p_value = upper_tail(around, expected, max(1.0, deviation * deviation / expected))
        found.append(HotCell(square, counts.get(square, 0), around, expected, score, p_value, 1.0))
    corrected = adjusted([cell.p_value for cell in found], n)
    hottest = [
        HotCell(cell.square, cell.events, cell.around, cell.expected, cell.score, cell.p_value, q)
        for cell, q in zip(found, corrected, strict=True)
        if q <= rate
    ]
    return sorted(hottest, key=lambda cell: (-cell.score, cell.square))


def _sums(counts: Mapping[Square, int], cells: set[Square]) -> dict[Square, tuple[int, int]]:
    """Return for each cell that has an event near how many there are, and in how many cells."""
    sums: dict[Square, int] = defaultdict(int)
    for square, count in counts.items():
        for neighbour in _neighbourhood(square):
            sums[neighbour] += count
    return {
        square: (total, sum(neighbour in cells for neighbour in _neighbourhood(square)))
        for square, total in sums.items()
        if square in cells
    }


def _neighbourhood(square: Square) -> list[Square]:
    rows = range(square.row - 1, square.row + 2)
    return [Square(row, column) for row in rows for column in range(square.column - 1, square.column + 2)]
