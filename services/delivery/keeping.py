"""Forgets which reporters were asked whether their request is solved."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from libs.turns import every, in_batches
from services.delivery import follow_ups_store

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx

# As long as management keeps what they answered.
KEPT_DAYS = 400
FORGET_INTERVAL_S = 3600.0
FORGET_BATCH_ROWS = 5_000


class FormKeeper:
    """Background work that every replica may do at the same time."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def run(self) -> None:
        """Forget every FORGET_INTERVAL_S until cancelled."""
        await every(FORGET_INTERVAL_S, self.forget, failed="delivery.follow_ups_not_forgotten")

    async def forget(self) -> int:
        """Forget the forms that were over KEPT_DAYS ago, and return how many that was."""

        async def work(tx: Tx) -> int:
            over_before = tx.now - timedelta(days=KEPT_DAYS)
            gone = await follow_ups_store.forget(tx.conn, over_before, FORGET_BATCH_ROWS)
            if gone:
                tx.audit("delivery.follow_ups.forget", "followUps", count=gone)
            return gone

        return await in_batches(self._transactions, work, full=FORGET_BATCH_ROWS)
