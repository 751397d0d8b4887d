"""Delivery as its wiring builds it, on a real channel, with a management that knows a few event types."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.message import Message

from libs.access import Grant, Grants, Scope
from libs.channel import Channel, channel
from libs.clock import ManualClock
from libs.config import Secrets, load_config
from libs.db import Connection, Record
from libs.errors import Away, NotFound, Reason
from libs.host import Host
from libs.node_key import NodeKeys
from libs.rpc import Server, TokenAuthenticator
from libs.testing import MakeTransactions
from libs.tests import callers
from libs.tx import Transactions
from libs.zone_directory import ZoneDirectory
from quintet.delivery.v1 import facts_pb2
from quintet.delivery.v1.delivery_pb2_grpc import RequestServiceStub, ServiceItemServiceStub
from quintet.fact.v1.fact_pb2 import Fact
from quintet.identity.v1.directory_pb2 import ListZonesRequest, ListZonesResponse, Zone
from quintet.management.v1 import management_pb2
from quintet.management.v1.management_pb2_grpc import add_ManagementServiceServicer_to_server
from services.delivery.tests.samples import MIGRATIONS, PUBLIC_WORKS
from services.delivery.wiring import PART

RESIDENT, OTHER = "people/resident.01", "people/resident.02"
DUTY_OFFICER, CLERK = "people/duty-officer.d10", "people/clerk.d10"
HANDLER = "people/handler.public-works"
SERVICE_OFFICER, NODE_ADMIN = "people/service-officer", "people/node-admin"
CITY, D10 = "us-ca-sf", "us-ca-sf-d10"

_OWN = (
    "delivery.requests.file",
    "delivery.requests.read",
    "delivery.requests.rate",
    "delivery.requests.reopen",
    "delivery.applications.submit",
    "delivery.applications.read",
    "delivery.certificates.read",
)
_OFFICER = (
    "delivery.applications.submit",
    "delivery.applications.read",
    "delivery.applications.decide",
    "delivery.certificates.read",
    "delivery.certificates.revoke",
)


def _grants(subject: str, zone: str, scope: Scope, permissions: tuple[str, ...], organisation: str = "") -> Grants:
    return callers.grants(subject, *(Grant(permission, scope, zone, organisation) for permission in permissions))


HELD = {
    RESIDENT: _grants(RESIDENT, CITY, Scope.OWN, _OWN),
    OTHER: _grants(OTHER, CITY, Scope.OWN, _OWN),
    DUTY_OFFICER: _grants(DUTY_OFFICER, D10, Scope.ZONE, ("delivery.requests.read", "delivery.contacts.read")),
    CLERK: _grants(CLERK, D10, Scope.ZONE, ("delivery.requests.read",)),
    HANDLER: _grants(HANDLER, CITY, Scope.ORGANISATION, ("delivery.requests.read",), PUBLIC_WORKS),
    SERVICE_OFFICER: _grants(SERVICE_OFFICER, CITY, Scope.ZONE, _OFFICER),
    NODE_ADMIN: _grants(NODE_ADMIN, CITY, Scope.ZONE, (*_OWN, *_OFFICER, "delivery.service_items.write")),
    CLERK + ".items": _grants(CLERK + ".items", D10, Scope.ZONE, ("delivery.service_items.write",)),
}


class Management:
    """Answers GetEventType, the only method that delivery calls."""

    def __init__(self) -> None:
        self.retired = {"eventTypes/street-light": False, "eventTypes/retired": True}
        self.asked: list[str] = []
        self.away = False

    async def GetEventType(self, request: management_pb2.GetEventTypeRequest, _context: object) -> Message:
        self.asked.append(request.name)
        if self.away:
            raise Away(Reason.DEPENDENCY_AWAY, "the database is away", dependency="postgres")
        if request.name not in self.retired:
            raise NotFound(Reason.EVENT_TYPE_NOT_FOUND, name=request.name)
        found = management_pb2.EventType(name=request.name, retired=self.retired[request.name])
        return management_pb2.GetEventTypeResponse(event_type=found)

    def __getattr__(self, name: str) -> Any:
        """Stand in for the methods that nobody calls; grpc wants them all when it registers."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self.GetEventType


class Places:
    """Lists the zones of the test tree."""

    async def ListZones(self, _request: ListZonesRequest) -> ListZonesResponse:
        return ListZonesResponse(
            zones=[
                Zone(name="zones/us-ca-sf"),
                Zone(name="zones/us-ca-sf-d6", parent="zones/us-ca-sf", aliases=["6"]),
                Zone(name="zones/us-ca-sf-d10", parent="zones/us-ca-sf", aliases=["10"]),
            ]
        )


@dataclass
class Delivery:
    """The service under test."""

    host: Host
    management: Management
    address: str
    stack: AsyncExitStack
    _channels: dict[str, Channel] = field(default_factory=dict)

    @property
    def transactions(self) -> Transactions:
        return self.host.transactions

    @property
    def clock(self) -> ManualClock:
        return cast(ManualClock, self.host.clock)

    def requests(self, subject: str = "") -> RequestServiceStub:
        return RequestServiceStub(self._channel(subject))

    def items(self, subject: str = "") -> ServiceItemServiceStub:
        return ServiceItemServiceStub(self._channel(subject))

    async def rows(self, query: str, *values: object) -> list[Record]:
        async def read(conn: Connection) -> list[Record]:
            return await conn.fetch(query, *values)

        return await self.transactions.read(read)

    async def facts(self) -> list[tuple[Fact, Any]]:
        """Return what was stated, in order: the envelope and the message."""
        facts = [Fact.FromString(row["fact"]) for row in await self.rows("SELECT fact FROM outbox ORDER BY id")]
        return [(fact, getattr(facts_pb2, fact.type.rpartition(".")[2]).FromString(fact.data)) for fact in facts]

    async def audited(self) -> list[tuple[str, str, str]]:
        """Return (actor, action, resource) of every audit entry, in order."""
        return [tuple(row) for row in await self.rows("SELECT actor, action, resource FROM audit_entries ORDER BY id")]

    def _channel(self, subject: str) -> Channel:
        if subject not in self._channels:
            token = callers.token(subject) if subject else ""
            self._channels[subject] = channel(self.address, token=token, dependency="delivery", cap_s=10)
            self.stack.push_async_callback(self._channels[subject].close)
        return self._channels[subject]


@pytest.fixture
async def delivery(transactions: MakeTransactions, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Delivery]:
    """A delivery of the city whose zones are loaded."""
    (tmp_path / "node.toml").write_text(
        '[node]\nid = "sf"\nname = "City"\nzone = "us-ca-sf"\ntimezone = "America/Los_Angeles"\nstate = "state"\n'
    )
    authenticator = TokenAuthenticator(callers.verifier(), callers.StaticGrants(HELD))
    async with AsyncExitStack() as stack:
        management = Management()
        server = Server("management", authenticator)
        descriptor = management_pb2.DESCRIPTOR.services_by_name["ManagementService"]
        server.add(add_ManagementServiceServicer_to_server, management, descriptor)
        port = await server.start()
        stack.push_async_callback(server.stop, 0)
        to_management = channel(f"127.0.0.1:{port}", dependency="management")
        stack.push_async_callback(to_management.close)
        unused: Any = None
        places: Any = Places()
        host = Host(
            part="delivery",
            config=load_config(tmp_path / "node.toml"),
            transactions=await transactions("delivery", MIGRATIONS),
            bus=unused,
            clock=clock,
            zones=ZoneDirectory(places, CITY),
            signer=unused,
            node_keys=NodeKeys(Secrets(tmp_path)),
            _channels={"management": to_management},
        )
        await host.zones.refresh()
        wired = await PART.build(host)
        own = Server("delivery", authenticator)
        for servicer in wired.servicers:
            own.add(*servicer)
        port = await own.start()
        stack.push_async_callback(own.stop, 0)
        yield Delivery(host, management, f"127.0.0.1:{port}", stack)
