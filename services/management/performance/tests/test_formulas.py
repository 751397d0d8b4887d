"""The language of scorecards: what may be written, and that SQL means by it what it says."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quintet.management.v1 import scorecards_pb2 as pb
from services.management.performance.model_formula import (
    Both,
    Duration,
    Either,
    Formula,
    FormulaError,
    Not,
    Number,
    OneOf,
    Operator,
    Word,
    parse,
)
from services.management.performance.tests.formulas import drawn, formulas, holds, written
from services.management.performance.tests.test_figures import NAME, behind, draft, lives_of, put

if TYPE_CHECKING:
    from datetime import datetime

    from services.management.performance.tests.lives import Life
    from services.management.tests.conftest import Node

# The conditions that the scripts of the events tell of.
WORDS = (
    "all",
    "open",
    "closed",
    "voided",
    "dispatched",
    "responded",
    "on_time",
    "first_time_right",
    "returned",
    "rated",
)
INDICATORS_AT_ONCE = 25


@given(formulas(WORDS))
def test_what_is_written_is_read_back(formula: Formula) -> None:
    assert parse(written(formula)) == formula


def test_or_binds_weaker_than_and_and_that_weaker_than_not() -> None:
    assert parse("not closed and rated or returns >= 1") == Either(
        (Both((Not(Word("closed")), Word("rated"))), Number("returns", Operator.AT_LEAST, 1.0))
    )
    assert parse("type != eventTypes/noise") == Not(OneOf("type", ("eventTypes/noise",)))
    assert parse("response<=1.5h") == Duration("response", Operator.AT_MOST, 5400)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "ends where a filter is expected"),
        ("closed and", "ends where a filter is expected"),
        ("clossed", "'clossed' at 1 is not a filter; there are all, closed"),
        ("closed rated", "'rated' at 8 stands where the formula could end"),
        ("(closed", "ends where ')' is expected"),
        ("closed; DROP TABLE events", "';' at 7 is not of the language"),
        ("response <= 4", "'4' at 13: response is compared with a number and a unit"),
        ("response = 4h", "'=' at 10: response is compared by one of < <= >= >"),
        ("rating >= high", "'high' at 11: rating is compared with a plain number"),
        ("returns >= 1000001", "is above 1000000"),
        ("total <= 99999d", "must be whole seconds of ten years at most"),
        ("type = 'x'", "at 8 is not of the language"),
        ("type in eventTypes/x", "a list in brackets is expected"),
        ("(" * 30 + "closed" + ")" * 30, "is nested deeper than 20"),
        ("closed or " * 200 + "closed", "is longer than 1000 characters"),
    ],
)
def test_what_is_not_of_the_language_is_refused_with_its_place(text: str, rule: str) -> None:
    with pytest.raises(FormulaError) as refused:
        parse(text)
    assert rule in str(refused.value)


@given(st.text(max_size=60))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_other_text_is_refused_and_breaks_nothing(text: str) -> None:
    try:
        parse(text)
    except FormulaError:
        return


async def test_sql_means_by_a_formula_what_it_says(city: Node) -> None:
    """Many formulas over many events: which of them are met, not met, not known and outside is as in Python."""
    lives = await lives_of(city, 120, seed=11)
    chance = random.Random(3)
    chosen = [drawn(chance, WORDS) for _ in range(INDICATORS_AT_ONCE * 2)]
    pairs = list(zip(chosen[::2], chosen[1::2], strict=True))
    await put(city, _source(pairs))
    card = await draft(city)
    now = city.clock.now()
    known = {life.event: _known(life, now) for life in lives if not life.is_reversed}
    told = [0, 0, 0]
    for place, (of, that) in enumerate(pairs):
        expected: dict[bool | None, set[str]] = {True: set(), False: set(), None: set()}
        for event, about in known.items():
            counts = holds(of, about)
            if counts is not False:
                expected[holds(that, about) if counts else None].add(event)
        for number, (verdict, part) in enumerate(
            ((True, pb.FIGURE_PART_MET), (False, pb.FIGURE_PART_NOT_MET), (None, pb.FIGURE_PART_UNKNOWN))
        ):
            rows = await behind(city, card, "ZONE", "zones/us-ca-sf", f"i{place}", part, page=500)
            opened = {each.event for each in rows}
            assert opened == expected[verdict], (written(of), written(that), verdict)
            told[number] += len(opened)
    assert min(told) > 100, "the sample has many of each"


def _known(life: Life, now: datetime) -> dict[str, Any]:
    voided = life.state == "voided"
    closed_at, sent = life.closed_at, life.sent
    returns = sum(action == "return" for action, _, _ in life.steps)
    organisations = {organisation for _, organisation in sent}
    return {
        "all": True,
        "open": closed_at is None,
        "closed": closed_at is not None and not voided,
        "voided": voided,
        "dispatched": bool(sent),
        "responded": life.response_at is not None,
        "on_time": (closed_at or now) <= life.due_at,
        "first_time_right": len(organisations) == 1 and not returns if sent else None,
        "returned": returns > 0,
        "rated": bool(life.ratings),
        "reports": 1,
        "returns": returns,
        "reopens": 0,
        "organisations": len(organisations),
        "extensions": 0,
        "ratings": len(life.ratings),
        "rating": sum(life.ratings) / len(life.ratings) if life.ratings else None,
        "type": life.type,
        "zone": life.zone,
        "response": _span(sent[0][0] if sent else None, life.response_at, now),
        "handling": _span(sent[0][0] if sent else None, closed_at, now),
        "total": _span(life.occurred_at, closed_at, now),
    }


def _span(start: datetime | None, end: datetime | None, now: datetime) -> tuple[float, bool] | None:
    return None if start is None else (((end or now) - start) / timedelta(seconds=1), end is not None)


def _source(pairs: list[tuple[Formula, Formula]]) -> str:
    lines = [
        f"name: {NAME}",
        "title: {zh: 随机, en: By chance}",
        "subjects: [zone]",
        "excludes: [TIME_REVERSED]",
        "indicators:",
    ]
    for place, (of, that) in enumerate(pairs):
        lines += [
            f"  - id: i{place}",
            "    title: {zh: 甲, en: A}",
            f"    of: {written(of)}",
            f"    that: {written(that)}",
            "    points: {none_at: 0, full_at: 100}",
        ]
    return "\n".join(lines)
