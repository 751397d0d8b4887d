"""Admitting nodes: an invitation becomes a request, two people compare its fingerprint, and the node is a peer.

Until then a node that asks has nothing but its place in the list: no certificate, no zone, no contract. joining.py is
the other side.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from libs.errors import Forbidden, Invalid, Reason, WrongState
from libs.ids import new_id
from quintet.federation.v1 import facts_pb2, link_pb2
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import alarms, contracts_store, membership_store, peers_store, pki, trust_list
from services.federation import terms as contract_terms
from services.federation.membership_store import Approval, Invited, Requested
from services.federation.peers_store import NewPeer

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.federation.certificates import Certificates
    from services.federation.negotiation import Negotiator
    from services.federation.peers_store import Peer
    from services.federation.trust import Trust

TOKEN_BYTES = 32
INVITATION_MINUTES_DEFAULT = 60
# Two different people, whoever made the invitation: each of them has compared the fingerprint.
APPROVALS_NEEDED = 2
# How long a request waits for people; the joiner gives up at the same time.
REQUEST_DAYS = 7
JOIN_UNANSWERED = "JOIN_UNANSWERED"
PERSON_PREFIX = "people/"
# From these a node may begin anew, with a new invitation and new keys.
OVER = frozenset({pb.PEER_STATE_REJECTED, pb.PEER_STATE_LEFT, pb.PEER_STATE_EXPELLED})


class Membership:
    """Invites nodes, and lets people decide about those that ask."""

    def __init__(
        self,
        *,
        node: str,
        title: str,
        zone: str,
        trust: Trust,
        certificates: Certificates,
        transactions: Transactions,
        negotiator: Negotiator,
        zones: Callable[[], ZoneTree],
    ) -> None:
        self._node = node
        self._title = title
        self._zone = zone
        self._trust = trust
        self._authority = trust.authority
        self._certificates = certificates
        self._transactions = transactions
        self._negotiator = negotiator
        self._zones = zones
        # Known once the ports listen.
        self.join_address = ""
        self.link_address = ""

    @property
    def root_fingerprint(self) -> str:
        """SHA-256 of this node's root certificate, in hex: what people of other nodes compare."""
        return pki.fingerprint(self._authority.root_certificate)

    async def card(self, audience: str, certificate_request: str = "") -> link_pb2.SignedNodeCard:
        """Return how this node presents itself to the node `audience`."""
        card = link_pb2.NodeCard(
            node=self._node,
            title=self._title,
            zone=self._zone,
            root_certificate=self._authority.root_certificate,
            trust_list=await self._trust.newest(),
            link_address=self.link_address,
            certificate_request=certificate_request,
            join_address=self.join_address,
            audience=audience,
        )
        return trust_list.sealed_card(self._authority, card)

    # -------------------------------------------------------------------------------------------- inviting

    async def invite(self, request: pb.CreateInvitationRequest) -> pb.Invitation:
        """Make an invitation; one that was made for the node before is void.

        Raises Invalid, or WrongState when the zone overlaps with one that is another node's or was offered to it.
        """
        if request.kind not in {pb.PEER_KIND_CHILD, pb.PEER_KIND_PARTNER}:
            raise Invalid("kind", "must be PEER_KIND_CHILD or PEER_KIND_PARTNER")
        if request.node == self._node:
            raise Invalid("node", "must be another node")
        terms = self._terms(request)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        minutes = request.valid_minutes or INVITATION_MINUTES_DEFAULT

        async def work(tx: Tx) -> datetime:
            await membership_store.lock_delegations(tx.conn)
            if request.zone:
                await self._check_overlap(tx, request.zone, request.node)
            expires = tx.now + timedelta(minutes=minutes)
            charter = terms.SerializeToString()
            invited = Invited(hashed(token), request.node, request.kind, request.zone, charter, expires, None)
            await membership_store.invite(tx.conn, invited)
            tx.audit("federation.peers.invite", f"peers/{request.node}", zone=request.zone)
            return expires

        expires = await self._transactions.run(work)
        invitation = pb.Invitation(
            token=token,
            node=self._node,
            join_address=self.join_address,
            root_fingerprint=self.root_fingerprint,
            root_certificate=self._authority.root_certificate,
        )
        invitation.expires_at.FromDatetime(expires)
        return invitation

    def _terms(self, request: pb.CreateInvitationRequest) -> pb.Terms:
        if request.kind == pb.PEER_KIND_PARTNER:
            if request.zone:
                raise Invalid("zone", "must be empty for a partner")
            return pb.Terms()
        tree, zone = self._zones(), request.zone
        if not zone or zone not in tree or tree.covers(zone, self._zone) or not tree.covers(self._zone, zone):
            raise Invalid("zone", f"must be a known zone below {self._zone}")
        terms = contract_terms.default_charter(tree.canonical(zone))
        if request.charter_facts:
            del terms.facts[:]
            terms.facts.extend(request.charter_facts)
        return terms

    async def _check_overlap(self, tx: Tx, zone: str, node: str) -> None:
        """Raise WrongState when a zone lies in, or around, one of another node. The delegations are locked."""
        tree = self._zones()
        for other, other_node in (await membership_store.promised(tx.conn, tx.now)).items():
            if other_node != node and (tree.covers(other, zone) or tree.covers(zone, other)):
                text = f"zones/{other} is delegated or offered to {other_node} already"
                raise WrongState(Reason.ZONE_DELEGATED, text, zone=other, node=other_node)

    # ----------------------------------------------------------------------------------------- being asked

    async def admit(self, request: link_pb2.JoinRequest) -> link_pb2.JoinResponse:
        """Take a node's request, or say how it stands. The same joiner may ask again, with the same token and card."""
        card = trust_list.opened_card(request.card, self._node)
        used_by = hashlib.sha256(request.card.card).digest()
        own = await self.card(card.node)

        async def work(tx: Tx) -> link_pb2.JoinResponse:
            await membership_store.lock_delegations(tx.conn)
            invited = await membership_store.invitation(tx.conn, hashed(request.token))
            if invited is None or invited.node != card.node or invited.expires_at <= tx.now:
                raise Forbidden(Reason.JOIN_TOKEN_INVALID, "the token is not valid for this node")
            if invited.used_by is None:
                await self._take_request(tx, invited, card, used_by)
            elif invited.used_by != used_by:
                raise Forbidden(Reason.JOIN_TOKEN_INVALID, "the token was used already")
            return await self._answer(tx, invited, card, own)

        return await self._transactions.run(work)

    async def _take_request(self, tx: Tx, invited: Invited, card: link_pb2.NodeCard, used_by: bytes) -> None:
        if invited.kind == pb.PEER_KIND_CHILD:
            tree = self._zones()
            if tree.canonical(card.zone) != tree.canonical(invited.zone):
                raise Invalid("card.zone", f"must be {invited.zone}, as in the invitation")
            await self._check_overlap(tx, invited.zone, card.node)
        # A request that cannot be served is refused before people spend their time on it.
        self._authority.issue(card.node, card.certificate_request, tx.now)
        await add_peer(tx, self._trust, card, kind=invited.kind, state=pb.PEER_STATE_REQUESTED)
        expires = tx.now + timedelta(days=REQUEST_DAYS)
        await membership_store.use_invitation(tx.conn, invited.token_hash, used_by, expires)
        wanted = Requested(card.node, invited.token_hash, expires, invited.kind, invited.zone, invited.charter)
        await membership_store.request(tx.conn, wanted)
        await state_peer(tx, self._trust, card.node)
        tx.audit("federation.peers.request", f"peers/{card.node}", fingerprint=pki.fingerprint(card.root_certificate))

    async def _answer(
        self, tx: Tx, invited: Invited, card: link_pb2.NodeCard, own: link_pb2.SignedNodeCard
    ) -> link_pb2.JoinResponse:
        peer = await peers_store.get(tx.conn, card.node)
        if peer.state == pb.PEER_STATE_REJECTED:
            raise Forbidden(Reason.JOIN_REJECTED, peer.state_reason or "the request was turned away")
        if peer.state not in {pb.PEER_STATE_REQUESTED, pb.PEER_STATE_ACTIVE}:
            raise Forbidden(Reason.PEER_ENDED, peer.state_reason or "the membership does not stand")
        child = invited.kind == pb.PEER_KIND_CHILD
        kind = pb.PEER_KIND_PARENT if child else pb.PEER_KIND_PARTNER
        response = link_pb2.JoinResponse(card=own, kind=kind, state=peer.state)  # type: ignore[arg-type]
        if peer.state == pb.PEER_STATE_ACTIVE:
            response.certificate = await self._certificates.issue(tx, card.node, card.certificate_request)
            if child:
                charter = await contracts_store.newest_charter(tx.conn, card.node)
                response.charter.CopyFrom(charter)
        return response

    # -------------------------------------------------------------------------------------------- deciding

    async def approve(self, tx: Tx, node: str, fingerprint: str, person: str) -> None:
        """Take one person's approval; the second makes the node a peer.

        Raises WrongState for the same person again, Forbidden for a program or a fingerprint that differs.
        """
        if not person.startswith(PERSON_PREFIX):
            raise Forbidden(Reason.APPROVAL_BY_PERSON, "only a person can compare a fingerprint and approve")
        await membership_store.lock_delegations(tx.conn)
        peer = await peers_store.get(tx.conn, node, lock=True)
        if peer.state != pb.PEER_STATE_REQUESTED:
            raise _not_waiting(peer)
        if fingerprint != pki.fingerprint(peer.root_certificate):
            raise Forbidden(Reason.FINGERPRINT_DIFFERS, f"the fingerprint is not the one with which {node} asked")
        wanted = await membership_store.requested(tx.conn, node)
        await membership_store.approve(tx.conn, Approval(node, person, fingerprint, tx.now))
        given = len((await membership_store.approvals(tx.conn, [node]))[node])
        tx.audit("federation.peers.approve", f"peers/{node}", fingerprint=fingerprint, approvals=given)
        if given >= APPROVALS_NEEDED:
            await self._activate(tx, peer, wanted)
        await state_peer(tx, self._trust, node)

    async def _activate(self, tx: Tx, peer: Peer, wanted: Requested) -> None:
        await membership_store.settle_request(tx.conn, peer.node)
        await peers_store.set_state(tx.conn, peer.node, pb.PEER_STATE_ACTIVE, "", tx.now)
        if wanted.charter and wanted.kind == pb.PEER_KIND_CHILD:
            await self._check_overlap(tx, wanted.zone, peer.node)
            await self._delegate(tx, wanted.zone, peer.node)
            await self._negotiator.begin_charter(tx, peer.node, pb.Terms.FromString(wanted.charter))
        tx.audit("federation.peers.join", f"peers/{peer.node}", zone=wanted.zone)

    async def _delegate(self, tx: Tx, zone: str, node: str) -> None:
        """Give a zone to a child under its present code, also when it had the zone under a former one."""
        tree = self._zones()
        for before in await membership_store.delegated_to(tx.conn, node):
            if tree.canonical(before) == tree.canonical(zone):
                await membership_store.undelegate(tx.conn, before)
        await membership_store.delegate(tx.conn, tree.canonical(zone), node)

    async def reject(self, tx: Tx, node: str, reason: str) -> None:
        """Turn a request away. Repeating it changes nothing."""
        peer = await peers_store.get(tx.conn, node, lock=True)
        if peer.state == pb.PEER_STATE_REJECTED:
            return
        if peer.state != pb.PEER_STATE_REQUESTED:
            raise _not_waiting(peer)
        await membership_store.settle_request(tx.conn, node)
        await peers_store.set_state(tx.conn, node, pb.PEER_STATE_REJECTED, reason, tx.now)
        await state_peer(tx, self._trust, node)
        tx.audit("federation.peers.reject", f"peers/{node}", reason=reason)

    async def lapse(self) -> None:
        """End what nobody used or decided in time, with an alarm that says so."""

        async def work(tx: Tx) -> None:
            for node in await membership_store.lapsed_invitations(tx.conn, tx.now):
                tx.audit("federation.peers.invitation_lapsed", f"peers/{node}")
            for node in await membership_store.lapsed_requests(tx.conn, tx.now):
                text = f"nobody decided about the request of {node} within {REQUEST_DAYS} days"
                await self.reject(tx, node, text)
                await alarms.set_alarm(tx, peer=node, name=JOIN_UNANSWERED, text=text)

        await self._transactions.run(work)


async def add_peer(tx: Tx, trust: Trust, card: link_pb2.NodeCard, *, kind: int, state: int) -> None:
    """Keep a node as a peer, also one whose earlier membership is over.

    Raises WrongState for a peer that is one, Forbidden for a trust list that is older than one that is known.
    """
    peer = NewPeer(
        node=card.node,
        title=card.title,
        kind=kind,
        state=state,
        zone=card.zone,
        link_address=card.link_address,
        dial=False,
        root_certificate=card.root_certificate,
        certificate="",
        epoch=new_id(),
        joined_at=tx.now,
        join_address=card.join_address,
    )
    before = await peers_store.find(tx.conn, card.node)
    await trust.pin(tx, card, before)
    if before is None:
        await peers_store.add(tx.conn, peer)
    elif before.state in OVER or before.state == state == pb.PEER_STATE_REQUESTED:
        await peers_store.readmit(tx.conn, peer)
        await alarms.clear_alarm(tx, peer=card.node, name=JOIN_UNANSWERED)
    else:
        raise WrongState(Reason.WRONG_STATE, f"{card.node} is a peer already", peer=card.node)


async def state_peer(tx: Tx, trust: Trust, node: str) -> None:
    """State what a peer is now, on the bus and in this node's trust list."""
    await trust.restate(tx, node)
    peer = await peers_store.get(tx.conn, node)
    stated = pb.Peer(
        name=f"peers/{node}",
        node=node,
        title=peer.title,
        kind=peer.kind,  # type: ignore[arg-type]  # numbers from the store
        state=peer.state,  # type: ignore[arg-type]
        zone=peer.zone,
        root_fingerprint=pki.fingerprint(peer.root_certificate),
        state_reason=peer.state_reason,
    )
    stated.approvals.extend(shown_approvals((await membership_store.approvals(tx.conn, [node]))[node]))
    tx.publish(facts_pb2.PeerChanged(peer=stated), zone=tx.zone, key=stated.name)


def shown_approvals(approvals: list[Approval]) -> list[pb.PeerApproval]:
    """Return approvals as they are shown."""
    shown = []
    for approval in approvals:
        message = pb.PeerApproval(person=approval.person, root_fingerprint=approval.root_fingerprint)
        message.time.FromDatetime(approval.time)
        shown.append(message)
    return shown


def hashed(token: str) -> bytes:
    """Return what is kept of a token, 32 bytes."""
    return hashlib.sha256(token.encode()).digest()


def _not_waiting(peer: Peer) -> WrongState:
    name = pb.PeerState.Name(peer.state)  # type: ignore[arg-type]  # a number from the store
    return WrongState(Reason.WRONG_STATE, f"peers/{peer.node} does not wait for approval", state=name)
