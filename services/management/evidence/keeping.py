"""Removes what uploads left behind that nobody finished."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.turns import every
from services.management.evidence import store_evidence
from services.management.evidence.model_evidence import UPLOAD_KEPT

if TYPE_CHECKING:
    from libs.tx import Transactions
    from services.management.evidence.objects import Objects

SWEEP_INTERVAL_S = 600.0
UPLOADS_PER_SWEEP_MAX = 200


class UploadKeeper:
    """Background work that every replica may do at the same time."""

    def __init__(self, transactions: Transactions, objects: Objects) -> None:
        self._transactions = transactions
        self._objects = objects

    async def run(self) -> None:
        """Sweep every SWEEP_INTERVAL_S until cancelled."""
        await every(SWEEP_INTERVAL_S, self.sweep, failed="evidence.sweep_failed")

    async def sweep(self) -> int:
        """Remove uploads that were begun UPLOAD_KEPT ago, at most UPLOADS_PER_SWEEP_MAX; return how many.

        First they are marked, so that none is finished while its object goes; the rows go last, so that an object is
        found again when this was interrupted.
        """
        before = self._transactions.clock.now() - UPLOAD_KEPT
        found = await self._transactions.run(
            lambda tx: store_evidence.abandon(tx.conn, before, UPLOADS_PER_SWEEP_MAX)
        )  # fmt: skip
        for _, name in found:
            await self._objects.delete(name)
        if found:
            await self._transactions.run(lambda tx: store_evidence.forget(tx.conn, [row for row, _ in found]))
        return len(found)
