"""The forecast of load: what it expects, how sure it is, and how it says how good it is."""

from __future__ import annotations

from random import Random

import pytest

from services.management.analysis.model_forecast import forecast
from services.management.analysis.tests.test_model_rise import draw

PROFILE = [2.0, 6.0, 9.0] * 5 + [1.0, 3.0, 2.0] * 2


def weeks(random: Random, count: int, spread: float = 1.0) -> list[list[int]]:
    return [[draw(random, mean, spread) for mean in PROFILE] for _ in range(count)]


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_it_beats_the_naive_forecast_and_keeps_to_its_interval(spread: float) -> None:
    random = Random(1)
    inside = total = 0
    error = naive = 0.0
    for _ in range(20):
        history = weeks(random, 13, spread)
        found = forecast(history[:12])
        error, naive = error + found.error, naive + found.naive_error
        assert found.tested == 4 * len(PROFILE)
        inside += sum(s.low <= count <= s.high for s, count in zip(found.shifts, history[12], strict=True))
        total += len(PROFILE)
    assert error < 0.85 * naive
    assert 0.78 < inside / total < 0.95  # counts are whole: an interval of 0.8 holds somewhat more


def test_the_level_follows_the_weeks_and_the_profile_stays() -> None:
    found = forecast([[10, 30]] * 6 + [[20, 60]] * 6)
    expected = [shift.expected for shift in found.shifts]
    assert 65 < sum(expected) < 80
    assert expected[1] / expected[0] == pytest.approx(3, rel=0.02)


def test_where_nothing_happens_nothing_is_expected_but_it_is_not_ruled_out() -> None:
    (shift, other) = forecast([[0, 0]] * 12).shifts
    assert 0 < shift.expected == other.expected < 0.5
    assert (shift.low, shift.high) == (0, 1)


def test_a_short_history_is_none() -> None:
    with pytest.raises(ValueError, match="5 weeks"):
        forecast([[1, 2]] * 4)
