"""The live sessions of this node, at most one per peer, and the dialling of peers that this node may call."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import structlog

from libs.backoff import Backoff
from libs.errors import Away, DomainError, Reason, WrongState
from libs.supervisor import end
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2, link_pb2_grpc
from services.federation import lanes_store, peers_store, pki
from services.federation.calls import refusal
from services.federation.link import SILENCE_MAX_S, LinkParts, LinkSession, Wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from libs.config import Secrets
    from libs.tx import Tx
    from services.federation.peers_store import Peer

DIAL_DELAY_FIRST_S = 0.2
DIAL_DELAY_MAX_S = 15.0
PEERS_POLL_S = 2.0
PEERS_MAX = 1000
CONNECT_TIMEOUT_S = 10.0
MESSAGE_BYTES_MAX = 4 * 1024 * 1024

log = structlog.get_logger()

# Errors of a stream that end one session and are cured by the next.
LINK_ERRORS = (DomainError, grpc.aio.AioRpcError, grpc.aio.UsageError, OSError, TimeoutError, asyncio.InvalidStateError)


class Hub:
    """Knows which peer is connected."""

    def __init__(self, parts: LinkParts, secrets: Secrets) -> None:
        self._parts = parts
        self._secrets = secrets
        self._sessions: dict[str, LinkSession] = {}
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._contact: dict[str, asyncio.Event] = {}
        # Told what a peer answered to a call; set when the service is wired.
        self.refused: Callable[[Tx, str, DomainError], Awaitable[None]] | None = None
        # Raises a DomainError when no stream may be opened with a peer; set when the service is wired.
        self.admit: Callable[[str], Awaitable[None]] | None = None
        self._dials_at: dict[str, datetime] = {}  # when a peer that is away is called next

    # -------------------------------------------------------------------------------------------- sessions

    def wake(self, peer: str) -> None:
        """Something waits for the peer."""
        session = self._sessions.get(peer)
        if session is not None:
            session.wake()

    def session(self, peer: str) -> LinkSession:
        """Return the live session with a peer. Raises Away(PEER_AWAY)."""
        session = self._sessions.get(peer)
        if session is None or not session.ready.is_set():
            raise Away(Reason.PEER_AWAY, f"{peer} is not connected", peer=peer)
        return session

    async def reach(self, node: str) -> LinkSession:
        """Return the live session with a peer, for somebody who asks it something now.

        Raises NotFound, WrongState(PEER_SUSPENDED), and Away(PEER_AWAY), which says since when nothing was heard
        (`since`) and when the peer is called next (`next_dial`, empty when only it can call): nobody waits for nothing.
        """
        peer = await self._parts.transactions.read(lambda conn: peers_store.get(conn, node))
        if peer.state != pb.PEER_STATE_ACTIVE:
            raise WrongState(Reason.PEER_SUSPENDED, f"{node} is not active", peer=node)
        try:
            return self.session(node)
        except Away as error:
            since = (peer.last_contact or peer.joined_at).isoformat(timespec="seconds")
            dials_at = self._dials_at.get(node)
            next_dial = dials_at.isoformat(timespec="seconds") if dials_at else ""
            text = f"{node} is away since {since}; " + (f"it is called at {next_dial}" if next_dial else "it calls us")
            raise Away(Reason.PEER_AWAY, text, peer=node, since=since, next_dial=next_dial) from error

    def hurry(self, peer: str) -> None:
        """Call a peer now, if this node calls it: what hindered it is over."""
        self._contact.setdefault(peer, asyncio.Event()).set()

    def sessions(self) -> list[LinkSession]:
        """Return the sessions of this moment."""
        return list(self._sessions.values())

    def connected(self, peer: str) -> bool:
        """Say whether a stream with the peer is open."""
        session = self._sessions.get(peer)
        return session is not None and session.ready.is_set()

    def reopen(self, peer: str) -> None:
        """Let the two say hello again: something that they agreed on has changed."""
        self._backoff(peer).reset()
        if peer in self._sessions:
            self._sessions[peer].close()
        self._contact.setdefault(peer, asyncio.Event()).set()

    async def serve(self, peer: Peer, wire: Wire, *, dialled_by: str, shown: str = "") -> None:
        """Run one session until it ends; `shown` is the caller's certificate. Raises Away when there is one already
        that shall stay, and what `admit` raises.
        """
        if self.admit is not None:
            await self.admit(peer.node)
        session = LinkSession(self._parts, peer, wire, dialled_by=dialled_by)
        session.shown = shown
        self._admit(session)
        try:
            await session.run(lambda: self._made_contact(session))
        finally:
            self._parts.questions.lost(session)
            if self._sessions.get(peer.node) is session:
                del self._sessions[peer.node]
                log.info("link.down", peer=peer.node)

    def _admit(self, session: LinkSession) -> None:
        """Two nodes may call each other at the same moment: both then keep the call of the one whose id is smaller."""
        before = self._sessions.get(session.peer)
        if before is not None and before.ready.is_set() and before.silent_s < SILENCE_MAX_S / 2:
            first = min(self._parts.node, session.peer)
            if before.dialled_by == first and session.dialled_by != first:
                raise Away(Reason.PEER_AWAY, "there is a stream already", peer=session.peer)
        if before is not None:
            before.close()
        self._sessions[session.peer] = session

    def _made_contact(self, session: LinkSession) -> None:
        log.info("link.up", peer=session.peer, dialled_by=session.dialled_by)
        self._backoff(session.peer).reset()
        self._contact.setdefault(session.peer, asyncio.Event()).set()

    def _backoff(self, peer: str) -> Backoff:
        return self._backoffs.setdefault(peer, Backoff(DIAL_DELAY_FIRST_S, DIAL_DELAY_MAX_S))

    # -------------------------------------------------------------------------------------------- dialling

    async def run(self) -> None:
        """Keep a caller at work for every peer that this node dials."""
        try:
            while True:
                peers = await self._parts.transactions.read(lambda conn: peers_store.page(conn, "", PEERS_MAX))
                for peer in peers:
                    self._start(peer)
                await asyncio.sleep(PEERS_POLL_S)
        finally:
            # The server of the link port waits for the streams that peers opened: they would hold up the node's end.
            for session in self.sessions():
                session.close()
            await end(self._dialling.values())
            self._dialling.clear()

    def _start(self, peer: Peer) -> None:
        task = self._dialling.get(peer.node)
        called = {pb.PEER_STATE_ACTIVE, pb.PEER_STATE_LEFT}
        if peer.dial and peer.certificate and peer.state in called and (task is None or task.done()):
            self._dialling[peer.node] = asyncio.create_task(self._dial(peer.node), name=f"dial-{peer.node}")

    async def _dial(self, node: str) -> None:
        while True:
            contact = self._contact.setdefault(node, asyncio.Event())
            contact.clear()
            if not self.connected(node):
                await self._dial_once(node)
            delay_s = PEERS_POLL_S if self.connected(node) else self._backoff(node).next_s()
            self._dials_at[node] = self._parts.transactions.clock.now() + timedelta(seconds=delay_s)
            # The peer may call us meanwhile; then the waiting starts from the beginning after the next break.
            try:
                async with asyncio.timeout(delay_s):
                    await contact.wait()
            except TimeoutError:
                continue

    async def _dial_once(self, node: str) -> None:
        peer = await self._parts.transactions.read(lambda conn: peers_store.get(conn, node))
        if not await self._may_call(peer):
            return
        try:
            async with grpc.aio.secure_channel(peer.link_address, self._credentials(peer), _options(node)) as channel:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await channel.channel_ready()
                call = link_pb2_grpc.LinkServiceStub(channel).Exchange()
                await self.serve(peer, _client_wire(call), dialled_by=self._parts.node)
        except LINK_ERRORS as error:
            await self._note(node, error)

    async def _may_call(self, peer: Peer) -> bool:
        """An active peer is called, and one that this node has left until it knows."""
        if not (peer.dial and peer.certificate):
            return False
        if peer.state == pb.PEER_STATE_LEFT:
            return peer.node in await self._parts.transactions.read(lanes_store.unsaid)
        return peer.state == pb.PEER_STATE_ACTIVE

    async def _note(self, node: str, error: BaseException) -> None:
        if self.connected(node):
            return  # the peer has called us meanwhile
        text = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
        text = text or type(error).__name__
        log.warning("link.failed", peer=node, error=text)
        refused = refusal(error, node) if isinstance(error, grpc.aio.AioRpcError) else None

        async def note(tx: Tx) -> None:
            await peers_store.touch(tx.conn, node, tx.now, error=text)
            if refused is not None and self.refused is not None:
                await self.refused(tx, node, refused)

        await self._parts.transactions.run(note)

    def _credentials(self, peer: Peer) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            root_certificates=peer.root_certificate.encode(),
            private_key=self._secrets.read(pki.key_name(peer.certificate)).encode(),
            certificate_chain=peer.certificate.encode(),
        )


def _options(node: str) -> list[tuple[str, int | str]]:
    return [
        ("grpc.ssl_target_name_override", node),  # the certificate names the node, wherever it listens
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.keepalive_time_ms", 15_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]


def _client_wire(call: grpc.aio.StreamStreamCall[link_pb2.ExchangeRequest, link_pb2.ExchangeResponse]) -> Wire:
    async def send(frame: link_pb2.Frame) -> None:
        try:
            await call.write(link_pb2.ExchangeRequest(frame=frame))
        except (grpc.aio.UsageError, asyncio.InvalidStateError):
            if not call.cancelled():  # then it would cancel the caller, who has nothing to do with it
                await call.read()  # raises what the stream has ended with, in the peer's words
            raise

    async def receive() -> link_pb2.Frame | None:
        response = await call.read()
        return response.frame if isinstance(response, link_pb2.ExchangeResponse) else None

    return Wire(send, receive)
