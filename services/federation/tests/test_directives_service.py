"""The methods about directives over a real channel: who may give, see, take up and answer them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from libs import conformance
from libs.access import Grant, Grants, Scope
from libs.channel import channel
from libs.clock import ManualClock
from libs.errors import Forbidden, Invalid, NotFound, WrongState
from libs.rpc import Server, TokenAuthenticator
from libs.testing import MakeTransactions
from libs.tests import callers
from libs.tx import Transactions
from quintet.federation.v1 import directive_pb2 as pb
from quintet.federation.v1 import federation_pb2
from quintet.federation.v1.federation_pb2_grpc import FederationServiceStub, add_FederationServiceServicer_to_server
from services.federation import membership_store, peers_store
from services.federation.directives import Directives
from services.federation.directives_service import DirectivesHandler
from services.federation.peers_store import NewPeer
from services.federation.service import FederationServicer
from services.federation.tests.world import MIGRATIONS

CITY, D10, D6 = "us-ca-sf", "us-ca-sf-d10", "us-ca-sf-d6"
LEADER, OFFICER, GARDENER, SERGEANT, NOBODY, ADMIN = (
    "people/leader.sf",
    "people/duty-officer.d10",
    "people/handler.parks",
    "people/handler.police",
    "people/resident.01",
    "people/node-admin",
)
PARKS, POLICE = "organisations/parks", "organisations/police"
SERVICE = federation_pb2.DESCRIPTOR.services_by_name["FederationService"]
OURS = [f"/{SERVICE.full_name}/{method.name}" for method in SERVICE.methods if "Directive" in method.name]
OTHERS = [f"/{SERVICE.full_name}/{method.name}" for method in SERVICE.methods if "Directive" not in method.name]


def held(subject: str, scope: Scope, zone: str, *verbs: str, organisation: str = "") -> Grants:
    granted = [Grant(f"federation.directives.{verb}", scope, zone, organisation) for verb in verbs]
    return Grants(subject, granted, lambda: callers.TREE, organisations=[organisation] if organisation else ())


HELD = {
    LEADER: held(LEADER, Scope.ZONE, CITY, "send", "read"),
    OFFICER: held(OFFICER, Scope.ZONE, D10, "send", "read", "answer"),
    GARDENER: held(GARDENER, Scope.ORGANISATION, CITY, "read", "answer", organisation=PARKS),
    SERGEANT: held(SERGEANT, Scope.ORGANISATION, CITY, "read", "answer", organisation=POLICE),
    NOBODY: Grants(NOBODY, [Grant("delivery.requests.read", Scope.OWN)], lambda: callers.TREE),
    ADMIN: held(ADMIN, Scope.ZONE, CITY, "send", "read", "answer"),
}


@dataclass
class Service:
    address: str
    transactions: Transactions
    clock: ManualClock
    stack: AsyncExitStack

    def stub(self, subject: str) -> FederationServiceStub:
        made = channel(self.address, token=callers.token(subject), dependency="federation", cap_s=10)
        self.stack.push_async_callback(made.close)
        return FederationServiceStub(made)

    def asked(self, zone: str = D10, organisation: str = PARKS, **fields: Any) -> pb.SendDirectiveRequest:
        directive = pb.Directive(zone=zone, organisation=organisation, title="Clear the drains", **fields)
        directive.expires_at.FromDatetime(self.clock.now() + timedelta(hours=1))
        return pb.SendDirectiveRequest(directive=directive)

    async def send(self, subject: str = LEADER, **fields: Any) -> pb.Directive:
        return (await self.stub(subject).SendDirective(self.asked(**fields))).directive

    async def names(self, subject: str, **narrow: Any) -> list[str]:
        response = await self.stub(subject).ListDirectives(pb.ListDirectivesRequest(**narrow))
        return [directive.name for directive in response.directives]


@pytest_asyncio.fixture
async def service(transactions: MakeTransactions, clock: ManualClock) -> AsyncIterator[Service]:
    made = await transactions("federation", MIGRATIONS)
    unused: Any = None
    directives = Directives("sf", lambda: callers.TREE, lambda _: None)
    handler = DirectivesHandler("sf", made, directives, lambda: callers.TREE)
    server = Server("federation", TokenAuthenticator(callers.verifier(), callers.StaticGrants(HELD)))
    servicer = FederationServicer(unused, unused, unused, unused, handler, *[unused] * 7)
    server.add(add_FederationServiceServicer_to_server, servicer, SERVICE)
    async with AsyncExitStack() as stack:
        address = f"127.0.0.1:{await server.start()}"
        stack.push_async_callback(server.stop, 0)
        yield Service(address, made, clock, stack)


async def test_only_who_has_rights_over_the_zone_may_give_one(service: Service) -> None:
    made = await service.send()
    assert (made.issued_by, made.from_node, made.to_node, made.state) == (
        LEADER, "sf", "sf", pb.DIRECTIVE_STATE_DELIVERED,
    )  # fmt: skip
    await service.send(OFFICER)
    for subject, zone in ((OFFICER, D6), (OFFICER, CITY), (GARDENER, D10), (NOBODY, D10)):
        with pytest.raises(Forbidden):
            await service.send(subject, zone=zone)
    with pytest.raises(NotFound):
        await service.send(zone="cn-110000")
    directive = pb.Directive(zone=D10, title="Clear the drains")
    with pytest.raises(Invalid, match="expiresAt"):
        await service.stub(LEADER).SendDirective(pb.SendDirectiveRequest(directive=directive))


async def test_it_is_seen_by_the_zone_and_the_organisation_it_is_for(service: Service) -> None:
    parks = (await service.send()).name
    police = (await service.send(organisation=POLICE, zone=D6)).name
    assert await service.names(LEADER) == [police, parks]
    assert await service.names(OFFICER) == [parks]
    assert await service.names(GARDENER) == [parks]
    assert await service.names(SERGEANT) == [police]
    assert await service.names(LEADER, zone=D6) == [police]
    assert await service.names(LEADER, state=pb.DIRECTIVE_STATE_ANSWERED) == []
    received = {"direction": pb.DIRECTIVE_DIRECTION_RECEIVED}
    assert await service.names(LEADER, **received) == [police, parks]
    first = await service.stub(LEADER).ListDirectives(pb.ListDirectivesRequest(page_size=1))
    rest = await service.names(LEADER, page_size=1, page_token=first.next_page_token)
    assert ([each.name for each in first.directives], rest) == ([police], [parks])
    assert (await service.stub(GARDENER).GetDirective(pb.GetDirectiveRequest(name=parks))).directive.name == parks
    with pytest.raises(Forbidden):
        await service.stub(SERGEANT).GetDirective(pb.GetDirectiveRequest(name=parks))
    with pytest.raises(NotFound):
        await service.stub(LEADER).GetDirective(pb.GetDirectiveRequest(name="directives/none"))


async def test_one_for_an_organisation_of_another_node_is_not_for_its_namesake_here(service: Service) -> None:
    await charter_with_district(service)
    made = await service.send()
    assert (made.to_node, made.state) == ("sf-d10", pb.DIRECTIVE_STATE_SENT)
    assert await service.names(GARDENER) == []
    assert await service.names(LEADER, direction=pb.DIRECTIVE_DIRECTION_SENT) == [made.name]
    assert await service.names(LEADER, direction=pb.DIRECTIVE_DIRECTION_RECEIVED) == []
    for subject in (GARDENER, ADMIN):
        with pytest.raises((Forbidden, WrongState)):
            await service.stub(subject).AcknowledgeDirective(pb.AcknowledgeDirectiveRequest(name=made.name))


async def test_the_organisation_takes_it_up_and_answers(service: Service) -> None:
    name = (await service.send()).name
    stub = service.stub(GARDENER)
    for subject in (SERGEANT, LEADER):
        with pytest.raises(Forbidden):
            await service.stub(subject).AcknowledgeDirective(pb.AcknowledgeDirectiveRequest(name=name))
    taken = (await stub.AcknowledgeDirective(pb.AcknowledgeDirectiveRequest(name=name))).directive
    assert (taken.state, taken.acknowledged_by) == (pb.DIRECTIVE_STATE_ACKNOWLEDGED, GARDENER)
    request = pb.AnswerDirectiveRequest(name=name, answer="done", request_id="a-1")
    answered = await stub.AnswerDirective(request)
    assert (answered.directive.state, answered.directive.answer) == (pb.DIRECTIVE_STATE_ANSWERED, "done")
    assert await stub.AnswerDirective(request) == answered
    with pytest.raises(WrongState):
        await stub.AnswerDirective(pb.AnswerDirectiveRequest(name=name, answer="done again"))
    with pytest.raises(WrongState):
        await service.stub(LEADER).CancelDirective(pb.CancelDirectiveRequest(name=name, reason="no"))


async def test_who_may_give_one_may_take_it_back(service: Service) -> None:
    name = (await service.send()).name
    with pytest.raises(Forbidden):
        await service.stub(GARDENER).CancelDirective(pb.CancelDirectiveRequest(name=name, reason="no"))
    with pytest.raises(Invalid):
        await service.stub(LEADER).CancelDirective(pb.CancelDirectiveRequest(name=name))
    ended = await service.stub(LEADER).CancelDirective(pb.CancelDirectiveRequest(name=name, reason="no rain"))
    assert (ended.directive.state, ended.directive.reason) == (pb.DIRECTIVE_STATE_CANCELLED, "no rain")


async def test_a_directive_given_twice_under_one_request_id_is_one(service: Service) -> None:
    request = service.asked()
    request.request_id = "r-1"
    first = await service.stub(LEADER).SendDirective(request)
    assert await service.stub(LEADER).SendDirective(request) == first
    assert len(await service.names(LEADER)) == 1


async def test_every_method_is_closed_without_the_permission_and_none_breaks(service: Service) -> None:
    found = await service.send()
    assert await conformance.open_without_permission(service.address, [SERVICE], nobody=callers.token(NOBODY)) == []
    known = {"zone": (D10, CITY), "name": (found.name,), "organisation": (PARKS,)}
    assert (
        await conformance.broken_by_bad_input(
            service.address, [SERVICE], token=callers.token(ADMIN), known=known, skip=OTHERS
        )
        == []
    )
    assert len(OURS) == 6


async def charter_with_district(service: Service) -> None:
    """Make district 10 a child of this node, with its charter in force."""
    now = service.clock.now()
    peer = NewPeer(
        node="sf-d10", title="", kind=federation_pb2.PEER_KIND_CHILD, state=federation_pb2.PEER_STATE_ACTIVE, zone=D10,
        link_address="", dial=False, root_certificate="", certificate="",
        epoch="e", joined_at=now,
    )  # fmt: skip

    async def work(tx: Any) -> None:
        await peers_store.add(tx.conn, peer)
        await membership_store.delegate(tx.conn, D10, "sf-d10")
        await tx.conn.execute(
            "INSERT INTO contracts (id, kind, peer, provider, consumer, state, terms, created_at, updated_at)"
            " VALUES ('c', $1, 'sf-d10', 'sf', 'sf-d10', $2, '', $3, $3)",
            federation_pb2.CONTRACT_KIND_CHARTER,
            federation_pb2.CONTRACT_STATE_FINALIZED,
            now,
        )

    await service.transactions.run(work)
