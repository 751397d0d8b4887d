"""FederationService, the half about peers: inviting, joining, looking at them and at what they offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from libs import names, paging
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import alarms, peers_store, pki

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from libs.db import Connection
    from libs.tx import Transactions
    from services.federation.alarms import Alarm
    from services.federation.hub import Hub
    from services.federation.membership import Membership
    from services.federation.peers_store import Backlog, Peer
    from services.federation.queries import Questions

    Context = grpc.aio.ServicerContext[Any, Any]

PEER = "peers/{peer}"
CATALOGUE_TIMEOUT_S = 15.0


class PeersHandler:
    """What the methods about peers do."""

    def __init__(self, transactions: Transactions, membership: Membership, hub: Hub, questions: Questions) -> None:
        self._transactions = transactions
        self._membership = membership
        self._hub = hub
        self._questions = questions

    async def invite(self, request: pb.CreateInvitationRequest) -> pb.CreateInvitationResponse:
        return pb.CreateInvitationResponse(invitation=await self._membership.invite(request))

    async def join(self, request: pb.JoinPeerRequest) -> pb.JoinPeerResponse:
        node, charter = await self._membership.join(request.invitation)
        return pb.JoinPeerResponse(peer=await self._described(node), contract=charter)

    async def get(self, request: pb.GetPeerRequest) -> pb.GetPeerResponse:
        node = names.parse(request.name, PEER)["peer"]
        return pb.GetPeerResponse(peer=await self._described(node))

    async def page(self, request: pb.ListPeersRequest) -> pb.ListPeersResponse:
        size = paging.size(request.page_size)
        after = paging.after(request.page_token, str, of="peers")
        last = after[0] if after else ""

        async def read(conn: Connection) -> tuple[list[Peer], dict[str, Backlog], dict[str, list[Alarm]]]:
            rows = await peers_store.page(conn, last, size + 1)
            nodes = [row.node for row in rows]
            return rows, await peers_store.backlogs(conn, nodes), await alarms.of_peers(conn, nodes)

        rows, backlogs, alarmed = await self._transactions.read(read)
        page, token = paging.page(rows, size, lambda row: (row.node,), of="peers")
        peers = [
            _peer(row, backlogs[row.node], alarmed[row.node], connected=self._hub.connected(row.node)) for row in page
        ]
        return pb.ListPeersResponse(peers=peers, next_page_token=token)

    async def products(self, request: pb.ListPeerProductsRequest, actor: str) -> pb.ListPeerProductsResponse:
        """Ask the peer what it offers."""
        node = names.parse(request.peer, PEER, field="peer")["peer"]
        session = await self._hub.reach(node)
        query = link_pb2.Query(actor=actor, products=request)
        answer = await self._questions.ask(session, query, CATALOGUE_TIMEOUT_S)
        return pb.ListPeerProductsResponse(products=answer.products)

    async def _described(self, node: str) -> pb.Peer:
        async def read(conn: Connection) -> tuple[Peer, Backlog, list[Alarm]]:
            backlogs, alarmed = await peers_store.backlogs(conn, [node]), await alarms.of_peers(conn, [node])
            return await peers_store.get(conn, node), backlogs[node], alarmed[node]

        peer, backlog, alarmed = await self._transactions.read(read)
        return _peer(peer, backlog, alarmed, connected=self._hub.connected(node))


def _peer(peer: Peer, backlog: Backlog, alarmed: Sequence[Alarm], *, connected: bool) -> pb.Peer:
    described = pb.Peer(
        name=f"peers/{peer.node}",
        node=peer.node,
        title=peer.title,
        kind=peer.kind,  # type: ignore[arg-type]  # a number from the store
        state=peer.state,  # type: ignore[arg-type]
        zone=peer.zone,
        link_address=peer.link_address,
        connected=connected,
        backlog=backlog.envelopes,
        sent=peer.acknowledged,
        received=peer.received,
        root_fingerprint=pki.fingerprint(peer.root_certificate),
        last_error="" if connected else peer.last_error,
        # One may be set for several contracts.
        alarms=list(dict.fromkeys(alarm.name for alarm in alarmed)),
    )
    described.joined_at.FromDatetime(peer.joined_at)
    for field, value in (
        ("last_contact", peer.last_contact),
        ("oldest_unacknowledged", backlog.oldest),
        ("certificate_expires_at", pki.expires_at(peer.certificate)),
    ):
        if value is not None:
            getattr(described, field).FromDatetime(value)
    return described
