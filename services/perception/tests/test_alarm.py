"""The threshold rule against examples, and against a reference that knows no state."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from services.perception.model import Comparison, Point, Rule, Text, Thresholds, Verdict, Warned, WarningState
from services.perception.model_alarm import Ended, Raised, Watch, step
from services.perception.model_judge import Judgement, Watching, judge

START = datetime(2017, 1, 1, tzinfo=UTC)
ABOVE = Thresholds(Comparison.ABOVE, 150, 115, timedelta(hours=3))
BELOW = Thresholds(Comparison.BELOW, -150, -115, timedelta(hours=3))

Timed = tuple[datetime, float]


def hourly(*values: float, start: int = 0) -> list[Timed]:
    return [(START + timedelta(hours=start + hour), value) for hour, value in enumerate(values)]


def run(limits: Thresholds, readings: Sequence[Timed]) -> list[Raised | Ended]:
    watch, events = Watch(), []
    for time, value in readings:
        watch, event = step(limits, watch, time, value)
        if event is not None:
            events.append(event)
    return events


def reference(limits: Thresholds, readings: Sequence[Timed]) -> list[Raised | Ended]:
    """What should happen, worked out for each reading by looking back over all that counted before it."""
    counted: list[Timed] = []
    for time, value in readings:
        if not counted or time > counted[-1][0]:
            counted.append((time, value))
    events: list[Raised | Ended] = []
    raised_since: int | None = None  # index of the first reading beyond the threshold, while a warning runs
    for index, (time, value) in enumerate(counted):
        if raised_since is not None:
            if limits.back(value):
                values = [each for _, each in counted[raised_since:index]]
                events.append(Ended(time, value, _extreme(limits, values)))
                raised_since = None
            continue
        first = index
        while first >= 0 and limits.beyond(counted[first][1]):
            first -= 1
        first += 1  # of the unbroken run up to this reading
        if first <= index and time - counted[first][0] >= limits.minimum_duration:
            run_of = [each for _, each in counted[first : index + 1]]
            events.append(Raised(counted[first][0], time, run_of[0], value, _extreme(limits, run_of), len(run_of)))
            raised_since = first
    return events


def _extreme(limits: Thresholds, values: Sequence[float]) -> float:
    return max(values) if limits.comparison is Comparison.ABOVE else min(values)


# ------------------------------------------------------------------------------------------------------------ examples


def test_a_warning_is_raised_after_the_minimum_duration_and_ended_when_the_value_is_back() -> None:
    events = run(ABOVE, hourly(100, 150, 160, 180, 170, 149, 130, 115, 90))
    assert events == [
        Raised(START + timedelta(hours=1), START + timedelta(hours=4), 150, 170, 180, 4),
        Ended(START + timedelta(hours=7), 115, 180),
    ]


def test_a_dip_below_the_threshold_starts_the_duration_anew() -> None:
    assert run(ABOVE, hourly(150, 160, 149, 150, 160, 170)) == []
    assert len(run(ABOVE, hourly(150, 160, 149, 150, 160, 170, 180))) == 1


def test_while_it_runs_a_warning_does_not_end_between_the_thresholds() -> None:
    assert len(run(ABOVE, hourly(150, 150, 150, 150, 116, 149, 116))) == 1


def test_equal_thresholds_neither_flutter_nor_stick() -> None:
    limits = replace(ABOVE, clear_at=150.0, minimum_duration=timedelta(0))
    events = run(limits, hourly(150, 150, 150, 149.9, 150))
    assert [type(event) for event in events] == [Raised, Ended, Raised]


def test_below_is_above_turned_upside_down() -> None:
    events = run(BELOW, hourly(-100, -150, -160, -180, -170, -149, -115))
    assert [type(event) for event in events] == [Raised, Ended]
    assert events[0].peak == -180


def test_late_and_repeated_readings_change_nothing() -> None:
    raised = hourly(150, 150, 150)
    late = [raised[2], (START - timedelta(hours=9), 10.0), (raised[1][0], 10.0)]
    events = run(ABOVE, [*raised, *late, *hourly(150, start=3)])
    assert events == run(ABOVE, hourly(150, 150, 150, 150))


# ---------------------------------------------------------------------------------------------------------- properties

values = st.sampled_from([90.0, 114.9, 115.0, 115.1, 149.9, 150.0, 150.1, 200.0])
times = st.integers(-5, 60).map(lambda quarter: START + timedelta(minutes=15 * quarter))
disordered = st.lists(st.tuples(times, values), max_size=60)
limits_any = st.builds(
    lambda clear_at, minutes: Thresholds(Comparison.ABOVE, 150, clear_at, timedelta(minutes=minutes)),
    st.sampled_from([115.0, 150.0]),
    st.sampled_from([0, 15, 40, 120]),
)


@given(limits_any, disordered)
@example(ABOVE, hourly(150, 150, 150, 150, 115, 150))
def test_the_rule_does_what_the_reference_does(limits: Thresholds, readings: list[Timed]) -> None:
    assert run(limits, readings) == reference(limits, readings)
    upside_down = Thresholds(Comparison.BELOW, -limits.raise_at, -limits.clear_at, limits.minimum_duration)
    negative = [(time, -value) for time, value in readings]
    assert run(upside_down, negative) == reference(upside_down, negative)


@given(limits_any, disordered)
def test_in_order_raising_and_ending_take_turns_and_times_grow(limits: Thresholds, readings: list[Timed]) -> None:
    events = run(limits, sorted(readings))
    assert all(isinstance(event, Raised if index % 2 == 0 else Ended) for index, event in enumerate(events))
    assert all(one.time < other.time for one, other in pairwise(events))


# ------------------------------------------------------------------------------------------------------------- batches

RULE = Rule("rules/heavy", Text(), "z", "pm25", ABOVE, 2, "eventTypes/air", disabled=False)


def warn(rule: Rule, event: Raised) -> Warned:
    return Warned(
        name=f"zones/z/warnings/{event.time.isoformat()}",
        zone="z",
        rule=rule.name,
        device="d",
        organisation="",
        indicator="pm25",
        level=rule.level,
        state=WarningState.RAISED,
        since=event.since,
        raised_at=event.time,
        ended_at=None,
        value=event.value,
        peak=event.peak,
        reason=Text(),
        inputs={},
        event_type=rule.event_type,
        verdict=Verdict.NONE,
        point=Point(1, 2),
    )


def batch(
    readings: Sequence[Timed],
    *,
    rules: Sequence[Rule] = (RULE,),
    before: Judgement | None = None,
    last: datetime | None,
) -> Judgement:
    watches: dict[str, Watching] = {one.rule: one for one in before.keep} if before else {}
    return judge(rules, watches, readings, last, warn)


@given(disordered.map(lambda readings: sorted(dict(readings).items())), st.lists(st.integers(1, 10), max_size=30))
def test_it_does_not_matter_how_readings_are_cut_into_batches(readings: list[Timed], cuts: list[int]) -> None:
    whole = batch(readings, last=None)
    events: list[Warned] = []
    current: Judgement | None = None
    peaks: dict[str, float] = {}
    last: datetime | None = None
    left = list(readings)
    while left:
        size = cuts.pop() if cuts else len(left)
        part, left = left[:size], left[size:]
        current = batch(part, before=current, last=last)
        events += current.events
        peaks |= {one.name: one.peak for one in (*current.raised, *current.ended, *current.peaks)}
        last = part[-1][0]
    # A running warning as raised, with the peak of the readings so far, is the same either way once it has ended.
    assert [(one.name, one.state, one.raised_at, one.ended_at) for one in events] == [
        (one.name, one.state, one.raised_at, one.ended_at) for one in whole.events
    ]
    assert peaks == {one.name: one.peak for one in (*whole.raised, *whole.ended, *whole.peaks)}
    if readings and current is not None:
        assert [one.watch for one in current.keep] == [one.watch for one in whole.keep]


def test_a_running_warning_is_judged_by_the_rule_as_it_was_when_raised() -> None:
    first = batch(hourly(150, 150, 150, 150), last=None)
    assert [one.state for one in first.events] == [WarningState.RAISED]
    changed = replace(RULE, thresholds=replace(ABOVE, raise_at=300.0, clear_at=200.0), revision=2)
    second = batch(hourly(160, start=4), rules=[changed], before=first, last=START + timedelta(hours=3))
    assert second.events == []
    gone = batch(hourly(110, start=5), rules=[], before=second, last=START + timedelta(hours=4))
    assert [(one.state, one.peak) for one in gone.events] == [(WarningState.ENDED, 160)]
    assert gone.forget == ["rules/heavy"]


def test_what_a_rule_had_begun_to_watch_is_forgotten_when_the_rule_changes() -> None:
    first = batch(hourly(150, 150, 150), last=None)
    assert [one.watch.readings for one in first.keep] == [3]
    changed = replace(RULE, revision=2)
    second = batch(hourly(150, start=3), rules=[changed], before=first, last=START + timedelta(hours=2))
    assert second.events == []
    assert [one.watch.readings for one in second.keep] == [1]
    disabled = batch(hourly(150, start=3), rules=[], before=first, last=START + timedelta(hours=2))
    assert (disabled.keep, disabled.forget) == ([], ["rules/heavy"])


def test_the_reading_that_ends_a_warning_is_not_judged_again_by_a_new_rule() -> None:
    first = batch(hourly(150, 150, 150, 150), last=None)
    lower = replace(RULE, thresholds=Thresholds(Comparison.ABOVE, 100, 90, timedelta(0)), revision=2)
    second = batch(hourly(110, 110, start=4), rules=[lower], before=first, last=START + timedelta(hours=3))
    assert [(one.state, one.raised_at) for one in second.events] == [
        (WarningState.ENDED, START + timedelta(hours=3)),
        (WarningState.RAISED, START + timedelta(hours=5)),
    ]


def test_a_higher_peak_of_a_running_warning_is_kept_without_an_event() -> None:
    first = batch(hourly(150, 150, 150, 150), last=None)
    second = batch(hourly(190, 180, start=4), before=first, last=START + timedelta(hours=3))
    assert (second.events, [one.peak for one in second.peaks]) == ([], [190])
