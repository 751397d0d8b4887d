"""Collaboration as its wiring builds it, on a real channel."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from libs.access import Grant, Grants, Scope
from libs.channel import Channel, channel
from libs.clock import ManualClock
from libs.config import Secrets, load_config
from libs.db import Connection, Record
from libs.host import Host
from libs.inbox import Handler
from libs.node_key import NodeKeys
from libs.rpc import Server, TokenAuthenticator
from libs.testing import MakeTransactions
from libs.tests import callers
from libs.tx import Transactions
from libs.zone_directory import ZoneDirectory
from quintet.collaboration.v1 import facts_pb2
from quintet.collaboration.v1.collaboration_pb2_grpc import CollaborationServiceStub
from quintet.collaboration.v1.notices_pb2_grpc import NoticeServiceStub
from quintet.fact.v1.fact_pb2 import Fact
from quintet.identity.v1.directory_pb2 import ListZonesRequest, ListZonesResponse, Zone
from services.collaboration.tests.samples import (
    D10,
    HANDLER,
    MIGRATIONS,
    PARKS,
    POLICE,
    PUBLIC_WORKS,
    ROOT,
    TREE,
    fact,
    organisation_changed,
    person_changed,
)
from services.collaboration.wiring import PART

COLLEAGUE, GARDENER, SERGEANT = "people/handler2.public-works", "people/handler.parks", "people/handler.police"
CREW_D6 = "people/handler.public-works.d6"  # of public works, with a post in district 6 only
DUTY_OFFICER, RESIDENT = "people/duty-officer.d10", "people/resident.01"
DUTY_CENTRE = "organisations/duty-centre"

_MEMBER = ("channels.read", "messages.post", "tasks.read", "tasks.update", "channels.create", "tasks.create")
_OFFICER = ("channels.read", "channels.create", "tasks.create", "tasks.read", "directory.read")


def _member(subject: str, organisation: str, zone: str = ROOT) -> Grants:
    held = [Grant(f"collaboration.{verb}", Scope.ORGANISATION, zone, organisation) for verb in _MEMBER]
    held.append(Grant("collaboration.directory.read", Scope.ZONE, ROOT))
    return Grants(subject, held, lambda: TREE, organisations=(organisation,))


HELD = {
    HANDLER: _member(HANDLER, PUBLIC_WORKS),
    COLLEAGUE: _member(COLLEAGUE, PUBLIC_WORKS),
    GARDENER: _member(GARDENER, PARKS),
    SERGEANT: _member(SERGEANT, POLICE),
    CREW_D6: _member(CREW_D6, PUBLIC_WORKS, "us-ca-sf-d6"),
    DUTY_OFFICER: Grants(
        DUTY_OFFICER,
        [Grant(f"collaboration.{verb}", Scope.ZONE, D10) for verb in _OFFICER],
        lambda: TREE,
        organisations=(DUTY_CENTRE,),
    ),
    RESIDENT: Grants(RESIDENT, [Grant("delivery.requests.read", Scope.OWN, ROOT)], lambda: TREE),
}


class Places:
    """Lists the zones of the test tree."""

    async def ListZones(self, _request: ListZonesRequest) -> ListZonesResponse:
        below = [Zone(name=f"zones/{code}", parent=f"zones/{ROOT}") for code in ("us-ca-sf-d6", D10)]
        return ListZonesResponse(zones=[Zone(name=f"zones/{ROOT}"), *below])


@dataclass
class Collaboration:
    """The service under test."""

    host: Host
    address: str
    stack: AsyncExitStack
    handlers: Mapping[type[Message], Handler]
    _channels: dict[str, Channel] = field(default_factory=dict)

    @property
    def transactions(self) -> Transactions:
        return self.host.transactions

    def stub(self, subject: str = "") -> CollaborationServiceStub:
        return CollaborationServiceStub(self._channel(subject))

    def notices(self, subject: str) -> NoticeServiceStub:
        return NoticeServiceStub(self._channel(subject))

    def _channel(self, subject: str) -> Channel:
        if subject not in self._channels:
            token = callers.token(subject) if subject else ""
            self._channels[subject] = channel(self.address, token=token, dependency="collaboration", cap_s=10)
            self.stack.push_async_callback(self._channels[subject].close)
        return self._channels[subject]

    async def tell(self, *messages: Any, **origin: Any) -> None:
        """Hand facts to their handlers."""
        for message in messages:
            handle = self.handlers[type(message)]
            await self.transactions.run(lambda tx, h=handle, m=message: h(tx, fact(m, **origin), m))  # type: ignore[misc]

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


@pytest.fixture
async def collaboration(
    transactions: MakeTransactions, clock: ManualClock, tmp_path: Path
) -> AsyncIterator[Collaboration]:
    """A collaboration of the city with three departments and a duty centre in its directory."""
    (tmp_path / "node.toml").write_text(
        '[node]\nid = "sf"\nname = "City"\nzone = "us-ca-sf"\ntimezone = "America/Los_Angeles"\nstate = "state"\n'
    )
    async with AsyncExitStack() as stack:
        unused: Any = None
        places: Any = Places()
        host = Host(
            part="collaboration",
            config=load_config(tmp_path / "node.toml"),
            transactions=await transactions("collaboration", MIGRATIONS),
            bus=unused,
            clock=clock,
            zones=ZoneDirectory(places, ROOT),
            signer=unused,
            node_keys=NodeKeys(Secrets(tmp_path)),
        )
        await host.zones.refresh()
        wired = await PART.build(host)
        server = Server("collaboration", TokenAuthenticator(callers.verifier(), callers.StaticGrants(HELD)))
        for servicer in wired.servicers:
            server.add(*servicer)
        port = await server.start()
        stack.push_async_callback(server.stop, 0)
        made = Collaboration(host, f"127.0.0.1:{port}", stack, wired.handlers)
        await made.tell(*(organisation_changed(name) for name in (PUBLIC_WORKS, PARKS, POLICE, DUTY_CENTRE)))
        await made.tell(person_changed(HANDLER, PUBLIC_WORKS), person_changed(COLLEAGUE, PUBLIC_WORKS))
        await made.tell(person_changed(GARDENER, PARKS))
        yield made
