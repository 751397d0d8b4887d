"""Forgets the changes of events that no stream can ask for any more."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from libs.turns import every, in_batches
from services.management.worklists import store_changes

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx

# Longer than anybody needs to come back after an interruption; who is away longer reads the list again.
CHANGES_KEEP_S = 900.0
MARK_INTERVAL_S = 60.0


class ChangeKeeper:
    """Background work that every replica may do at the same time."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def run(self) -> None:
        """Mark the time and forget every MARK_INTERVAL_S until cancelled."""
        await every(MARK_INTERVAL_S, self.keep, failed="worklists.changes_not_forgotten")

    async def keep(self) -> int:
        """Mark the present moment, forget what is older than CHANGES_KEEP_S, return how many changes that was."""

        async def work(tx: Tx) -> int:
            await store_changes.mark(tx.conn, tx.now)
            return await store_changes.forget(tx.conn, tx.now - timedelta(seconds=CHANGES_KEEP_S))

        return await in_batches(self._transactions, work, full=store_changes.FORGET_BATCH_ROWS)
