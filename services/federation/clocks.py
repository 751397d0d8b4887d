"""How far the clocks of peers are from this node's, measured with every ping."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from services.federation import alarms

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx
    from quintet.federation.v1 import link_pb2
    from services.federation.link import LinkSession

# Far below what certificates and deadlines bear (an hour), far above what networks take.
SKEW_MAX = timedelta(seconds=60)
SKEW_CLEAR = timedelta(seconds=30)
CLOCK_SKEW = "CLOCK_SKEW"


class Clocks:
    """Sets and clears the alarm CLOCK_SKEW of each peer."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._alarmed: dict[str, bool] = {}

    async def heard(self, session: LinkSession, frame: link_pb2.Frame) -> None:
        """Take a ping. Whose clock is wrong cannot be told from here: both ends say so."""
        skew = frame.ping.time.ToDatetime(UTC) - self._transactions.clock.now()
        before = self._alarmed.get(session.peer)
        alarmed = abs(skew) > (SKEW_CLEAR if before else SKEW_MAX)
        if alarmed == before:
            return
        self._alarmed[session.peer] = alarmed
        text = f"the clock of {session.peer} differs by {skew.total_seconds():.0f} s"

        async def note(tx: Tx) -> None:
            if alarmed:
                await alarms.set_alarm(tx, peer=session.peer, name=CLOCK_SKEW, text=text)
            else:
                await alarms.clear_alarm(tx, peer=session.peer, name=CLOCK_SKEW)

        await self._transactions.run(note)
