"""Runs one part of a node: its database, bus, background work and server, from node.toml to a registered address.

PART = Part("management", Path(__file__).parent / "migrations", build)

async def build(host: Host) -> Wired:
    service = ManagementService(host.transactions, host.zones.tree, DirectoryServiceStub(host.channel_to("identity")))
    return Wired(servicers=[(add_ManagementServiceServicer_to_server, service, SERVICE)], handlers={...})

async with run_part(PART, config) as running: ...
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from libs.access import GrantSource
from libs.announcements import ACCESS_CHANGED, ZONE_CHANGED, Announcements
from libs.audit import AuditSealer, AuditServicer
from libs.bus import Bus
from libs.channel import Channel, channel
from libs.clock import Clock, SystemClock
from libs.config import GATEWAY, PARTS, NodeConfig
from libs.db import open_pool
from libs.deadletters import DeadLetterServicer
from libs.inbox import BatchHandler, FactConsumer, Handler
from libs.migrate import migrate
from libs.node_key import NodeKeys, ensure_node_key
from libs.outbox import OutboxRelay
from libs.purge import Purger
from libs.remote_grants import RemoteGrants
from libs.rpc import Server, TokenAuthenticator
from libs.state import RuntimeInfo, change_runtime
from libs.supervisor import Supervisor, Work
from libs.tokens import (
    JwksSource,
    ServiceSigner,
    TokenVerifier,
    ensure_service_keys,
    load_service_key,
    load_service_keys,
)
from libs.tx import Transactions
from libs.zone_directory import ZoneDirectory
from quintet.audit.v1 import audit_pb2, audit_pb2_grpc
from quintet.deadletter.v1 import deadletter_pb2, deadletter_pb2_grpc
from quintet.fact.v1.fact_pb2 import Fact
from quintet.identity.v1 import identity_pb2
from quintet.identity.v1.directory_pb2_grpc import DirectoryServiceStub
from quintet.identity.v1.facts_pb2 import AccessChanged
from quintet.identity.v1.identity_pb2_grpc import IdentityServiceStub

log = structlog.get_logger()

Servicer = tuple[Callable[[Any, Any], None], object, ServiceDescriptor]


@dataclass(frozen=True, slots=True)
class Wired:
    """What a part is made of.

    servicers: (generated add_..._to_server, servicer, service descriptor). handlers or handle_all: what it takes from
    the bus (see libs.inbox); nothing while admits answers False. tasks: endless background work by name; each is
    started again when it crashes.

    identity alone gives grants and jwks: its own answers to what the other parts ask it for over the wire.
    """

    servicers: Sequence[Servicer]
    handlers: Mapping[type[Message], Handler] = field(default_factory=dict)
    handle_all: BatchHandler | None = None
    admits: Callable[[], bool] | None = None
    tasks: Mapping[str, Work] = field(default_factory=dict)
    grants: GrantSource | None = None
    jwks: JwksSource | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """What a part is given to build itself with."""

    part: str
    config: NodeConfig
    transactions: Transactions
    bus: Bus
    clock: Clock
    zones: ZoneDirectory
    signer: ServiceSigner
    node_keys: NodeKeys
    _channels: dict[str, Channel] = field(default_factory=dict)

    @property
    def node(self) -> str:
        """The node's id."""
        return self.config.node.id

    @property
    def zone(self) -> str:
        """The code of the zone that the node is authoritative for."""
        return self.config.node.zone

    def channel_to(self, part: str, *, as_caller: bool = False) -> Channel:
        """Return the channel to another part of this node, which follows it when it moves; the host closes it.

        Calls carry this service's own token; with `as_caller` that of the caller being served.
        """
        found = self._channels.get(part)
        if found is None:
            # Read when needed: a part that is started later, or again, writes its address to the state folder.
            found = channel(lambda: self.config.runtime().services.get(part, ""), signer=self.signer, dependency=part)
            self._channels[part] = found
        return found.as_caller() if as_caller else found


@dataclass(frozen=True, slots=True)
class Part:
    """One service: its name, which is also its schema, the folder of its migrations, and what builds it."""

    name: str
    migrations: Path
    build: Callable[[Host], Awaitable[Wired]]


class Running:
    """A part that is up. `address` is host:port."""

    def __init__(self, host: Host, server: Server, needed: Sequence[asyncio.Event]) -> None:
        self.host = host
        self.server = server
        self.address = ""
        self.supervisor = Supervisor(host.part, self._changed)
        self._needed = needed
        self._ready = asyncio.Event()
        self._dirty = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether all background work runs and what is needed to decide about calls was loaded once."""
        return not self.supervisor.unhealthy and all(event.is_set() for event in self._needed)

    async def until_ready(self) -> None:
        """Return when health answers SERVING."""
        await self._ready.wait()

    async def keep_health(self) -> None:
        """Tell health checks whenever readiness changes, until cancelled."""
        waiting = [asyncio.create_task(self._after(event)) for event in self._needed]
        try:
            while True:
                self._dirty.clear()
                ready = self.ready
                await self.server.set_ready(ready=ready)
                if ready != self._ready.is_set():
                    log.info("part.ready" if ready else "part.not_ready", part=self.host.part)
                (self._ready.set if ready else self._ready.clear)()
                await self._dirty.wait()
        finally:
            for task in waiting:
                task.cancel()

    async def _after(self, event: asyncio.Event) -> None:
        await event.wait()
        self._changed()

    def _changed(self) -> None:
        self._dirty.set()


def prepare(config: NodeConfig) -> None:
    """Make the keys that the parts of a node share, where they are missing. Once per node, before its parts start."""
    config.state.mkdir(parents=True, exist_ok=True)
    ensure_service_keys(config.secrets, (*PARTS, GATEWAY))
    ensure_node_key(config.secrets)


@asynccontextmanager
async def run_part(
    part: Part, config: NodeConfig, *, clock: Clock | None = None, listen: str = ""
) -> AsyncIterator[Running]:
    """Run a part for the length of the block; yields when its server listens (see Running.until_ready).

    `listen` is host:port to listen on, by default the address that node.toml fixes, else the port of the last run when
    it is free, else any. Raises SchemaTooNew and MigrationError, PolicyError, FileNotFoundError when the node was not
    prepared, Away when the database or the bus is not there.
    """
    async with AsyncExitStack() as stack:
        host = await _host(stack, part, config, clock or SystemClock())
        wired = await part.build(host)
        identity = IdentityServiceStub(host.channel_to("identity"))
        remote = None if wired.grants else RemoteGrants(identity, host.zones.tree)
        verifier = TokenVerifier(host.node, wired.jwks or _jwks(identity), load_service_keys(config.secrets))
        server = Server(part.name, TokenAuthenticator(verifier, wired.grants or _given(remote)))
        for register, servicer, service in (*wired.servicers, _audit(host), _letters(host)):
            server.add(register, servicer, service)
        running = Running(host, server, [host.zones.loaded] if remote else [])
        stack.push_async_callback(running.supervisor.stop)
        port = await _listen(server, part.name, config, listen)
        stack.push_async_callback(server.stop)
        running.address = await _register(config, part.name, port)
        running.supervisor.start(_work(host, wired, remote) | {"health": running.keep_health})
        log.info("part.started", part=part.name, address=running.address)
        yield running
        log.info("part.stopping", part=part.name)


async def _host(stack: AsyncExitStack, part: Part, config: NodeConfig, clock: Clock) -> Host:
    """Open what the part stands on; the stack closes it in reverse order."""
    runtime = config.runtime()
    pool = await open_pool(
        runtime.postgres, name=part.name, user=part.name, password=config.secrets.read(f"postgres-{part.name}")
    )
    stack.push_async_callback(pool.close)
    async with pool.dedicated("migrate") as connection:
        await migrate(connection, part.name, [part.migrations])
    bus = await Bus.connect(runtime.nats, part.name, config.nats_password(part.name), part.name)
    stack.push_async_callback(bus.close)
    signer = ServiceSigner(part.name, load_service_key(config.secrets, part.name))
    channels: dict[str, Channel] = {}
    identity = channel(lambda: config.runtime().services.get("identity", ""), signer=signer, dependency="identity")
    channels["identity"] = identity
    stack.push_async_callback(_close_all, channels)
    return Host(
        part=part.name,
        config=config,
        transactions=Transactions(pool, clock, part.name, config.node.id, config.node.zone),
        bus=bus,
        clock=clock,
        zones=ZoneDirectory(DirectoryServiceStub(identity), config.node.zone),
        signer=signer,
        node_keys=_node_keys(config),
        _channels=channels,
    )


def _node_keys(config: NodeConfig) -> NodeKeys:
    keys = NodeKeys(config.secrets)
    keys.present()  # a node that was never prepared does not start
    return keys


async def _close_all(channels: Mapping[str, Channel]) -> None:
    for opened in channels.values():
        await opened.close()


def _given(remote: RemoteGrants | None) -> GrantSource:
    if remote is None:
        raise ValueError("no source of grants")
    return remote


def _audit(host: Host) -> Servicer:
    servicer = AuditServicer(host.transactions, host.node_keys.public, host.node_keys.present)
    service = audit_pb2.DESCRIPTOR.services_by_name["AuditService"]
    return audit_pb2_grpc.add_AuditServiceServicer_to_server, servicer, service


def _letters(host: Host) -> Servicer:
    service = deadletter_pb2.DESCRIPTOR.services_by_name["DeadLetterService"]
    servicer = DeadLetterServicer(host.transactions)
    return deadletter_pb2_grpc.add_DeadLetterServiceServicer_to_server, servicer, service


def _jwks(stub: IdentityServiceStub) -> JwksSource:
    async def fetch() -> Mapping[str, Any]:
        response = await stub.GetJwks(identity_pb2.GetJwksRequest())
        names = ("kty", "crv", "x", "y", "kid", "use", "alg")
        return {"keys": [{name: getattr(key, name) for name in names} for key in response.keys]}

    return fetch


def _work(host: Host, wired: Wired, remote: RemoteGrants | None) -> dict[str, Work]:
    """Return the background work of a part: what every part has, and its own."""
    transactions, pool = host.transactions, host.transactions.pool
    work: dict[str, Work] = {
        "outbox": OutboxRelay(pool, host.bus, host.part).run,
        "audit": AuditSealer(pool, host.clock, host.part, host.node, host.node_keys.present).run,
        "purge": Purger(transactions).run,
    }
    if wired.handlers or wired.handle_all:
        consumer = FactConsumer(
            transactions,
            host.bus,
            host.part,
            wired.handlers or None,
            handle_all=wired.handle_all,
            admits=wired.admits,
        )
        # Handlers decide by zones: until these are known the facts wait in the stream, in their order.
        work["inbox"] = consumer.run if remote is None else partial(_run_after, host.zones.loaded, consumer.run)
    if remote is not None:
        work["zones"] = host.zones.run
        work["announcements"] = _announcements(host, remote).run
    taken = work.keys() & wired.tasks.keys()
    if taken:
        raise ValueError(f"these names of tasks are taken: {', '.join(sorted(taken))}")
    return work | dict(wired.tasks)


async def _run_after(event: asyncio.Event, run: Work) -> None:
    await event.wait()
    await run()


def _announcements(host: Host, remote: RemoteGrants) -> Announcements:
    def access_changed(fact: Fact) -> None:
        remote.changed(AccessChanged.FromString(fact.data).subject)

    def zone_changed(_fact: Fact) -> None:
        host.zones.changed()

    def missed() -> None:
        remote.doubt()
        host.zones.changed()

    return Announcements(host.bus, {ACCESS_CHANGED: access_changed, ZONE_CHANGED: zone_changed}, missed)


async def _listen(server: Server, part: str, config: NodeConfig, listen: str) -> int:
    fixed = listen or config.services.get(part, "")
    if fixed:
        return await server.start(fixed)
    before = config.runtime().services.get(part, "")
    if before:
        # Whoever knows the old address finds the part again.
        try:
            return await server.start(before)
        except RuntimeError:
            log.info("part.address_taken", part=part, address=before)
    return await server.start()


async def _register(config: NodeConfig, part: str, port: int) -> str:
    """Write where the part listens to the state folder, and return it. A fixed address is what node.toml says."""
    fixed = config.services.get(part, "")
    address = fixed or f"127.0.0.1:{port}"

    def change(found: RuntimeInfo) -> RuntimeInfo:
        return replace(found, services={**found.services, part: address})

    await change_runtime(config.state, change)
    return address
