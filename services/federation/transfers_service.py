"""FederationService, the part about transfers: looking at them, and holding or ending the flow of rows."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from libs import names, paging
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import contracts_store, transfer_machine, transfers_store

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx
    from services.federation.hub import Hub
    from services.federation.transfers import Transfers

TRANSFER = "transfers/{transfer}"
LIST_DEFAULT = 50
LIST_MAX = 500


class TransfersHandler:
    """What the methods about transfers do."""

    def __init__(self, transactions: Transactions, transfers: Transfers, hub: Hub) -> None:
        self._transactions = transactions
        self._transfers = transfers
        self._hub = hub

    async def get(self, request: pb.GetTransferRequest) -> pb.GetTransferResponse:
        transfer, _ = await self._transactions.read(lambda conn: transfers_store.get(conn, request.name))
        return pb.GetTransferResponse(transfer=transfer)

    async def page(self, request: pb.ListTransfersRequest) -> pb.ListTransfersResponse:
        size = paging.size(request.page_size, default=LIST_DEFAULT, most=LIST_MAX)
        of = f"transfers {request.contract} {request.peer} {request.state}"
        after = paging.after(request.page_token, datetime, str, of=of)
        rows = await self._transactions.read(
            lambda conn: transfers_store.page(
                conn,
                contract=request.contract,
                peer=request.peer.removeprefix("peers/"),
                state=request.state,
                after=after,
                limit=size + 1,
            )
        )
        page, token = paging.page(rows, size, _keys, of=of)
        return pb.ListTransfersResponse(transfers=page, next_page_token=token)

    async def request(self, request: pb.RequestTransferRequest) -> pb.RequestTransferResponse:
        async def work(tx: Tx) -> pb.RequestTransferResponse:
            transfer = await self._transfers.request(tx, request.contract)
            _, peer = await contracts_store.get(tx.conn, request.contract)
            tx.after_commit(partial(self._hub.wake, peer))
            return pb.RequestTransferResponse(transfer=transfer)

        return await self._transactions.mutate(request, pb.RequestTransferResponse, work)

    async def start(self, request: pb.StartTransferRequest) -> pb.StartTransferResponse:
        async def work(tx: Tx) -> pb.StartTransferResponse:
            return pb.StartTransferResponse(transfer=await self._take(tx, request.name, transfer_machine.START))

        return await self._transactions.mutate(request, pb.StartTransferResponse, work)

    async def suspend(self, request: pb.SuspendTransferRequest) -> pb.SuspendTransferResponse:
        async def work(tx: Tx) -> pb.SuspendTransferResponse:
            taken = await self._take(tx, request.name, transfer_machine.SUSPENSION, request.reason)
            return pb.SuspendTransferResponse(transfer=taken)

        return await self._transactions.mutate(request, pb.SuspendTransferResponse, work)

    async def complete(self, request: pb.CompleteTransferRequest) -> pb.CompleteTransferResponse:
        async def work(tx: Tx) -> pb.CompleteTransferResponse:
            return pb.CompleteTransferResponse(transfer=await self._take(tx, request.name, transfer_machine.COMPLETION))

        return await self._transactions.mutate(request, pb.CompleteTransferResponse, work)

    async def terminate(self, request: pb.TerminateTransferRequest) -> pb.TerminateTransferResponse:
        async def work(tx: Tx) -> pb.TerminateTransferResponse:
            taken = await self._take(tx, request.name, transfer_machine.TERMINATION, request.reason)
            return pb.TerminateTransferResponse(transfer=taken)

        return await self._transactions.mutate(request, pb.TerminateTransferResponse, work)

    async def _take(self, tx: Tx, name: str, message: str, reason: str = "") -> pb.Transfer:
        transfer, peer = await self._transfers.take(tx, name, message, reason)
        tx.after_commit(partial(self._hub.wake, peer))
        return transfer


def _keys(transfer: pb.Transfer) -> tuple[datetime, str]:
    return transfer.created_at.ToDatetime(UTC), names.parse(transfer.name, TRANSFER)["transfer"]
