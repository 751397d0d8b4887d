"""Joining another node: asked once by a person here, and again by this task until people there have decided."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from libs.duty import on_duty
from libs.errors import Away, DomainError, Forbidden, Invalid, Reason, WrongState
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import alarms, membership_store, peers_store, pki, trust_list
from services.federation.calls import join_port
from services.federation.membership import JOIN_UNANSWERED, REQUEST_DAYS, add_peer, state_peer
from services.federation.membership_store import PendingJoin

if TYPE_CHECKING:
    from libs.config import Secrets
    from libs.tx import Transactions, Tx
    from services.federation.membership import Membership
    from services.federation.negotiation import Negotiator
    from services.federation.trust import Trust

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
        trust: Trust,
        secrets: Secrets,
    ) -> None:
        self._node = node
        self._transactions = transactions
        self._membership = membership
        self._negotiator = negotiator
        self._trust = trust
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
        response, card = await self._ask(asking)
        await self._transactions.run(lambda tx: self._asked(tx, asking, response, card))
        return invitation.node

    async def _asking(self, invitation: pb.Invitation) -> PendingJoin:
        """Return the question: the same as before for the same invitation, so that asking again is asking the same."""
        serialised = invitation.SerializeToString(deterministic=True)
        before = await self._transactions.read(lambda conn: membership_store.pending_with(conn, invitation.node))
        if before is not None and before.invitation == serialised:
            return before
        key, request = pki.request_certificate(self._node)
        self._secrets.set(pki.key_name(request), key)
        card = (await self._membership.card(invitation.node, request)).SerializeToString()
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
                response, card = await self._ask(pending)
                await self._transactions.run(partial(self._asked, asking=pending, response=response, card=card))
            except (Forbidden, Invalid, WrongState) as error:
                await self._refused(pending.node, error.message)
            except DomainError as error:
                log.info("join.later", peer=pending.node, error=error.message)

    async def _refused(self, node: str, text: str, *, alarm: str = "") -> None:
        async def work(tx: Tx) -> None:
            if not await membership_store.settle_pending(tx.conn, node):
                return
            await peers_store.set_state(tx.conn, node, pb.PEER_STATE_REJECTED, text, tx.now)
            await state_peer(tx, self._trust, node)
            tx.audit("federation.peers.rejected", f"peers/{node}", reason=text)
            if alarm:
                await alarms.set_alarm(tx, peer=node, name=alarm, text=text)

        log.warning("join.refused", peer=node, text=text)
        await self._transactions.run(work)

    async def _ask(self, asking: PendingJoin) -> tuple[link_pb2.JoinResponse, link_pb2.NodeCard]:
        """Ask once; return the answer and the card in it, which is the inviting node's."""
        invitation = pb.Invitation.FromString(asking.invitation)
        request = link_pb2.JoinRequest(token=invitation.token, card=link_pb2.SignedNodeCard.FromString(asking.card))
        async with join_port(invitation.node, invitation.join_address, invitation.root_certificate) as stub:
            response: link_pb2.JoinResponse = await stub.Join(request, timeout=JOIN_TIMEOUT_S)
        card = trust_list.opened_card(response.card, self._node)
        # The root may have changed since the invitation was made.
        listed = trust_list.opened(card.trust_list, invitation.root_certificate, invitation.node)
        if card.node != invitation.node or card.root_certificate != listed.root_certificate:
            raise Forbidden(Reason.SIGNATURE_INVALID, "the node that answered is not the one that invited")
        if response.state == pb.PEER_STATE_ACTIVE:
            name = pki.spiffe_id(invitation.node, self._node)
            pki.check_issued(response.certificate, card.root_certificate, name)
        return response, card

    async def _asked(
        self, tx: Tx, asking: PendingJoin, response: link_pb2.JoinResponse, card: link_pb2.NodeCard
    ) -> None:
        node = asking.node
        before = await membership_store.pending_with(tx.conn, node, lock=True)
        if before is None or before.invitation != asking.invitation:
            await add_peer(tx, self._trust, card, kind=response.kind, state=pb.PEER_STATE_REQUESTED)
            await membership_store.pend(tx.conn, asking)
            await state_peer(tx, self._trust, node)
            fingerprint = pki.fingerprint(card.root_certificate)
            tx.audit("federation.peers.ask", f"peers/{node}", fingerprint=fingerprint)
        else:
            await self._trust.hear(tx, await peers_store.get(tx.conn, node), card.trust_list)
        if response.state != pb.PEER_STATE_ACTIVE:
            return
        await membership_store.settle_pending(tx.conn, node)
        await peers_store.set_state(tx.conn, node, pb.PEER_STATE_ACTIVE, "", tx.now)
        await peers_store.set_certificate(tx.conn, node, response.certificate)
        if response.HasField("charter"):
            peer = await peers_store.get(tx.conn, node)
            await self._negotiator.accept_charter(tx, response.charter, peer)
        await state_peer(tx, self._trust, node)
        tx.audit("federation.peers.join", f"peers/{node}")
