"""What perception states. It consumes no facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.common.v1.common_pb2 import Point as PointMessage
from quintet.perception.v1.facts_pb2 import DailyAggregateComputed, WarningEnded, WarningRaised
from services.perception.model import WarningState
from services.perception.wire import stamp_of, text_message, warning_message

if TYPE_CHECKING:
    from libs.tx import Tx
    from services.perception.model import Warned
    from services.perception.store_readings import Aggregate, Series


def state_warning(tx: Tx, warning: Warned) -> None:
    """State that a warning was raised, or has ended. The facts of one warning keep their order."""
    message = warning_message(warning)
    raised = warning.state is WarningState.RAISED
    tx.publish(
        WarningRaised(warning=message) if raised else WarningEnded(warning=message),
        zone=warning.zone,
        key=warning.name,
    )


def state_day(tx: Tx, series: Series, aggregate: Aggregate) -> None:
    """State what a day came to. The facts of one device keep their order."""
    message = DailyAggregateComputed(
        device=series.device,
        title=text_message(series.title),
        indicator=series.indicator,
        unit=series.unit,
        day=aggregate.day.isoformat(),
        count=aggregate.count,
        mean=aggregate.mean,
        minimum=aggregate.minimum,
        maximum=aggregate.maximum,
        organisation=series.organisation,
        revision=aggregate.revision,
        last_reading=stamp_of(aggregate.last),
    )
    if series.point is not None:
        message.point.CopyFrom(PointMessage(latitude=series.point.latitude, longitude=series.point.longitude))
    tx.publish(message, zone=series.zone, key=series.device)
