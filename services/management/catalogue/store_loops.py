"""Loops and their versions: the texts that were put."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from libs.errors import Exhausted, Reason
from services.management.loop_yaml import parse_loop
from services.management.store_rows import carried_version

if TYPE_CHECKING:
    from libs.db import Connection, Record
    from services.management.model_loop import Loop

LOOPS_MAX = 500
# Every process holds all versions, and work lists name those whose states the caller may act in.
LOOP_VERSIONS_MAX = 200
# Changes of loops take turns, so that rows are committed in the order of their ids.
_TURNS = "SELECT pg_advisory_xact_lock(hashtextextended('management.loops', 0))"
_COLUMNS = "v.id, v.name, v.version, v.definition, v.shipped, v.changed_by, v.changed_at"
_PRESENT = f"SELECT {_COLUMNS} FROM loops l JOIN loop_versions v USING (name, version)"


@dataclass(frozen=True)
class LoopVersion:
    """One version of a loop as it is stored. `changed` tells whether a put made it."""

    row: int
    name: str
    version: int
    definition: str
    shipped: bool
    changed_by: str
    changed_at: datetime
    changed: bool = False

    @cached_property
    def loop(self) -> Loop:
        """The loop. Raises LoopError for a text by which another release of the software went."""
        return replace(parse_loop(self.definition, self.name), version=self.version)


async def get(conn: Connection, name: str, version: int = 0) -> LoopVersion | None:
    """Return the present version of a loop, or the one asked for."""
    if version:
        query = f"SELECT {_COLUMNS} FROM loop_versions v WHERE v.name = $1 AND v.version = $2"
        row = await conn.fetchrow(query, name, version)
    else:
        row = await conn.fetchrow(f"{_PRESENT} WHERE l.name = $1", name)
    return _version(row) if row else None


async def list_loops(conn: Connection, *, after: str, limit: int) -> list[LoopVersion]:
    """Return present versions by name, those behind `after`."""
    rows = await conn.fetch(f"{_PRESENT} WHERE l.name > $1 ORDER BY l.name LIMIT $2", after, limit)
    return [_version(row) for row in rows]


async def added(conn: Connection, row: int) -> list[LoopVersion]:
    """Return all versions behind a row, in the order in which they were put."""
    rows = await conn.fetch(f"SELECT {_COLUMNS} FROM loop_versions v WHERE v.id > $1 ORDER BY v.id", row)
    return [_version(row) for row in rows]


async def put(conn: Connection, name: str, definition: str, *, shipped: bool, actor: str, now: datetime) -> LoopVersion:
    """Store a loop as its next version unless its text is as given already; return the version that holds now.

    Raises Exhausted above LOOPS_MAX loops or LOOP_VERSIONS_MAX versions of one.
    """
    await conn.execute(_TURNS)
    present = await get(conn, name)
    if present is not None and present.definition == definition:
        return present
    version = present.version + 1 if present else 1
    if version > LOOP_VERSIONS_MAX:
        raise Exhausted(Reason.QUOTA, f"{name} has {LOOP_VERSIONS_MAX} versions: give the next one another name")
    if present is None and await conn.fetchval("SELECT count(*) FROM loops") >= LOOPS_MAX:
        raise Exhausted(Reason.QUOTA, f"there are {LOOPS_MAX} loops already")
    await conn.execute(
        "INSERT INTO loops (name, version) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET version = $2", name, version
    )
    row = await conn.fetchval(
        """INSERT INTO loop_versions (name, version, definition, shipped, changed_by, changed_at)
        VALUES ($1, $2, $3, $4, $5, $6) RETURNING id""",
        name, version, definition, shipped, actor, now,
    )  # fmt: skip
    return LoopVersion(row, name, version, definition, shipped, actor, now, changed=True)


async def carry(conn: Connection, name: str, definition: str, *, actor: str, now: datetime) -> int:
    """Return the version of a loop with just this text, for an event that another node opened by it.

    What this node does not have becomes a version with a number below 0 that follows from the text: events follow it,
    and it is none of the node's own. Its rules are not checked: that node went by them.
    """
    await conn.execute(_TURNS)
    found: int | None = await conn.fetchval(
        "SELECT max(version) FROM loop_versions WHERE name = $1 AND definition = $2", name, definition
    )
    if found is not None:
        return found
    version = carried_version(definition)
    await conn.execute("INSERT INTO loops (name, version) VALUES ($1, 0) ON CONFLICT DO NOTHING", name)
    await conn.execute(
        """INSERT INTO loop_versions (name, version, definition, shipped, changed_by, changed_at)
        VALUES ($1, $2, $3, false, $4, $5)""",
        name, version, definition, actor, now,
    )  # fmt: skip
    return version


def _version(row: Record) -> LoopVersion:
    _, *values = row.values()
    return LoopVersion(row["id"], *values)
