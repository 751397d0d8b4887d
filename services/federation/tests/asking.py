"""A consumer and a provider with a contract in force, for tests of questions: real links, a sharing that waits."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import grpc

from libs.access import Grant, Grants, Scope
from libs.channel import channel
from libs.rpc import Server, TokenAuthenticator
from libs.testing import eventually
from libs.tests import callers
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1.federation_pb2_grpc import (
    FederationServiceStub,
    add_FederationServiceServicer_to_server,
)
from quintet.sharing.v1 import sharing_pb2, sharing_pb2_grpc
from services.federation import contracts_store
from services.federation import terms as contract_terms
from services.federation.queries_service import QueriesHandler
from services.federation.service import FederationServicer
from services.federation.tests.world import Node
from services.federation.waiting import WaitDays

if TYPE_CHECKING:
    from services.federation.tests.world import World

CONTRACT = "contracts/c1"
FIELDS = ("station", "day", "mean")
PURPOSE = "study"
STEWARD, NOBODY = "people/data-steward.sf", "people/resident.01"


class Rows(sharing_pb2_grpc.SharingServiceServicer):
    """The provider's sharing: `count` rows. `hold` keeps every read waiting until it is set again."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.reads: list[sharing_pb2.ReadForContractRequest] = []
        self.free = asyncio.Event()
        self.free.set()
        self.held = 0
        self.dropped = 0  # reads that were cancelled
        self.extra = ""  # a field that is given though nobody asked for it
        self.subject = ""  # the person whom all rows are about

    async def ReadForContract(
        self, request: sharing_pb2.ReadForContractRequest, context: Any
    ) -> sharing_pb2.ReadForContractResponse:
        self.reads.append(request)
        self.held += 1
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.dropped += 1
            raise
        finally:
            self.held -= 1
        first = int(request.page_token or 0)
        last = min(first + request.page_size, self.count)
        page = sharing_pb2.ReadForContractResponse(next_page_token=str(last) if last < self.count else "")
        names = [each.field for each in request.fields] + ([self.extra] if self.extra else [])
        for number in range(first, last):
            page.rows.add().update({name: f"{name} {number}" for name in names})
            page.subjects.extend([self.subject] * bool(self.subject))
        return page


@dataclass
class Exchange:
    """The city sf asks, the partner beijing answers. `people` is the city's service for people."""

    consumer: Node
    provider: Node
    rows: Rows
    people: Server
    address: str
    stack: AsyncExitStack
    dialling: asyncio.Task[None] | None = None
    _stubs: dict[str, FederationServiceStub] = field(default_factory=dict)

    def stub(self, subject: str = STEWARD) -> FederationServiceStub:
        if subject not in self._stubs:
            made = channel(self.address, token=callers.token(subject), dependency="federation", cap_s=30)
            self.stack.push_async_callback(made.close)
            self._stubs[subject] = FederationServiceStub(made)
        return self._stubs[subject]

    async def audited(self, node: Node, action: str) -> list[tuple[str, dict[str, Any]]]:
        """Return (actor, detail) of the audit entries of an action, in order."""
        query = "SELECT actor, detail FROM audit_entries WHERE action = $1 ORDER BY id"
        rows = await node.transactions.read(lambda conn: conn.fetch(query, action))
        return [(row["actor"], json.loads(row["detail"])) for row in rows]

    async def contract(self, node: Node) -> pb.Contract:
        return (await node.transactions.read(lambda conn: contracts_store.get(conn, CONTRACT)))[0]


async def exchange(world: World, stack: AsyncExitStack, *, rows: int, **terms: Any) -> Exchange:
    """Join the two nodes, put a contract in force at both, and serve the consumer's people."""
    sharing = Rows(rows)  # type: ignore[abstract]  # it answers one kind of question
    consumer = await world.node("sf", "city")
    provider = await world.node("beijing", "d6", await _stub(sharing, stack))
    await world.join(provider, consumer)
    for node, peer in ((consumer, "beijing"), (provider, "sf")):
        await _in_force(node, peer, **terms)
    held = {
        STEWARD: Grants(STEWARD, [Grant("federation.contracts.query", Scope.ZONE)], lambda: callers.TREE),
        NOBODY: Grants(NOBODY, [Grant("delivery.requests.read", Scope.OWN)], lambda: callers.TREE),
    }
    unused: Any = None
    queries = QueriesHandler("sf", consumer.transactions, consumer.hub, consumer.questions)
    people = Server("federation", TokenAuthenticator(callers.verifier(), callers.StaticGrants(held)))
    service = pb.DESCRIPTOR.services_by_name["FederationService"]
    servicer = FederationServicer(unused, unused, queries, *[unused] * 9)
    people.add(add_FederationServiceServicer_to_server, servicer, service)
    address = f"127.0.0.1:{await people.start()}"
    stack.push_async_callback(people.stop, 0)
    return Exchange(consumer, provider, sharing, people, address, stack)


async def connected(made: Exchange, world: World) -> None:
    """Let the consumer call the provider, and wait until both can ask."""
    made.dialling = await world.dial(made.consumer)

    async def up() -> bool:
        return made.consumer.hub.connected("beijing") and made.provider.hub.connected("sf")

    await eventually(up)


async def _stub(rows: Rows, stack: AsyncExitStack) -> sharing_pb2_grpc.SharingServiceStub:
    server = grpc.aio.server()
    sharing_pb2_grpc.add_SharingServiceServicer_to_server(rows, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, 0)
    made = channel(f"127.0.0.1:{port}", dependency="sharing")
    stack.push_async_callback(made.close)
    return sharing_pb2_grpc.SharingServiceStub(made)


async def _in_force(node: Node, peer: str, **terms: Any) -> None:
    contract = pb.Contract(
        name=CONTRACT,
        kind=pb.CONTRACT_KIND_EXCHANGE,
        provider="beijing",
        consumer="sf",
        state=pb.CONTRACT_STATE_FINALIZED,
        terms=pb.Terms(product="products/p", product_version=1, purpose=PURPOSE, **terms),
    )
    contract.terms.fields.extend(sharing_pb2.FieldTerms(field=name) for name in FIELDS)
    digest = contract_terms.agreement_hash(contract)
    await node.transactions.run(
        lambda tx: cast("Any", contracts_store.insert(tx.conn, contract, peer, digest, WaitDays(), tx.now))
    )
