"""What a score is made of, and what thresholds make of it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.management.model import MergePolicy, Place
from services.management.model_merge import SUGGESTED_DEFAULT, SUGGESTIONS_MAX, Candidate, Judged, judge, score
from services.management.tests.samples import GRAFFITI, NOISE, TWIN_PEAKS, YESTERDAY, north_of, report

WORDS = "Red tags on the retaining wall"


def open_event(metres: float = 0, hours: float = 0, words: str = WORDS, number: int = 1, **more: Any) -> Candidate:
    place = north_of(TWIN_PEAKS, metres)
    values: dict[str, Any] = {
        "id": number,
        "name": f"zones/us-ca-sf/events/{number}",
        "occurred_at": YESTERDAY + timedelta(hours=hours),
        "address": place.address,
        "latitude": place.latitude,
        "longitude": place.longitude,
        "type": GRAFFITI.name,
        "description": words,
    }
    return Candidate(**(values | more))


def judged(*candidates: Candidate, **policy: Any) -> Judged:
    merge = replace(GRAFFITI.merge, **policy)
    return judge(
        replace(GRAFFITI, merge=merge), report(description="Somebody sprayed red tags on the wall"), candidates
    )


def test_without_thresholds_place_and_time_decide_and_words_only_suggest() -> None:
    unlike = judged(open_event(90, words="an abandoned car"))
    assert [len(each) for each in unlike] == [1, 0]
    beyond = judged(open_event(130))
    assert [len(each) for each in beyond] == [0, 1]
    assert beyond.suggestions[0].score >= SUGGESTED_DEFAULT
    assert judged(open_event(130, words="an abandoned car")) == Judged([], [])
    assert judged(open_event(201)) == Judged([], []), "beyond reach nothing is the same, whatever it says"


def test_a_threshold_leaves_to_people_what_is_near_but_tells_of_something_else() -> None:
    unlike = open_event(60, words="an abandoned car")
    assert [len(each) for each in judged(unlike, automatic=0.7, suggested=0.4)] == [0, 1]
    assert len(judged(open_event(10), automatic=0.7).matches) == 1
    assert [match.candidate.id for match in judged(unlike, open_event(90, number=2), automatic=0.3).matches] == [2, 1]


def test_every_part_stands_in_the_explanation_with_its_weight() -> None:
    (match,) = judged(open_event(50, address=TWIN_PEAKS.address)).matches
    why = match.explanation
    for zh, en in (("类型", "type"), ("距离", "distance"), ("时间", "time"), ("地址", "address"), ("文字", "words")):
        value, weight = re.findall(rf"{en} (\d\.\d\d) x (\d+)%", why.en)[0]
        assert f"{zh} {value}×{weight}%" in why.zh
        assert why.inputs[f"{en}_part"].startswith(f"{value} x 0.{int(weight):02}")
    weights = [int(weight) for weight in re.findall(r"x (\d+)%", why.en)]
    assert (len(weights), sum(weights)) == (5, 100)
    assert why.inputs["score"] == f"{match.score:.2f}"
    assert f"score {match.score:.2f}" in why.en


def test_what_is_not_known_drops_out() -> None:
    chinese = open_event(50, words="墙上有涂鸦")
    found = score(GRAFFITI, report(), chinese)
    assert {part for part, _, _ in found.parts} == {"type", "distance", "time"}
    assert sum(weight for _, _, weight in found.parts) == pytest.approx(1)


def test_types_of_one_family_are_suggested_only() -> None:
    other = open_event(5, type=NOISE.name)
    assert judged(other).matches == []
    assert [match.candidate for match in judged(other).suggestions] == [other]


def test_few_are_suggested_the_most_alike_first() -> None:
    found = judged(*(open_event(metres, number=metres) for metres in (150, 110, 120, 140, 130))).suggestions
    assert [match.candidate.id for match in found] == [110, 120, 130][:SUGGESTIONS_MAX]


@given(
    metres=st.floats(0, 400),
    hours=st.floats(-300, 300),
    words=st.sampled_from([WORDS, "", "墙上有涂鸦", "an abandoned car"]),
    automatic=st.sampled_from([0, 0.3, 0.6, 0.9]),
    suggested=st.sampled_from([0, 0.2, 0.5]),
)
def test_nothing_is_both_and_the_limits_hold(
    metres: float, hours: float, words: str, automatic: float, suggested: float
) -> None:
    policy = MergePolicy(100, 72, automatic, suggested)
    event_type = replace(GRAFFITI, merge=policy)
    candidate = open_event(metres, hours, words)
    found = score(event_type, report(), candidate)
    assert 0 <= found.value <= 1
    assert sum(weight for _, _, weight in found.parts) == pytest.approx(1)
    matches, suggestions = judge(event_type, report(), [candidate])
    assert len(matches) + len(suggestions) <= 1
    if matches:
        assert (found.apart_m or 0) <= 100
        assert abs(hours) <= 72
        assert found.value >= automatic
    if suggestions:
        assert (found.apart_m or 0) <= 200
        assert abs(hours) <= 144


def test_an_equal_address_needs_no_coordinates() -> None:
    place = Place(address=TWIN_PEAKS.address)
    candidate = open_event(0, 100, address=TWIN_PEAKS.address, latitude=None, longitude=None)
    found = judge(GRAFFITI, report(place=place, description=WORDS), [candidate])
    assert [len(each) for each in found] == [0, 1], "the window is over, the address and the words are the same"
