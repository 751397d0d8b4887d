"""FederationService, the part about what becomes of a membership after joining."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from libs import names
from quintet.federation.v1 import federation_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from services.federation.standing import Standing

    # Describes a peer, within the transaction that changes it.
    Describe = Callable[[Connection, str], Awaitable[pb.Peer]]
    # Does it to a node, or a zone, for a reason; returns the node that it was done to where its name was not given.
    Act = Callable[[Tx, str, str], Awaitable[str | None]]
    Request = (
        pb.SuspendPeerRequest
        | pb.ResumePeerRequest
        | pb.LeavePeerRequest
        | pb.ExpelPeerRequest
        | pb.WithdrawZoneRequest
        | pb.RevokeCertificateRequest
    )

PEER = "peers/{peer}"
ZONE = "zones/{zone}"
Response = TypeVar(
    "Response",
    pb.SuspendPeerResponse,
    pb.ResumePeerResponse,
    pb.LeavePeerResponse,
    pb.ExpelPeerResponse,
    pb.WithdrawZoneResponse,
    pb.RevokeCertificateResponse,
)


class StandingHandler:
    """What the methods about standing do."""

    def __init__(self, transactions: Transactions, standing: Standing, describe: Describe) -> None:
        self._transactions = transactions
        self._standing = standing
        self._describe = describe

    async def suspend(self, request: pb.SuspendPeerRequest) -> pb.SuspendPeerResponse:
        return await self._change(request, pb.SuspendPeerResponse, self._standing.suspend)

    async def resume(self, request: pb.ResumePeerRequest) -> pb.ResumePeerResponse:
        return await self._change(request, pb.ResumePeerResponse, self._standing.resume)

    async def leave(self, request: pb.LeavePeerRequest) -> pb.LeavePeerResponse:
        return await self._change(request, pb.LeavePeerResponse, self._standing.leave)

    async def expel(self, request: pb.ExpelPeerRequest) -> pb.ExpelPeerResponse:
        return await self._change(request, pb.ExpelPeerResponse, self._standing.expel)

    async def withdraw_zone(self, request: pb.WithdrawZoneRequest) -> pb.WithdrawZoneResponse:
        return await self._change(request, pb.WithdrawZoneResponse, self._standing.withdraw_zone, ZONE)

    async def revoke(self, request: pb.RevokeCertificateRequest) -> pb.RevokeCertificateResponse:
        return await self._change(request, pb.RevokeCertificateResponse, self._standing.revoke)

    async def _change(self, request: Request, response: type[Response], act: Act, pattern: str = PEER) -> Response:
        """Act on what the request names, for its reason, and describe the peer as it is then."""
        (target,) = names.parse(request.name, pattern).values()

        async def work(tx: Tx) -> Response:
            node = await act(tx, target, request.reason) or target
            return response(peer=await self._describe(tx.conn, node))

        return await self._transactions.mutate(request, response, work)
