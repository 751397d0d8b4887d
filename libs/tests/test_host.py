"""Two parts of a node, over a real database, bus and network: one is a small identity, the other asks it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.access import Grant, Grants, Scope, current_caller
from libs.audit_chain import START
from libs.config import NodeConfig, load_config
from libs.errors import Away
from libs.host import Host, Part, Running, Wired, prepare, run_part
from libs.testing import ConnectBus, MakeDatabase, Nats, Postgres, eventually
from libs.tests import callers, sample
from libs.tests.sample import Request, Response
from libs.tx import Tx
from libs.zones import ZoneTree
from quintet.audit.v1 import audit_pb2, audit_pb2_grpc
from quintet.fact.v1.fact_pb2 import Fact
from quintet.identity.v1 import directory_pb2, directory_pb2_grpc, identity_pb2, identity_pb2_grpc
from quintet.identity.v1.facts_pb2 import AccessChanged, ZoneChanged

PERSON = "people/officer"
SCOPES = {Scope.ZONE: directory_pb2.SCOPE_ZONE, Scope.OWN: directory_pb2.SCOPE_OWN}
READ = Grant("sample.things.read", Scope.ZONE, "us-ca-sf")
SERVICE_GRANTS = (Grant("identity.access.resolve", Scope.ZONE), Grant("identity.audit.read", Scope.ZONE))


@dataclass
class SmallIdentity(identity_pb2_grpc.IdentityServiceServicer, directory_pb2_grpc.DirectoryServiceServicer):
    """Knows what the test tells it."""

    held: dict[str, tuple[Grant, ...]]
    zones: list[str] = field(default_factory=lambda: ["us-ca-sf", "us-ca-sf-d10"])
    asked: int = 0

    async def grants(self, subject: str, session: str = "") -> Grants:
        held = self.held.get(subject)
        return Grants(subject, held or (), lambda: ZoneTree(root="us-ca-sf"), active=held is not None)

    async def jwks(self) -> dict[str, Any]:
        return {"keys": [callers.jwk()]}

    async def ResolveAccess(self, request: identity_pb2.ResolveAccessRequest, _context: Any) -> Any:
        self.asked += 1
        held = self.held.get(request.subject)
        grants = [identity_pb2.Grant(permission=g.permission, scope=SCOPES[g.scope], zone=g.zone) for g in held or ()]
        return identity_pb2.ResolveAccessResponse(grants=grants, active=held is not None)

    async def GetJwks(self, _request: identity_pb2.GetJwksRequest, _context: Any) -> Any:
        return identity_pb2.GetJwksResponse(keys=[identity_pb2.Jwk(**callers.jwk())])

    async def ListZones(self, _request: directory_pb2.ListZonesRequest, _context: Any) -> Any:
        root = self.zones[0]
        zones = [
            directory_pb2.Zone(name=f"zones/{code}", parent="" if code == root else f"zones/{root}")
            for code in self.zones
        ]
        return directory_pb2.ListZonesResponse(zones=zones)

    async def build(self, _host: Host) -> Wired:
        access: Any = identity_pb2.DESCRIPTOR.services_by_name["IdentityService"]
        places: Any = directory_pb2.DESCRIPTOR.services_by_name["DirectoryService"]
        servicers: list[Any] = [
            (identity_pb2_grpc.add_IdentityServiceServicer_to_server, self, access),
            (directory_pb2_grpc.add_DirectoryServiceServicer_to_server, self, places),
        ]
        return Wired(servicers=servicers, grants=self, jwks=self.jwks)


class Sample:
    """The part that asks identity. Upload and Talk are not used."""

    def __init__(self) -> None:
        self.host: Host | None = None
        self.heard: list[str] = []
        self.crashes = 0

    async def build(self, host: Host) -> Wired:
        self.host = host

        async def zone_changed(_tx: Tx, _fact: Fact, message: Message) -> None:
            assert isinstance(message, ZoneChanged)
            self.heard.append(message.zone.name)

        return Wired(
            servicers=[(sample.registrar(sample.SAMPLE), self, sample.SAMPLE)],
            handlers={ZoneChanged: zone_changed},
            tasks={"fragile": self.fragile},
        )

    async def fragile(self) -> None:
        self.crashes += 1
        if self.crashes == 1:
            raise ValueError("the first attempt fails")
        await asyncio.Event().wait()

    async def Open(self, request: Any, _context: Any) -> Any:
        return Response(text="open")

    async def Mine(self, request: Any, _context: Any) -> Any:
        return Response(subject=current_caller().subject)

    async def Change(self, request: Any, _context: Any) -> Any:
        assert self.host is not None

        async def change(tx: Tx) -> Any:
            tx.audit("sample.things.change", "things/1")
            return Response(text="changed")

        return await self.host.transactions.run(change)

    Read = Inside = Upload = Mine

    async def Watch(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        yield Response()

    Talk = Watch


class Node:
    """Starts the parts of one node."""

    def __init__(self, config: NodeConfig, stack: AsyncExitStack, migrations: Path) -> None:
        self.config = config
        make: Any = SmallIdentity  # mypy misses the methods that these tests do not need
        self.identity: SmallIdentity = make(
            {f"services/{part}": SERVICE_GRANTS for part in ("identity", "management")} | {PERSON: (READ,)}
        )
        self.sample = Sample()
        self._stack = stack
        self._migrations = migrations

    def part(self, name: str, build: Callable[[Host], Any]) -> Part:
        return Part(name, self._migrations, build)

    async def start(self, name: str, build: Callable[[Host], Any]) -> Running:
        return await self._stack.enter_async_context(run_part(self.part(name, build), self.config))

    def channel(self, running: Running) -> grpc.aio.Channel:
        """Return a plain channel to a part."""
        opened = grpc.aio.insecure_channel(running.address)
        self._stack.push_async_callback(opened.close)
        return opened

    def stub(self, running: Running, subject: str = PERSON) -> Any:
        stub = sample.Stub(self.channel(running), sample.SAMPLE)
        bearer = (("authorization", f"Bearer {callers.token(subject)}"),)
        return lambda method: getattr(stub, method)(Request(), metadata=bearer)


@pytest.fixture
async def node(
    tmp_path: Path,
    database: MakeDatabase,
    postgres: Postgres,
    nats: Nats,
    bus: ConnectBus,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Node]:
    del bus  # empties the bus
    monkeypatch.setattr("libs.supervisor.STABLE_S", 0.1)
    config_path = tmp_path / "node.toml"
    made = await database()
    config_path.write_text(
        f"""
        [node]
        id = "sf"
        name = "City"
        zone = "us-ca-sf"
        timezone = "America/Los_Angeles"
        state = "state"
        [postgres]
        dsn = "{made.dsn}"
        [nats]
        url = "{nats.server.url}"
        """
    )
    config = load_config(config_path)
    prepare(config)
    for part in ("identity", "management"):
        config.secrets.set(f"postgres-{part}", postgres.password(part))
        config.secrets.set(f"nats-{part}", nats.server.password(part))
    migrations = tmp_path / "service" / "migrations"
    migrations.mkdir(parents=True)
    async with AsyncExitStack() as stack:
        yield Node(config, stack, migrations)


async def code_of(call: Any) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def test_a_part_alone_is_up_but_not_ready_until_identity_is(node: Node) -> None:
    running = await node.start("management", node.sample.build)
    call = node.stub(running)
    assert await code_of(call("Open")) == "OK"
    assert await code_of(call("Mine")) == "UNAVAILABLE"
    health: Any = health_pb2_grpc.HealthStub(node.channel(running))
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.NOT_SERVING
    await node.start("identity", node.identity.build)
    await asyncio.wait_for(running.until_ready(), 20)
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    assert await eventually(lambda: _is(call("Read"), "OK"))
    assert running.host.zones.tree().covers("us-ca-sf", "us-ca-sf-d10")
    assert node.sample.crashes == 2


async def test_a_right_taken_away_is_gone_at_once(node: Node) -> None:
    identity = await node.start("identity", node.identity.build)
    running = await node.start("management", node.sample.build)
    await asyncio.wait_for(running.until_ready(), 20)
    call = node.stub(running)
    await eventually(lambda: _quiet(node, call))  # the subscription stands, the cache is in use
    node.identity.held[PERSON] = ()

    async def take_away(tx: Tx) -> None:
        tx.publish(AccessChanged(subject=PERSON), zone="us-ca-sf", key=PERSON)

    await identity.host.transactions.run(take_away)
    assert await eventually(lambda: _is(call("Read"), "PERMISSION_DENIED"), within_s=5)


async def _is(call: Any, code: str) -> bool:
    return await code_of(call) == code


async def _quiet(node: Node, call: Any) -> bool:
    before = node.identity.asked
    return await code_of(call("Read")) == "OK" and node.identity.asked == before


async def test_a_new_zone_is_known_at_once_and_its_fact_handled(node: Node) -> None:
    identity = await node.start("identity", node.identity.build)
    running = await node.start("management", node.sample.build)
    await asyncio.wait_for(running.until_ready(), 20)
    node.identity.zones.append("us-ca-sf-d6")

    async def add(tx: Tx) -> None:
        tx.publish(
            ZoneChanged(zone=directory_pb2.Zone(name="zones/us-ca-sf-d6")), zone="us-ca-sf", key="zones/us-ca-sf-d6"
        )

    async def known() -> bool:
        return "us-ca-sf-d6" in running.host.zones.tree() and node.sample.heard == ["zones/us-ca-sf-d6"]

    await identity.host.transactions.run(add)
    assert await eventually(known)


async def test_audit_entries_are_sealed_and_read_by_services(node: Node) -> None:
    node.identity.held[PERSON] = (Grant("sample.things.write", Scope.ZONE, "us-ca-sf"),)
    identity = await node.start("identity", node.identity.build)
    running = await node.start("management", node.sample.build)
    assert await code_of(node.stub(running)("Change")) == "OK"
    audit = audit_pb2_grpc.AuditServiceStub(identity.host.channel_to("management"))

    async def verified() -> Any:
        answer = await audit.VerifyAuditLog(audit_pb2.VerifyAuditLogRequest())
        return answer if answer.entries == 1 else None

    answer: Any = await eventually(verified)
    assert answer.verified
    assert answer.head != START.hash
    (entry,) = (await audit.ListAuditEntries(audit_pb2.ListAuditEntriesRequest())).entries
    assert (entry.actor, entry.action) == (PERSON, "sample.things.change")


async def test_a_part_comes_back_on_its_port_and_is_found(node: Node) -> None:
    identity = await node.start("identity", node.identity.build)
    stack = AsyncExitStack()
    part = node.part("management", node.sample.build)
    first = await stack.enter_async_context(run_part(part, node.config))
    stub = sample.Stub(identity.host.channel_to("management"), sample.SAMPLE)
    assert (await stub.Open(Request())).text == "open"
    await stack.aclose()
    with pytest.raises(Away):
        await stub.Open(Request())
    async with run_part(part, node.config) as second:
        assert second.address == first.address

        async def found() -> bool:
            try:
                return bool((await stub.Open(Request())).text)
            except Away:
                return False

        assert await eventually(found)


async def test_without_its_keys_a_node_does_not_start(node: Node) -> None:
    (node.config.node.secrets / "service-key-management").unlink()
    with pytest.raises(FileNotFoundError):
        await node.start("management", node.sample.build)
