"""The changes of all events as they happen, for the streams that this process serves.

The database is asked in short intervals, and only while somebody watches: one statement along an index for all streams
together. Notifications of PostgreSQL would make the commits of all steps wait for each other, and a fact on the bus is
heard before another replica has applied it here; this finds what any replica changed, its own or mirrored, and misses
nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import structlog

from libs.errors import Away, DomainError, Reason
from services.management.worklists import store_changes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from libs.tx import Transactions
    from services.management.worklists.store_changes import Changes

POLL_INTERVAL_S = 0.25
# After a failure of the database.
RETRY_INTERVAL_S = 1.0
FOLLOWERS_MAX = 500
# What waits for one stream. Whoever is further behind is better off with the list.
PENDING_EVENTS_MAX = 1_000

log = structlog.get_logger()


class Taken(NamedTuple):
    """What changed since the last time, and the moment up to which that is all; `lost`: it is not all."""

    events: frozenset[int]
    position: int
    lost: bool


class Follower:
    """What one stream has not looked at yet."""

    def __init__(self) -> None:
        self._events: set[int] = set()
        self._position = 0
        self._lost = False
        self._news = asyncio.Event()
        self.begun = asyncio.Event()  # from here on everything is told

    async def wait(self, timeout_s: float) -> None:
        """Return when something changed, or after the timeout."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()

    def take(self) -> Taken:
        """Return what changed since the last time."""
        taken = Taken(frozenset(self._events), self._position, self._lost)
        self._events.clear()
        self._news.clear()
        return taken

    def tell(self, events: Iterable[int], position: int, *, lost: bool) -> None:
        self._events.update(events)
        self._position = position
        self._lost = self._lost or lost or len(self._events) > PENDING_EVENTS_MAX
        if self._lost:
            self._events.clear()
        if self._events or self._lost:
            self._news.set()
        self.begun.set()


class Feed:
    """Background work of every replica; idle while nobody follows."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._followers: set[Follower] = set()
        self._followed = asyncio.Event()
        self._before: Changes | None = None

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[Follower]:
        """Tell one stream what changes, for the length of the block: everything that is not visible when it begins.

        Raises Away when too many follow already.
        """
        if len(self._followers) >= FOLLOWERS_MAX:
            raise Away(Reason.TOO_BUSY, f"more than {FOLLOWERS_MAX} streams of changes at once")
        follower = Follower()
        self._followers.add(follower)
        if self._before is not None:
            follower.tell((), self._before.position, lost=False)
        self._followed.set()
        try:
            await follower.begun.wait()
            yield follower
        finally:
            self._followers.discard(follower)

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            if not self._followers:
                self._before = None
                self._followed.clear()
                await self._followed.wait()
            try:
                await self.poll()
            except DomainError as error:
                log.warning("worklists.changes_not_read", error=str(error))
                await asyncio.sleep(RETRY_INTERVAL_S)
            await asyncio.sleep(POLL_INTERVAL_S)

    async def poll(self) -> None:
        """Ask once, and tell the followers."""
        before = self._before
        if before is None:
            found = await self._transactions.look(store_changes.now)
        else:
            limit = PENDING_EVENTS_MAX + 1
            found = await self._transactions.look(
                lambda conn: store_changes.since_snapshot(conn, before, limit=limit)
            )  # fmt: skip
        self._before = found
        for follower in self._followers:
            follower.tell(found.events, found.position, lost=len(found.events) > PENDING_EVENTS_MAX)
