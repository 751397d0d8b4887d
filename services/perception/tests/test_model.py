from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Invalid, WrongState
from libs.zones import ZoneRecord, ZoneTree
from services.perception.model import (
    Comparison,
    DeviceModel,
    Indicator,
    Reading,
    Rule,
    Text,
    Thresholds,
    check_model,
    check_rule,
    check_zone,
    fault_of,
    is_suspect,
)
from services.perception.model_alarm import Raised
from services.perception.model_days import day_of, days_to_state, span_of
from services.perception.texts import duration, why_raised

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
BEIJING = ZoneInfo("Asia/Shanghai")
SAN_FRANCISCO = ZoneInfo("America/Los_Angeles")


def rule(comparison: Comparison = Comparison.ABOVE, *, raise_at: float = 150, clear_at: float = 115) -> Rule:
    limits = Thresholds(comparison, raise_at, clear_at, timedelta(hours=3))
    return Rule("rules/heavy", Text("重度", "Heavy pollution"), "cn-110000", "pm25", limits, 2, "", disabled=False)


def test_contradictions_of_a_model_are_named_all_at_once() -> None:
    model = DeviceModel(
        "deviceModels/air",
        Text(),
        (
            Indicator("pm25", Text(), "ug/m3", 10, 5),
            Indicator("pm25", Text(), "ug/m3"),
            Indicator("o3", Text(), "1", 0),
        ),
    )
    with pytest.raises(Invalid) as caught:
        check_model(model)
    assert [field for field, _ in caught.value.violations] == [
        "deviceModel.indicators[0].minimum",
        "deviceModel.indicators[1].code",
    ]


@pytest.mark.parametrize(
    ("comparison", "raise_at", "clear_at", "good"),
    [
        (Comparison.ABOVE, 150, 115, True),
        (Comparison.ABOVE, 150, 150, True),
        (Comparison.ABOVE, 150, 151, False),
        (Comparison.BELOW, 5, 8, True),
        (Comparison.BELOW, 5, 4.9, False),
    ],
)
def test_a_rule_clears_on_the_side_where_it_does_not_raise(
    comparison: Comparison, raise_at: float, clear_at: float, good: bool
) -> None:
    wanted = rule(comparison, raise_at=raise_at, clear_at=clear_at)
    if good:
        check_rule(wanted, known_indicator=True)
    else:
        with pytest.raises(Invalid, match=r"rule\.clearAt"):
            check_rule(wanted, known_indicator=True)


def test_a_rule_over_what_nothing_measures_is_refused() -> None:
    with pytest.raises(Invalid, match=r"rule\.indicator: no device model measures pm25"):
        check_rule(rule(), known_indicator=False)


def test_zones_must_be_the_nodes_own_and_not_delegated() -> None:
    tree = ZoneTree(
        [ZoneRecord("us-ca-sf"), ZoneRecord("us-ca-sf-d10", parent="us-ca-sf", delegated_to="sf-d10")], root="us-ca-sf"
    )
    check_zone(tree, "us-ca-sf", "rule.zone")
    with pytest.raises(Invalid, match=r"rule\.zone: cn-110000"):
        check_zone(tree, "cn-110000", "rule.zone")
    with pytest.raises(WrongState, match="sf-d10"):
        check_zone(tree, "us-ca-sf-d10", "rule.zone")


def test_readings_that_are_not_fit() -> None:
    def fault(indicator: str = "pm25", value: float = 1, ahead_s: float = 0) -> tuple[str, str] | None:
        return fault_of(Reading("d", indicator, NOW + timedelta(seconds=ahead_s), value), ("pm25",), NOW)

    assert fault() is None
    assert fault(ahead_s=299) is None
    assert (fault(ahead_s=301) or ("",))[0] == "time"
    assert (fault("o3") or ("",))[0] == "indicator"
    for value in (float("nan"), float("inf"), -1.1e100):
        assert (fault(value=value) or ("",))[0] == "value"


def test_plausible_values() -> None:
    assert not is_suspect(5, None, None)
    assert not is_suspect(0, 0, 1000)
    assert is_suspect(-1, 0, None)
    assert is_suspect(1001, None, 1000)


# ---------------------------------------------------------------------------------------------------------------- days


def test_a_day_of_the_node_is_not_a_day_of_utc() -> None:
    assert day_of(datetime(2017, 1, 1, 16, tzinfo=UTC), BEIJING) == date(2017, 1, 2)
    assert span_of(date(2017, 1, 2), BEIJING) == (
        datetime(2017, 1, 1, 16, tzinfo=UTC),
        datetime(2017, 1, 2, 16, tzinfo=UTC),
    )


def test_a_day_may_last_23_or_25_hours() -> None:
    spring, autumn = span_of(date(2026, 3, 8), SAN_FRANCISCO), span_of(date(2026, 11, 1), SAN_FRANCISCO)
    assert spring[1] - spring[0] == timedelta(hours=23)
    assert autumn[1] - autumn[0] == timedelta(hours=25)


@given(
    st.integers(-600_000_000, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.sampled_from(["Asia/Shanghai", "America/Los_Angeles", "America/Sao_Paulo", "Asia/Kolkata", "Pacific/Apia"]),
)
def test_every_moment_lies_in_the_span_of_its_day(time: datetime, name: str) -> None:
    timezone = ZoneInfo(name)
    start, stop = span_of(day_of(time, timezone), timezone)
    assert start <= time < stop


def test_a_day_is_stated_when_a_later_one_begins_and_again_when_it_changes() -> None:
    first, second, third = date(2017, 1, 1), date(2017, 1, 2), date(2017, 1, 3)
    assert days_to_state([first], None, first) == []
    assert days_to_state([first, second], None, second) == [first]
    assert days_to_state([third], second, third) == [second]
    assert days_to_state([second, first], second, second) == [first]
    assert days_to_state([], second, third) == [second]
    assert days_to_state([], None, None) == []


# --------------------------------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("seconds", "zh", "en"),
    [
        (10800, "3小时", "3 h"),
        (5400, "90分钟", "90 min"),
        (61, "61秒", "61 s"),
        (0, "0秒", "0 s"),
        (0.5, "0.5秒", "0.5 s"),
    ],
)
def test_durations_are_said_in_whole_units(seconds: float, zh: str, en: str) -> None:
    assert duration(timedelta(seconds=seconds)) == Text(zh, en)


def test_the_reason_of_a_warning_holds_the_rule_and_what_it_saw_in_both_languages() -> None:
    event = Raised(NOW - timedelta(hours=3), NOW, first=151.25, value=180, peak=204, readings=4)
    reason, inputs = why_raised(
        rule(), event, device=Text("东四", "Dongsi"), indicator=Text("PM2.5", "PM2.5"), unit="ug/m3", timezone=BEIJING
    )
    assert reason.en == (
        "PM2.5 at Dongsi stayed at or above 150 ug/m3 for 3 h, from 2026-01-05 13:00:00 to 2026-01-05 16:00:00 "
        "(Asia/Shanghai): first 151.25, last 180, most extreme 204 ug/m3, in 4 readings. "
        'Rule "Heavy pollution" raises after 3 h and clears when the value falls to 115 ug/m3 or below.'
    )
    assert all(
        part in reason.zh for part in ("东四的PM2.5", "持续3小时不低于150 ug/m3", "规则“重度”", "回落至115 ug/m3或以下")
    )
    assert inputs == {
        "comparison": "ABOVE",
        "raise_at": "150",
        "clear_at": "115",
        "minimum_duration_s": "10800",
        "since": "2026-01-05T05:00:00+00:00",
        "raised_at": "2026-01-05T08:00:00+00:00",
        "duration_s": "10800",
        "first": "151.25",
        "value": "180",
        "peak": "204",
        "readings": "4",
        "unit": "ug/m3",
    }


def test_a_rule_without_a_duration_says_so_and_braces_in_names_do_no_harm() -> None:
    limits = Thresholds(Comparison.BELOW, 2, 3, timedelta(0))
    wanted = Rule("rules/dry", Text("", "{time} {0}"), "z", "level", limits, 2, "", disabled=False)
    event = Raised(NOW, NOW, first=1.5, value=1.5, peak=1.5, readings=1)
    reason, _ = why_raised(
        wanted, event, device=Text("井", "Well"), indicator=Text("水位", "Level"), unit="m", timezone=BEIJING
    )
    assert reason.en == (
        "Level at Well was 1.5 m on 2026-01-05 16:00:00 (Asia/Shanghai), at or below 2 m. "
        'Rule "{time} {0}" raises at once and clears when the value rises to 3 m or above.'
    )
    assert "规则“rules/dry”" in reason.zh
