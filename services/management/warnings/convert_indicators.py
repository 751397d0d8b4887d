"""Indicators as protos, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.common.v1.common_pb2 import LocalText
from quintet.management.v1 import indicators_pb2 as pb
from quintet.management.v1.warnings_pb2 import WarningCategory
from quintet.perception.v1.perception_pb2 import LEVEL_I, LEVEL_II, LEVEL_III, LEVEL_IV
from services.management.convert import time_pb
from services.management.warnings.model_indicator import (
    Aggregation,
    Condition,
    Indicator,
    Said,
    Selector,
    Threshold,
    prepared,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

LEVELS = {int(level): level for level in (LEVEL_I, LEVEL_II, LEVEL_III, LEVEL_IV)}
# The kinds of danger in the words of CAP 1.2; the spelling of the standard counts.
CATEGORIES = {
    number: name if name == "CBRNE" else name.capitalize()
    for name, number in ((key.removeprefix("WARNING_CATEGORY_"), value) for key, value in WarningCategory.items())
}
CATEGORY_NUMBERS = {word: number for number, word in CATEGORIES.items()}
_PREFIX = "AGGREGATION_"


def said_of(text: LocalText) -> Said:
    return Said(text.zh.strip(), text.en.strip())


def said_pb(said: Said) -> LocalText:
    return LocalText(zh=said.zh, en=said.en)


def indicator_of(wanted: pb.Indicator) -> Indicator:
    """Read an indicator as somebody wants it; its version and since when it counts are the store's affair."""
    return prepared(
        Indicator(
            name=wanted.name,
            title=said_of(wanted.title),
            unit=said_of(wanted.unit),
            facts=_selectors(wanted.facts),
            aggregation=Aggregation(pb.Aggregation.Name(wanted.aggregation).removeprefix(_PREFIX).lower()),
            field=wanted.field,
            window_minutes=wanted.window_minutes,
            step_minutes=wanted.step_minutes,
            ends=_selectors(wanted.ends),
            due_field=wanted.due_field,
            thresholds=tuple(_threshold(each) for each in wanted.thresholds),
        )
    )


def _selectors(given: Iterable[pb.FactSelector]) -> tuple[Selector, ...]:
    return tuple(Selector(each.type, tuple(_condition(one) for one in each.where)) for each in given)


def _condition(given: pb.FactCondition) -> Condition:
    test = given.WhichOneof("test")
    return Condition(
        given.field,
        equals=given.equals if test == "equals" else None,
        is_set=given.set if test == "set" else None,
    )


def _threshold(given: pb.Threshold) -> Threshold:
    return Threshold(
        level=int(given.level),
        at_least=given.comparator == pb.COMPARATOR_AT_LEAST,
        value=given.value,
        clear_value=given.clear_value,
        minimum_minutes=given.minimum_minutes,
        zones=tuple(given.zones),
        category=CATEGORIES[given.category],
        publishes=given.publishes,
        headline=said_of(given.headline),
        instruction=said_of(given.instruction),
    )


def indicator_pb(indicator: Indicator) -> pb.Indicator:
    return pb.Indicator(
        name=indicator.name,
        title=said_pb(indicator.title),
        unit=said_pb(indicator.unit),
        facts=[_selector_pb(each) for each in indicator.facts],
        aggregation=pb.Aggregation.Value(_PREFIX + indicator.aggregation.upper()),
        field=indicator.field,
        window_minutes=indicator.window_minutes,
        step_minutes=indicator.step_minutes,
        ends=[_selector_pb(each) for each in indicator.ends],
        due_field=indicator.due_field,
        thresholds=[_threshold_pb(each) for each in indicator.thresholds],
        version=indicator.version,
        counted_since=time_pb(indicator.counted_since),
    )


def _selector_pb(selector: Selector) -> pb.FactSelector:
    return pb.FactSelector(type=selector.type, where=[_condition_pb(each) for each in selector.where])


def _condition_pb(condition: Condition) -> pb.FactCondition:
    found = pb.FactCondition(field=condition.field)
    if condition.equals is not None:
        found.equals = condition.equals
    elif condition.is_set is not None:
        found.set = condition.is_set
    return found


def _threshold_pb(threshold: Threshold) -> pb.Threshold:
    return pb.Threshold(
        level=LEVELS[threshold.level],
        comparator=pb.COMPARATOR_AT_LEAST if threshold.at_least else pb.COMPARATOR_AT_MOST,
        value=threshold.value,
        clear_value=threshold.clear_value,
        minimum_minutes=threshold.minimum_minutes,
        zones=threshold.zones,
        category=CATEGORY_NUMBERS[threshold.category],
        publishes=threshold.publishes,
        headline=said_pb(threshold.headline),
        instruction=said_pb(threshold.instruction),
    )
