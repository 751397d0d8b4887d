"""Deleting what partners gave: when its time is over, and when its contract has ended.

Rows go in portions, so that nothing waits long for a large deletion; where it stands is in a table. At the end
RowsDeleted is stated, of which federation makes the proof for the provider.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from libs.backoff import Backoff
from libs.duty import on_duty
from libs.errors import Away, Stale
from libs.ids import new_id
from quintet.sharing.v1.facts_pb2 import RowsDeleted
from services.sharing import store_days, store_deletions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.tx import Transactions, Tx
    from quintet.sharing.v1.facts_pb2 import ReceivedDay
    from services.sharing.store_deletions import Deletion

ROWS_PER_TRANSACTION_MAX = 5_000
POLL_S = 1.0
# How often the rows of one contract are looked through for those whose time is over.
CHECK_EVERY = timedelta(hours=1)
RECOVERY_DELAY_FIRST_S = 0.1
RECOVERY_DELAY_MAX_S = 10.0

log = structlog.get_logger()


class Retention:
    """Deletes rows. Replicas stand by. `zone` is this node's zone, which the facts are about."""

    def __init__(self, transactions: Transactions, zone: str) -> None:
        self._transactions = transactions
        self._zone = zone

    async def run(self) -> None:
        """Delete until cancelled, through interruptions of the database."""
        backoff = Backoff(RECOVERY_DELAY_FIRST_S, RECOVERY_DELAY_MAX_S)
        while True:
            try:
                async with on_duty(self._transactions.pool, "retention") as duty:
                    while True:
                        duty.check()
                        if not await self.step():
                            await asyncio.sleep(POLL_S)
                        backoff.reset()
            except (Away, Stale) as error:
                log.warning("sharing.retention_interrupted", error=repr(error))
            except Exception:
                log.exception("sharing.retention_failed")
            await backoff.wait()

    async def step(self) -> bool:
        """Delete the next portion, or begin what has become due; False when there is nothing to do."""
        return await self._transactions.run(self._step)

    async def _step(self, tx: Tx) -> bool:
        deletion = await store_deletions.next_one(tx.conn)
        if deletion is not None:
            if await store_deletions.portion(tx.conn, deletion, ROWS_PER_TRANSACTION_MAX) < ROWS_PER_TRANSACTION_MAX:
                await self._finish(tx, deletion)
            return True
        due = await store_deletions.next_due(tx.conn, tx.now, CHECK_EVERY)
        if due is None:
            return False
        contract, reason, days = due
        before = tx.now - timedelta(days=days) if reason == "RETENTION" else None
        await store_deletions.begin(tx.conn, new_id(), contract, reason, held_before=before)
        return True

    async def _finish(self, tx: Tx, deletion: Deletion) -> None:
        deletion = await store_deletions.finish(tx.conn, deletion)
        if deletion.successor:
            await store_days.hand_over(tx.conn, deletion)
            return  # the successor holds the rows: nothing is to be proved
        days = await store_days.take_gone(tx.conn, deletion)
        if len(days) == store_days.DAYS_PER_PROOF_MAX:  # there may be more: they stand in a proof of their own
            before = deletion.held_before
            await store_deletions.begin(tx.conn, new_id(), deletion.contract, deletion.reason, held_before=before)
        if deletion.rows or days:
            self._state(tx, deletion, days)

    def _state(self, tx: Tx, deletion: Deletion, days: Sequence[ReceivedDay]) -> None:
        stated = RowsDeleted(
            id=str(deletion.id),
            contract=deletion.contract,
            product=deletion.product,
            rows=deletion.rows,
            days=days,
            reason=deletion.reason,
        )
        stated.time.FromDatetime(tx.now)
        if deletion.held_before is not None:
            stated.held_before.FromDatetime(deletion.held_before)
        tx.publish(stated, zone=self._zone, key=deletion.contract)
        tx.audit(
            "sharing.rows.delete",
            deletion.product,
            contract=deletion.contract,
            rows=deletion.rows,
            reason=deletion.reason,
            digest=deletion.digest.hex(),
        )
