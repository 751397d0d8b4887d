"""FederationService, the part about what becomes of a membership after joining."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs import names
from quintet.federation.v1 import federation_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from services.federation.standing import Standing

    # Describes a peer, within the transaction that changes it.
    Describe = Callable[[Connection, str], Awaitable[pb.Peer]]

PEER = "peers/{peer}"
ZONE = "zones/{zone}"


class StandingHandler:
    """What the methods about standing do."""

    def __init__(self, transactions: Transactions, standing: Standing, describe: Describe) -> None:
        self._transactions = transactions
        self._standing = standing
        self._describe = describe

    async def suspend(self, request: pb.SuspendPeerRequest) -> pb.SuspendPeerResponse:
        node = names.parse(request.name, PEER)["peer"]

        async def work(tx: Tx) -> pb.SuspendPeerResponse:
            await self._standing.suspend(tx, node, request.reason)
            return pb.SuspendPeerResponse(peer=await self._describe(tx.conn, node))

        return await self._transactions.mutate(request, pb.SuspendPeerResponse, work)

    async def resume(self, request: pb.ResumePeerRequest) -> pb.ResumePeerResponse:
        node = names.parse(request.name, PEER)["peer"]

        async def work(tx: Tx) -> pb.ResumePeerResponse:
            await self._standing.resume(tx, node, request.reason)
            return pb.ResumePeerResponse(peer=await self._describe(tx.conn, node))

        return await self._transactions.mutate(request, pb.ResumePeerResponse, work)

    async def leave(self, request: pb.LeavePeerRequest) -> pb.LeavePeerResponse:
        node = names.parse(request.name, PEER)["peer"]

        async def work(tx: Tx) -> pb.LeavePeerResponse:
            await self._standing.leave(tx, node, request.reason)
            return pb.LeavePeerResponse(peer=await self._describe(tx.conn, node))

        return await self._transactions.mutate(request, pb.LeavePeerResponse, work)

    async def expel(self, request: pb.ExpelPeerRequest) -> pb.ExpelPeerResponse:
        node = names.parse(request.name, PEER)["peer"]

        async def work(tx: Tx) -> pb.ExpelPeerResponse:
            await self._standing.expel(tx, node, request.reason)
            return pb.ExpelPeerResponse(peer=await self._describe(tx.conn, node))

        return await self._transactions.mutate(request, pb.ExpelPeerResponse, work)

    async def withdraw_zone(self, request: pb.WithdrawZoneRequest) -> pb.WithdrawZoneResponse:
        zone = names.parse(request.name, ZONE)["zone"]

        async def work(tx: Tx) -> pb.WithdrawZoneResponse:
            node = await self._standing.withdraw_zone(tx, zone, request.reason)
            return pb.WithdrawZoneResponse(peer=await self._describe(tx.conn, node))

        return await self._transactions.mutate(request, pb.WithdrawZoneResponse, work)

    async def revoke(self, request: pb.RevokeCertificateRequest) -> pb.RevokeCertificateResponse:
        node = names.parse(request.name, PEER)["peer"]

        async def work(tx: Tx) -> pb.RevokeCertificateResponse:
            await self._standing.revoke(tx, node, request.reason)
            return pb.RevokeCertificateResponse(peer=await self._describe(tx.conn, node))

        return await self._transactions.mutate(request, pb.RevokeCertificateResponse, work)
