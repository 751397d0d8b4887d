"""Clocks of peers that differ are an alarm at both ends, and no alarm any more when they do not."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from libs.clock import ManualClock
from libs.testing import MakeTransactions
from quintet.federation.v1 import facts_pb2, link_pb2
from services.federation import alarms
from services.federation.clocks import CLOCK_SKEW, SKEW_CLEAR, SKEW_MAX, Clocks
from services.federation.tests.world import MIGRATIONS

SECOND = timedelta(seconds=1)


class Measured:
    """One node that hears pings of its peer, whose clock goes after this node's by `skew`."""

    def __init__(self, transactions: Any, clock: ManualClock) -> None:
        self.transactions = transactions
        self.clock = clock
        self.clocks = Clocks(transactions)

    async def ping(self, skew: timedelta) -> list[tuple[str, str]]:
        """Hear a ping; return what is set."""
        frame = link_pb2.Frame()
        frame.ping.time.FromDatetime(self.clock.now() + skew)
        session: Any = SimpleNamespace(peer="sf-d10")
        await self.clocks.heard(session, frame)
        return [(each.name, each.peer) for each in await self.transactions.read(alarms.all_set)]


@pytest.fixture
async def node(transactions: MakeTransactions, clock: ManualClock) -> Measured:
    return Measured(await transactions("federation", MIGRATIONS), clock)


@pytest.mark.parametrize("way", [1, -1])
async def test_a_clock_that_differs_is_an_alarm_until_it_is_right_again(node: Measured, way: int) -> None:
    alarmed = [(CLOCK_SKEW, "sf-d10")]
    assert await node.ping(way * SKEW_MAX) == []
    assert await node.ping(way * (SKEW_MAX + SECOND)) == alarmed
    assert await node.ping(way * (SKEW_CLEAR + SECOND)) == alarmed  # not on and off at the limit
    assert await node.ping(way * SKEW_CLEAR) == []
    rows = await node.transactions.read(lambda conn: conn.fetch("SELECT fact FROM outbox ORDER BY id"))
    kinds = (facts_pb2.AlarmRaised, facts_pb2.AlarmCleared)
    assert len(rows) == len(kinds)
    for row, kind in zip(rows, kinds, strict=True):
        assert kind.DESCRIPTOR.full_name.encode() in bytes(row["fact"])


async def test_an_alarm_of_an_earlier_run_is_cleared(node: Measured) -> None:
    await node.ping(SKEW_MAX + SECOND)
    node.clocks = Clocks(node.transactions)
    assert await node.ping(timedelta(0)) == []
