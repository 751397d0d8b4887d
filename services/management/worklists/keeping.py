"""Forgets the changes of events that no stream can ask for any more."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from libs.errors import DomainError
from services.management.worklists import store_changes

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx

# Longer than anybody needs to come back after an interruption; who is away longer reads the list again.
CHANGES_KEEP_S = 900.0
MARK_INTERVAL_S = 60.0

log = structlog.get_logger()


class ChangeKeeper:
    """Background work that every replica may do at the same time."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def run(self) -> None:
        """Mark the time and forget every MARK_INTERVAL_S until cancelled."""
        while True:
            try:
                await self.keep()
            except DomainError as error:
                log.warning("worklists.changes_not_forgotten", error=str(error))
            await asyncio.sleep(MARK_INTERVAL_S)

    async def keep(self) -> int:
        """Mark the present moment, forget what is older than CHANGES_KEEP_S, return how many changes that was."""

        async def work(tx: Tx) -> int:
            await store_changes.mark(tx.conn, tx.now)
            return await store_changes.forget(tx.conn, tx.now - timedelta(seconds=CHANGES_KEEP_S))

        total = 0
        rows = store_changes.FORGET_BATCH_ROWS
        while rows >= store_changes.FORGET_BATCH_ROWS:
            rows = await self._transactions.run(work)
            total += rows
        return total
