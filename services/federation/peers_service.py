"""FederationService, the half about peers: inviting, joining, looking at them and at what they offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from libs import names, paging
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import link_status, membership_store, peers_store, pki
from services.federation.membership import shown_approvals
from services.federation.standing_service import StandingHandler

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from services.federation.hub import Hub
    from services.federation.joining import Joiner
    from services.federation.link_status import LinkStatus
    from services.federation.membership import Membership
    from services.federation.peers_store import Peer
    from services.federation.queries import Questions
    from services.federation.standing import Standing

    Context = grpc.aio.ServicerContext[Any, Any]

PEER = "peers/{peer}"
CATALOGUE_TIMEOUT_S = 15.0


class PeersHandler:
    """What the methods about peers do."""

    def __init__(
        self,
        transactions: Transactions,
        membership: Membership,
        joiner: Joiner,
        standing: Standing,
        hub: Hub,
        questions: Questions,
    ) -> None:
        self._transactions = transactions
        self._membership = membership
        self._joiner = joiner
        self._hub = hub
        self.standing = StandingHandler(transactions, standing, self.described)
        self._questions = questions

    async def invite(self, request: pb.CreateInvitationRequest) -> pb.CreateInvitationResponse:
        return pb.CreateInvitationResponse(invitation=await self._membership.invite(request))

    async def join(self, request: pb.JoinPeerRequest) -> pb.JoinPeerResponse:
        node = await self._joiner.join(request.invitation, request.root_fingerprint_confirmed)
        peer = await self._transactions.read(lambda conn: self.described(conn, node))
        return pb.JoinPeerResponse(peer=peer, root_fingerprint=self._membership.root_fingerprint)

    async def approve(self, request: pb.ApprovePeerRequest, person: str) -> pb.ApprovePeerResponse:
        node = names.parse(request.name, PEER)["peer"]

        async def work(tx: Tx) -> pb.ApprovePeerResponse:
            await self._membership.approve(tx, node, request.root_fingerprint, person)
            return pb.ApprovePeerResponse(peer=await self.described(tx.conn, node))

        return await self._transactions.mutate(request, pb.ApprovePeerResponse, work)

    async def reject(self, request: pb.RejectPeerRequest) -> pb.RejectPeerResponse:
        node = names.parse(request.name, PEER)["peer"]

        async def work(tx: Tx) -> pb.RejectPeerResponse:
            await self._membership.reject(tx, node, request.reason)
            return pb.RejectPeerResponse(peer=await self.described(tx.conn, node))

        return await self._transactions.mutate(request, pb.RejectPeerResponse, work)

    async def get(self, request: pb.GetPeerRequest) -> pb.GetPeerResponse:
        node = names.parse(request.name, PEER)["peer"]
        return pb.GetPeerResponse(peer=await self._transactions.read(lambda conn: self.described(conn, node)))

    async def page(self, request: pb.ListPeersRequest) -> pb.ListPeersResponse:
        size = paging.size(request.page_size)
        after = paging.after(request.page_token, str, of="peers")
        last = after[0] if after else ""

        async def read(conn: Connection) -> tuple[list[pb.Peer], str]:
            rows = await peers_store.page(conn, last, size + 1)
            page, token = paging.page(rows, size, lambda row: (row.node,), of="peers")
            return await self._describe(conn, page), token

        peers, token = await self._transactions.read(read)
        return pb.ListPeersResponse(peers=peers, next_page_token=token)

    async def products(self, request: pb.ListPeerProductsRequest, actor: str) -> pb.ListPeerProductsResponse:
        """Ask the peer what it offers."""
        node = names.parse(request.peer, PEER, field="peer")["peer"]
        session = await self._hub.reach(node)
        query = link_pb2.Query(actor=actor, products=request)
        answer = await self._questions.ask(session, query, CATALOGUE_TIMEOUT_S)
        return pb.ListPeerProductsResponse(products=answer.products)

    async def described(self, conn: Connection, node: str) -> pb.Peer:
        """Return a peer as it is shown. Raises NotFound."""
        return (await self._describe(conn, [await peers_store.get(conn, node)]))[0]

    async def _describe(self, conn: Connection, rows: Sequence[Peer]) -> list[pb.Peer]:
        nodes = [row.node for row in rows]
        statuses = await link_status.of_peers(conn, nodes)
        approvals = await membership_store.approvals(conn, nodes)
        described = []
        for row in rows:
            peer = _peer(row, statuses[row.node], connected=self._hub.connected(row.node))
            peer.approvals.extend(shown_approvals(approvals[row.node]))
            described.append(peer)
        return described


def _peer(peer: Peer, status: LinkStatus, *, connected: bool) -> pb.Peer:
    described = pb.Peer(
        name=f"peers/{peer.node}",
        node=peer.node,
        title=peer.title,
        kind=peer.kind,  # type: ignore[arg-type]  # a number from the store
        state=peer.state,  # type: ignore[arg-type]
        zone=peer.zone,
        link_address=peer.link_address,
        connected=connected,
        root_fingerprint=pki.fingerprint(peer.root_certificate),
        last_error="" if connected else peer.last_error,
        state_reason=peer.state_reason,
    )
    link_status.describe(described, status)
    described.joined_at.FromDatetime(peer.joined_at)
    for field, value in (
        ("last_contact", peer.last_contact),
        ("certificate_expires_at", pki.expires_at(peer.certificate)),
    ):
        if value is not None:
            getattr(described, field).FromDatetime(value)
    return described
