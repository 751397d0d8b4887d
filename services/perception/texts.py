"""What perception says to people, in Simplified Chinese and English."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.perception.model import Comparison, Rule, Text

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from zoneinfo import ZoneInfo

    from services.perception.model_alarm import Raised

_SIDES = {
    Comparison.ABOVE: Text(zh="不低于", en="at or above"),
    Comparison.BELOW: Text(zh="不高于", en="at or below"),
}
_RETURNS = {
    Comparison.ABOVE: Text(zh="回落至{clear_at} {unit}或以下", en="falls to {clear_at} {unit} or below"),
    Comparison.BELOW: Text(zh="回升至{clear_at} {unit}或以上", en="rises to {clear_at} {unit} or above"),
}
_AT_ONCE = Text(
    zh="{device}的{indicator}于{time}（{timezone}）为{value} {unit}，{side}{raise_at} {unit}。"
    "规则“{rule}”：达到阈值立即告警，{returns}时解除。",
    en="{indicator} at {device} was {value} {unit} on {time} ({timezone}), {side} {raise_at} {unit}. "
    'Rule "{rule}" raises at once and clears when the value {returns}.',
)
_LASTING = Text(
    zh="{device}的{indicator}自{since}至{time}（{timezone}）持续{duration}{side}{raise_at} {unit}："
    "首值{first}，末值{value}，极值{peak} {unit}，共{readings}次读数。"
    "规则“{rule}”：持续{minimum}即告警，{returns}时解除。",
    en="{indicator} at {device} stayed {side} {raise_at} {unit} for {duration}, from {since} to {time} ({timezone}): "
    "first {first}, last {value}, most extreme {peak} {unit}, in {readings} readings. "
    'Rule "{rule}" raises after {minimum} and clears when the value {returns}.',
)
_UNITS = ((3600, Text(zh="小时", en=" h")), (60, Text(zh="分钟", en=" min")), (1, Text(zh="秒", en=" s")))


def why_raised(
    rule: Rule, event: Raised, *, device: Text, indicator: Text, unit: str, timezone: ZoneInfo
) -> tuple[Text, dict[str, str]]:
    """Return the reason of a warning in words, in the node's local time, and the values that the rule saw by name."""
    limits = rule.thresholds
    numbers = {
        "raise_at": number(limits.raise_at),
        "clear_at": number(limits.clear_at),
        "first": number(event.first),
        "value": number(event.value),
        "peak": number(event.peak),
        "readings": str(event.readings),
    }
    words = {
        **numbers,
        "unit": unit,
        "since": _moment(event.since, timezone),
        "time": _moment(event.time, timezone),
        "timezone": timezone.key,
    }
    template = _LASTING if limits.minimum_duration else _AT_ONCE

    def said(language: str) -> str:
        returns = getattr(_RETURNS[limits.comparison], language).format(**words)
        return str(getattr(template, language)).format(
            **words,
            returns=returns,
            side=getattr(_SIDES[limits.comparison], language),
            device=getattr(device, language),
            indicator=getattr(indicator, language),
            rule=getattr(rule.title, language) or rule.name,
            duration=getattr(duration(event.time - event.since), language),
            minimum=getattr(duration(limits.minimum_duration), language),
        )

    inputs = {
        **numbers,
        "unit": unit,
        "comparison": limits.comparison.name,
        "minimum_duration_s": number(limits.minimum_duration.total_seconds()),
        "since": event.since.isoformat(),
        "raised_at": event.time.isoformat(),
        "duration_s": number((event.time - event.since).total_seconds()),
    }
    return Text(zh=said("zh"), en=said("en")), inputs


def duration(length: timedelta) -> Text:
    """Return a length of time in the largest unit that says it in whole numbers: 90 min, not 1.5 h."""
    seconds = length.total_seconds()
    size, unit = next((pair for pair in _UNITS if seconds and seconds % pair[0] == 0), _UNITS[-1])
    amount = number(seconds / size)
    return Text(zh=amount + unit.zh, en=amount + unit.en)


def number(value: float) -> str:
    """Return a number without needless digits."""
    return f"{value:.10g}"


def _moment(time: datetime, timezone: ZoneInfo) -> str:
    return time.astimezone(timezone).strftime("%Y-%m-%d %H:%M:%S")
