"""The forecast of load over a real channel and a real database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Forbidden, Invalid, WrongState
from quintet.management.v1 import analysis_pb2 as pb
from services.management.analysis.tests.happened import Happened, put
from services.management.convert import time_of

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

NOW = datetime(2026, 1, 5, 8, 20, tzinfo=UTC)
TODAY = NOW.replace(hour=0, minute=0)


async def asked(node: Node, subject: str = "people/leader", **more: Any) -> pb.ForecastLoadResponse:
    request = pb.ForecastLoadRequest(parent="zones/us-ca-sf", **more)
    response: pb.ForecastLoadResponse = await node.call("ForecastLoad", request, subject)
    return response


def busy_mornings(weeks: int) -> list[Happened]:
    """Between 8 and 16 hours 6 events a day, else 2."""
    random = Random(8)
    return [
        Happened(
            TODAY - timedelta(days=day) + timedelta(hours=8 * (place % 3 if place < 6 else 1) + random.random() * 8)
        )
        for day in range(1, weeks * 7 + 1)
        for place in range(10)
    ]


async def test_busy_shifts_are_expected_to_be_busy_and_the_error_is_told(city: Node) -> None:
    city.clock.set(NOW)
    await put(city, busy_mornings(12))
    found = await asked(city)
    assert (len(found.shifts), found.history_weeks, found.tested_shifts) == (21, 12, 84)
    assert time_of(found.shifts[0], "start") == TODAY
    assert time_of(found.shifts[-1], "end") == TODAY + timedelta(days=7)
    for place, shift in enumerate(found.shifts):
        assert shift.low <= shift.expected <= shift.high
        assert shift.expected == pytest.approx(6 if place % 3 == 1 else 2, abs=0.5)
    assert "12 weeks" in found.explanation.text.en
    assert "由12周历史" in found.explanation.text.zh
    assert time_of(found.events, "occurred_from") == TODAY - timedelta(weeks=12)
    nights = await asked(city, shift_starts_h=[6, 22])
    assert time_of(nights.shifts[1], "end") == TODAY + timedelta(hours=30)


async def test_without_history_or_with_odd_shifts_there_is_no_forecast(city: Node) -> None:
    city.clock.set(NOW)
    await put(city, busy_mornings(4))
    with pytest.raises(WrongState):
        await asked(city)
    with pytest.raises(Invalid) as caught:
        await asked(city, shift_starts_h=[8, 8])
    assert caught.value.violations[0][0] == "shiftStartsH"
    with pytest.raises(Forbidden):
        await asked(city, "people/handler.works")
