"""What people of a node can do with contracts and transfers, over a real channel, with a partner at the other end."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from libs.access import Grant, Scope
from libs.errors import Forbidden, Invalid, NotFound, WrongState
from libs.testing import eventually
from libs.tests.served import calling_as, served
from libs.zones import ZoneRecord, ZoneTree
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1.federation_pb2_grpc import FederationServiceStub, add_FederationServiceServicer_to_server
from quintet.identity.v1 import directory_pb2
from quintet.sharing.v1 import sharing_pb2
from services.federation.contracts_service import ContractsHandler
from services.federation.service import FederationServicer
from services.federation.tests.contracting import Two, terms
from services.federation.transfers_service import TransfersHandler

STEWARD, NOBODY = "people/data-steward", "people/resident.01"
PERMISSIONS = ("contracts.read", "contracts.negotiate", "contracts.sign", "contracts.terminate", "transfers.control")
TREE = ZoneTree([ZoneRecord("d6")], root="d6")
UNKNOWN_FIELD = b"\xf8\x07\x01"


class Sharing:
    """Answers CheckTerms: "core" may never be given, "important" only if somebody answers for it."""

    async def CheckTerms(self, request: sharing_pb2.CheckTermsRequest) -> sharing_pb2.CheckTermsResponse:
        names = [each.field for each in request.fields]
        response = sharing_pb2.CheckTermsResponse(needs_approver="important" in names)
        if "core" in names:
            response.refusals.add(field="core", reason="FIELD_CORE", description="core data never leaves")
        return response


class Directory:
    """Knows one person."""

    async def GetPerson(self, request: directory_pb2.GetPersonRequest) -> directory_pb2.GetPersonResponse:
        if request.name != STEWARD:
            raise NotFound("PERSON_NOT_FOUND", f"{request.name} does not exist")
        return directory_pb2.GetPersonResponse()


@pytest_asyncio.fixture
async def partner(two: Two) -> AsyncIterator[FederationServiceStub]:
    """The service of the provider."""
    node = two.provider
    sharing: Any = Sharing()
    directory: Any = Directory()
    unused: Any = None
    contracts = ContractsHandler(node.id, node.transactions, node.negotiator, node.hub, sharing, directory)
    transfers = TransfersHandler(node.transactions, node.negotiator.transfers, node.hub)
    servicer = FederationServicer(unused, contracts, unused, unused, unused, transfers, *[unused] * 6)
    service = pb.DESCRIPTOR.services_by_name["FederationService"]
    held = {STEWARD: [Grant(f"federation.{name}", Scope.ZONE) for name in PERMISSIONS], NOBODY: []}
    add = add_FederationServiceServicer_to_server
    async with served("federation", add, servicer, service, held, lambda: TREE) as opened:
        with calling_as(STEWARD):
            yield FederationServiceStub(opened)


def fields(*names: str) -> list[sharing_pb2.FieldTerms]:
    return [sharing_pb2.FieldTerms(field=name) for name in names]


async def requested(two: Two, asked: pb.Terms) -> str:
    name = await two.request(asked)
    await two.state_is(two.provider, name, pb.CONTRACT_STATE_REQUESTED)
    return name


async def test_important_data_needs_somebody_of_this_node_who_answers_for_it(
    two: Two, partner: FederationServiceStub
) -> None:
    name = await requested(two, terms(fields=fields("day", "important")))
    for approver in ("", "people/somebody-else"):
        with pytest.raises(Invalid, match="approver"):
            await partner.AgreeContract(pb.AgreeContractRequest(name=name, approver=approver))
    agreed = await partner.AgreeContract(pb.AgreeContractRequest(name=name, approver=STEWARD))
    assert agreed.contract.state == pb.CONTRACT_STATE_AGREED
    query = "SELECT detail::text FROM audit_entries WHERE action = 'federation.contracts.approve' AND resource = $1"
    detail = await two.provider.transactions.read(lambda conn: conn.fetchval(query, name))
    assert STEWARD in detail


async def test_core_data_is_neither_agreed_to_nor_offered(two: Two, partner: FederationServiceStub) -> None:
    name = await requested(two, terms(fields=fields("core")))
    with pytest.raises(Forbidden) as caught:
        await partner.AgreeContract(pb.AgreeContractRequest(name=name, approver=STEWARD))
    assert caught.value.reason == "FIELD_CORE"
    for asked in (
        pb.OfferContractRequest(peer="peers/sf", terms=terms(fields=fields("core"))),
        pb.OfferContractRequest(name=name, terms=terms(fields=fields("core"))),
    ):
        with pytest.raises(Forbidden):
            await partner.OfferContract(asked)


async def test_no_person_sees_the_salt(two: Two, partner: FederationServiceStub) -> None:
    hashed = [sharing_pb2.FieldTerms(field="day", masking=sharing_pb2.MASKING_HASH)]
    name = await requested(two, terms(fields=hashed))
    agreed = (await partner.AgreeContract(pb.AgreeContractRequest(name=name))).contract
    read = (await partner.GetContract(pb.GetContractRequest(name=name))).contract
    listed = (await partner.ListContracts(pb.ListContractsRequest())).contracts[0]
    ended = (await partner.TerminateContract(pb.TerminateContractRequest(name=name, reason="x"))).contract
    assert [each.terms.salt for each in (agreed, read, listed, ended)] == [b""] * 4
    assert len((await two.contract(two.provider, name)).terms.salt) == 32


async def test_a_negotiation_is_named_or_begun_not_both(two: Two, partner: FederationServiceStub) -> None:
    name = await requested(two, terms())
    for asked in ({}, {"peer": "peers/sf", "name": name}):
        with pytest.raises(Invalid, match="peer"):
            await partner.OfferContract(pb.OfferContractRequest(terms=terms(), **asked))
        with pytest.raises(Invalid, match="peer"):
            await partner.RequestContract(pb.RequestContractRequest(terms=terms(), **asked))
    offered = await partner.OfferContract(pb.OfferContractRequest(name=name, terms=terms(retention_days=3)))
    assert offered.contract.state == pb.CONTRACT_STATE_OFFERED
    with pytest.raises(WrongState):
        await partner.AcceptContract(pb.AcceptContractRequest(name=name))  # its own offer


async def test_terms_of_a_newer_client_are_refused(two: Two, partner: FederationServiceStub) -> None:
    newer = pb.Terms.FromString(terms().SerializeToString() + UNKNOWN_FIELD)
    for call in (
        partner.RequestContract(pb.RequestContractRequest(peer="peers/sf", terms=newer)),
        partner.OfferContract(pb.OfferContractRequest(peer="peers/sf", terms=newer)),
        partner.AmendContract(pb.AmendContractRequest(name="contracts/any", terms=newer)),
    ):
        with pytest.raises(Forbidden) as caught:
            await call
        assert caught.value.reason == "TERMS_NOT_UNDERSTOOD"
    assert two.provider.id == "beijing"


async def test_a_steward_sees_what_waits_for_this_node_and_how_it_came_about(
    two: Two, partner: FederationServiceStub
) -> None:
    waits, agreed = await requested(two, terms()), await requested(two, terms(retention_days=2))
    await partner.AgreeContract(pb.AgreeContractRequest(name=agreed))
    found = (await partner.ListContracts(pb.ListContractsRequest(waiting_on_us=True))).contracts
    assert [each.name for each in found] == [waits]
    charters = pb.ListContractsRequest(kind=pb.CONTRACT_KIND_CHARTER)
    assert not (await partner.ListContracts(charters)).contracts
    first = await partner.ListContractSteps(pb.ListContractStepsRequest(contract=agreed, page_size=1))
    rest = await partner.ListContractSteps(
        pb.ListContractStepsRequest(contract=agreed, page_size=1, page_token=first.next_page_token)
    )
    steps = [*first.steps, *rest.steps]
    assert [(step.type, step.actor, step.outcome) for step in steps] == [
        ("ContractRequestMessage", "nodes/sf", "APPLIED"),
        ("ContractAgreementMessage", STEWARD, "APPLIED"),
    ]
    with pytest.raises(NotFound):
        await partner.ListContractSteps(pb.ListContractStepsRequest(contract="contracts/none"))


async def test_a_transfer_in_the_hands_of_people(two: Two, partner: FederationServiceStub) -> None:
    contract = await two.in_force(terms())
    (transfer,) = (await partner.ListTransfers(pb.ListTransfersRequest(contract=contract))).transfers
    name = transfer.name
    assert (transfer.state, transfer.provider, transfer.consumer) == (pb.TRANSFER_STATE_STARTED, "beijing", "sf")
    held = await partner.SuspendTransfer(pb.SuspendTransferRequest(name=name, reason="repairs"))
    assert (held.transfer.waits_for, held.transfer.owner) == ("beijing", "people/bj")
    assert held.transfer.HasField("deadline")
    with pytest.raises(WrongState):
        await partner.SuspendTransfer(pb.SuspendTransferRequest(name=name, reason="again"))
    await partner.StartTransfer(pb.StartTransferRequest(name=name))
    await partner.CompleteTransfer(pb.CompleteTransferRequest(name=name))
    await eventually(partial(two.consumer.transfers, contract, pb.TRANSFER_STATE_COMPLETED))
    with pytest.raises(WrongState):
        await partner.TerminateTransfer(pb.TerminateTransferRequest(name=name, reason="too late"))
    with pytest.raises(WrongState, match="consumer"):
        await partner.RequestTransfer(pb.RequestTransferRequest(contract=contract))
    assert (await partner.GetTransfer(pb.GetTransferRequest(name=name))).transfer.state == pb.TRANSFER_STATE_COMPLETED
    with pytest.raises(NotFound):
        await partner.GetTransfer(pb.GetTransferRequest(name="transfers/none"))


async def test_nobody_without_the_right_holds_a_transfer(two: Two, partner: FederationServiceStub) -> None:
    contract = await two.in_force(terms())
    (transfer,) = await two.provider.transfers(contract)
    with calling_as(NOBODY), pytest.raises(Forbidden):
        await partner.SuspendTransfer(pb.SuspendTransferRequest(name=transfer.name, reason="mischief"))
    assert (await two.provider.transfers(contract))[0].state == pb.TRANSFER_STATE_STARTED


async def test_asking_twice_with_one_id_is_asking_once(two: Two, partner: FederationServiceStub) -> None:
    request = pb.OfferContractRequest(peer="peers/sf", terms=terms(), request_id="one")
    first, second = await partner.OfferContract(request), await partner.OfferContract(request)
    assert first.contract.name == second.contract.name
    assert len(await two.provider.contracts()) == 1
