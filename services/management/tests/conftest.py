"""A node's management over a real database and a real channel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp

from libs import context
from libs.access import Grant, Grants, Scope
from libs.clock import ManualClock
from libs.config import load_config
from libs.host import Host, Wired
from libs.ids import new_id
from libs.node_key import NodeKeys, ensure_node_key
from libs.rpc import Server, TokenAuthenticator, channel
from libs.tests import callers
from libs.tokens import ServiceSigner
from libs.tx import Transactions, Tx
from libs.zone_directory import ZoneDirectory
from libs.zones import ZoneTree
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1.facts_pb2 import ZoneDelegated
from quintet.identity.v1 import directory_pb2, identity_pb2
from quintet.identity.v1.directory_pb2 import ListZonesRequest, ListZonesResponse, Zone
from quintet.identity.v1.identity_pb2_grpc import add_IdentityServiceServicer_to_server
from quintet.management.v1 import facts_pb2
from quintet.management.v1.analysis_pb2_grpc import AnalysisServiceStub
from quintet.management.v1.calendars_pb2_grpc import CalendarServiceStub
from quintet.management.v1.cases_pb2_grpc import CaseServiceStub
from quintet.management.v1.catalogue_pb2_grpc import ComponentTypeServiceStub
from quintet.management.v1.deadlines_pb2_grpc import DeadlineServiceStub
from quintet.management.v1.evidence_pb2_grpc import EvidenceServiceStub
from quintet.management.v1.exceptions_pb2_grpc import ExceptionServiceStub
from quintet.management.v1.follow_ups_pb2_grpc import FollowUpServiceStub
from quintet.management.v1.handovers_pb2_grpc import HandoverServiceStub
from quintet.management.v1.imports_pb2_grpc import ImportServiceStub
from quintet.management.v1.loops_pb2_grpc import LoopServiceStub
from quintet.management.v1.management_pb2_grpc import ManagementServiceStub
from quintet.management.v1.merging_pb2_grpc import MergeServiceStub
from quintet.management.v1.reports_pb2_grpc import ReportServiceStub
from quintet.management.v1.routing_pb2_grpc import RoutingServiceStub
from quintet.management.v1.scorecards_pb2_grpc import ScorecardServiceStub
from quintet.management.v1.tiers_pb2_grpc import TierServiceStub
from quintet.management.v1.whistles_pb2_grpc import WhistleServiceStub
from quintet.management.v1.worklists_pb2_grpc import WorkListServiceStub
from services.management import store_types
from services.management.tests import samples
from services.management.wiring import PART

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message

    from libs.channel import Channel
    from libs.db import Connection, Record
    from libs.testing import MakeTransactions
    from services.management.model import EventType

SIGNER = ServiceSigner("management", callers.SERVICE_KEYS["management"])
# The methods of all services of the part have different names.
STUBS = (
    ManagementServiceStub,
    CalendarServiceStub,
    ComponentTypeServiceStub,
    DeadlineServiceStub,
    EvidenceServiceStub,
    ExceptionServiceStub,
    ImportServiceStub,
    LoopServiceStub,
    WorkListServiceStub,
    AnalysisServiceStub,
    MergeServiceStub,
    HandoverServiceStub,
    RoutingServiceStub,
    WhistleServiceStub,
    ScorecardServiceStub,
    ReportServiceStub,
    FollowUpServiceStub,
    CaseServiceStub,
    TierServiceStub,
)
ROLES: dict[str, tuple[str, ...]] = {
    "duty-officer": ("open", "read", "advance", "file", "void", "merge"),
    "dispatcher": ("read", "advance", "dispatch", "void", "merge"),
    "verifier": ("read", "advance", "verify"),
    "supervisor": ("read", "advance", "evaluate", "void"),
}


HANDLER = (
    *("events.read", "events.advance", "events.dispose", "work.claim", "exceptions.ask", "evidence.write"),
    *("handovers.offer", "handovers.answer", "handovers.read", "whistles.report_in", "whistles.read"),
    *("scorecards.read", "scorecards.appeal", "cases.write"),
)
ADMIN = (
    *("event_types.write", "event_types.read", "component_types.write", "loops.write", "calendars.write"),
    *("events.import", "follow_up_policies.write"),
)
STAFF = ("exceptions.ask", "evidence.write")
DECIDING = (
    *("exceptions.decide", "analysis.read", "handovers.decide", "handovers.read"),
    *("scorecards.read", "scorecards.publish", "scorecards.decide", "reports.generate", "reports.read"),
    *("follow_ups.read", "cases.read", "cases.review", "take_overs.ask", "take_overs.read"),
)
CALLING = ("follow_ups.read", "follow_ups.call", "cases.read")
BESIDES: dict[str, tuple[str, ...]] = {
    "duty-officer": (
        *STAFF,
        *CALLING,
        "counters.read",
        "work.claim",
        "handovers.read",
        "whistles.blow",
        "whistles.read",
    ),
    "dispatcher": (*STAFF, "work.claim", "work.assign", "handovers.read", "routing.read", "cases.read", "cases.write"),
    "verifier": (*STAFF, *CALLING, "work.claim", "cases.write"),
    "supervisor": (
        *STAFF,
        *DECIDING,
        "counters.read",
        "work.assign",
        "routing.read",
        "scorecards.write",
        "cases.write",
    ),
    "leader": ("events.read", *DECIDING),
    "admin": ADMIN,
    "resident.01": (),
}


def city_grants(zones: Callable[[], ZoneTree]) -> dict[str, Grants]:
    """Posts with the rights that the built-in roles have; handlers by the last word of their organisation."""

    def in_zone(zone: str, rights: Iterable[str]) -> list[Grant]:
        return [Grant(f"management.{right}", Scope.ZONE, zone) for right in rights]

    def at_events(role: str) -> list[str]:
        return [f"events.{verb}" for verb in ROLES.get(role, ())]

    held = {f"people/{role}": in_zone("us-ca-sf", [*at_events(role), *rights]) for role, rights in BESIDES.items()}
    held["people/dispatcher.d10"] = in_zone("us-ca-sf-d10", [*at_events("dispatcher"), "work.claim"])
    held["people/admin.d10"] = in_zone("us-ca-sf-d10", ADMIN)
    member = {}
    for organisation in (samples.WORKS, samples.SEWERS, samples.PARKS):
        name = f"people/handler.{organisation.rpartition('-')[2].rpartition('/')[2]}"
        for person in (name, f"{name}.2"):
            member[person] = [organisation]
            held[person] = [
                Grant(f"management.{verb}", Scope.ORGANISATION, "us-ca-sf", organisation) for verb in HANDLER
            ]
    held["people/handler.works"] += in_zone("us-ca-sf", ["cases.read"])
    held["services/management"] = [Grant("identity.access.resolve", Scope.ZONE)]
    return {
        subject: Grants(subject, grants, zones, organisations=member.get(subject, ()))
        for subject, grants in held.items()
    }


@dataclass
class Node:
    """One node's management, as tests use it."""

    id: str
    transactions: Transactions
    clock: ManualClock
    zones: ZoneTree
    wired: Wired
    stubs: tuple[Any, ...]
    held: dict[str, Grants]
    address: str
    _relayed: int = 0

    async def call(self, method: str, request: Message, subject: str) -> Any:
        """Call as somebody over the channel. Raises the domain error that the service answers with."""
        return await self.begin(method, request, subject)

    def begin(self, method: str, request: Message, subject: str, **claims: Any) -> Any:
        """Begin a call, to await its answer or to read its answers; `claims` are of the token."""
        metadata = (("authorization", f"Bearer {callers.token(subject, **claims)}"),) if subject else ()
        stub = next(stub for stub in self.stubs if hasattr(stub, method))
        return getattr(stub, method)(request, metadata=metadata, timeout=10)

    async def hear(self, message: Message, **about: str) -> Fact:
        """Take in a fact as the consumer of the bus does, in a transaction of its own."""
        fact = self.fact(message, **about)
        await self.take_in(fact)
        return fact

    def fact(self, message: Message, **about: str) -> Fact:
        at = Timestamp()
        at.FromDatetime(self.clock.now())
        values = {"node": self.id, "zone": "us-ca-sf", "key": "k"} | about
        return Fact(
            id=new_id(), type=message.DESCRIPTOR.full_name, time=at, data=message.SerializeToString(), **values
        )  # fmt: skip

    async def take_in(self, fact: Fact) -> None:
        kind, handle = next((k, h) for k, h in self.wired.handlers.items() if k.DESCRIPTOR.full_name == fact.type)

        async def work(tx: Tx) -> None:
            token = context.caller_subject.set("services/management")
            try:
                await handle(tx, fact, kind.FromString(fact.data))
            finally:
                context.caller_subject.reset(token)

        await self.transactions.run(work)

    async def stated(self) -> list[tuple[Fact, Any]]:
        """Return all facts stated so far, in order, with their messages."""
        facts = [Fact.FromString(row["fact"]) for row in await self.rows("SELECT fact FROM outbox ORDER BY id")]
        return [(fact, getattr(facts_pb2, fact.type.rpartition(".")[2]).FromString(fact.data)) for fact in facts]

    async def stated_types(self) -> list[str]:
        return [fact.type.rpartition(".")[2] for fact, _ in await self.stated()]

    async def report_to(self, parent: Node) -> None:
        """Let a parent take in what was stated since the last time, as federation delivers it."""
        facts = await self.stated()
        for fact, _ in facts[self._relayed :]:
            await parent.take_in(received(fact))
        self._relayed = len(facts)

    async def rows(self, query: str, *values: object) -> list[Record]:
        async def read(conn: Connection) -> list[Record]:
            return await conn.fetch(query, *values)

        return await self.transactions.read(read)

    async def put(self, *types: EventType) -> None:
        async def work(tx: Tx) -> None:
            for event_type in types:
                await store_types.put_type(tx.conn, event_type, actor="people/admin", now=tx.now)

        await self.transactions.run(work)


def received(fact: Fact) -> Fact:
    """Return the fact as it comes from the peer that stated it."""
    copy = Fact()
    copy.CopyFrom(fact)
    copy.received_from = fact.node
    return copy


MakeNode = Callable[..., Awaitable[Node]]


class Places:
    """Lists the zones of the sample tree, as identity does."""

    async def ListZones(self, _request: ListZonesRequest) -> ListZonesResponse:
        zones = [Zone(name=f"zones/{code}", parent=parent and f"zones/{parent}") for code, parent in samples.ZONES]
        for zone in zones:
            zone.title.zh, zone.title.en = samples.ZONE_TITLES.get(zone.name.removeprefix("zones/"), ("", ""))
        return ListZonesResponse(zones=zones)


class Identity:
    """Answers ResolveAccess, the only method of identity that management calls, of the grants that callers have."""

    def __init__(self, source: callers.StaticGrants) -> None:
        self._source = source

    async def ResolveAccess(self, request: identity_pb2.ResolveAccessRequest, _context: object) -> Message:
        found = await self._source.grants(request.subject)
        grants = [
            identity_pb2.Grant(
                permission=grant.permission,
                scope=directory_pb2.Scope.Value(f"SCOPE_{grant.scope.name}"),
                zone=grant.zone,
                organisation=grant.organisation,
            )
            for grant in found
        ]
        return identity_pb2.ResolveAccessResponse(
            grants=grants, active=found.active, organisations=sorted(found.organisations)
        )

    def __getattr__(self, name: str) -> Any:
        """Stand in for the methods that nobody calls; grpc wants them all when it registers."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self.ResolveAccess


@pytest_asyncio.fixture
async def make_node(transactions: MakeTransactions, clock: ManualClock, tmp_path: Path) -> AsyncIterator[MakeNode]:
    """Makes nodes with some of their zones delegated; each has GRAFFITI and NOISE, a database and a port of its own."""
    async with AsyncExitStack() as stack:

        async def make(node: str = samples.NODE, *delegated: str, root: str = "us-ca-sf", settings: str = "") -> Node:
            made_transactions = await transactions("management", samples.MIGRATIONS, node=node)
            source = callers.StaticGrants({})
            authenticator = TokenAuthenticator(callers.verifier(), source)
            identity = await _identity(stack, authenticator, source)
            host = await _host(node, root, made_transactions, clock, tmp_path, identity, settings)
            source.held.update(city_grants(host.zones.tree))
            wired = await PART.build(host)
            server = Server("management", authenticator)
            for servicer in wired.servicers:
                server.add(*servicer)
            port = await server.start()
            stack.push_async_callback(server.stop, 0)
            address = f"127.0.0.1:{port}"
            opened = channel(address, dependency="management")
            stack.push_async_callback(opened.close)
            stubs = tuple(kind(opened) for kind in STUBS)
            made = Node(node, made_transactions, clock, host.zones.tree(), wired, stubs, source.held, address)
            await made.put(samples.GRAFFITI, samples.NOISE)
            for zone in delegated:
                await made.hear(ZoneDelegated(zone=zone, node=zone.removeprefix("us-ca-")), zone=zone)
            return made

        yield make


async def _identity(stack: AsyncExitStack, authenticator: TokenAuthenticator, source: callers.StaticGrants) -> Channel:
    """Serve what the part asks identity for; return the channel to it."""
    server = Server("identity", authenticator)
    service = identity_pb2.DESCRIPTOR.services_by_name["IdentityService"]
    server.add(add_IdentityServiceServicer_to_server, Identity(source), service)
    port = await server.start()
    stack.push_async_callback(server.stop, 0)
    opened = channel(f"127.0.0.1:{port}", signer=SIGNER, dependency="identity")
    stack.push_async_callback(opened.close)
    return opened


async def _host(
    node: str,
    root: str,
    transactions: Transactions,
    clock: ManualClock,
    folder: Path,
    identity: Channel,
    further: str = "",
) -> Host:
    """Return what the runtime hands to the part; there is no bus, and nobody else to call but identity.

    `further` are settings of node.toml besides its section [node].
    """
    config = folder / f"{node}.toml"
    of_node = f'[node]\nid = "{node}"\nname = "Node"\nzone = "{root}"\ntimezone = "UTC"\nstate = "state"\n'
    config.write_text(of_node + further)
    settings = load_config(config)
    unused: Any = None
    places: Any = Places()
    ensure_node_key(settings.secrets)
    host = Host(
        part="management",
        config=settings,
        transactions=transactions,
        bus=unused,
        clock=clock,
        zones=ZoneDirectory(places, root),
        signer=unused,
        node_keys=NodeKeys(settings.secrets),
        _channels={"identity": identity},
    )
    await host.zones.refresh()
    return host


@pytest_asyncio.fixture
async def city(make_node: MakeNode) -> Node:
    return await make_node()
