"""People to visit in person. What stands here is personal and is never stated as a fact."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection, Record

VISITS_MAX = 5_000
_COLUMNS = "number, who, place, why, assigned_to, outcome, note, visited_at, visited_by"


@dataclass(frozen=True, slots=True)
class Visit:
    """One person to visit; `number` is 0 before it is stored, `outcome` "" before the visit."""

    who: str
    place: str
    why: str
    assigned_to: str
    number: int = 0
    outcome: str = ""
    note: str = ""
    visited_at: datetime | None = None
    visited_by: str = ""


async def add(conn: Connection, warning: str, visits: Sequence[Visit]) -> int:
    """Put people at the end of the list of a warning, whose row is locked; return how many there are now."""
    before = int(await conn.fetchval("SELECT count(*) FROM warning_visits WHERE warning = $1", warning))
    await conn.executemany(
        """INSERT INTO warning_visits (warning, number, who, place, why, assigned_to)
        VALUES ($1, $2, $3, $4, $5, $6)""",
        [
            (warning, number, visit.who, visit.place, visit.why, visit.assigned_to)
            for number, visit in enumerate(visits, start=before + 1)
        ],
    )
    return before + len(visits)


async def page(
    conn: Connection, warning: str, assignees: Sequence[str] | None, *, open_only: bool, after: int, limit: int
) -> list[Visit]:
    """Return the list from behind number `after`; of given assignees only theirs."""
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS} FROM warning_visits WHERE warning = $1 AND number > $2::bigint
            AND ($3::text[] IS NULL OR assigned_to = ANY($3)) AND (visited_at IS NULL OR NOT $4)
        ORDER BY number LIMIT $5""",
        warning, after, assignees if assignees is None else list(assignees), open_only, limit,
    )  # fmt: skip
    return [_visit(row) for row in rows]


async def lock(conn: Connection, warning: str, number: int) -> Visit | None:
    query = f"SELECT {_COLUMNS} FROM warning_visits WHERE warning = $1 AND number = $2 FOR UPDATE"
    row = await conn.fetchrow(query, warning, number)
    return _visit(row) if row else None


async def tick(conn: Connection, warning: str, visit: Visit) -> None:
    """Store what came of a visit."""
    await conn.execute(
        """UPDATE warning_visits SET outcome = $3, note = $4, visited_at = $5, visited_by = $6
        WHERE warning = $1 AND number = $2""",
        warning, visit.number, visit.outcome, visit.note, visit.visited_at, visit.visited_by,
    )  # fmt: skip


def _visit(row: Record) -> Visit:
    return Visit(**row)
