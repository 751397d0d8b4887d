"""The two ports that other nodes reach: joining with a one-time token, and the link with a pinned certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from libs.access import Caller, Grants, Kind
from libs.errors import NotFound, Reason, Unauthenticated
from libs.rpc import Server
from quintet.federation.v1 import link_pb2, link_pb2_grpc
from services.federation import certificates_store, peers_store, pki
from services.federation.certificates import require_active
from services.federation.link import Wire
from services.federation.pki import spiffe_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from libs.methods import Method
    from libs.tx import Transactions
    from libs.zones import ZoneTree
    from services.federation.certificates import Certificates
    from services.federation.hub import Hub
    from services.federation.membership import Membership

Context = grpc.aio.ServicerContext[Any, Any]
SAN = "x509_subject_alternative_name"


class CertificateAuthenticator:
    """Callers of the link port: peers, by the certificate that this node issued to them."""

    def __init__(self, node: str, transactions: Transactions, zones: Callable[[], ZoneTree]) -> None:
        self._prefix = spiffe_id(node, "")
        self._transactions = transactions
        self._zones = zones

    async def authenticate(self, method: Method, token: str, context: Context) -> Caller:
        """Return the peer. Raises Unauthenticated for a certificate, and Forbidden for a peer, that does not hold."""
        names = [name.decode() for name in context.auth_context().get(SAN, ())]
        node = next((name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix)), "")
        try:
            peer = await self._transactions.read(lambda conn: peers_store.get(conn, node))
        except NotFound as error:
            raise Unauthenticated(Reason.PEER_NOT_FOUND, "the certificate names no peer of this node") from error
        require_active(peer)
        serial = pki.serial(shown(context))
        if not await self._transactions.read(lambda conn: certificates_store.good(conn, [serial])):
            raise Unauthenticated(Reason.CERTIFICATE_ENDED, "the certificate was revoked")
        return Caller(f"nodes/{node}", Kind.PEER, Grants(f"nodes/{node}", [], self._zones))


class JoinerAuthenticator:
    """Callers of the join port: anybody who can reach it; the token in the request is what counts."""

    def __init__(self, zones: Callable[[], ZoneTree]) -> None:
        self._zones = zones

    async def authenticate(self, method: Method, token: str, context: Context) -> Caller:
        """Return a caller without any grants."""
        return Caller("nodes/joiner", Kind.PEER, Grants("nodes/joiner", [], self._zones))


class LinkServicer(link_pb2_grpc.LinkServiceServicer):
    """Serves the streams that peers open."""

    def __init__(self, node: str, hub: Hub, transactions: Transactions) -> None:
        self._hub = hub
        self._transactions = transactions
        self._prefix = spiffe_id(node, "")

    async def Exchange(self, requests: AsyncIterator[link_pb2.ExchangeRequest], context: Context) -> None:  # type: ignore[override]
        """Run a session until the stream ends."""
        names = [name.decode() for name in context.auth_context().get(SAN, ())]
        node = next(name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix))
        peer = await self._transactions.read(lambda conn: peers_store.get(conn, node))
        await self._hub.serve(peer, _server_wire(requests, context), dialled_by=node, shown=shown(context))


class MembershipServicer(link_pb2_grpc.MembershipServiceServicer):
    """Serves joiners."""

    def __init__(self, membership: Membership, certificates: Certificates) -> None:
        self._membership = membership
        self._certificates = certificates

    async def Join(self, request: link_pb2.JoinRequest, context: Context) -> link_pb2.JoinResponse:
        """Take a node's request to join, or say how it stands."""
        return await self._membership.admit(request)

    async def RenewCertificate(
        self, request: link_pb2.RenewCertificateRequest, context: Context
    ) -> link_pb2.RenewCertificateResponse:
        """Issue the next certificate to a peer that signs for it."""
        return await self._certificates.renew(request)


def join_server(authenticator: JoinerAuthenticator, servicer: MembershipServicer) -> Server:
    """Return the server of the join port."""
    server = Server("federation", authenticator, peers=True)
    service = link_pb2.DESCRIPTOR.services_by_name["MembershipService"]
    server.add(link_pb2_grpc.add_MembershipServiceServicer_to_server, servicer, service)
    return server


def link_server(authenticator: CertificateAuthenticator, servicer: LinkServicer) -> Server:
    """Return the server of the link port."""
    server = Server("federation", authenticator, peers=True)
    service = link_pb2.DESCRIPTOR.services_by_name["LinkService"]
    server.add(link_pb2_grpc.add_LinkServiceServicer_to_server, servicer, service)
    return server


def shown(context: Context) -> str:
    """Return the certificate that the caller has shown, PEM."""
    return next(iter(context.auth_context()["x509_pem_cert"])).decode()


def _server_wire(requests: AsyncIterator[link_pb2.ExchangeRequest], context: Context) -> Wire:
    async def send(frame: link_pb2.Frame) -> None:
        await context.write(link_pb2.ExchangeResponse(frame=frame))

    async def receive() -> link_pb2.Frame | None:
        request = await anext(requests, None)
        return None if request is None else request.frame

    return Wire(send, receive)
