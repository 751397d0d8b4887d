"""Definitions as files: the example of the documentation is one, and every fault is named by its line."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.management.performance.definition_yaml import DefinitionError, parse_definition
from services.management.performance.model_scorecard import (
    Credit,
    Figure,
    Indicator,
    SubjectKind,
    points,
    total,
)
from services.management.performance.tests.test_figures import SOURCE

HANDLING = parse_definition(SOURCE)


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_the_example_of_the_documentation() -> None:
    assert HANDLING.name == "scorecardDefinitions/handling"
    assert HANDLING.subjects == tuple(SubjectKind)
    assert "HISTORY_MISSING" in HANDLING.excludes, "whatever the file says: nothing is known of those"
    assert [each.id for each in HANDLING.indicators][:3] == ["response", "resolution", "satisfaction"]
    assert {each.id for each in HANDLING.indicators if each.credit is Credit.FIRST} == {"first_time_right", "returns"}
    assert sum(each.weight for each in HANDLING.indicators) == 100


@pytest.mark.parametrize(
    ("before", "after", "at", "problem"),
    [
        (
            "counts_by: opened",
            "counts_by: due",
            "counts_by:",
            "counts_by: 'due' is not one of occurred",
        ),
        ("zone, tier]", "zone, city]", "subjects:", "subjects[2]: 'city' is not one of"),
        ("that: on_time\n", "that: on_tme\n", "that: on_tme", "indicators[3].that: 'on_tme' at 1 is not a filter"),
        ("response <= 4h", "response <= 4", "that: response", "is compared with a number and a unit"),
        ("    of: rated\n", "", "- id: satisfaction", "indicators[2].of: is required"),
        (
            "- id: reopens",
            "- id: returns",
            "- id: returns\n    title: {zh: 重开",
            "'returns' stands in the list twice",
        ),
        ("none_at: 20, full_at: 2}", "none_at: 20, full_at: 20}", "points: {none_at: 20", "must differ"),
        ("none_at: 20, full_at: 2}", "none_at: 120, full_at: 2}", "points: {none_at: 120", "must be 0 to 100"),
        ("weight: 15", "weight: much", "weight: much", "indicators[3].weight: 'much' must match"),
        ("appeal_days: 15", "appeal_days: 0", "appeal_days: 0", "appeal_days: must be 1 to 90"),
        ("credited_to: first", "credited: first", "credited: first", "indicators[4].credited: is not a known key"),
        ("STATUS_CONFLICT]", "status conflict]", "excludes:", "excludes[2]: 'status conflict' must match"),
        ("zh: 响应率, en: Response rate", "en: Response rate", "title: {en: Response", "title.zh: is required"),
        ("subjects: [", "subjects: {", "subjects: {", "file: "),
    ],
)
def test_every_fault_is_named_by_its_line(before: str, after: str, at: str, problem: str) -> None:
    assert before in SOURCE
    text = SOURCE.replace(before, after, 1)
    with pytest.raises(DefinitionError) as refused:
        parse_definition(text)
    line = line_of(text, at)
    assert any(fault.startswith(f"line {line}: ") and problem in fault for fault in refused.value.problems) or (
        problem == "file: " and "file: " in refused.value.problems[0]
    ), refused.value.problems


@given(st.text(max_size=200))
def test_any_other_text_is_refused_with_a_line(text: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse_definition(text)
    assert all(problem.startswith("line ") for problem in refused.value.problems)


@given(st.sampled_from(HANDLING.indicators), st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_points_go_the_way_of_the_rate_and_stay_within_bounds(
    indicator: Indicator, met: int, not_met: int, unknown: int
) -> None:
    found, more = points(indicator, Figure(met, not_met, unknown)), points(indicator, Figure(met + 1, not_met))
    if met + not_met < indicator.min_sample:
        assert found is None
        return
    assert found is not None
    assert more is not None
    assert Decimal(0) <= found <= Decimal(100)
    assert more >= found if indicator.full_at > indicator.none_at else more <= found
    assert found == points(indicator, Figure(met, not_met)), "what is not known does not count"


def test_a_sample_that_is_too_small_takes_no_weight() -> None:
    """Two indicators with enough events share all of the weight."""
    enough, none = Figure(95, 5), Figure(1, 1)
    figures = [enough, enough, *[none] * 5]
    assert total(HANDLING, figures) == (Decimal("100.00"), 45)
    assert total(HANDLING, [Figure()] * 7) == (None, 0)
