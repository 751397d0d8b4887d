"""FederationService, the half about contracts: negotiating, ending, and looking at them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from libs import names, paging
from libs.errors import Forbidden, Invalid
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1 import sharing_pb2
from services.federation import contracts_store, peers_store

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx
    from quintet.sharing.v1 import sharing_pb2_grpc
    from services.federation.hub import Hub
    from services.federation.negotiation import Negotiator

CONTRACT = "contracts/{contract}"
LIST_DEFAULT = 50
LIST_MAX = 500


class ContractsHandler:
    """What the methods about contracts do."""

    def __init__(
        self,
        node: str,
        transactions: Transactions,
        negotiator: Negotiator,
        hub: Hub,
        sharing: sharing_pb2_grpc.SharingServiceStub,
    ) -> None:
        self._node = node
        self._transactions = transactions
        self._negotiator = negotiator
        self._hub = hub
        self._sharing = sharing

    # ----------------------------------------------------------------------------------------- negotiating

    async def request(self, request: pb.RequestContractRequest) -> pb.RequestContractResponse:
        node = names.parse(request.peer, "peers/{peer}", field="peer")["peer"]

        async def work(tx: Tx) -> pb.RequestContractResponse:
            peer = await peers_store.get(tx.conn, node)
            return pb.RequestContractResponse(contract=await self._negotiator.request(tx, peer, request.terms))

        response = await self._transactions.mutate(request, pb.RequestContractResponse, work)
        self._hub.wake(node)
        return response

    async def agree(self, request: pb.AgreeContractRequest) -> pb.AgreeContractResponse:
        """Ask sharing whether the product may be given so, then agree."""
        contract, peer = await self._transactions.read(lambda conn: contracts_store.get(conn, request.name))
        await self._check_terms(contract, request.approver)

        async def work(tx: Tx) -> pb.AgreeContractResponse:
            return pb.AgreeContractResponse(contract=await self._negotiator.agree(tx, request.name, request.approver))

        response = await self._transactions.mutate(request, pb.AgreeContractResponse, work)
        self._hub.wake(peer)
        return response

    async def _check_terms(self, contract: pb.Contract, approver: str) -> None:
        terms = contract.terms
        asked = sharing_pb2.CheckTermsRequest(product=terms.product, version=terms.product_version, fields=terms.fields)
        checked = await self._sharing.CheckTerms(asked)
        if checked.refusals:
            first = checked.refusals[0]
            raise Forbidden(first.reason, first.description, field=first.field, contract=contract.name)
        if checked.needs_approver and not approver:
            raise Invalid("approver", "is required to give data classified IMPORTANT")

    async def verify(self, request: pb.VerifyContractRequest) -> pb.VerifyContractResponse:
        _, peer = await self._transactions.read(lambda conn: contracts_store.get(conn, request.name))

        async def work(tx: Tx) -> pb.VerifyContractResponse:
            return pb.VerifyContractResponse(contract=await self._negotiator.verify(tx, request.name))

        response = await self._transactions.mutate(request, pb.VerifyContractResponse, work)
        self._hub.wake(peer)
        return response

    async def terminate(self, request: pb.TerminateContractRequest) -> pb.TerminateContractResponse:
        _, peer = await self._transactions.read(lambda conn: contracts_store.get(conn, request.name))

        async def work(tx: Tx) -> pb.TerminateContractResponse:
            ended = await self._negotiator.terminate(tx, request.name, request.reason)
            return pb.TerminateContractResponse(contract=ended)

        response = await self._transactions.mutate(request, pb.TerminateContractResponse, work)
        self._hub.wake(peer)
        return response

    # --------------------------------------------------------------------------------------------- looking

    async def get(self, request: pb.GetContractRequest) -> pb.GetContractResponse:
        contract, _ = await self._transactions.read(lambda conn: contracts_store.get(conn, request.name))
        return pb.GetContractResponse(contract=_shown(contract))

    async def page(self, request: pb.ListContractsRequest) -> pb.ListContractsResponse:
        size = paging.size(request.page_size, default=LIST_DEFAULT, most=LIST_MAX)
        of = f"contracts {request.state} {request.peer}"
        after = paging.after(request.page_token, datetime, str, of=of)
        rows = await self._transactions.read(
            lambda conn: contracts_store.page(
                conn, state=request.state, peer=request.peer.removeprefix("peers/"), after=after, limit=size + 1
            )
        )
        page, token = paging.page(rows, size, _contract_keys, of=of)
        return pb.ListContractsResponse(contracts=[_shown(contract) for contract in page], next_page_token=token)

    async def refusals(self, request: pb.ListRefusalsRequest) -> pb.ListRefusalsResponse:
        size = paging.size(request.page_size, default=LIST_DEFAULT, most=LIST_MAX)
        of = f"refusals {request.contract}"
        after = paging.after(request.page_token, int, of=of)
        before = after[0] if after else None

        async def read(conn: Any) -> list[contracts_store.Refused]:
            await contracts_store.get(conn, request.contract)
            return await contracts_store.refusals(conn, request.contract, before, size + 1)

        rows = await self._transactions.read(read)
        page, token = paging.page(rows, size, lambda row: (row.id,), of=of)
        return pb.ListRefusalsResponse(refusals=[_refusal(row) for row in page], next_page_token=token)


def _contract_keys(contract: pb.Contract) -> tuple[datetime, str]:
    names_of = names.parse(contract.name, CONTRACT)
    return contract.created_at.ToDatetime(UTC), names_of["contract"]


def _shown(contract: pb.Contract) -> pb.Contract:
    """Return a contract for people: the salt stays with the services."""
    contract.terms.ClearField("salt")
    return contract


def _refusal(row: contracts_store.Refused) -> pb.ContractRefusal:
    refusal = pb.ContractRefusal(reason=row.reason, description=row.description, actor=row.actor, node=row.node)
    refusal.time.FromDatetime(row.time)
    return refusal
