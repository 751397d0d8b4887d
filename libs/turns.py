"""Background work in turns: all that is due now, then a pause."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from libs.errors import DomainError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from libs.tx import Transactions, Tx

log = structlog.get_logger()


async def every(
    interval_s: float, turn: Callable[[], Awaitable[object]], *, failed: str, bears: type[DomainError] = DomainError
) -> None:
    """Take a turn every `interval_s` seconds until cancelled.

    One that fails with an error that it `bears`, as when the database is away, is logged as `failed` and made up for by
    the next. What else it raises passes: the supervisor starts the work again.
    """
    while True:
        try:
            await turn()
        except bears as error:
            log.warning(failed, error=str(error))
        await asyncio.sleep(interval_s)


async def in_batches(
    transactions: Transactions, work: Callable[[Tx], Awaitable[int]], *, full: int, batches_max: int | None = None
) -> int:
    """Run `work`, each time in a transaction of its own, until it did less than `full` things, or `batches_max` times.

    Returns how many things that were.
    """
    done = batches = 0
    while batches_max is None or batches < batches_max:
        count = await transactions.run(work)
        done += count
        batches += 1
        if count < full:
            break
    return done
