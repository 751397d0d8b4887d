"""Nodes for faults: real processes, one for each service as in production, whose link port is behind a proxy."""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from deploy.runtime.postgres import ADMIN
from deploy.testing import ADMIN_LOGIN, Daemon, NodeFailed, NodeProcess, write_node_toml
from deploy.tests.filing import ready
from e2e.faults.proxy import Proxy
from libs.clock import SystemClock
from libs.config import PARTS
from libs.db import Pool, Record, away, is_away, is_lost, is_slow, open_pool
from libs.tx import Transactions
from quintet_sdk import Client, QuintetError

ADMIN_SECRET = "postgres-admin"
SERVERS = ("postgres", "nats-server", "envoy")
# The process that keeps the servers and the edge, and all processes at once.
SUPERVISOR, EVERYTHING = "node", "everything"
FEDERATION = "federation"
# Below the kernel's ephemeral ports: none of these is taken by somebody's outgoing connection during a restart.
PORTS = range(21_000, 29_000)
RESTART_POLL_S = 0.1
# Also on a machine whose processors many others want.
START_TIMEOUT_S = 300.0
ANSWER_TIMEOUT_S = 240.0
RETRY_S = 0.2
LOG_TAIL_CHARS = 4_000
T = TypeVar("T")


@dataclass
class FaultNode:
    """One node. whole puts all services into one process; else each has its own, and `keep` starts it when it dies."""

    id: str
    zone: str
    folder: Path
    chance: random.Random
    whole: bool = False
    proxy: Proxy = field(init=False)
    process: NodeProcess = field(init=False)
    _ports: dict[str, str] = field(init=False)
    services: dict[str, Daemon] = field(default_factory=dict)
    # Of its processes, from their next start on.
    environment: dict[str, str] = field(default_factory=dict)
    # Those that a scenario has stopped on purpose.
    resting: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        link, listens, *metrics = free_ports(2 + len(PARTS))
        self.proxy = Proxy(listens, link, self.chance)
        self._ports = {"link_port": f"{link}", "advertise_link": f'"127.0.0.1:{listens}"'}
        path = self._write_configuration({})
        self.process = NodeProcess(self.folder, "all" if self.whole else "none", self.environment)
        if not self.whole:
            self.services = {
                part: Daemon(
                    ("-m", f"services.{part}", "--config", str(path), "--metrics-port", str(port)),
                    path.with_name(f"{part}.out"),
                    self.environment,
                )
                for part, port in zip(PARTS, metrics, strict=True)
            }

    def _write_configuration(self, federation: Mapping[str, str]) -> Path:
        extra = "\n".join([
            "[federation]",
            *(f"{name} = {value}" for name, value in (self._ports | dict(federation)).items()),
            "[gateway]",
            "requests_per_s = 100000",
            "client_requests_per_s = 100000",
            "sign_in_per_minute = 100000",
            "[telemetry]",
            "trace_ratio = 0.0",
        ])  # fmt: skip
        return write_node_toml(
            self.folder, extra=extra, id=self.id, name=self.id, zone=self.zone, timezone="America/Los_Angeles"
        )

    async def configure(self, **federation: str) -> None:
        """Give [federation] of node.toml these values beside those of the test, and start that service again."""
        self._write_configuration(federation)
        await self.rest(FEDERATION)
        self.wake(FEDERATION)
        await self.ready()

    async def rest(self, part: str) -> None:
        """Stop one service in order, until `wake`."""
        self.resting.add(part)
        await asyncio.to_thread(self.services[part].stop)

    def wake(self, part: str) -> None:
        """Start a service that rests; `keep` goes on watching it."""
        self.services[part].start()
        self.resting.discard(part)

    @property
    def victims(self) -> tuple[str, ...]:
        """The names of the processes that can be killed."""
        return (*self.services, "postgres", "nats-server", SUPERVISOR, EVERYTHING)

    async def start(self) -> None:
        """Start all processes; return when the node says that it is ready."""
        await self.spawn()
        await self.ready()

    async def spawn(self) -> None:
        """Start all processes; return when its servers run."""
        before = self.process.starts
        self.process.spawn()
        # Its servers must be there, and what it prepares for the services on the very first start.
        async with asyncio.timeout(START_TIMEOUT_S):
            while self.process.starts == before:
                if not self.process.running:
                    raise NodeFailed(f"{self.id} did not start\n{self.process.log[-LOG_TAIL_CHARS:]}")
                await asyncio.sleep(RESTART_POLL_S)
        for service in self.services.values():
            service.start()

    async def ready(self) -> None:
        """Return when all of the node is ready."""
        await ready(self.process, within_s=START_TIMEOUT_S)

    async def stop(self) -> None:
        """Stop all processes in order."""
        self.resting.update(self.victims)
        for service in self.services.values():
            await asyncio.to_thread(service.stop)
        await asyncio.to_thread(self.process.stop)

    async def start_again(self) -> None:
        """Start what `stop` or `kill_all` ended."""
        await self.start()
        self.resting.clear()

    async def restart(self) -> None:
        """Stop all processes in order and have them started again; what dies meanwhile is started again, too."""
        await self.stop()
        self.resting.clear()
        await self.ready()

    def kill(self, victim: str) -> None:
        """SIGKILL for one process. The node restarts its servers itself, `keep` the others as an init system would."""
        if victim == EVERYTHING:
            self.kill_all()
        elif victim == SUPERVISOR:
            self.process.kill()
        elif victim in self.services:
            self.services[victim].kill()
        elif (pid := self._servers().get(victim)) is not None:
            os.kill(pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """A power cut: every process of the node at once."""
        for pid in self._servers().values():
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        for service in self.services.values():
            service.kill()

    def _servers(self) -> Mapping[str, int]:
        """Its servers; none while the node itself does not run, as when two faults strike it at once."""
        try:
            return self.process.servers()
        except NodeFailed:
            return {}

    async def keep(self) -> None:
        """Start again what has died, until cancelled."""
        while True:
            if SUPERVISOR not in self.resting and not self.process.running:
                self.process.spawn()
            for part, service in self.services.items():
                if part not in self.resting and not service.running:
                    service.start()
            await asyncio.sleep(RESTART_POLL_S)

    # --------------------------------------------------------------------------------------------------------- its data

    @property
    def postgres_data(self) -> Path:
        """The data folder of its PostgreSQL: elsewhere when that server's account cannot enter the state folder."""
        base = self.process.config.state / "postgres"
        elsewhere = base / "elsewhere"
        return (elsewhere.resolve() if elsewhere.is_symlink() else base) / "data"

    @property
    def nats_data(self) -> Path:
        """The data folder of its NATS server."""
        return self.process.config.state / "nats" / "store"

    def back_up(self) -> Path:
        """Copy the data of the stopped node, as an operator does who stops it for that; return where it is."""
        backup = Path(tempfile.mkdtemp(prefix=f"{self.id}-", dir=self.folder))
        for name, data in self._data().items():
            subprocess.run(["cp", "-a", str(data), str(backup / name)], check=True)
        return backup

    def restore(self, backup: Path) -> None:
        """Put a backup in the place of the stopped node's data."""
        for name, data in self._data().items():
            shutil.rmtree(data)
            subprocess.run(["cp", "-a", str(backup / name), str(data)], check=True)

    def _data(self) -> dict[str, Path]:
        return {"postgres": self.postgres_data, "nats": self.nats_data}

    def remove(self) -> None:
        for service in self.services.values():
            service.stop()
        self.process.remove()

    # ---------------------------------------------------------------------------------------------- ways into the node

    @asynccontextmanager
    async def client(self, login: str = ADMIN_LOGIN, password: str = "") -> AsyncIterator[Client]:
        """The public API, signed in; by default as the administrator."""
        async with Client(self.process.url) as client:
            await patiently(lambda: client.sign_in(login, password or self.process.password()))
            yield client

    @asynccontextmanager
    async def transactions(self, part: str) -> AsyncIterator[Transactions]:
        """The unit of work of one of its services, with that service's own login."""
        pool = await open_pool(self.process.config.postgres_dsn(part), name=part, max_size=2)
        try:
            yield Transactions(pool, SystemClock(), part, self.id)
        finally:
            await pool.close()

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Pool]:
        """The whole database, as its operator reads it."""
        config = self.process.config
        pool = await open_pool(
            config.runtime().postgres,
            name="reconciliation",
            schema="public",
            user=ADMIN,
            password=config.secrets.read(ADMIN_SECRET),
            max_size=2,
        )
        try:
            yield pool
        finally:
            await pool.close()


async def read(database: Pool, sql: str, *parameters: object) -> list[Record]:
    """The rows of a query. Raises Away also when the server is killed at that very moment."""
    async with database.acquire() as connection:
        try:
            return await connection.fetch(sql, *parameters)
        except Exception as error:
            if is_lost(connection) or is_away(error) or is_slow(error):
                raise away(error) from error
            raise


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The answer; what may pass, such as a service that is still starting, is waited for."""
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        while True:
            try:
                return await call()
            except QuintetError as error:
                if not error.retryable:
                    raise
            await asyncio.sleep(RETRY_S)


def free_ports(count: int) -> Sequence[int]:
    """Ports that nobody listens on now, all different."""
    found: list[int] = []
    candidates = list(PORTS)
    random.Random().shuffle(candidates)
    for port in candidates:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            return found
    raise NodeFailed("there are no free ports")
