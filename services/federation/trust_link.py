"""Trust lists on open streams: told to each peer when this node's has changed, taken from each peer, and confirmed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from libs.errors import Away
from libs.turns import every
from quintet.federation.v1 import link_pb2
from services.federation import peers_store
from services.federation.hub import LINK_ERRORS

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx
    from services.federation.hub import Hub
    from services.federation.link import LinkSession
    from services.federation.trust import Trust

LOOK_INTERVAL_S = 1.0

log = structlog.get_logger()


class TrustLink:
    """Keeps the peers that are connected to this replica up to date."""

    def __init__(self, trust: Trust, hub: Hub, transactions: Transactions) -> None:
        self._trust = trust
        self._hub = hub
        self._transactions = transactions

    async def run(self) -> None:
        """Tell for ever. Every replica tells the peers that it has streams with."""
        await every(LOOK_INTERVAL_S, self.tell_all, failed="trust.lists_not_told", bears=Away)

    async def tell_all(self) -> None:
        """Send this node's newest list on each stream on which it was not shown yet."""
        sessions = [session for session in self._hub.sessions() if session.ready.is_set()]
        if not sessions:
            return
        newest = await self._trust.newest()
        for session in sessions:
            if session.shown_list != newest.list:
                with suppress(*LINK_ERRORS):  # the stream ends meanwhile: the next hello has the list
                    await session.send(link_pb2.Frame(trust_list=newest))
                    session.shown_list = newest.list

    async def heard(self, session: LinkSession, frame: link_pb2.Frame) -> None:
        """Take a peer's list, and its keys for this stream."""

        async def work(tx: Tx) -> int:
            peer = await peers_store.get(tx.conn, session.peer)
            return await self._trust.learn(tx, peer, frame.trust_list, session.keys)

        number = await self._transactions.run(work)
        if number:
            await session.send(link_pb2.Frame(trust_taken=link_pb2.TrustTaken(number=number)))

    async def taken(self, session: LinkSession, frame: link_pb2.Frame) -> None:
        """Note which list of this node the peer goes by."""
        number = frame.trust_taken.number
        await self._transactions.run(lambda tx: peers_store.set_trust_acknowledged(tx.conn, session.peer, number))
