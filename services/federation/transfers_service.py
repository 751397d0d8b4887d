"""FederationService, the part about transfers: looking at them, and holding or ending the flow of rows."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from libs import names, paging
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import contracts_store, transfer_machine, transfers_store

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx
    from services.federation.hub import Hub
    from services.federation.transfers import Transfers

    Step = (
        pb.StartTransferRequest | pb.SuspendTransferRequest | pb.CompleteTransferRequest | pb.TerminateTransferRequest
    )

TRANSFER = "transfers/{transfer}"
LIST_DEFAULT = 50
LIST_MAX = 500
Response = TypeVar(
    "Response",
    pb.StartTransferResponse,
    pb.SuspendTransferResponse,
    pb.CompleteTransferResponse,
    pb.TerminateTransferResponse,
)


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
        return await self._take(request, pb.StartTransferResponse, transfer_machine.START)

    async def suspend(self, request: pb.SuspendTransferRequest) -> pb.SuspendTransferResponse:
        return await self._take(request, pb.SuspendTransferResponse, transfer_machine.SUSPENSION, request.reason)

    async def complete(self, request: pb.CompleteTransferRequest) -> pb.CompleteTransferResponse:
        return await self._take(request, pb.CompleteTransferResponse, transfer_machine.COMPLETION)

    async def terminate(self, request: pb.TerminateTransferRequest) -> pb.TerminateTransferResponse:
        return await self._take(request, pb.TerminateTransferResponse, transfer_machine.TERMINATION, request.reason)

    async def _take(self, request: Step, response: type[Response], message: str, reason: str = "") -> Response:
        async def work(tx: Tx) -> Response:
            transfer, peer = await self._transfers.take(tx, request.name, message, reason)
            tx.after_commit(partial(self._hub.wake, peer))
            return response(transfer=transfer)

        return await self._transactions.mutate(request, response, work)


def _keys(transfer: pb.Transfer) -> tuple[datetime, str]:
    return transfer.created_at.ToDatetime(UTC), names.parse(transfer.name, TRANSFER)["transfer"]
