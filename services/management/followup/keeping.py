"""Ends calls that nobody makes, and forgets what was kept long enough: what somebody said is about a person."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from libs.turns import every, in_batches
from services.management.followup import store
from services.management.followup.facts import keep
from services.management.followup.model import KEPT_DAYS, MADE_WITHIN_DAYS, not_made

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx

KEEP_INTERVAL_S = 3600.0
# Each is stated and audited on its own, and a transaction holds only so much of that.
END_BATCH_ROWS = 200
FORGET_BATCH_ROWS = 1_000


class FollowUpKeeper:
    """Background work that every replica may do at the same time."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def run(self) -> None:
        """End and forget every KEEP_INTERVAL_S until cancelled."""
        await every(KEEP_INTERVAL_S, self._turn, failed="follow_ups.not_kept")

    async def _turn(self) -> None:
        await self.end_unmade()
        await self.forget()

    async def end_unmade(self) -> int:
        """End the calls that nobody has made MADE_WITHIN_DAYS after their time, and return how many that was."""
        node = self._transactions.node

        async def work(tx: Tx) -> int:
            due_before = tx.now - timedelta(days=MADE_WITHIN_DAYS)
            unmade = await store.lock_unmade(tx.conn, node, due_before, tx.now, END_BATCH_ROWS)
            for found in unmade:
                await keep(tx, not_made(found, tx.now))
            return len(unmade)

        return await in_batches(self._transactions, work, full=END_BATCH_ROWS)

    async def forget(self) -> int:
        """Forget what was over KEPT_DAYS ago but for its counts, and return how many follow-ups that was."""

        async def work(tx: Tx) -> int:
            gone = await store.forget(tx.conn, tx.now - timedelta(days=KEPT_DAYS), FORGET_BATCH_ROWS)
            if gone:
                tx.audit("management.follow_ups.forget", "followUps", count=gone)
            return gone

        return await in_batches(self._transactions, work, full=FORGET_BATCH_ROWS)
