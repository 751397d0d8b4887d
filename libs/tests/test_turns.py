import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog.testing

from libs.errors import Away, NotFound, Reason
from libs.turns import every, in_batches
from libs.tx import Tx

AWAY = Away(Reason.DEPENDENCY_AWAY, "the database is away")


async def test_a_turn_that_fails_is_made_up_for_by_the_next() -> None:
    taken = asyncio.Event()
    outcomes: list[Exception | None] = [AWAY, None]

    async def turn() -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome
        taken.set()
        await asyncio.Event().wait()

    with structlog.testing.capture_logs() as logs:
        work = asyncio.create_task(every(0, turn, failed="things.turn_failed", bears=Away))
        async with asyncio.timeout(5):
            await taken.wait()
    assert [entry["event"] for entry in logs] == ["things.turn_failed"]
    work.cancel()
    await asyncio.wait([work])


async def test_what_it_does_not_bear_passes() -> None:
    async def turn() -> None:
        raise NotFound(Reason.EVENT_NOT_FOUND, "it is not there")

    with pytest.raises(NotFound):
        await every(0, turn, failed="things.turn_failed", bears=Away)


@pytest.mark.parametrize(
    ("counts", "batches_max", "done"), [([5, 5, 2, 5], None, 12), ([5, 5, 5, 5], 2, 10), ([0], None, 0)]
)
async def test_batches_go_on_while_they_are_full(counts: list[int], batches_max: int | None, done: int) -> None:
    class Each:
        """Runs the work of one transaction after another."""

        async def run(self, work: Callable[[Any], Awaitable[int]]) -> int:
            return await work(None)

    left = list(counts)

    async def work(_tx: Tx) -> int:
        return left.pop(0)

    transactions: Any = Each()
    assert await in_batches(transactions, work, full=5, batches_max=batches_max) == done
