"""A node's own servers, all from wheels: PostgreSQL and NATS before its services, the edge after them."""

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import structlog

from deploy.runtime.database import prepare_database
from deploy.runtime.envoy import DESCRIPTORS, EnvoyServer
from deploy.runtime.nats import ADMIN, NatsServer, part_passwords
from deploy.runtime.postgres import PostgresServer
from deploy.runtime.postgres_home import remove_home
from deploy.runtime.process import ServerStatus
from deploy.runtime.streams import keep_swept, prepare_streams
from libs.config import NodeConfig, RuntimeInfo
from libs.state import Secrets, change_runtime, read_runtime

log = structlog.get_logger(__name__)


class EmbeddedServers:
    """Starts what node.toml does not say is elsewhere, prepares it for the services, and stops it in order.

    Use it from the main thread: the kernel ends the servers when the thread that started them ends.
    """

    def __init__(self, *, descriptors: Path = DESCRIPTORS) -> None:
        self._descriptors = descriptors
        self._config: NodeConfig | None = None
        self._postgres: PostgresServer | None = None
        self._nats: NatsServer | None = None
        self._envoy: EnvoyServer | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None

    async def start(self, config: NodeConfig) -> RuntimeInfo:
        """Starts and prepares PostgreSQL and NATS, and writes where they are; returns that.

        A port that the node picked before is picked again when it is free. AlreadyRunning when another process runs on
        the same state folder, ServerFailed with the end of the server's log when one does not come up; in both cases
        nothing is left running.
        """
        self._config = config
        # The account that PostgreSQL runs as must pass through the folder; what is secret in it is closed by itself.
        config.state.mkdir(mode=0o711, parents=True, exist_ok=True)
        try:
            async with asyncio.TaskGroup() as group:
                if config.postgres.dsn is None:
                    group.create_task(self._start_postgres(config))
                if config.nats.url is None:
                    group.create_task(self._start_nats(config))
        except BaseExceptionGroup as failures:
            await self.stop()
            raise failures.exceptions[0] from None
        except BaseException:
            await self.stop()
            raise
        return await self._write_runtime()

    async def start_gateway(self, services: Mapping[str, str], adapter: str) -> RuntimeInfo:
        """Starts the edge before these addresses (host:port), or gives a running edge new ones without a break."""
        config = self._config
        if config is None:
            raise RuntimeError("start comes before start_gateway")
        if self._envoy is not None:
            self._envoy.update(services, adapter)
        elif config.gateway.enabled:
            envoy = EnvoyServer(config.node.id, config.state, config.gateway, descriptors=self._descriptors)
            await envoy.start(services, adapter, preferred_port=_port(read_runtime(config.state).gateway))
            self._envoy = envoy
        return await self._write_runtime()

    async def stop_gateway(self) -> None:
        """The edge alone, before what stands behind it goes away. Safe to call twice."""
        if self._envoy is not None:
            await self._envoy.stop()

    async def stop(self) -> None:
        """The edge first, so that nobody calls into what is going away. Safe to call at any time, and twice."""
        for task in (self._sweeper, self._writer):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        for server in (self._envoy, self._nats, self._postgres):
            if server is not None:
                await server.stop()

    def folders(self) -> Mapping[str, Path]:
        """Where the servers that were started here keep their data, by their names."""
        found = {"PostgreSQL": self._postgres, "NATS": self._nats}
        return {name: server.data for name, server in found.items() if server is not None}

    def status(self) -> tuple[ServerStatus, ...]:
        """The servers that were started here."""
        servers = (self._postgres, self._nats, self._envoy)
        return tuple(server.status() for server in servers if server is not None)

    async def _start_postgres(self, config: NodeConfig) -> None:
        self._postgres = PostgresServer(config.state, config.secrets, port=config.postgres.port)
        await self._postgres.start(preferred_port=_port(read_runtime(config.state).postgres))
        await prepare_database(self._postgres.admin_dsn(), part_passwords(config.secrets, "postgres"))

    async def _start_nats(self, config: NodeConfig) -> None:
        before = read_runtime(config.state)
        wanted = config.nats
        self._nats = server = NatsServer(
            config.node.id, config.state, config.secrets, port=wanted.port, mqtt_port=wanted.mqtt_port
        )
        await server.start(_port(before.nats), _port(f"mqtt://{before.mqtt}" if before.mqtt else ""))
        await prepare_streams(server.url, server.password(ADMIN))
        self._sweeper = asyncio.create_task(keep_swept(server.url, server.password(ADMIN)), name="sweep facts")
        self._writer = asyncio.create_task(server.keep_writing(), name="keep NATS writing")

    async def _write_runtime(self) -> RuntimeInfo:
        config = self._config
        if config is None:
            raise RuntimeError("not started")

        def change(found: RuntimeInfo) -> RuntimeInfo:
            return replace(
                found,
                node=config.node.id,
                postgres=self._postgres.dsn() if self._postgres else found.postgres,
                nats=self._nats.url if self._nats else found.nats,
                mqtt=self._nats.mqtt if self._nats else found.mqtt,
                gateway=self._envoy.url if self._envoy else found.gateway,
            )

        await change_runtime(config.state, change)
        return config.runtime()


async def start_postgres(state: Path, *, port: int | None = None, durable: bool = True) -> PostgresServer:
    """A server alone, for tests: started, not prepared (see prepare_database). Secrets are in `<state>/secrets`."""
    server = PostgresServer(state, Secrets(state / "secrets"), port=port, durable=durable)
    await server.start()
    return server


async def start_nats(state: Path, *, mqtt: bool = True, durable: bool = True) -> NatsServer:
    """A server alone, for tests: started, without streams (see prepare_streams). Secrets are in `<state>/secrets`."""
    server = NatsServer("test", state, Secrets(state / "secrets"), mqtt_port=0 if mqtt else None, durable=durable)
    await server.start()
    return server


def remove_state(state: Path) -> None:
    """Removes a stopped node's state folder, and what its PostgreSQL had to keep elsewhere."""
    remove_home(state)
    shutil.rmtree(state, ignore_errors=True)


def _port(url: str) -> int:
    """The port in a URL or DSN that was written before; 0 when there is none."""
    parts = urlsplit(url)
    try:
        return parts.port or int(parse_qs(parts.query).get("port", ["0"])[0])
    except ValueError:
        return 0
