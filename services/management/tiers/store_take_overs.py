"""Askings for events of nodes below, at the node that asked and at the node that was asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from libs.access import Visibility
from services.management.store_rows import parameters
from services.management.tiers.model import State, TakeOver

if TYPE_CHECKING:
    from datetime import datetime

    from libs.db import Connection, Record

_COLUMNS = (
    "name", "event", "title", "zone", "from_node", "to_node", "organisation", "reason", "asked_by", "asked_at",
    "expires_at", "state", "answered_at", "refusal", "refusal_zh", "refusal_en", "revision",
)  # fmt: skip
_ANSWER = _COLUMNS[_COLUMNS.index("state") :]
_SELECTED = ", ".join(f"x.{column}" for column in _COLUMNS)
# What is stored as asked has lapsed when its time is over; $3 is now.
_STATES = {
    State.ASKED: "x.state = 'asked' AND x.expires_at > $3",
    State.LAPSED: "x.state = 'asked' AND x.expires_at <= $3",
    State.MOVED: "x.state = 'moved'",
    State.REFUSED: "x.state = 'refused'",
}


@dataclass(frozen=True, slots=True)
class Query:
    """Which askings are listed. `zones` always narrows, the others when not empty."""

    zones: tuple[str, ...]
    visible: Visibility
    event: str = ""
    state: State | None = None


async def insert(conn: Connection, asked: TakeOver) -> None:
    """Store a new asking. Whoever does holds the lock on its event, if there is one."""
    await conn.execute(
        f"INSERT INTO take_overs ({', '.join(_COLUMNS)}) VALUES ({parameters(1, len(_COLUMNS))})",
        *(getattr(asked, column) for column in _COLUMNS),
    )


async def answer(conn: Connection, asked: TakeOver) -> None:
    """Store what became of an asking."""
    await conn.execute(
        f"UPDATE take_overs SET ({', '.join(_ANSWER)}) = ROW({parameters(2, len(_ANSWER))}) WHERE name = $1",
        asked.name,
        *(getattr(asked, column) for column in _ANSWER),
    )


async def get(conn: Connection, name: str) -> TakeOver | None:
    """Return an asking."""
    row = await conn.fetchrow(f"SELECT {_SELECTED} FROM take_overs x WHERE x.name = $1", name)
    return _take_over(row) if row else None


async def waits(conn: Connection, event: str, now: datetime) -> bool:
    """Tell whether an asking for an event waits for its answer."""
    return bool(
        await conn.fetchval(
            "SELECT EXISTS (SELECT FROM take_overs WHERE event = $1 AND state = 'asked' AND expires_at > $2)",
            event,
            now,
        )
    )


async def list_take_overs(
    conn: Connection, query: Query, now: datetime, *, after: tuple[datetime, int] | None, limit: int
) -> list[tuple[int, TakeOver]]:
    """Return askings that may be seen with their rows, newest first, those behind `after` (asked_at, row)."""
    values: list[object] = [list(query.zones), limit, now]
    where = ["$3::timestamptz IS NOT NULL"]
    if query.event:
        values.append(query.event)
        where.append(f"x.event = ${len(values)}")
    if query.state:
        where.append(_STATES[query.state])
    if after:
        values.extend(after)
        where.append(f"(x.asked_at, x.id) < (${len(values) - 1}, ${len(values)})")
    seen, seen_values = query.visible.clause(len(values) + 1, zone="x.zone", organisation="x.organisation")
    values.extend(seen_values)
    newest = "ORDER BY x.asked_at DESC, x.id DESC LIMIT $2"
    rows = await conn.fetch(
        f"""SELECT x.id, {_SELECTED} FROM unnest($1::text[]) AS z (code) CROSS JOIN LATERAL (
            SELECT x.* FROM take_overs x WHERE x.zone = z.code AND {" AND ".join([*where, seen])} {newest}
        ) AS x {newest}""",
        *values,
    )
    return [(row["id"], _take_over(row)) for row in rows]


def _take_over(row: Record) -> TakeOver:
    found = {column: row[column] for column in _COLUMNS}
    return TakeOver(**(found | {"state": State(row["state"])}))
