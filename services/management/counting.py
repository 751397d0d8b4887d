"""Folds the differences of the counters into sums, so that reading them stays fast."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from libs.errors import DomainError
from services.management import store_counters

if TYPE_CHECKING:
    from libs.tx import Transactions

FOLD_INTERVAL_S = 5.0

log = structlog.get_logger()


class CounterFolder:
    """Background work that every replica may do at the same time. The counters are right without it, only slower."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def run(self) -> None:
        """Fold every FOLD_INTERVAL_S until cancelled."""
        while True:
            try:
                await self.fold()
            except DomainError as error:
                log.warning("counters.fold_failed", error=str(error))
            await asyncio.sleep(FOLD_INTERVAL_S)

    async def fold(self) -> int:
        """Fold all that there is now, in bounded transactions, and return how many rows it was."""
        total = 0
        rows = store_counters.FOLD_BATCH_ROWS
        while rows >= store_counters.FOLD_BATCH_ROWS:
            rows = await self._transactions.run(lambda tx: store_counters.fold(tx.conn))
            total += rows
        return total
