"""A pytest plugin: a real PostgreSQL and NATS server for the session, a fresh database and an empty bus per test.

The root conftest.py loads it. The servers are those of the embedded runtime, with its roles, passwords and permissions;
only flushing to disk is off.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from deploy.runtime.database import create_database, prepare_database
from deploy.runtime.nats import NatsServer, part_passwords
from deploy.runtime.postgres import PostgresServer
from deploy.runtime.postgres_home import remove_home
from deploy.runtime.streams import connect_admin, prepare_streams
from libs.bus import STREAM, Bus
from libs.clock import Clock, ManualClock
from libs.config import PARTS, Secrets
from libs.db import Pool, open_pool
from libs.migrate import all_migrations, migrate
from libs.tx import Transactions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
    from pathlib import Path

NODE = "sf"
START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
_PREPARED = "prepared"


# ---------------------------------------------------------------------------------------------------------- PostgreSQL


@dataclass
class Postgres:
    """The session's server. Databases are copied from templates, which are migrated once per set of migrations."""

    server: PostgresServer
    secrets: Secrets
    _templates: set[str] = field(default_factory=set)

    def password(self, part: str) -> str:
        return self.secrets.get(f"postgres-{part}")

    @asynccontextmanager
    async def admin(self, database: str = "postgres") -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """Connect as superuser, who may also tamper."""
        connection = await asyncpg.connect(self.server.admin_dsn(database))
        try:
            yield connection
        finally:
            await connection.close()

    async def create(self, parts: Mapping[str, Sequence[Path]]) -> Database:
        """Create a database in which the schemas of `parts` are migrated with the folders given for each."""
        template = await self._template(parts)
        name = f"test_{uuid4().hex}"
        async with self.admin() as admin:
            await create_database(admin, name, PARTS, template=template)
        return Database(self, name)

    async def _template(self, parts: Mapping[str, Sequence[Path]]) -> str:
        digest = hashlib.sha256()
        for part, directories in sorted(parts.items()):
            for component in all_migrations(directories):
                digest.update("".join(f"{part}/{m.component}/{m.name}/{m.checksum};" for m in component).encode())
        template = f"template_{digest.hexdigest()[:24]}"
        if template not in self._templates:
            async with self.admin() as admin:
                await create_database(admin, template, PARTS, template=_PREPARED)
            for part, directories in parts.items():
                await Database(self, template).migrate(part, directories)
            self._templates.add(template)
        return template


@dataclass(frozen=True)
class Database:
    """One test's database."""

    server: Postgres
    name: str

    @property
    def dsn(self) -> str:
        """Without user and password."""
        return self.server.server.dsn(self.name)

    async def migrate(self, part: str, directories: Sequence[Path]) -> int:
        """Migrate the schema of a part as that part's role, as the service does when it starts."""
        connection = await asyncpg.connect(self.dsn, user=part, password=self.server.password(part))
        try:
            return await migrate(connection, part, directories)
        finally:
            await connection.close()

    async def pool(self, part: str, *, max_size: int = 6) -> Pool:
        """Open a pool as the role of a part; the caller closes it."""
        return await open_pool(self.dsn, name=part, user=part, password=self.server.password(part), max_size=max_size)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """Connect as superuser, who may also tamper."""
        async with self.server.admin(self.name) as connection:
            yield connection

    async def cut(self) -> None:
        """Cut every connection to this database, as a restart of the server does."""
        async with self.server.admin() as admin:
            await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", self.name)

    async def drop(self) -> None:
        async with self.server.admin() as admin:
            await admin.execute(f'DROP DATABASE "{self.name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """The session's PostgreSQL server, with the role of every part."""
    state = tmp_path_factory.mktemp("postgres")
    secrets = Secrets(state / "secrets")
    server = PostgresServer(state, secrets, durable=False)

    async def start() -> None:
        await server.start()
        await prepare_database(server.admin_dsn(), part_passwords(secrets, "postgres"), database=_PREPARED)

    asyncio.run(start())
    yield Postgres(server, secrets)
    asyncio.run(server.stop())
    remove_home(state)


class MakeDatabase(Protocol):
    """`await database(management=[folder], delivery=[...])`: a fresh database with the schemas of these parts."""

    async def __call__(self, **parts: Sequence[Path]) -> Database: ...


@pytest_asyncio.fixture
async def database(postgres: Postgres) -> AsyncIterator[MakeDatabase]:
    made: list[Database] = []

    async def make(**parts: Sequence[Path]) -> Database:
        made.append(await postgres.create(parts))
        return made[-1]

    yield make
    for each in made:
        await each.drop()


class MakeTransactions(Protocol):
    """`await transactions("management", folder)`: transactions on a fresh database, or on `on` if given."""

    async def __call__(
        self, part: str, *migrations: Path, on: Database | None = None, clock: Clock | None = None, node: str = NODE
    ) -> Transactions: ...


@pytest_asyncio.fixture
async def transactions(database: MakeDatabase, clock: ManualClock) -> AsyncIterator[MakeTransactions]:
    async with AsyncExitStack() as stack:
        default_clock = clock

        async def make(
            part: str, *migrations: Path, on: Database | None = None, clock: Clock | None = None, node: str = NODE
        ) -> Transactions:
            target = on or await database(**{part: migrations})
            pool = await target.pool(part)
            stack.push_async_callback(pool.close)
            return Transactions(pool, clock or default_clock, part, node)

        yield make


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands at 08:00 UTC on Monday, 5 January 2026, until the test moves it."""
    return ManualClock(START)


# ---------------------------------------------------------------------------------------------------------------- NATS


@dataclass
class Nats:
    """A NATS server with the streams of a node."""

    server: NatsServer
    _port: int = 0

    async def start(self) -> None:
        """Start, also again after `server.stop()`, on the port of the first time."""
        await self.server.start(self._port)
        self._port = int(self.server.url.rpartition(":")[2])
        await prepare_streams(self.server.url, self.server.password("admin"))

    async def connect(self, part: str) -> Bus:
        """Connect as a part; the caller closes."""
        return await Bus.connect(self.server.url, part, self.server.password(part), part)

    async def clear(self) -> None:
        """Forget all facts and all consumers."""
        client = await connect_admin(self.server.url, self.server.password("admin"))
        try:
            jetstream = client.jetstream()
            for consumer in await jetstream.consumers_info(STREAM):
                await jetstream.delete_consumer(STREAM, consumer.name)
            await jetstream.purge_stream(STREAM)
        finally:
            await client.close()


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    """The session's NATS server, with the user of every part."""
    found = _nats_server(tmp_path_factory.mktemp("nats"))
    asyncio.run(found.start())
    yield found
    asyncio.run(found.server.stop())


@pytest_asyncio.fixture
async def own_nats(tmp_path: Path) -> AsyncIterator[Nats]:
    """A NATS server of the test's own, on a port that stays the same, to stop and start again."""
    found = _nats_server(tmp_path)
    await found.start()
    yield found
    await found.server.stop()


def _nats_server(state: Path) -> Nats:
    return Nats(NatsServer(NODE, state, Secrets(state / "secrets"), durable=False))


class ConnectBus(Protocol):
    """`await bus("management")`: a connection to the empty bus as a part, closed after the test."""

    async def __call__(self, part: str) -> Bus: ...


@pytest_asyncio.fixture
async def bus(nats: Nats) -> AsyncIterator[ConnectBus]:
    await nats.clear()
    async with AsyncExitStack() as stack:

        async def connect(part: str) -> Bus:
            connected = await nats.connect(part)
            stack.push_async_callback(connected.close)
            return connected

        yield connect


# -------------------------------------------------------------------------------------------------------------- waiting

EVENTUALLY_S = 15.0
EVENTUALLY_POLL_S = 0.02


async def eventually(condition: Callable[[], Awaitable[object]], *, within_s: float = EVENTUALLY_S) -> object:
    """Await a condition, asked again and again until it gives something true, which is returned.

    Raises AssertionError with the last answer after `within_s` seconds.
    """
    answer: object = None
    try:
        async with asyncio.timeout(within_s):
            while not (answer := await condition()):  # noqa: ASYNC110 - the state asked for is in other processes
                await asyncio.sleep(EVENTUALLY_POLL_S)
    except TimeoutError:
        raise AssertionError(f"did not become true within {within_s} s; the last answer was {answer!r}") from None
    return answer


@asynccontextmanager
async def running(*loops: Awaitable[None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run endless loops in the background for the length of the block. Raises what one of them raised."""
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
