"""What happens to whistles because time passes: who is not there is reminded, then their leader is told.

Every replica may run it: what it finds is claimed with SKIP LOCKED, and each is told once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.turns import every, in_batches
from services.management.whistles import stating, store_whistles
from services.management.whistles.model import miss, remind

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx

CHECK_INTERVAL_S = 5.0
PER_TRANSACTION_MAX = 20
BATCHES_PER_TURN_MAX = 100


class WhistleTask:
    """Background work on this node's whistles."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def run(self) -> None:
        """Take a turn every CHECK_INTERVAL_S until cancelled."""
        await every(CHECK_INTERVAL_S, self.turn, failed="whistles.turn_failed")

    async def turn(self) -> None:
        """Do all that is due now, in bounded transactions, at most BATCHES_PER_TURN_MAX of them."""
        await in_batches(self._transactions, self._batch, full=PER_TRANSACTION_MAX, batches_max=BATCHES_PER_TURN_MAX)

    async def _batch(self, tx: Tx) -> int:
        found = await store_whistles.claim(tx.conn, tx.now, PER_TRANSACTION_MAX)
        for whistle in found:
            for act, role, action in ((remind, "handler", "remind"), (miss, "leader", "escalate")):
                whistle, told = act(whistle, tx.now)  # noqa: PLW2901 - each goes on from the one before
                if told:
                    stating.changed(tx, whistle, action)
                    stating.unanswered(tx, whistle, told, role)
            await store_whistles.update(tx.conn, whistle)
        return len(found)
