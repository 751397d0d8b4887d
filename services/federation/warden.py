"""Ends streams that may not go on: of peers that are not active any more, and with certificates that are not good.

Every replica looks at its own sessions, so that a decision counts everywhere within a second or two.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from libs.errors import Away
from libs.turns import every
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import alarms, certificates_store, peers_store, pki

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx
    from services.federation.hub import Hub
    from services.federation.link import LinkSession

LOOK_INTERVAL_S = 0.5
# How long a stream is left for telling the peer why it ends.
FAREWELL_S = 1.5
PEER_CERTIFICATE_EXPIRED = "PEER_CERTIFICATE_EXPIRED"

log = structlog.get_logger()


class Warden:
    """Looks after the sessions of one replica."""

    def __init__(self, transactions: Transactions, hub: Hub, grace: timedelta) -> None:
        """`grace` is how long a stream may go on after the end of the certificate that it was opened with."""
        self._transactions = transactions
        self._hub = hub
        self._grace = grace
        self._ending: dict[LinkSession, float] = {}
        self._alarmed: set[str] = set()

    async def run(self) -> None:
        """Look for ever."""
        # Nobody can have decided anything while the database is away.
        await every(LOOK_INTERVAL_S, self.look, failed="warden.look_interrupted", bears=Away)

    async def look(self) -> None:
        """End what must end now."""
        sessions = self._hub.sessions()
        if not sessions:
            return
        nodes = [session.peer for session in sessions]
        serials = [pki.serial(session.shown) for session in sessions if session.shown]
        states = await self._transactions.read(lambda conn: peers_store.states(conn, nodes))
        good = await self._transactions.read(lambda conn: certificates_store.good(conn, serials))
        for session in sessions:
            if session.shown and pki.serial(session.shown) not in good:
                self._end(session, "the certificate was revoked")
            elif states.get(session.peer) != pb.PEER_STATE_ACTIVE:
                # The message that says so is under way: the control lane goes first.
                now_s = asyncio.get_running_loop().time()
                if now_s >= self._ending.setdefault(session, now_s + FAREWELL_S):
                    self._end(session, "the peer is not active")
            elif session.shown:
                await self._check_expiry(session)
        self._ending = {session: at for session, at in self._ending.items() if session in sessions}

    async def _check_expiry(self, session: LinkSession) -> None:
        """A peer renews long before the end. One that could not is kept for a while, if that is the policy."""
        _, ends = pki.lifetime(session.shown)
        late = self._transactions.clock.now() - ends
        if late >= timedelta(0) and late >= self._grace:
            self._end(session, "the certificate has ended")
        expired = late >= timedelta(0)
        if expired == (session.peer in self._alarmed):
            return
        text = f"the stream with {session.peer} goes on with a certificate that ended at {ends.isoformat()}"

        async def note(tx: Tx) -> None:
            if expired:
                await alarms.set_alarm(tx, peer=session.peer, name=PEER_CERTIFICATE_EXPIRED, text=text)
            else:
                await alarms.clear_alarm(tx, peer=session.peer, name=PEER_CERTIFICATE_EXPIRED)

        await self._transactions.run(note)
        (self._alarmed.add if expired else self._alarmed.discard)(session.peer)

    def _end(self, session: LinkSession, why: str) -> None:
        log.info("link.ended", peer=session.peer, why=why)
        session.close()
