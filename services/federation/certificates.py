"""Certificates for peers: issued at joining and again before they end, over the stream or, after it, by signature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.errors import DomainError, Forbidden, NotFound, Reason
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import certificates_store, peers_store, pki, trust_store
from services.federation.signing import check_renewal

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx
    from services.federation.link import LinkSession
    from services.federation.trust import Trust


class Certificates:
    """Issues certificates in this node's name."""

    def __init__(self, node: str, trust: Trust, transactions: Transactions) -> None:
        self._node = node
        self._trust = trust
        self._authority = trust.authority
        self._transactions = transactions

    async def issue(self, tx: Tx, peer: str, request_pem: str) -> str:
        """Issue the certificate with which a peer may call this node. Raises Invalid, Forbidden for a revoked key."""
        certificate = self._authority.issue(peer, request_pem, tx.now)
        key = pki.key_name(certificate)
        if await certificates_store.key_revoked(tx.conn, key):
            raise Forbidden(Reason.CERTIFICATE_ENDED, "the key is one that was revoked: make another")
        _, ends = pki.lifetime(certificate)
        await certificates_store.add(tx.conn, pki.serial(certificate), peer, key, ends, tx.now)
        tx.audit("federation.certificates.issue", f"peers/{peer}", serial=pki.serial(certificate))
        return certificate

    async def renew(self, request: link_pb2.RenewCertificateRequest) -> link_pb2.RenewCertificateResponse:
        """Issue the next certificate to a peer that has signed for it. Raises Forbidden."""

        async def work(tx: Tx) -> str:
            try:
                peer = await peers_store.get(tx.conn, request.node)
            except NotFound as error:
                raise Forbidden(Reason.PEER_NOT_FOUND, "the request names no peer of this node") from error
            if request.HasField("trust_list"):
                await self._trust.hear(tx, peer, request.trust_list)
            ring = await trust_store.ring(tx.conn, peer.node)
            check_renewal(request, self._node, ring.at(request.key_id, tx.now))
            require_active(peer)
            return await self.issue(tx, peer.node, request.certificate_request)

        return link_pb2.RenewCertificateResponse(certificate=await self._transactions.run(work))

    async def asked(self, session: LinkSession, frame: link_pb2.Frame) -> None:
        """Answer a CertificateRequest on the stream."""

        async def work(tx: Tx) -> str:
            require_active(await peers_store.get(tx.conn, session.peer))
            return await self.issue(tx, session.peer, frame.certificate_request.request)

        try:
            issued = link_pb2.IssuedCertificate(certificate=await self._transactions.run(work))
        except DomainError as error:
            issued = link_pb2.IssuedCertificate(reason=error.message)
        await session.send(link_pb2.Frame(certificate=issued))


def require_active(peer: peers_store.Peer) -> None:
    """Raise Forbidden, with the reason that the peer may know, unless it is active."""
    if peer.state == pb.PEER_STATE_ACTIVE:
        return
    if peer.state in {pb.PEER_STATE_SUSPENDED, pb.PEER_STATE_REQUESTED}:
        raise Forbidden(Reason.PEER_SUSPENDED, f"{peer.node} is suspended: {peer.state_reason}", peer=peer.node)
    name = pb.PeerState.Name(peer.state).removeprefix("PEER_STATE_")  # type: ignore[arg-type]
    raise Forbidden(Reason.PEER_ENDED, f"{name}: {peer.state_reason}", peer=peer.node)
