"""What several of the tests begin with: a world without nodes, or two nodes that have joined."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from libs.clock import ManualClock
from libs.testing import MakeTransactions
from services.federation.tests.contracting import Two
from services.federation.tests.pairs import Pair, Partners, linked
from services.federation.tests.tiers import Tiers, three_tiers
from services.federation.tests.world import World, world


@pytest_asyncio.fixture
async def made(tmp_path: Path, transactions: MakeTransactions) -> AsyncIterator[World]:
    """A world on the machine's clock."""
    async with world(tmp_path, transactions) as found:
        yield found


@pytest_asyncio.fixture
async def pair(made: World) -> Pair:
    return await linked(made)


@pytest_asyncio.fixture
async def partners(made: World) -> Partners:
    """The partner has not called yet."""
    return Partners(made, *await made.city_and_partner())


@pytest.fixture
def present() -> ManualClock:
    """A clock for the test to move. TLS knows only the machine's time: it begins now."""
    return ManualClock(datetime.now(UTC))


@pytest_asyncio.fixture
async def timed(tmp_path: Path, transactions: MakeTransactions, present: ManualClock) -> AsyncIterator[World]:
    """A world on the clock `present`."""
    async with world(tmp_path, transactions, present) as found:
        yield found


@pytest_asyncio.fixture
async def apart(timed: World, present: ManualClock) -> Two:
    """Two partners that have joined and do not talk yet."""
    return Two(timed, *await timed.city_and_partner(), present)


@pytest_asyncio.fixture
async def two(apart: Two) -> Two:
    await apart.world.dial(apart.provider)
    return apart


@pytest_asyncio.fixture
async def tiers(timed: World, present: ManualClock) -> Tiers:
    return await three_tiers(timed, present)
