"""FederationService, the half about contracts: negotiating, ending, and looking at them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from libs import names, paging
from libs.errors import Forbidden, Invalid, NotFound
from quintet.federation.v1 import federation_pb2 as pb
from quintet.identity.v1 import directory_pb2
from services.federation import alarms, contracts_store, machine, objectives, peers_store, refusals_store, steps_store
from services.federation import terms as contract_terms
from services.federation.ledger import without_salt
from services.federation.rows import check_terms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message

    from libs.tx import Transactions, Tx
    from quintet.identity.v1 import directory_pb2_grpc
    from quintet.sharing.v1 import sharing_pb2_grpc
    from services.federation.hub import Hub
    from services.federation.negotiation import Negotiator

    # Takes one step of a contract and returns it as it is then.
    Step = Callable[[Tx], Awaitable[pb.Contract]]

CONTRACT = "contracts/{contract}"
LIST_DEFAULT = 50
LIST_MAX = 500
Response = TypeVar(
    "Response",
    pb.AmendContractResponse,
    pb.AcceptContractResponse,
    pb.AgreeContractResponse,
    pb.VerifyContractResponse,
    pb.TerminateContractResponse,
)


class ContractsHandler:
    """What the methods about contracts do."""

    def __init__(
        self,
        node: str,
        transactions: Transactions,
        negotiator: Negotiator,
        hub: Hub,
        sharing: sharing_pb2_grpc.SharingServiceStub,
        directory: directory_pb2_grpc.DirectoryServiceStub,
    ) -> None:
        self._node = node
        self._transactions = transactions
        self._negotiator = negotiator
        self._hub = hub
        self._sharing = sharing
        self._directory = directory

    # ----------------------------------------------------------------------------------------- negotiating

    async def request(self, request: pb.RequestContractRequest) -> pb.RequestContractResponse:
        """Begin a negotiation as consumer, or answer the provider's offer with other terms."""
        node = _peer_or_name(request.peer, request.name)
        contract_terms.check_understood(request.terms)

        async def work(tx: Tx) -> pb.RequestContractResponse:
            if request.name:
                contract, peer = await self._negotiator.counter(tx, request.name, request.terms, machine.REQUEST)
            else:
                peer = node
                known = await peers_store.get(tx.conn, node)
                contract = await self._negotiator.request(tx, known, request.terms)
            tx.after_commit(partial(self._hub.wake, peer))
            return pb.RequestContractResponse(contract=without_salt(contract))

        return await self._transactions.mutate(request, pb.RequestContractResponse, work)

    async def offer(self, request: pb.OfferContractRequest) -> pb.OfferContractResponse:
        """Begin a negotiation as provider, or answer the consumer's request with other terms."""
        node = _peer_or_name(request.peer, request.name)
        contract_terms.check_understood(request.terms)
        if request.name:
            contract, _ = await self._transactions.read(lambda conn: contracts_store.get(conn, request.name))
            await self._check_ours(contract, request.terms)
        else:
            contract_terms.check(pb.CONTRACT_KIND_EXCHANGE, request.terms)
            await self._check_product(request.terms)

        async def work(tx: Tx) -> pb.OfferContractResponse:
            if request.name:
                contract, peer = await self._negotiator.counter(tx, request.name, request.terms, machine.OFFER)
            else:
                peer = node
                known = await peers_store.get(tx.conn, node)
                contract = await self._negotiator.offer(tx, known, request.terms)
            tx.after_commit(partial(self._hub.wake, peer))
            return pb.OfferContractResponse(contract=without_salt(contract))

        return await self._transactions.mutate(request, pb.OfferContractResponse, work)

    async def amend(self, request: pb.AmendContractRequest) -> pb.AmendContractResponse:
        contract_terms.check_understood(request.terms)
        before, peer = await self._transactions.read(lambda conn: contracts_store.get(conn, request.name))
        await self._check_ours(before, request.terms)
        return await self._take(
            request, pb.AmendContractResponse, peer, lambda tx: self._negotiator.amend(tx, request.name, request.terms)
        )

    async def accept(self, request: pb.AcceptContractRequest) -> pb.AcceptContractResponse:
        _, peer = await self._transactions.read(lambda conn: contracts_store.get(conn, request.name))
        return await self._take(
            request, pb.AcceptContractResponse, peer, lambda tx: self._negotiator.accept(tx, request.name)
        )

    async def agree(self, request: pb.AgreeContractRequest) -> pb.AgreeContractResponse:
        """Ask sharing whether the product may be given so, then agree."""
        contract, peer = await self._transactions.read(lambda conn: contracts_store.get(conn, request.name))
        needs_approver = await self._check_ours(contract, contract.terms)
        if needs_approver and not request.approver:
            raise Invalid("approver", "is required to give data classified IMPORTANT")
        if request.approver:
            await self._check_approver(request.approver)
        return await self._take(
            request,
            pb.AgreeContractResponse,
            peer,
            lambda tx: self._negotiator.agree(tx, request.name, request.approver, checked=contract.terms),
        )

    async def _check_ours(self, contract: pb.Contract, terms: pb.Terms) -> bool:
        """Ask sharing whether terms under which this node would give data may be given so.

        Returns whether somebody has to answer for them. A charter and another node's product are not asked about.
        """
        if contract.kind != pb.CONTRACT_KIND_EXCHANGE or contract.provider != self._node:
            return False
        contract_terms.check(contract.kind, _unsalted(terms))
        return await self._check_product(terms, contract.name)

    async def _check_product(self, terms: pb.Terms, contract: str = "") -> bool:
        checked = await self._sharing.CheckTerms(check_terms(terms))
        if checked.refusals:
            first = checked.refusals[0]
            raise Forbidden(first.reason, first.description, field=first.field, contract=contract)
        return checked.needs_approver

    async def _check_approver(self, approver: str) -> None:
        """Raise Invalid when nobody of this node has that name: who answers must be somebody who can be asked."""
        try:
            await self._directory.GetPerson(directory_pb2.GetPersonRequest(name=approver))
        except NotFound as error:
            raise Invalid("approver", "must be a person of this node") from error

    async def verify(self, request: pb.VerifyContractRequest) -> pb.VerifyContractResponse:
        _, peer = await self._transactions.read(lambda conn: contracts_store.get(conn, request.name))
        return await self._take(
            request, pb.VerifyContractResponse, peer, lambda tx: self._negotiator.verify(tx, request.name)
        )

    async def terminate(self, request: pb.TerminateContractRequest) -> pb.TerminateContractResponse:
        _, peer = await self._transactions.read(lambda conn: contracts_store.get(conn, request.name))
        return await self._take(
            request,
            pb.TerminateContractResponse,
            peer,
            lambda tx: self._negotiator.end(tx, request.name, request.reason, for_cause=request.for_cause),
        )

    async def _take(self, request: Message, response: type[Response], peer: str, step: Step) -> Response:
        """Take a step of a running contract, and let it go to the peer."""

        async def work(tx: Tx) -> Response:
            return response(contract=without_salt(await step(tx)))

        answer = await self._transactions.mutate(request, response, work)
        self._hub.wake(peer)
        return answer

    # --------------------------------------------------------------------------------------------- looking

    async def steps(self, request: pb.ListContractStepsRequest) -> pb.ListContractStepsResponse:
        size = paging.size(request.page_size)
        of = f"steps {request.contract}"
        after = paging.after(request.page_token, int, of=of)

        async def read(conn: Any) -> list[tuple[int, pb.ContractStep]]:
            await contracts_store.get(conn, request.contract)
            return await steps_store.page(conn, request.contract, after[0] if after else 0, size + 1)

        rows = await self._transactions.read(read)
        page, token = paging.page(rows, size, lambda row: (row[0],), of=of)
        return pb.ListContractStepsResponse(steps=[step for _, step in page], next_page_token=token)

    async def get(self, request: pb.GetContractRequest) -> pb.GetContractResponse:
        contract, _ = await self._transactions.read(lambda conn: contracts_store.get(conn, request.name))
        return pb.GetContractResponse(contract=(await self._shown([contract]))[0])

    async def page(self, request: pb.ListContractsRequest) -> pb.ListContractsResponse:
        size = paging.size(request.page_size, default=LIST_DEFAULT, most=LIST_MAX)
        of = f"contracts {request.state} {request.peer} {request.kind} {request.waiting_on_us}"
        after = paging.after(request.page_token, datetime, str, of=of)
        rows = await self._transactions.read(
            lambda conn: contracts_store.page(
                conn,
                state=request.state,
                peer=request.peer.removeprefix("peers/"),
                kind=request.kind,
                waiting_on=self._node if request.waiting_on_us else "",
                after=after,
                limit=size + 1,
            )
        )
        page, token = paging.page(rows, size, _contract_keys, of=of)
        return pb.ListContractsResponse(contracts=await self._shown(page), next_page_token=token)

    async def _shown(self, contracts: list[pb.Contract]) -> list[pb.Contract]:
        """Return contracts for people: the salt stays with the services, and what is missed now is named."""
        missed = await self._transactions.read(
            lambda conn: alarms.of_contracts(conn, [contract.name for contract in contracts])
        )
        shown = [without_salt(contract) for contract in contracts]
        for contract in shown:
            objectives.show(contract, missed[contract.name])
        return shown

    async def refusals(self, request: pb.ListRefusalsRequest) -> pb.ListRefusalsResponse:
        size = paging.size(request.page_size, default=LIST_DEFAULT, most=LIST_MAX)
        of = f"refusals {request.contract}"
        after = paging.after(request.page_token, int, of=of)
        before = after[0] if after else None

        async def read(conn: Any) -> list[refusals_store.Refused]:
            await contracts_store.get(conn, request.contract)
            return await refusals_store.refusals(conn, request.contract, before, size + 1)

        rows = await self._transactions.read(read)
        page, token = paging.page(rows, size, lambda row: (row.id,), of=of)
        return pb.ListRefusalsResponse(refusals=[_refusal(row) for row in page], next_page_token=token)


def _contract_keys(contract: pb.Contract) -> tuple[datetime, str]:
    names_of = names.parse(contract.name, CONTRACT)
    return contract.created_at.ToDatetime(UTC), names_of["contract"]


def _refusal(row: refusals_store.Refused) -> pb.ContractRefusal:
    refusal = pb.ContractRefusal(reason=row.reason, description=row.description, actor=row.actor, node=row.node)
    refusal.time.FromDatetime(row.time)
    return refusal


def _unsalted(terms: pb.Terms) -> pb.Terms:
    return without_salt(pb.Contract(terms=terms)).terms


def _peer_or_name(peer: str, name: str) -> str:
    """Return the node id of `peer`; "" when the contract is named instead. Raises Invalid unless one of them is set."""
    if bool(peer) == bool(name):
        raise Invalid("peer", "must be set for a new negotiation, and name for a running one; not both")
    return names.parse(peer, "peers/{peer}", field="peer")["peer"] if peer else ""
