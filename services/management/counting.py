"""Folds the differences of the counters into sums, so that reading them stays fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.turns import every, in_batches
from services.management import store_counters

if TYPE_CHECKING:
    from libs.tx import Transactions

FOLD_INTERVAL_S = 5.0


class CounterFolder:
    """Background work that every replica may do at the same time. The counters are right without it, only slower."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def run(self) -> None:
        """Fold every FOLD_INTERVAL_S until cancelled."""
        await every(FOLD_INTERVAL_S, self.fold, failed="counters.fold_failed")

    async def fold(self) -> int:
        """Fold all that there is now, in bounded transactions, and return how many rows it was."""
        return await in_batches(
            self._transactions, lambda tx: store_counters.fold(tx.conn), full=store_counters.FOLD_BATCH_ROWS
        )
