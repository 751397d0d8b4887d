"""Windows against an independent count, and thresholds that do not flutter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.management.warnings.model_indicator import (
    Aggregation,
    Bucket,
    Indicator,
    Said,
    Threshold,
    Turn,
    Watched,
    figure,
    first_step,
    joined,
    judge,
    problems,
    step_at,
)

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
SAID = Said("有", "some")


def indicator(aggregation: Aggregation, steps: int, step_minutes: int) -> Indicator:
    return Indicator(
        "indicators/i",
        SAID,
        SAID,
        (),
        aggregation,
        window_minutes=steps * step_minutes,
        step_minutes=step_minutes,
    )


@given(
    facts=st.lists(st.tuples(st.integers(0, 7200), st.integers(-50, 50)), max_size=40),
    steps=st.integers(1, 12),
    step_minutes=st.sampled_from([1, 5, 7]),
    now_s=st.integers(0, 7200),
    order=st.randoms(use_true_random=False),
)
def test_a_window_holds_what_was_stated_in_its_steps_in_whatever_order_it_came(
    facts: list[tuple[int, int]], steps: int, step_minutes: int, now_s: int, order: object
) -> None:
    order.shuffle(facts)  # type: ignore[attr-defined]
    kept: dict[datetime, Bucket] = {}
    for second, value in facts:
        at = START + timedelta(seconds=second)
        step = step_at(at, step_minutes)
        kept[step] = kept.get(step, Bucket()).with_value(value, at)
    now = START + timedelta(seconds=now_s)

    # Counted anew from the seconds alone.
    length_s = step_minutes * 60
    base_s = int(START.timestamp())
    number = (base_s + now_s) // length_s
    inside = [(s, v) for s, v in facts if number - steps < (base_s + s) // length_s <= number]

    def seen(aggregation: Aggregation) -> float | None:
        declared = indicator(aggregation, steps, step_minutes)
        last = step_at(now, step_minutes)
        first = first_step(declared, last)
        return figure(aggregation, joined(bucket for step, bucket in kept.items() if first <= step <= last))

    values = [value for _, value in inside]
    assert seen(Aggregation.COUNT) == len(inside)
    assert seen(Aggregation.SUM) == sum(values)
    assert seen(Aggregation.MAX) == (max(values) if values else None)
    assert seen(Aggregation.MEAN) == (sum(values) / len(values) if values else None)
    if values:
        newest = max(second for second, _ in inside)
        assert seen(Aggregation.LATEST) in {value for second, value in inside if second == newest}
    else:
        assert seen(Aggregation.LATEST) is None


def threshold(**changes: object) -> Threshold:
    values: dict[str, object] = {
        "level": 2,
        "at_least": True,
        "value": 10.0,
        "clear_value": 6.0,
        "minimum_minutes": 3,
        "zones": ("us-ca-sf",),
        "headline": SAID,
        "instruction": SAID,
    }
    return Threshold(**(values | changes))  # type: ignore[arg-type]


@given(
    values=st.lists(st.one_of(st.none(), st.integers(0, 15)), max_size=40),
    minimum=st.integers(0, 4),
    at_least=st.booleans(),
)
def test_a_threshold_is_crossed_after_its_time_and_back_only_at_its_clear_value(
    values: list[int | None], minimum: int, at_least: bool
) -> None:
    sign = 1 if at_least else -1
    limits = threshold(at_least=at_least, value=10.0 * sign, clear_value=6.0 * sign, minimum_minutes=minimum)
    watched, turns = Watched(), []
    for minute, value in enumerate(values):
        given_value = None if value is None else float(sign * value)
        watched, turn = judge(limits, watched, given_value, START + timedelta(minutes=minute))
        turns.append(turn)

    crossed, run_from = False, None
    for minute, (value, turn) in enumerate(zip(values, turns, strict=True)):
        if value is None:
            assert turn is Turn.NONE
            continue
        if crossed:
            assert (turn is Turn.BACK) == (value <= 6)
            crossed, run_from = value > 6, None
            continue
        run_from = (minute if run_from is None else run_from) if value >= 10 else None
        due = run_from is not None and minute - run_from >= minimum
        assert (turn is Turn.CROSSED) == due
        crossed = due


def test_a_declaration_says_what_is_wrong_by_field() -> None:
    wrong = Indicator(
        "indicators/i",
        Said("标题", ""),
        SAID,
        (),
        Aggregation.SUM,
        window_minutes=61,
        step_minutes=5,
        due_field="task.due_at",
        thresholds=(
            threshold(clear_value=10.0, publishes=True),
            threshold(clear_value=9.0, headline=Said("", "Flood")),
        ),
    )
    assert [field for field, _ in problems(wrong)] == [
        "indicator.title.en",
        "indicator.windowMinutes",
        "indicator.dueField",
        "indicator.field",
        "indicator.thresholds[0].clearValue",
        "indicator.thresholds[0].publishes",
        "indicator.thresholds[1].headline.zh",
        "indicator.thresholds",
    ]
