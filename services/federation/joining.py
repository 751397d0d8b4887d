"""Joining another node: asked once by a person here, and again by this task until people there have decided."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import grpc
import structlog

from libs.duty import on_duty
from libs.errors import Away, DomainError, Forbidden, Invalid, Reason, WrongState
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2, link_pb2_grpc
from services.federation import alarms, membership_store, peers_store, pki
from services.federation.calls import refusal
from services.federation.membership import JOIN_UNANSWERED, REQUEST_DAYS, add_peer, check_card, state_peer
from services.federation.membership_store import PendingJoin

if TYPE_CHECKING:
    from libs.config import Secrets
    from libs.tx import Transactions, Tx
    from services.federation.membership import Membership
    from services.federation.negotiation import Negotiator

JOIN_TIMEOUT_S = 15.0
# How often joins under way are asked about and what nobody decided is looked for.
ASK_INTERVAL_S = 1.0

log = structlog.get_logger()


class Joiner:
    """Asks other nodes to take this one in."""

    def __init__(
        self,
        node: str,
        transactions: Transactions,
        membership: Membership,
        negotiator: Negotiator,
        secrets: Secrets,
    ) -> None:
        self._node = node
        self._transactions = transactions
        self._membership = membership
        self._negotiator = negotiator
        self._secrets = secrets

    async def join(self, invitation: pb.Invitation, confirmed: str) -> str:
        """Ask to join the inviting node and return its id; `confirmed` is the fingerprint as a person learnt it.

        The same invitation may be used again. Raises what the other node refuses with.
        """
        root = invitation.root_certificate
        if pki.fingerprint(root, field="invitation.rootCertificate") != invitation.root_fingerprint:
            raise Invalid("invitation.rootFingerprint", "must be the fingerprint of the root certificate")
        if confirmed != invitation.root_fingerprint:
            text = "the fingerprint that was confirmed is not the one of the invitation"
            raise Forbidden(Reason.FINGERPRINT_DIFFERS, text)
        if not invitation.token:
            raise Invalid("invitation.token", "is required")
        if invitation.node == self._node:
            raise Invalid("invitation.node", "must be another node")
        asking = await self._asking(invitation)
        response = await self._ask(asking)
        await self._transactions.run(lambda tx: self._asked(tx, asking, response))
        return invitation.node

    async def _asking(self, invitation: pb.Invitation) -> PendingJoin:
        """Return the question: the same as before for the same invitation, so that asking again is asking the same."""
        serialised = invitation.SerializeToString(deterministic=True)
        before = await self._transactions.read(lambda conn: membership_store.pending_with(conn, invitation.node))
        if before is not None and before.invitation == serialised:
            return before
        key, request = pki.request_certificate(self._node)
        self._secrets.set(pki.key_name(request), key)
        card = self._membership.card(request).SerializeToString(deterministic=True)
        expires = self._transactions.clock.now() + timedelta(days=REQUEST_DAYS)
        return PendingJoin(invitation.node, serialised, card, expires)

    async def run(self) -> None:
        """Go on asking, and end what nobody decided, for ever. One replica does."""
        while True:
            with suppress(Away):
                async with on_duty(self._transactions.pool, "joining") as duty:
                    while True:
                        await self.ask_all()
                        await self._membership.lapse()
                        await duty.wait(ASK_INTERVAL_S)
            await asyncio.sleep(ASK_INTERVAL_S)

    async def ask_all(self) -> None:
        """Ask once about each join under way."""
        for pending in await self._transactions.read(membership_store.pending):
            if pending.expires_at <= self._transactions.clock.now():
                text = f"{pending.node} did not decide within {REQUEST_DAYS} days"
                await self._refused(pending.node, text, alarm=JOIN_UNANSWERED)
                continue
            try:
                response = await self._ask(pending)
                await self._transactions.run(partial(self._asked, asking=pending, response=response))
            except (Forbidden, Invalid, WrongState) as error:
                await self._refused(pending.node, error.message)
            except DomainError as error:
                log.info("join.later", peer=pending.node, error=error.message)

    async def _refused(self, node: str, text: str, *, alarm: str = "") -> None:
        async def work(tx: Tx) -> None:
            if not await membership_store.settle_pending(tx.conn, node):
                return
            await peers_store.set_state(tx.conn, node, pb.PEER_STATE_REJECTED, text, tx.now)
            await state_peer(tx, node)
            tx.audit("federation.peers.rejected", f"peers/{node}", reason=text)
            if alarm:
                await alarms.set_alarm(tx, peer=node, name=alarm, text=text)

        log.warning("join.refused", peer=node, text=text)
        await self._transactions.run(work)

    async def _ask(self, asking: PendingJoin) -> link_pb2.JoinResponse:
        invitation = pb.Invitation.FromString(asking.invitation)
        card = link_pb2.NodeCard.FromString(asking.card)
        response = await _call(invitation, link_pb2.JoinRequest(token=invitation.token, card=card))
        check_card(response.card)
        if response.card.node != invitation.node or response.card.root_certificate != invitation.root_certificate:
            raise Forbidden(Reason.SIGNATURE_INVALID, "the node that answered is not the one that invited")
        if response.state == pb.PEER_STATE_ACTIVE:
            name = pki.spiffe_id(invitation.node, self._node)
            pki.check_issued(response.certificate, invitation.root_certificate, name)
        return response

    async def _asked(self, tx: Tx, asking: PendingJoin, response: link_pb2.JoinResponse) -> None:
        node = asking.node
        before = await membership_store.pending_with(tx.conn, node, lock=True)
        if before is None or before.invitation != asking.invitation:
            await add_peer(tx, response.card, kind=response.kind, state=pb.PEER_STATE_REQUESTED)
            await membership_store.pend(tx.conn, asking)
            await state_peer(tx, node)
            fingerprint = pki.fingerprint(response.card.root_certificate)
            tx.audit("federation.peers.ask", f"peers/{node}", fingerprint=fingerprint)
        if response.state != pb.PEER_STATE_ACTIVE:
            return
        await membership_store.settle_pending(tx.conn, node)
        await peers_store.set_state(tx.conn, node, pb.PEER_STATE_ACTIVE, "", tx.now)
        await peers_store.set_certificate(tx.conn, node, response.certificate)
        if response.HasField("charter"):
            peer = await peers_store.get(tx.conn, node)
            await self._negotiator.accept_charter(tx, response.charter, peer)
        await state_peer(tx, node)
        tx.audit("federation.peers.join", f"peers/{node}")


async def _call(invitation: pb.Invitation, request: link_pb2.JoinRequest) -> link_pb2.JoinResponse:
    trust = grpc.ssl_channel_credentials(root_certificates=invitation.root_certificate.encode())
    options = [("grpc.ssl_target_name_override", invitation.node)]
    async with grpc.aio.secure_channel(invitation.join_address, trust, options) as channel:
        try:
            response: link_pb2.JoinResponse = await link_pb2_grpc.MembershipServiceStub(channel).Join(
                request, timeout=JOIN_TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            raise refusal(error, invitation.node) from error
    return response
