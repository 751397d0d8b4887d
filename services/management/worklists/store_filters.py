"""Lists that people keep under a name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from libs.db import Connection

_COLUMNS = "name, owner, organisation, definition, revision, changed_at"


@dataclass(frozen=True, slots=True)
class Kept:
    """One filter. `organisation` is whose people see it too, "" for the owner alone; `definition` is JSON."""

    name: str
    owner: str
    organisation: str
    definition: str
    revision: int
    changed_at: datetime


async def lock(conn: Connection, name: str) -> Kept | None:
    """Return a filter and keep others from changing it until the transaction ends."""
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM saved_filters WHERE name = $1 FOR UPDATE", name)
    return Kept(**dict(row)) if row else None


async def count(conn: Connection, owner: str) -> int:
    """Return how many filters somebody keeps."""
    return int(await conn.fetchval("SELECT count(*) FROM saved_filters WHERE owner = $1", owner))


async def put(conn: Connection, kept: Kept) -> None:
    await conn.execute(
        f"""INSERT INTO saved_filters ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (name) DO UPDATE SET organisation = excluded.organisation, definition = excluded.definition,
            revision = excluded.revision, changed_at = excluded.changed_at""",
        kept.name, kept.owner, kept.organisation, kept.definition, kept.revision, kept.changed_at,
    )  # fmt: skip


async def delete(conn: Connection, name: str) -> bool:
    """Delete a filter; return whether it was there."""
    return (await conn.execute("DELETE FROM saved_filters WHERE name = $1", name)) == "DELETE 1"


async def list_filters(
    conn: Connection, owner: str, organisations: Collection[str], *, after: str, limit: int
) -> list[Kept]:
    """Return somebody's own filters and those shared with the organisations, by name, those behind `after`."""
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS} FROM (
            (SELECT {_COLUMNS} FROM saved_filters WHERE owner = $1 AND name > $3 ORDER BY name LIMIT $4)
            UNION
            (SELECT {_COLUMNS} FROM saved_filters WHERE organisation <> '' AND organisation = ANY($2::text[])
                AND name > $3 ORDER BY name LIMIT $4)
        ) AS found ORDER BY name LIMIT $4""",
        owner, list(organisations), after, limit,
    )  # fmt: skip
    return [Kept(**dict(row)) for row in rows]
