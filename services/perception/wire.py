"""Between the messages of perception's proto and its model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from libs import names
from quintet.common.v1.common_pb2 import Explanation, LocalText
from quintet.common.v1.common_pb2 import Point as PointMessage
from quintet.perception.v1 import perception_pb2 as pb
from services.perception.model import (
    Comparison,
    Device,
    DeviceModel,
    Indicator,
    Outcome,
    Point,
    Reading,
    Rule,
    Text,
    Thresholds,
    Warned,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.perception.store_readings import Stored

DEVICE = "zones/{zone}/devices/{device}"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# -------------------------------------------------------------------------------------------------------------- values


def time_of(stamp: Timestamp) -> datetime:
    """Return the time in UTC, cut to the microsecond."""
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def stamp_of(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def text_of(message: LocalText) -> Text:
    return Text(message.zh, message.en)


def text_message(text: Text) -> LocalText | None:
    """Return the text; None for an empty one, which is left unset as whoever wrote it had it."""
    return LocalText(zh=text.zh, en=text.en) if text != Text() else None


def _point_message(point: Point | None) -> PointMessage | None:
    return None if point is None else PointMessage(latitude=point.latitude, longitude=point.longitude)


# ------------------------------------------------------------------------------------------------------- device models


def model_of(message: pb.DeviceModel) -> DeviceModel:
    return DeviceModel(
        message.name,
        text_of(message.title),
        tuple(
            Indicator(
                one.code,
                text_of(one.title),
                one.unit,
                one.minimum if one.HasField("minimum") else None,
                one.maximum if one.HasField("maximum") else None,
            )
            for one in message.indicators
        ),
    )


def model_message(model: DeviceModel) -> pb.DeviceModel:
    return pb.DeviceModel(
        name=model.name,
        title=text_message(model.title),
        indicators=[
            pb.Indicator(
                code=one.code,
                title=text_message(one.title),
                unit=one.unit,
                minimum=one.minimum,
                maximum=one.maximum,
            )
            for one in model.indicators
        ],
    )


# ------------------------------------------------------------------------------------------------------------- devices


def device_of(message: pb.Device) -> Device:
    """Return the device; the point (0, 0) means that its place is not known."""
    parts = names.parse(message.name, DEVICE, field="device.name")
    point = Point(message.point.latitude, message.point.longitude)
    return Device(
        name=message.name,
        zone=parts["zone"],
        id=parts["device"],
        model=message.model,
        title=text_of(message.title),
        point=None if point == Point(0, 0) else point,
        organisation=message.organisation,
    )


def device_message(device: Device) -> pb.Device:
    return pb.Device(
        name=device.name,
        model=device.model,
        title=text_message(device.title),
        point=_point_message(device.point),
        organisation=device.organisation,
        last_seen=stamp_of(device.last_seen) if device.last_seen else None,
    )


# ------------------------------------------------------------------------------------------------------------ readings


def readings_of(messages: Iterable[pb.Reading]) -> list[Reading]:
    return [Reading(one.device, one.indicator, time_of(one.time), one.value) for one in messages]


def reading_message(device: str, indicator: str, stored: Stored) -> pb.Reading:
    return pb.Reading(
        device=device,
        indicator=indicator,
        time=stamp_of(stored.time),
        value=stored.value,
        quality=pb.QUALITY_SUSPECT if stored.suspect else pb.QUALITY_GOOD,
    )


def refused_messages(outcome: Outcome) -> list[pb.RefusedReading]:
    return [pb.RefusedReading(index=one.index, field=one.field, reason=one.rule) for one in outcome.refused]


# --------------------------------------------------------------------------------------------------------------- rules


def rule_of(message: pb.Rule) -> Rule:
    return Rule(
        name=message.name,
        title=text_of(message.title),
        zone=message.zone,
        indicator=message.indicator,
        thresholds=Thresholds(
            Comparison(message.comparison),
            message.raise_at,
            message.clear_at,
            timedelta(seconds=message.minimum_duration_s),
        ),
        level=message.level,
        event_type=message.event_type,
        disabled=message.disabled,
    )


def rule_message(rule: Rule) -> pb.Rule:
    return pb.Rule(
        name=rule.name,
        title=text_message(rule.title),
        zone=rule.zone,
        indicator=rule.indicator,
        comparison=pb.Comparison.ValueType(rule.thresholds.comparison),
        raise_at=rule.thresholds.raise_at,
        clear_at=rule.thresholds.clear_at,
        minimum_duration_s=round(rule.thresholds.minimum_duration.total_seconds()),
        level=pb.Level.ValueType(rule.level),
        event_type=rule.event_type,
        disabled=rule.disabled,
        true_alarms=rule.true_alarms,
        false_alarms=rule.false_alarms,
    )


# ------------------------------------------------------------------------------------------------------------ warnings


def warning_message(warning: Warned) -> pb.Warning:
    return pb.Warning(
        name=warning.name,
        rule=warning.rule,
        device=warning.device,
        indicator=warning.indicator,
        level=pb.Level.ValueType(warning.level),
        state=pb.WarningState.ValueType(warning.state),
        since=stamp_of(warning.since),
        raised_at=stamp_of(warning.raised_at),
        ended_at=stamp_of(warning.ended_at) if warning.ended_at else None,
        value=warning.value,
        peak=warning.peak,
        reason=Explanation(rule=warning.rule, text=text_message(warning.reason), inputs=warning.inputs),
        event_type=warning.event_type,
        verdict=pb.Verdict.ValueType(warning.verdict),
        point=_point_message(warning.point),
    )
