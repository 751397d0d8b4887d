"""The certificates with which this node calls its peers: renewed with a new key before they end, and watched.

Over the open stream when there is one, else at the peer's join port, signed with the signing key that it has pinned: a
long absence needs no new invitation. What is renewed counts from the next call on, which follows at once.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from libs.backoff import Backoff
from libs.errors import Away, DomainError, Forbidden
from libs.turns import every
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import alarms, peers_store, pki
from services.federation.calls import join_port
from services.federation.hub import LINK_ERRORS

if TYPE_CHECKING:
    from datetime import datetime

    from libs.config import Secrets
    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from services.federation.hub import Hub
    from services.federation.link import LinkSession
    from services.federation.peers_store import Peer
    from services.federation.signing import NodeSigner
    from services.federation.trust import Trust

POLL_S = 1.0
RENEW_AT = 2 / 3
# People are told when this much of the life is left: renewal has failed for a good while by then.
ENDS_SOON_AT = 5 / 6
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
RENEW_TIMEOUT_S = 15.0
PEERS_MAX = 1000
CERTIFICATE_ENDS_SOON = "CERTIFICATE_ENDS_SOON"
CERTIFICATE_EXPIRED = "CERTIFICATE_EXPIRED"

log = structlog.get_logger()


class Renewer:
    """Keeps this node's certificates for calls to its peers good."""

    def __init__(
        self, node: str, transactions: Transactions, signer: NodeSigner, trust: Trust, hub: Hub, secrets: Secrets
    ) -> None:
        self._node = node
        self._transactions = transactions
        self._signer = signer
        self._trust = trust
        self._hub = hub
        self._secrets = secrets
        # The requests under way, by peer: only what was asked for is taken.
        self._asked: dict[str, str] = {}
        self._due: dict[str, float] = {}
        self._backoffs: dict[str, Backoff] = {}

    async def run(self) -> None:
        """Renew what is due, for ever. Each replica cares for the streams that it has."""
        await every(POLL_S, self.look, failed="certificates.look_interrupted", bears=Away)

    async def look(self) -> None:
        """Ask for every certificate that is due, once, and tell people of those that end."""
        for peer, alarmed in await self._transactions.read(_active):
            await self._watch(peer, alarmed)
            if self._wanted(peer) and asyncio.get_running_loop().time() >= self._due.get(peer.node, 0.0):
                backoff = self._backoffs.setdefault(peer.node, Backoff(RETRY_FIRST_S, RETRY_MAX_S))
                self._due[peer.node] = asyncio.get_running_loop().time() + backoff.next_s()
                await self._ask(peer)

    def _wanted(self, peer: Peer) -> bool:
        if not peer.certificate:
            # A parent is called by its children and needs none; of partners either side may call.
            return peer.kind != pb.PEER_KIND_CHILD and bool(peer.join_address)
        begins, ends = pki.lifetime(peer.certificate)
        return self._now() >= begins + (ends - begins) * RENEW_AT

    async def _watch(self, peer: Peer, alarmed: set[str]) -> None:
        """Keep the two alarms as they should be; most of the time nothing is to be written."""
        if not peer.certificate:
            return
        begins, ends = pki.lifetime(peer.certificate)
        now, text = self._now(), f"the certificate for calls to {peer.node} ends at {ends.isoformat()}"
        wanted = {
            CERTIFICATE_EXPIRED: now >= ends,
            CERTIFICATE_ENDS_SOON: begins + (ends - begins) * ENDS_SOON_AT <= now < ends,
        }
        if not any(wanted.values()) and not alarmed & wanted.keys():
            return

        async def note(tx: Tx) -> None:
            for name, want in wanted.items():
                if want:
                    await alarms.set_alarm(tx, peer=peer.node, name=name, text=text)
                else:
                    await alarms.clear_alarm(tx, peer=peer.node, name=name)

        await self._transactions.run(note)

    async def _ask(self, peer: Peer) -> None:
        request = self._asked.get(peer.node)
        if request is None:
            key, request = pki.request_certificate(self._node)
            self._secrets.set(pki.key_name(request), key)
            self._asked[peer.node] = request
        if self._hub.connected(peer.node):
            frame = link_pb2.Frame(certificate_request=link_pb2.CertificateRequest(request=request))
            with suppress(*LINK_ERRORS):  # the stream ends meanwhile: asked again
                await self._hub.session(peer.node).send(frame)
        elif peer.join_address:
            await self._ask_at_join_port(peer, request)

    async def _ask_at_join_port(self, peer: Peer, request: str) -> None:
        try:
            asked = self._signer.renewal(peer.node, request)
            asked.trust_list.CopyFrom(await self._trust.newest())
            async with join_port(peer.node, peer.join_address, peer.root_certificate) as stub:
                response = await stub.RenewCertificate(asked, timeout=RENEW_TIMEOUT_S)
            await self._take(peer.node, response.certificate)
        except DomainError as error:
            if isinstance(error, Forbidden):
                self._asked.pop(peer.node, None)  # perhaps it is the key: the next attempt has another
            log.warning("certificate.not_renewed", peer=peer.node, error=error.message)

    async def taken(self, session: LinkSession, frame: link_pb2.Frame) -> None:
        """Take an IssuedCertificate from the stream. The next call uses it; one that we made is made anew."""
        if frame.certificate.reason:
            self._asked.pop(session.peer, None)
            log.warning("certificate.not_renewed", peer=session.peer, error=frame.certificate.reason)
            return
        if await self._take(session.peer, frame.certificate.certificate) and session.dialled_by == self._node:
            session.close()

    async def _take(self, node: str, certificate: str) -> bool:
        """Keep a certificate that was asked for; False when it was not. Raises Invalid when it is not good."""
        request = self._asked.get(node)
        if request is None:
            return False

        async def work(tx: Tx) -> str:
            peer = await peers_store.get(tx.conn, node, lock=True)
            pki.check_issued(certificate, peer.root_certificate, pki.spiffe_id(node, self._node))
            await peers_store.set_certificate(tx.conn, node, certificate)
            tx.audit("federation.certificates.renew", f"peers/{node}", serial=pki.serial(certificate))
            return peer.certificate

        if pki.key_name(certificate) != pki.key_name(request):
            return False
        before = await self._transactions.run(work)
        self._asked.pop(node, None)
        self._due.pop(node, None)
        self._backoffs.pop(node, None)
        self._hub.hurry(node)
        if before:
            self._secrets.remove(pki.key_name(before))
        return True

    def _now(self) -> datetime:
        return self._transactions.clock.now()


async def _active(conn: Connection) -> list[tuple[Peer, set[str]]]:
    """Return the active peers, each with the names of its alarms."""
    found = await peers_store.page(conn, "", PEERS_MAX)
    peers = [peer for peer in found if peer.state == pb.PEER_STATE_ACTIVE]
    alarmed = await alarms.of_peers(conn, [peer.node for peer in peers])
    return [(peer, {alarm.name for alarm in alarmed[peer.node]}) for peer in peers]
