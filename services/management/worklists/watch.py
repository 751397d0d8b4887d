"""One stream of a list's changes: what it has told, and what it tells next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from libs.errors import Exhausted, Reason
from services.management.model import Event
from services.management.worklists import store_changes, store_work
from services.management.worklists.feed import PENDING_EVENTS_MAX
from services.management.worklists.store_work import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from libs.access import Visibility
    from libs.db import Connection
    from libs.tx import Transactions
    from services.management.worklists.store_work import Work

# A list that one person works through; a stream remembers which events are in it.
WATCHED_EVENTS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a list: the events that came, those that changed in it, and the names of those that went."""

    added: tuple[Event, ...] = ()
    changed: tuple[Event, ...] = ()
    removed: tuple[str, ...] = ()
    counts: Counts | None = None

    @property
    def is_news(self) -> bool:
        return bool(self.added or self.changed or self.removed)


class Begun(NamedTuple):
    """The first that is told, and the moment as of which; `told` None when it cannot go on from where it was asked."""

    told: Told | None
    position: int
    too_many: bool = False


class Watch:
    """What one stream knows of its list. `zones` are those of the list, `visible` what the caller may see at all."""

    def __init__(
        self,
        transactions: Transactions,
        work: Work,
        zones: Collection[str],
        visible: Visibility,
        day_end: Callable[[datetime], datetime],
    ) -> None:
        self._transactions = transactions
        self._work = work
        self._zones = zones
        self._visible = visible
        self._day_end = day_end
        self._members: set[int] = set()
        self._counts: Counts | None = None

    def is_of(self, work: Work) -> bool:
        """Tell whether a list, as the caller would be given it now, is the one that the stream is about."""
        return replace(work, now=self._work.now) == self._work

    async def begin(self, since: int) -> Begun:
        """Look at the list, and tell what changed since a moment; 0 for the present one.

        Raises Exhausted for a list of more than WATCHED_EVENTS_MAX.
        """

        async def read(conn: Connection) -> Begun:
            position = await store_changes.position(conn)
            if since and not await store_changes.is_kept(conn, since):
                return Begun(None, position)
            ids = await store_changes.since_position(conn, since, limit=PENDING_EVENTS_MAX + 1) if since else []
            if len(ids) > PENDING_EVENTS_MAX:
                return Begun(None, position, too_many=True)
            found = await store_work.members(conn, self._work, limit=WATCHED_EVENTS_MAX + 1)
            if len(found) > WATCHED_EVENTS_MAX:
                text = f"a list of more than {WATCHED_EVENTS_MAX} events cannot be watched: narrow it"
                raise Exhausted(Reason.QUOTA, text)
            self._members = set(found)
            gone = [each for each in ids if each not in self._members]
            removed = await store_work.once_seen(conn, gone, self._zones, self._visible) if gone else []
            changed = await store_work.among(conn, self._work, [each for each in ids if each in self._members])
            self._counts = await self._count(conn)
            return Begun(Told(changed=tuple(changed), removed=tuple(removed), counts=self._counts), position)

        return await self._transactions.read(read)

    async def look(self, ids: Collection[int], now: datetime, *, count: bool) -> Told:
        """Tell what became of some events, and of those that became due meanwhile; with `count` new counts, if new."""
        before, self._work = self._work.now, replace(self._work, now=now)

        async def read(conn: Connection) -> tuple[list[Event], list[int], list[str], Counts | None]:
            asked = set(ids)
            if self._work.filter.overdue:
                asked.update(
                    await store_work.due_between(conn, self._work, before, limit=WATCHED_EVENTS_MAX)
                )  # fmt: skip
            events = await store_work.among(conn, self._work, list(asked)) if asked else []
            here = {event.id for event in events}
            gone = [each for each in asked - here if each in self._members]
            names = await store_work.names_of(conn, gone) if gone else []
            return events, gone, names, await self._count(conn) if count else None

        events, gone, names, counts = await self._transactions.read(read)
        added = tuple(event for event in events if event.id not in self._members)
        changed = tuple(event for event in events if event.id in self._members)
        self._members.difference_update(gone)
        self._members.update(event.id for event in added)
        if counts == self._counts:
            counts = None
        self._counts = counts or self._counts
        return Told(added, changed, tuple(names), counts)

    @property
    def is_full(self) -> bool:
        """Whether the list has grown beyond what a stream remembers."""
        return len(self._members) > WATCHED_EVENTS_MAX

    async def _count(self, conn: Connection) -> Counts:
        return await store_work.count_work(conn, self._work, self._day_end(self._work.now))
