"""What happens to hand-overs because time passes: offers lapse, disputes are escalated, and what lost its event ends.

Every replica may run it: each hand-over is looked at again under the lock on its event, and done again it changes
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.turns import every, in_batches
from services.management import store_events
from services.management.handover import model_turns, store_handovers
from services.management.handover.model import WAITING, State

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx
    from services.management.handover.trail import Trail

CHECK_INTERVAL_S = 5.0
PER_TRANSACTION_MAX = 20
BATCHES_PER_TURN_MAX = 100
ACTOR = "services/management"


class HandoverTask:
    """Background work on the hand-overs of this node's events."""

    def __init__(self, transactions: Transactions, trail: Trail) -> None:
        self._transactions = transactions
        self._trail = trail

    async def run(self) -> None:
        """Take a turn every CHECK_INTERVAL_S until cancelled."""
        await every(CHECK_INTERVAL_S, self.turn, failed="handovers.turn_failed")

    async def turn(self) -> None:
        """Do all that is due now, in bounded transactions, at most BATCHES_PER_TURN_MAX of them."""
        await in_batches(self._transactions, self._batch, full=PER_TRANSACTION_MAX, batches_max=BATCHES_PER_TURN_MAX)

    async def _batch(self, tx: Tx) -> int:
        names = await store_handovers.due(tx.conn, self._transactions.node, tx.now, PER_TRANSACTION_MAX)
        for name in sorted(names):  # events are locked in one order by all
            await self._look(tx, name)
        return len(names)

    async def _look(self, tx: Tx, name: str) -> None:
        event = await store_events.lock(tx.conn, name.rpartition("/handovers/")[0])
        handover = await store_handovers.get(tx.conn, name)
        if event is None or handover is None or handover.state not in WAITING:
            return
        if event.closed_at is not None or event.organisation != handover.from_organisation:
            await self._trail.supersede(tx, event, handover)
        elif handover.is_overdue(tx.now):
            terms = await self._trail.terms(tx, event)
            act = model_turns.lapse if handover.state is State.OFFERED else model_turns.escalate
            await self._trail.take(tx, event, act(event, handover, terms, actor=ACTOR, now=tx.now))
