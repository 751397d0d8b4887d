"""Work that only one replica of a service may do at a time, and that is woken by the database when there is some."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import structlog

from libs import db
from libs.errors import Away, DomainError, Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

# A waiting replica takes over at most this long after the holder is gone. It asks rather than queues for the lock: a
# statement that waits holds a snapshot, and with it back the vacuum of the whole database.
LOCK_RETRY_S = 1.0

log = structlog.get_logger()


class Duty:
    """Held as long as the session of `conn` lives: PostgreSQL frees the lock of a dead session by itself."""

    def __init__(self, conn: asyncpg.Connection[db.Record]) -> None:
        self.conn = conn
        self._work = asyncio.Event()
        conn.add_termination_listener(self.wake)

    def check(self) -> None:
        """Raise Away when the session, and with it the lock, is gone."""
        if self.conn.is_closed():
            raise Away(Reason.DEPENDENCY_AWAY, "the database session was lost", dependency="postgres")

    async def wait(self, timeout_s: float) -> None:
        """Return when there was a notification since the last wait, or after the timeout. Raises Away like `check`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._work.wait()
        self._work.clear()
        self.check()

    async def listen(self) -> None:
        """Let `wait` return on each commit that wrote facts or audit entries, by any replica."""
        schema = await self.conn.fetchval("SELECT current_schema()")
        await self.conn.add_listener(channel(schema), self.wake)

    def wake(self, *_: object) -> None:
        self._work.set()


def channel(schema: str) -> str:
    """Return the notification channel of a schema; the flush in libs.tx spells it in SQL."""
    return f"quintet_{schema}"


@asynccontextmanager
async def on_duty(pool: db.Pool, job: str, *, listen: bool = False) -> AsyncIterator[Duty]:
    """Wait until no other replica of this service holds `job`, and hold it for the length of the block.

    Raises Away when the database cannot be reached. With `listen`, `Duty.wait` is woken by commits that concern it.
    """
    async with pool.dedicated(job) as conn:
        try:
            duty = Duty(conn)
            # The lock is of the database: the schema in its key keeps the services apart.
            query = "SELECT pg_try_advisory_lock(hashtext('quintet.' || current_schema()), hashtext($1))"
            while not await conn.fetchval(query, job):  # noqa: ASYNC110 - the event is in another process
                await asyncio.sleep(LOCK_RETRY_S)
            if listen:
                await duty.listen()
                # Commits of this process wake it without the database: NOTIFY makes commits wait for each other.
                pool.duties[job] = duty.wake
            log.debug("duty.taken", part=pool.name, job=job)
            yield duty
        except Exception as error:
            # The driver has many words for a session that is gone; what counts is that it is.
            if conn.is_closed() and not isinstance(error, DomainError):
                raise db.away(error) from error
            raise
        finally:
            pool.duties.pop(job, None)
