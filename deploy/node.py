"""A whole node: its servers, its services, what stands behind its edge, and the edge.

async with run_node(config, ["identity", ...]) as node:
print(node.url)
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from urllib.parse import urlsplit

import structlog

from deploy.preparation import STATUS_TOKEN, prepare_elsewhere, prepare_keys
from deploy.probes import probe_disk, probe_nats, probe_postgres
from deploy.runtime import EmbeddedServers, ServerStatus, State
from deploy.runtime.leftovers import FolderLock
from deploy.services import Services, load_parts
from gateway.adapters import AdapterServer, NodeFacts, Probe, Sources, build_app
from gateway.adapters.metrics import NodeMetrics
from libs.config import GATEWAY, NodeConfig
from libs.state import RuntimeInfo, change_runtime
from libs.tokens import ServiceSigner, load_service_key

FOLLOW_INTERVAL_S = 0.5

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node that is up. url is the base of the public API, or of the adapters alone when the edge is switched off."""

    config: NodeConfig
    services: Services
    servers: EmbeddedServers
    url: str


@asynccontextmanager
async def run_node(config: NodeConfig, services: Sequence[str]) -> AsyncIterator[RunningNode]:
    """Runs a node for the length of the block; yields when the services named, all in this process, are ready.

    Those not named are reached where node.toml or runtime.json says, as soon as they are there. Raises AlreadyRunning
    when another process runs the same state folder, ServerFailed, what libs.host.run_part raises, TimeoutError.
    """
    async with AsyncExitStack() as stack:
        parts = load_parts(services)
        prepare_keys(config)
        lock = await FolderLock.take(config.state)
        stack.callback(lock.release)
        servers = EmbeddedServers()
        stack.push_async_callback(servers.stop)
        await servers.start(config)
        await prepare_elsewhere(config)
        here = Services(parts, config)
        stack.push_async_callback(here.stop)
        await here.start()
        adapter = await _start_adapter(stack, config, here, servers)
        stack.push_async_callback(servers.stop_gateway)
        edge = await servers.start_gateway(config.runtime().services, adapter)
        following = asyncio.create_task(_follow(config, servers, adapter), name="follow addresses")
        stack.push_async_callback(_cancel, following)
        await here.until_ready()
        url = edge.gateway if config.gateway.enabled else f"http://{adapter}"
        log.info("node.ready", node=config.node.id, services=here.names, url=url)
        yield RunningNode(config, here, servers, url)
        log.info("node.stopping", node=config.node.id)


async def _start_adapter(stack: AsyncExitStack, config: NodeConfig, here: Services, servers: EmbeddedServers) -> str:
    """Returns the address of the adapters, host:port, once they listen."""
    app = build_app(_sources(config, here, servers))
    stack.push_async_callback(app.state.close)
    server = AdapterServer(app)
    stack.push_async_callback(server.stop)
    preferred = urlsplit(f"//{config.runtime().adapter}").port or 0
    address = await server.start(config.gateway.adapter_port, preferred)

    def change(found: RuntimeInfo) -> RuntimeInfo:
        return replace(found, adapter=address)

    await change_runtime(config.state, change)
    return address


def _sources(config: NodeConfig, here: Services, servers: EmbeddedServers) -> Sources:
    def others() -> Mapping[str, str]:
        return {part: address for part, address in config.runtime().metrics.items() if part not in here.names}

    node = config.node
    return Sources(
        node=NodeFacts(node.id, node.name, node.zone, node.timezone, version("quintet"), datetime.now(UTC)),
        signer=ServiceSigner(GATEWAY, load_service_key(config.secrets, GATEWAY)),
        address=lambda part: config.runtime().services.get(part, ""),
        servers=servers.status,
        services=here.status,
        probes=_probes(config, servers),
        metrics=NodeMetrics(others).collect,
        status=config.gateway.status,
        status_token="" if config.gateway.status == "public" else config.secrets.get(STATUS_TOKEN),
    )


def _probes(config: NodeConfig, servers: EmbeddedServers) -> dict[str, Probe]:
    async def postgres() -> None:
        await probe_postgres(config.runtime().postgres)

    async def nats() -> None:
        await probe_nats(config.runtime().nats)

    async def envoy() -> None:
        _running(servers.status(), "envoy")

    async def disk() -> None:
        await probe_disk(servers.folders())

    probes: dict[str, Probe] = {"postgres": postgres, "nats": nats, "disk": disk}
    return probes | {"envoy": envoy} if config.gateway.enabled else probes


def _running(servers: Sequence[ServerStatus], name: str) -> None:
    if not any(server.name == name and server.state is State.RUNNING for server in servers):
        raise RuntimeError(f"{name} does not run")


async def _follow(config: NodeConfig, servers: EmbeddedServers, adapter: str) -> None:
    """Tells the edge when a service comes up somewhere else than it was, until cancelled."""
    told = config.runtime().services
    await servers.start_gateway(told, adapter)
    while True:
        await asyncio.sleep(FOLLOW_INTERVAL_S)
        found = config.runtime().services
        if found != told:
            await servers.start_gateway(found, adapter)
            told = found
            log.info("node.addresses_changed", services=found)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
