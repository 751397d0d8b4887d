"""Loops in the memory of one process, so that no step of an event waits for them.

A version of a loop never changes. Which one is the present does: this process learns of its own changes at once, and of
those by others within CHECK_INTERVAL_S. Until then it opens events by the version before, which they keep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from libs.errors import Reason, WrongState
from libs.turns import every
from services.management.catalogue import store_loops
from services.management.loop_yaml import LoopError, read_loops

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from services.management.catalogue.store_loops import LoopVersion
    from services.management.model import Event
    from services.management.model_loop import Loop

CHECK_INTERVAL_S = 5.0
ACTOR = "services/management"

log = structlog.get_logger()


class LoopBook:
    """All versions of all loops, as this process knows them."""

    def __init__(self, loops: Iterable[Loop] = ()) -> None:
        self._versions: dict[tuple[str, int], Loop] = {}
        self._present: dict[str, Loop] = {}
        self._seen = 0  # the newest row that was read
        for loop in loops:
            self.keep(loop)

    @property
    def present(self) -> Mapping[str, Loop]:
        """The loops that new events follow, by name."""
        return self._present

    @property
    def versions(self) -> Collection[Loop]:
        """All loops that events may follow, those of the past among them."""
        return self._versions.values()

    def keep(self, loop: Loop) -> None:
        """Know one more version."""
        self._versions[loop.name, loop.version] = loop
        if loop.version < 0:  # it came with an event of another node
            return
        present = self._present.get(loop.name)
        if present is None or present.version <= loop.version:
            self._present[loop.name] = loop

    def held(self, event: Event) -> Loop | None:
        """Return the loop of an event of this node in the version with which it was opened, if it is known."""
        return self._versions.get((event.loop, event.loop_version))

    async def of(self, conn: Connection, event: Event) -> Loop:
        """Return the loop of an event of this node in the version with which it was opened.

        Raises WrongState when the node does not have it.
        """
        found = self.held(event)
        if found is None:  # perhaps opened by another process, by a version that it knows and we do not
            await self.refresh(conn)
            found = self.held(event)
        if found is None:
            raise lost(event.name, event.loop)
        return found

    async def named(self, conn: Connection, name: str) -> Loop | None:
        """Return the loop that new events follow."""
        if name not in self._present:
            await self.refresh(conn)
        return self._present.get(name)

    async def refresh(self, conn: Connection) -> None:
        """Read what was put since the last look."""
        for found in await store_loops.added(conn, self._seen):
            self._seen = found.row
            try:
                self.keep(found.loop)
            except LoopError as error:
                # Put by another release, whose rules were others: its events wait, all the others go on.
                log.exception("loops.unreadable", loop=found.name, version=found.version, problems=error.problems)


class LoopWatch:
    """Background work: learning of the loops that other processes put."""

    def __init__(self, transactions: Transactions, loops: LoopBook) -> None:
        self._transactions = transactions
        self._loops = loops

    async def run(self) -> None:
        """Look every CHECK_INTERVAL_S until cancelled."""
        await every(CHECK_INTERVAL_S, self.look, failed="loops.look_failed")

    async def look(self) -> None:
        """Learn of what was put since the last look."""
        await self._transactions.look(self._loops.refresh)


async def open_book(transactions: Transactions, shipped: Path) -> LoopBook:
    """Store what the files of a folder changed, and return all loops. Raises LoopError for files that break a rule."""
    texts = read_loops(shipped)

    async def put(tx: Tx) -> list[LoopVersion]:
        changed = [
            found
            for loop, text in texts
            if (found := await store_loops.put(tx.conn, loop.name, text, shipped=True, actor=ACTOR, now=tx.now)).changed
        ]
        for found in changed:
            tx.audit("management.loops.put", found.name, version=found.version)
        return changed

    await transactions.run(put)
    book = LoopBook()
    await transactions.look(book.refresh)
    return book


def lost(name: str, loop: str) -> WrongState:
    """Return what is said of something that follows a loop which the node does not have."""
    return WrongState(Reason.LOOP_NOT_FOUND, f"{name} follows {loop}, which this node does not have", loop=loop)
