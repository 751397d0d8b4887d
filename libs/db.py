"""PostgreSQL: pools with timeouts, and the driver's errors told apart by class, never by message."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from libs.errors import Away, DomainError, Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

    from asyncpg.pool import PoolConnectionProxy

Record: TypeAlias = asyncpg.Record
# What stores take: a pooled connection, inside the transaction that the service opened.
Connection: TypeAlias = "PoolConnectionProxy[Record] | asyncpg.Connection[Record]"

POOL_CONNECTIONS_MIN = 1
POOL_CONNECTIONS_MAX = 6
CONNECT_TIMEOUT_S = 5.0
ACQUIRE_TIMEOUT_S = 5.0
# The server gives up a statement first, so that the client's own limit only acts when the server does not answer.
STATEMENT_TIMEOUT_S = 30.0
COMMAND_TIMEOUT_S = 35.0
LOCK_TIMEOUT_S = 10.0
IDLE_IN_TRANSACTION_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 5.0
# Of each session, prepared: more than any service has, so that none is prepared again and again.
STATEMENTS_KEPT_MAX = 500
# A vanished peer is noticed after IDLE + COUNT * INTERVAL seconds; meanwhile it would keep its locks.
KEEPALIVE_IDLE_S = 10
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_COUNT = 3

# A whole transaction may be tried again after these; PostgreSQL has rolled it back.
RETRYABLE_ERRORS = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
# The server is away, stopping, starting or full.
_AWAY_ERRORS = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.InsufficientResourcesError,
    OSError,
)
_SLOW_ERRORS = (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError, TimeoutError)


class _Session(asyncpg.Connection):
    """A connection whose COMMIT does not roll back in silence, as that of PostgreSQL does after a swallowed error.

    Its BEGIN succeeds also after a borrower that was cancelled between preparing a statement and executing it. The
    driver sends no Sync between the two, and PostgreSQL takes what comes next as part of the same transaction, until
    an error ends that.
    """

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:  # noqa: ASYNC109 - as there
        try:
            status = await super().execute(query, *args, timeout=timeout)
        except asyncpg.ActiveSQLTransactionError:
            if not query.startswith("BEGIN "):
                raise
            status = await super().execute(query, *args, timeout=timeout)
        if query == "COMMIT;" and status != "COMMIT":
            raise asyncpg.InFailedSQLTransactionError("a statement had failed: nothing was committed")
        return status


class Pool:
    """Connections to one schema of one database."""

    def __init__(self, pool: asyncpg.Pool[Record], options: Mapping[str, Any], name: str) -> None:
        """Use `open_pool`. `options` are the arguments of a connection."""
        self._pool = pool
        self._options = options
        self.name = name
        # Duties that this process holds on this schema (see libs.duty), with what wakes them.
        self.duties: dict[str, Callable[[], None]] = {}

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[PoolConnectionProxy[Record]]:
        """Lend a connection. Raises Away when none can be had within ACQUIRE_TIMEOUT_S."""
        try:
            connection = await self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
        except (*_AWAY_ERRORS, *_SLOW_ERRORS, asyncpg.InterfaceError) as error:
            raise away(error) from error
        try:
            yield connection
        finally:
            await self._pool.release(connection, timeout=CLOSE_TIMEOUT_S)

    @asynccontextmanager
    async def dedicated(self, purpose: str) -> AsyncIterator[asyncpg.Connection[Record]]:
        """Open a connection outside the pool, for locks and notifications that live as long as the session.

        Raises Away when the server cannot be reached.
        """
        settings = self._options["server_settings"] | {"application_name": f"quintet-{self.name}-{purpose}"}
        try:
            connection = await asyncpg.connect(**{**self._options, "server_settings": settings})
        except (*_AWAY_ERRORS, *_SLOW_ERRORS) as error:
            raise away(error) from error
        try:
            yield connection
        finally:
            await _close(connection)

    def wake_duties(self, jobs: Iterable[str]) -> None:
        """Tell those of the duties that this process holds that something was committed for them."""
        for job in jobs:
            if wake := self.duties.get(job):
                wake()

    async def close(self) -> None:
        """Wait up to CLOSE_TIMEOUT_S for borrowed connections, then cut them."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._pool.close()
        except (TimeoutError, *_AWAY_ERRORS):
            self._pool.terminate()


async def open_pool(
    dsn: str,
    *,
    name: str,
    schema: str = "",
    user: str | None = None,
    password: str | None = None,
    min_size: int = POOL_CONNECTIONS_MIN,
    max_size: int = POOL_CONNECTIONS_MAX,
) -> Pool:
    """Open a pool on `dsn` (`postgresql://host:port/database`, or `postgresql:///database?host=/folder` for a socket).

    `name` is the part; statements find their tables in `schema`, the part's own by default. Sizes count connections.
    `user` and `password` come beside the DSN so that it can be logged. Raises Away when the server is not there.
    """
    options: dict[str, Any] = {
        "dsn": dsn,
        "connection_class": _Session,
        "statement_cache_size": STATEMENTS_KEPT_MAX,
        "user": user,
        "password": password,
        "timeout": CONNECT_TIMEOUT_S,
        "command_timeout": COMMAND_TIMEOUT_S,
        "server_settings": _settings(name, schema or name),
    }
    try:
        # No reset between borrowers: nobody keeps state in a pooled session, and it would cost a round trip each time.
        pool = await asyncpg.create_pool(min_size=min_size, max_size=max_size, reset=_keep_session, **options)
    except (*_AWAY_ERRORS, *_SLOW_ERRORS) as error:
        raise away(error) from error
    return Pool(pool, options, name)


def _settings(name: str, schema: str) -> dict[str, str]:
    return {
        "application_name": f"quintet-{name}",
        "search_path": search_path(schema),
        "timezone": "UTC",
        "jit": "off",  # our statements are short: compiling them costs more than it saves
        "statement_timeout": _ms(STATEMENT_TIMEOUT_S),
        "lock_timeout": _ms(LOCK_TIMEOUT_S),
        "idle_in_transaction_session_timeout": _ms(IDLE_IN_TRANSACTION_TIMEOUT_S),
        "tcp_keepalives_idle": str(KEEPALIVE_IDLE_S),
        "tcp_keepalives_interval": str(KEEPALIVE_INTERVAL_S),
        "tcp_keepalives_count": str(KEEPALIVE_COUNT),
    }


def search_path(schema: str) -> str:
    """Return where a part's statements find their names: in its own schema, and functions in that of the extensions."""
    return f"{schema}, extensions"


def _ms(seconds: float) -> str:
    return str(round(seconds * 1000))


async def _keep_session(connection: object) -> None:
    """Leave the session as it is."""


async def _close(connection: asyncpg.Connection[Record]) -> None:
    try:
        await connection.close(timeout=CLOSE_TIMEOUT_S)
    except (*_AWAY_ERRORS, *_SLOW_ERRORS, asyncpg.InterfaceError):
        connection.terminate()


def is_lost(conn: Connection) -> bool:
    """Tell whether the connection is gone; a pool takes a dead one back by itself."""
    try:
        return conn.is_closed()
    except asyncpg.InterfaceError:
        return True


def is_away(error: BaseException) -> bool:
    """Tell whether the error means that the database cannot be reached or used now."""
    return isinstance(error, _AWAY_ERRORS)


def is_slow(error: BaseException) -> bool:
    """Tell whether a statement took too long or waited too long for a lock."""
    return isinstance(error, _SLOW_ERRORS)


def away(error: BaseException) -> Away:
    """Return what the caller is told instead of a driver error, whose text may name tables and hosts."""
    if isinstance(error, _SLOW_ERRORS):
        return Away(Reason.DEPENDENCY_SLOW, "the database took too long", dependency="postgres")
    return Away(Reason.DEPENDENCY_AWAY, "the database is away", dependency="postgres")


@contextmanager
def violations(errors: Mapping[str, DomainError]) -> Iterator[None]:
    """Raise the error of the constraint that the statements inside violate; others pass unchanged.

    `with violations({"people_login_key": AlreadyExists(Reason.LOGIN_TAKEN)}): await conn.execute(...)`
    """
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError as violation:
        error = errors.get(violation.constraint_name or "")
        if error is None:
            raise
        raise error from violation
