"""Event types and their versions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from services.management.model import EventType
from services.management.store_rows import carried_version, type_json, type_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from libs.db import Connection

_PRESENT = "SELECT t.name, t.version, v.definition FROM event_types t JOIN event_type_versions v USING (name, version)"


async def get_type(conn: Connection, name: str) -> EventType | None:
    """Return the present version of a type."""
    row = await conn.fetchrow(f"{_PRESENT} WHERE t.name = $1", name)
    return type_of(row) if row else None


async def get_version(conn: Connection, name: str, version: int) -> EventType | None:
    """Return one version of a type."""
    query = "SELECT name, version, definition FROM event_type_versions WHERE name = $1 AND version = $2"
    row = await conn.fetchrow(query, name, version)
    return type_of(row) if row else None


@dataclass(frozen=True, slots=True)
class TypeVersion:
    """One version of a type, with who made it when."""

    type: EventType
    changed_by: str
    changed_at: datetime


async def list_versions(conn: Connection, name: str, *, before: int, limit: int) -> list[TypeVersion]:
    """Return versions of a type, the newest first, those before a version; all of them before 0."""
    rows = await conn.fetch(
        """SELECT name, version, definition, changed_by, changed_at FROM event_type_versions
        WHERE name = $1 AND version > 0 AND ($2 = 0 OR version < $2) ORDER BY version DESC LIMIT $3""",
        name,
        before,
        limit,
    )
    return [TypeVersion(type_of(row), row["changed_by"], row["changed_at"]) for row in rows]


async def there(conn: Connection, names: Collection[str]) -> set[str]:
    """Return those of some types that there are."""
    rows = await conn.fetch("SELECT name FROM event_types WHERE name = ANY($1::text[]) AND version > 0", list(names))
    return {row["name"] for row in rows}


async def list_types(conn: Connection, *, after: str, limit: int) -> list[EventType]:
    """Return present versions by name, those behind `after`."""
    rows = await conn.fetch(f"{_PRESENT} WHERE t.name > $1 ORDER BY t.name LIMIT $2", after, limit)
    return [type_of(row) for row in rows]


async def put_type(conn: Connection, event_type: EventType, *, actor: str, now: datetime) -> tuple[EventType, bool]:
    """Store a type as its next version unless it is as given already; return it with its version, and if it changed."""
    await conn.execute("INSERT INTO event_types (name, version) VALUES ($1, 0) ON CONFLICT DO NOTHING", event_type.name)
    # Two who put the same type at once take turns here.
    version = await conn.fetchval("SELECT version FROM event_types WHERE name = $1 FOR UPDATE", event_type.name)
    present = await get_type(conn, event_type.name)
    if present is not None and present == replace(event_type, version=version):
        return present, False
    stored = replace(event_type, version=version + 1)
    await conn.execute(
        """INSERT INTO event_type_versions (name, version, definition, changed_by, changed_at)
        VALUES ($1, $2, $3, $4, $5)""",
        stored.name, stored.version, type_json(stored), actor, now,
    )  # fmt: skip
    await conn.execute("UPDATE event_types SET version = $2 WHERE name = $1", stored.name, stored.version)
    return stored, True


async def carry(conn: Connection, event_type: EventType, *, actor: str, now: datetime) -> int:
    """Return the version of a type with just this definition, for an event that another node opened by it.

    What this node does not have becomes a version with a number below 0 that follows from the definition: events keep
    it, and it is none of the node's own.
    """
    definition = type_json(event_type)
    found: int | None = await conn.fetchval(
        "SELECT max(version) FROM event_type_versions WHERE name = $1 AND definition = $2", event_type.name, definition
    )
    if found is not None:
        return found
    version = carried_version(definition)
    await conn.execute("INSERT INTO event_types (name, version) VALUES ($1, 0) ON CONFLICT DO NOTHING", event_type.name)
    await conn.execute(
        """INSERT INTO event_type_versions (name, version, definition, changed_by, changed_at)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING""",
        event_type.name, version, definition, actor, now,
    )  # fmt: skip
    return version
