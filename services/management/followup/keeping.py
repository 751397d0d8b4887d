"""Forgets follow-ups that were kept long enough: what somebody said of a request is about a person."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from libs.turns import every, in_batches
from services.management.followup import store
from services.management.followup.model import KEPT_DAYS

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx

FORGET_INTERVAL_S = 3600.0
FORGET_BATCH_ROWS = 1_000


class FollowUpKeeper:
    """Background work that every replica may do at the same time."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def run(self) -> None:
        """Forget every FORGET_INTERVAL_S until cancelled."""
        await every(FORGET_INTERVAL_S, self.forget, failed="follow_ups.not_forgotten")

    async def forget(self) -> int:
        """Forget what was over KEPT_DAYS ago but for its counts, and return how many follow-ups that was."""

        async def work(tx: Tx) -> int:
            gone = await store.forget(tx.conn, tx.now - timedelta(days=KEPT_DAYS), FORGET_BATCH_ROWS)
            if gone:
                tx.audit("management.follow_ups.forget", "followUps", count=gone)
            return gone

        return await in_batches(self._transactions, work, full=FORGET_BATCH_ROWS)
