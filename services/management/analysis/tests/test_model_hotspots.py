"""Where there is more than elsewhere."""

from __future__ import annotations

from math import sqrt
from random import Random

import pytest

from services.management.analysis.model_hotspots import Square, grid, hot
from services.management.analysis.tests.test_model_rise import poisson
from services.management.model_merge import distance_m

SIDE = 20
AREA = [Square(row, column) for row in range(SIDE) for column in range(SIDE)]


def chance(random: Random, mean: float) -> dict[Square, int]:
    drawn = {square: poisson(random, mean) for square in AREA}
    return {square: count for square, count in drawn.items() if count}


def test_the_score_is_gi_star() -> None:
    counts = chance(Random(2), 0.5) | {Square(5, 5): 12, Square(5, 6): 9}
    spot = next(cell for cell in hot(counts, AREA) if cell.square == Square(5, 5))
    x = [counts.get(square, 0) for square in AREA]
    w = [int(abs(row - 5) <= 1 and abs(column - 5) <= 1) for row, column in AREA]
    n, mean = len(x), sum(x) / len(x)
    spread = sqrt(sum(value * value for value in x) / n - mean * mean)
    around = sum(a * b for a, b in zip(w, x, strict=True))
    above = around - mean * sum(w)
    below = spread * sqrt((n * sum(v * v for v in w) - sum(w) ** 2) / (n - 1))
    assert spot.score == pytest.approx(above / below)
    assert (spot.events, spot.around) == (12, around)
    assert spot.expected == pytest.approx(mean * 9)


@pytest.mark.parametrize("mean", [0.1, 1.0])
def test_chance_alone_makes_no_place_hot_more_often_than_the_rate_says(mean: float) -> None:
    random = Random(5)
    # 40 maps: 2 with a false alarm are expected at most at the rate of 0.05.
    assert sum(bool(hot(chance(random, mean), AREA)) for _ in range(40)) <= 5


def test_a_hot_place_among_noise_is_found_and_nothing_far_from_it() -> None:
    random = Random(6)
    counts = chance(random, 0.5)
    for square in (Square(10, 10), Square(10, 11), Square(11, 10)):
        counts[square] = counts.get(square, 0) + 8
    found = {cell.square for cell in hot(counts, AREA)}
    assert Square(10, 10) in found
    assert all(8 <= row <= 13 and 8 <= column <= 13 for row, column in found)


def test_a_small_area_and_an_even_one_have_no_hot_place() -> None:
    assert hot({Square(0, 0): 50}, AREA[:29]) == []
    assert hot(dict.fromkeys(AREA, 3), AREA) == []
    assert hot({}, []) == []


@pytest.mark.parametrize("latitude", [0.0, 37.76, 39.9, -60.0])
def test_cells_are_squares_of_the_size_asked_for(latitude: float) -> None:
    squares = grid(250, latitude)
    row, column = int(latitude / squares.north_deg), int(116.4 / squares.east_deg)
    south, west, north, east = squares.bounds(Square(row, column))
    assert distance_m(south, west, north, west) == pytest.approx(250, rel=1e-6)
    assert distance_m(south, west, south, east) == pytest.approx(250, rel=0.02)
