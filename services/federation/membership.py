"""Joining: a one-time token and a pinned fingerprint become certificates, keys and, for a child, the charter."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
from google.rpc import status_pb2

from libs.errors import DETAILS_KEY, Away, Forbidden, Invalid, Reason, WrongState, from_status
from libs.ids import new_id
from quintet.federation.v1 import facts_pb2, link_pb2, link_pb2_grpc
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import contracts_store, peers_store, pki
from services.federation import terms as contract_terms
from services.federation.hub import key_name
from services.federation.peers_store import Invited, NewPeer
from services.federation.signing import SIGNING_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from libs.config import Secrets
    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.federation.negotiation import Negotiator
    from services.federation.signing import NodeSigner

TOKEN_BYTES = 32
INVITATION_MINUTES_DEFAULT = 60
JOIN_TIMEOUT_S = 15.0
NODE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Membership:
    """Invites and admits nodes, and joins other nodes."""

    def __init__(
        self,
        *,
        node: str,
        title: str,
        zone: str,
        authority: pki.Authority,
        signer: NodeSigner,
        secrets_folder: Secrets,
        transactions: Transactions,
        negotiator: Negotiator,
        zones: Callable[[], ZoneTree],
    ) -> None:
        self._node = node
        self._title = title
        self._zone = zone
        self._authority = authority
        self._signer = signer
        self._secrets = secrets_folder
        self._transactions = transactions
        self._negotiator = negotiator
        self._zones = zones
        # Known once the ports listen.
        self.join_address = ""
        self.link_address = ""

    # -------------------------------------------------------------------------------------------- inviting

    async def invite(self, request: pb.CreateInvitationRequest) -> pb.Invitation:
        """Make an invitation. Raises Invalid or WrongState when the zone cannot be delegated."""
        if request.kind not in {pb.PEER_KIND_CHILD, pb.PEER_KIND_PARTNER}:
            raise Invalid("kind", "must be PEER_KIND_CHILD or PEER_KIND_PARTNER")
        if request.node == self._node:
            raise Invalid("node", "must be another node")
        terms = pb.Terms()
        if request.kind == pb.PEER_KIND_CHILD:
            await self._check_zone(request.zone)
            terms = contract_terms.default_charter(request.zone)
            if request.charter_facts:
                del terms.facts[:]
                terms.facts.extend(request.charter_facts)
        elif request.zone:
            raise Invalid("zone", "must be empty for a partner")
        token = secrets.token_urlsafe(TOKEN_BYTES)
        minutes = request.valid_minutes or INVITATION_MINUTES_DEFAULT

        async def work(tx: Tx) -> datetime:
            expires = tx.now + timedelta(minutes=minutes)
            charter = terms.SerializeToString()
            invited = Invited(_hash(token), request.node, request.kind, request.zone, charter, expires, None, None)
            await peers_store.invite(tx.conn, invited)
            tx.audit("federation.peers.invite", f"peers/{request.node}", zone=request.zone)
            return expires

        expires = await self._transactions.run(work)
        root = self._authority.root_certificate
        invitation = pb.Invitation(
            token=token,
            node=self._node,
            join_address=self.join_address,
            root_fingerprint=pki.fingerprint(root),
            root_certificate=root,
        )
        invitation.expires_at.FromDatetime(expires)
        return invitation

    async def _check_zone(self, zone: str) -> None:
        tree = self._zones()
        if not zone or zone not in tree or zone == self._zone or not tree.covers(self._zone, zone):
            raise Invalid("zone", f"must be a known zone below {self._zone}")
        taken = await self._transactions.read(peers_store.delegated)
        for other, node in taken.items():
            if tree.covers(other, zone) or tree.covers(zone, other):
                text = f"zones/{other} is delegated to {node} already"
                raise WrongState(Reason.ZONE_DELEGATED, text, zone=other, node=node)

    # ------------------------------------------------------------------------------------------- admitting

    async def admit(self, request: link_pb2.JoinRequest) -> link_pb2.JoinResponse:
        """Admit a joiner. The same joiner may ask again with the same token, and gets the same answer."""
        _check_card(request.card)
        used_by = hashlib.sha256(request.card.SerializeToString(deterministic=True)).digest()

        async def work(tx: Tx) -> link_pb2.JoinResponse:
            invited = await peers_store.invitation(tx.conn, _hash(request.token))
            if invited is None or invited.node != request.card.node or invited.expires_at <= tx.now:
                raise Forbidden(Reason.JOIN_TOKEN_INVALID, "the token is not valid for this node")
            if invited.used_by is not None:
                if invited.used_by != used_by or invited.response is None:
                    raise Forbidden(Reason.JOIN_TOKEN_INVALID, "the token was used already")
                return link_pb2.JoinResponse.FromString(invited.response)
            response = await self._admit(tx, invited, request.card)
            await peers_store.use_invitation(tx.conn, invited.token_hash, used_by, response.SerializeToString())
            return response

        return await self._transactions.run(work)

    async def _admit(self, tx: Tx, invited: Invited, card: link_pb2.NodeCard) -> link_pb2.JoinResponse:
        child = invited.kind == pb.PEER_KIND_CHILD
        if child and card.zone != invited.zone:
            raise Invalid("card.zone", f"must be {invited.zone}, as in the invitation")
        response = link_pb2.JoinResponse(
            card=self._card(card.node),
            certificate=self._authority.issue(card.node, card.certificate_request, tx.now),
            kind=pb.PEER_KIND_PARENT if child else pb.PEER_KIND_PARTNER,
        )
        # The joiner opens the stream; this node may, too, once the joiner has sent a certificate for it.
        await self._add_peer(tx, card, invited.kind, certificate="")
        if child:
            await peers_store.delegate(tx.conn, invited.zone, card.node)
            charter = self._negotiator.charter(card.node, pb.Terms.FromString(invited.charter))
            digest = contract_terms.agreement_hash(charter)
            await contracts_store.insert(tx.conn, charter, card.node, digest, tx.now)
            charter.agreement_hash = digest.hex()
            response.charter.CopyFrom(charter)
        return response

    # --------------------------------------------------------------------------------------------- joining

    async def join(self, invitation: pb.Invitation) -> tuple[str, pb.Contract | None]:
        """Join the inviting node; return its id and, for a child, the charter. Raises what the other refused with."""
        if (
            pki.fingerprint(invitation.root_certificate, field="invitation.rootCertificate")
            != invitation.root_fingerprint
        ):
            raise Invalid("invitation.rootFingerprint", "must be the fingerprint of the root certificate")
        if not invitation.token:
            raise Invalid("invitation.token", "is required")
        card = self._card(invitation.node)
        response = await _call_join(invitation, link_pb2.JoinRequest(token=invitation.token, card=card))
        _check_card(response.card)
        if response.card.node != invitation.node or response.card.root_certificate != invitation.root_certificate:
            raise Forbidden(Reason.SIGNATURE_INVALID, "the node that answered is not the one that invited")
        pki.check_issued(response.certificate, invitation.root_certificate, pki.spiffe_id(invitation.node, self._node))
        return invitation.node, await self._transactions.run(lambda tx: self._joined(tx, response))

    async def _joined(self, tx: Tx, response: link_pb2.JoinResponse) -> pb.Contract | None:
        issued = ""
        if response.kind == pb.PEER_KIND_PARTNER:
            issued = self._authority.issue(response.card.node, response.card.certificate_request, tx.now)
        await self._add_peer(tx, response.card, response.kind, response.certificate, issued)
        if not response.HasField("charter"):
            return None
        peer = await peers_store.get(tx.conn, response.card.node)
        return await self._negotiator.accept_charter(tx, response.charter, peer)

    # ---------------------------------------------------------------------------------------------- common

    def _card(self, peer: str) -> link_pb2.NodeCard:
        """Return this node's card for one peer. The key of the request is made once per peer, so that asking again is
        asking the same.
        """
        try:
            request = self._secrets.read(f"peer-request-{peer}")
        except FileNotFoundError:
            key, request = pki.request_certificate(self._node)
            self._secrets.set(key_name(peer), key)
            self._secrets.set(f"peer-request-{peer}", request)
        return link_pb2.NodeCard(
            node=self._node,
            title=self._title,
            zone=self._zone,
            root_certificate=self._authority.root_certificate,
            signing_key=self._signer.public_key,
            link_address=self.link_address,
            certificate_request=request,
        )

    async def _add_peer(
        self, tx: Tx, card: link_pb2.NodeCard, kind: int, certificate: str, issued_certificate: str = ""
    ) -> None:
        peer = NewPeer(
            node=card.node,
            title=card.title,
            kind=kind,
            state=pb.PEER_STATE_ACTIVE,
            zone=card.zone,
            link_address=card.link_address,
            dial=bool(certificate),
            root_certificate=card.root_certificate,
            signing_key=card.signing_key,
            certificate=certificate,
            issued_certificate=issued_certificate,
            epoch=new_id(),
            joined_at=tx.now,
        )
        await peers_store.add(tx.conn, peer)
        stated = pb.Peer(
            name=f"peers/{card.node}",
            node=card.node,
            title=card.title,
            kind=kind,  # type: ignore[arg-type]  # a number from the store
            state=pb.PEER_STATE_ACTIVE,
            zone=card.zone,
            root_fingerprint=pki.fingerprint(card.root_certificate),
        )
        tx.publish(facts_pb2.PeerChanged(peer=stated), zone=self._zone, key=stated.name)
        tx.audit("federation.peers.join", stated.name, fingerprint=stated.root_fingerprint)


async def _call_join(invitation: pb.Invitation, request: link_pb2.JoinRequest) -> link_pb2.JoinResponse:
    trust = grpc.ssl_channel_credentials(root_certificates=invitation.root_certificate.encode())
    options = [("grpc.ssl_target_name_override", invitation.node)]
    async with grpc.aio.secure_channel(invitation.join_address, trust, options) as channel:
        try:
            response: link_pb2.JoinResponse = await link_pb2_grpc.MembershipServiceStub(channel).Join(
                request, timeout=JOIN_TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            raise _refusal(error, invitation.node) from error
    return response


def _refusal(error: grpc.aio.AioRpcError, node: str) -> Exception:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            raised = from_status(status_pb2.Status.FromString(value))
            if raised is not None:
                return raised
    return Away(Reason.PEER_AWAY, f"{node} does not answer: {error.code().name}", peer=node)


def _check_card(card: link_pb2.NodeCard) -> None:
    """Check what another node says of itself. Raises Invalid."""
    if not NODE_ID.fullmatch(card.node):
        raise Invalid("card.node", f"must match {NODE_ID.pattern}")
    if len(card.signing_key) != SIGNING_KEY_BYTES:
        raise Invalid("card.signingKey", f"must have {SIGNING_KEY_BYTES} bytes")
    pki.fingerprint(card.root_certificate, field="card.rootCertificate")


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
