"""The statistics of emerging issues: the distributions, the correction, what is found and what is not."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from math import comb, exp, factorial
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.management.analysis.model_gathering import Counted, gather
from services.management.analysis.model_rise import (
    BASELINE_WINDOWS,
    Cell,
    Counts,
    Findings,
    find,
    season_factor,
    windows,
)
from services.management.analysis.model_tails import adjusted, dispersion, upper_tail

RUNS = 120
TYPES = 12
ZONES = 10
END = datetime(2026, 3, 20, 8, 0, tzinfo=UTC)
UTC_ZONE = ZoneInfo("UTC")


# ------------------------------------------------------------------------------------------------------- distributions


@pytest.mark.parametrize(("count", "mean"), [(0, 3.0), (1, 3.0), (5, 3.0), (12, 3.0), (4, 20.0), (60, 20.0)])
def test_without_overdispersion_the_tail_is_that_of_poisson(count: int, mean: float) -> None:
    below = sum(exp(-mean) * mean**y / factorial(y) for y in range(count))
    assert upper_tail(count, mean, 1.0) == pytest.approx(1 - below, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("count", [0, 1, 3, 9, 30])
def test_with_whole_sizes_the_tail_is_that_of_failures_before_successes(count: int) -> None:
    size, p = 4, 0.25  # mean 12, variance 48
    below = sum(comb(y + size - 1, y) * p**size * (1 - p) ** y for y in range(count))
    assert upper_tail(count, 12.0, 4.0) == pytest.approx(1 - below, rel=1e-6)


def test_a_far_tail_keeps_its_digits() -> None:
    assert upper_tail(60, 3.0, 1.0) == pytest.approx(
        3**60 * exp(-3) / factorial(60) * (1 + 3 / 61 + 9 / 61 / 62), rel=1e-3
    )


@given(st.integers(0, 400), st.floats(0.01, 200), st.floats(1, 30))
def test_more_events_are_never_more_likely(count: int, mean: float, spread: float) -> None:
    here, next_ = upper_tail(count, mean, spread), upper_tail(count + 1, mean, spread)
    assert 0 <= next_ <= here * (1 + 1e-6) + 1e-9 <= 1 + 1e-5


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.5)])
def test_a_distribution_that_is_none_is_refused(mean: float, spread: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        upper_tail(1, mean, spread)


def test_the_dispersion_is_the_variance_over_the_mean() -> None:
    assert dispersion([[0, 10, 0, 10]]) == pytest.approx(100 / 3 / 5)
    assert dispersion([[3, 3, 3]]) == dispersion([[0, 0]]) == dispersion([]) == 1.0
    assert dispersion([[0, 10, 0, 10], [5, 5, 5, 5]]) == pytest.approx(20 / 6)


@given(st.lists(st.floats(0, 1), max_size=40), st.integers(0, 40))
def test_what_is_adjusted_finds_what_the_step_up_procedure_finds(p_values: list[float], more: int) -> None:
    tests = len(p_values) + more
    ordered = sorted(p_values)
    for rate in (0.01, 0.05, 0.5):
        passing = [rank for rank, p in enumerate(ordered, start=1) if p * tests / rank <= rate]
        found = sum(q <= rate for q in adjusted(p_values, tests))
        assert found == max((sum(p <= ordered[rank - 1] for p in p_values) for rank in passing), default=0)


# ----------------------------------------------------------------------------------------------------------- windows


def test_baseline_windows_cover_the_same_hours_over_a_change_of_the_clock() -> None:
    zone = ZoneInfo("America/Los_Angeles")
    found = windows(END, 24, zone)  # the clocks went forward on 8 March 2026
    assert len(found.baseline) == BASELINE_WINDOWS
    for window in found.every():
        assert (window.start.astimezone(zone).hour, window.end.astimezone(zone).hour) == (1, 1)
        assert window.end.astimezone(zone).weekday() == END.astimezone(zone).weekday()
    assert found.baseline[-3].end.astimezone(UTC).hour == 9


@given(st.integers(1, 672))
def test_baseline_windows_are_of_one_length_and_do_not_overlap(hours: int) -> None:
    found = windows(END, hours, UTC_ZONE)
    ordered = [*found.baseline, found.recent]
    assert {window.end - window.start for window in found.every()} == {found.recent.end - found.recent.start}
    assert all(first.end <= second.start for first, second in pairwise(ordered))


# ------------------------------------------------------------------------------------------------ what rises, what not


def poisson(random: Random, mean: float) -> int:
    """Draw a count: arrivals in a unit of time (all means here are small)."""
    count, passed = 0, random.expovariate(1.0)
    while passed < mean:
        count += 1
        passed += random.expovariate(1.0)
    return count


def draw(random: Random, mean: float, spread: float) -> int:
    """Draw from a negative binomial of variance spread * mean: a Poisson count of a rate that itself varies."""
    if spread == 1:
        return poisson(random, mean)
    return poisson(random, random.gammavariate(mean / (spread - 1), spread - 1))


def stationary(random: Random, spread: float) -> dict[Cell, Counts]:
    cells = {}
    for kind in range(TYPES):
        for zone in range(ZONES):
            mean = random.gammavariate(1.5, 4)
            history = tuple(draw(random, mean, spread) for _ in range(BASELINE_WINDOWS))
            cells[Cell(f"z{zone}", f"t{kind}")] = Counts(draw(random, mean, spread), history)
    return cells


def found(cells: dict[Cell, Counts], **more: float) -> Findings:
    return find(cells, {}, {}, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("spread", [1.0, 2.0, 4.0])
def test_where_nothing_changes_false_alarms_stay_within_the_rate(spread: float) -> None:
    random = Random(20260105)
    alarmed = sum(bool(found(stationary(random, spread)).rises) for _ in range(RUNS))
    # Where all is as ever each alarm is false, and the rate bounds how often there is any: 6 of 120 are expected at
    # most, and more than 13 would be so in one of 200 series if that were the true rate.
    assert alarmed <= 13


@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_a_rise_among_noise_is_found(spread: float) -> None:
    random = Random(7)
    hits = 0
    for _ in range(30):
        cells = stationary(random, spread)
        history = tuple(draw(random, 4, spread) for _ in range(BASELINE_WINDOWS))
        planted = Cell("z0", "t0")
        cells[planted] = Counts(34, history)
        hits += planted in {rise.cell for rise in found(cells).rises}
    assert hits >= 29


def test_few_events_are_no_issue_however_rare_they_were() -> None:
    cells = {Cell("z", "t"): Counts(4, (0,) * 12)}
    assert not found(cells).rises
    assert [rise.expected for rise in found(cells, events_min=4).rises] == [0.5 / 12]


def test_without_enough_history_nothing_is_tested() -> None:
    assert found({Cell("z", "t"): Counts(50, (1, 1, 1))}) == Findings((), 0, 0)


def test_a_season_raises_what_is_expected_and_never_lowers_it() -> None:
    assert season_factor(60, 80) == pytest.approx(3.0)
    assert season_factor(6, 480) == season_factor(19, 0) == 1.0
    assert season_factor(3000, 100) == 5.0
    cells = {Cell("z", "t"): Counts(24, (8,) * 12)}
    assert found(cells).rises
    assert not find(cells, {"t": 3.0}, {}).rises


def test_a_rise_is_laid_on_the_zone_that_has_it() -> None:
    steady = (20,) * 12
    cells = {
        Cell("city", "t"): Counts(90, (40,) * 12),
        Cell("east", "t"): Counts(70, steady),
        Cell("west", "t"): Counts(20, steady),
    }
    rises = find(cells, {}, {"city": [], "east": ["city"], "west": ["city"]}).rises
    assert {(rise.cell.zone, rise.explained_by) for rise in rises} == {("east", ()), ("city", ("east",))}


# ---------------------------------------------------------------------------------------------------------- gathering


def gathered(counted: list[Counted], since: dict[str, datetime]) -> dict[Cell, Counts]:
    def above(zone: str) -> list[str]:
        return ["city", zone] if zone != "city" else ["city"]

    return gather(counted, windows(END, 168, UTC_ZONE), since, above).cells


def test_counts_add_up_over_the_zones_above() -> None:
    rows = [Counted(place, zone, "t", 2) for place in range(13) for zone in ("east", "west", "city")]
    cells = gathered(rows, {})
    assert cells[Cell("city", "t")] == Counts(6, (6,) * 12)
    assert cells[Cell("east", "t")] == Counts(2, (2,) * 12)


def test_a_zone_that_began_to_report_lately_is_no_rise() -> None:
    rows = [Counted(place, "east", "t", 2) for place in range(13)] + [Counted(0, "west", "t", 50)]
    assert gathered(rows, {}) == {
        Cell("city", "t"): Counts(2, (2,) * 12),
        Cell("east", "t"): Counts(2, (2,) * 12),
    }


def test_a_type_counts_from_when_there_was_one() -> None:
    others = [Counted(place, "east", "old", 2) for place in range(13)]
    start = windows(END, 168, UTC_ZONE).baseline[7].start
    new = gathered([*others, Counted(0, "east", "new", 9)], {"new": start})
    assert new[Cell("east", "new")] == Counts(9, (0,) * 5)
    known = gathered([*others, Counted(0, "east", "new", 9)], {"new": datetime(2020, 1, 1, tzinfo=UTC)})
    assert known[Cell("east", "new")] == Counts(9, (0,) * 12)
    brought_along = gathered([*others, Counted(10, "east", "new", 1), Counted(0, "east", "new", 9)], {"new": END})
    assert brought_along[Cell("east", "new")] == Counts(9, (1, 0, 0))
