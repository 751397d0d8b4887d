"""Hand-overs: own ones, and those of other nodes as their facts say them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from libs.access import Visibility
from services.management.handover.model import HANDOVERS_MAX, Handover, State
from services.management.store_rows import explanation_json, explanation_of, parameters

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection, Record

_COLUMNS = (
    "name", "event", "title", "zone", "node", "from_organisation", "to_organisation", "reason", "boundary", "state",
    "offered_by", "offered_at", "answer_due_at", "answered_by", "answered_at", "answer", "disputed_by", "disputed_at",
    "dispute", "decide_due_at", "rung", "decided_by", "decided_at", "decision", "explanation", "version", "revision",
    "to_node",
)  # fmt: skip
_CHANGING = _COLUMNS[_COLUMNS.index("state") :]
_SELECTED = ", ".join(f"x.{column}" for column in _COLUMNS)
_INSERT = f"INSERT INTO handovers ({', '.join(_COLUMNS)}) VALUES ({parameters(1, len(_COLUMNS))})"
# The organisation that offered it still answers for its event, and no later hand-over took its place.
_CURRENT = """EXISTS (
    SELECT FROM events e WHERE e.name = x.event AND e.closed_at IS NULL AND e.organisation = x.from_organisation
) AND NOT EXISTS (SELECT FROM handovers later WHERE later.event = x.event AND later.id > x.id)"""
_LATE = """(x.state = 'offered' AND x.answer_due_at <= $2) OR (x.state = 'disputed' AND x.decide_due_at <= $2)"""


@dataclass(frozen=True, slots=True)
class Query:
    """Which hand-overs are listed. `zones` always narrows, the others when not empty.

    `column` is what the organisation in `visible` is compared with. `states` of the node `node` are work: only those
    that still have their event count; `answering`: those that people of the node answer.
    """

    zones: tuple[str, ...]
    visible: Visibility
    column: str = "x.organisations[]"
    event: str = ""
    states: tuple[State, ...] = ()
    node: str = ""
    answering: bool = False


async def insert(conn: Connection, handover: Handover) -> None:
    """Store a new hand-over of a locked event."""
    await conn.execute(_INSERT, *_values(handover))


async def update(conn: Connection, handover: Handover) -> None:
    """Store the new state of a hand-over of a locked event."""
    await conn.execute(
        f"UPDATE handovers SET ({', '.join(_CHANGING)}) = ROW({parameters(2, len(_CHANGING))}) WHERE name = $1",
        handover.name,
        *(_value(handover, column) for column in _CHANGING),
    )


async def put(conn: Connection, handover: Handover) -> None:
    """Store a hand-over of another node unless a newer turn of it is known."""
    changes = ", ".join(f"{column} = excluded.{column}" for column in _CHANGING)
    await conn.execute(
        f"""{_INSERT} ON CONFLICT (name) DO UPDATE SET {changes}
        WHERE handovers.node = excluded.node AND handovers.version < excluded.version""",
        *_values(handover),
    )


async def get(conn: Connection, name: str) -> Handover | None:
    """Return a hand-over. Whoever means to change it holds the lock on its event."""
    row = await conn.fetchrow(f"SELECT {_SELECTED} FROM handovers x WHERE x.name = $1", name)
    return _handover(row) if row else None


async def accept_across(conn: Connection, name: str, actor: str, now: datetime) -> None:
    """Keep that people of this node accept the event of another."""
    await conn.execute(
        """INSERT INTO handover_acceptances (handover, accepted_by, accepted_at) VALUES ($1, $2, $3)
        ON CONFLICT (handover) DO UPDATE SET accepted_by = excluded.accepted_by, accepted_at = excluded.accepted_at""",
        name,
        actor,
        now,
    )


async def accepted_by(conn: Connection, name: str) -> str | None:
    """Return who of this node accepted another node's event; None for nobody."""
    actor: str | None = await conn.fetchval("SELECT accepted_by FROM handover_acceptances WHERE handover = $1", name)
    return actor


async def of_event(conn: Connection, event: str) -> list[Handover]:
    """Return the hand-overs of an event, the oldest first, at most HANDOVERS_MAX."""
    rows = await conn.fetch(
        f"SELECT {_SELECTED} FROM handovers x WHERE x.event = $1 ORDER BY x.id LIMIT $2", event, HANDOVERS_MAX
    )
    return [_handover(row) for row in rows]


async def list_handovers(
    conn: Connection, query: Query, *, after: tuple[datetime, int] | None, limit: int
) -> list[tuple[int, Handover]]:
    """Return hand-overs that may be seen with their rows, newest first, those behind `after` (offered_at, row)."""
    values: list[object] = [list(query.zones), limit]
    where = _conditions(query, values)
    if after:
        values.extend(after)
        where.append(f"(x.offered_at, x.id) < (${len(values) - 1}, ${len(values)})")
    newest = "ORDER BY x.offered_at DESC, x.id DESC LIMIT $2"
    rows = await conn.fetch(
        f"""SELECT x.id, {_SELECTED} FROM unnest($1::text[]) AS z (code) CROSS JOIN LATERAL (
            SELECT x.* FROM handovers x WHERE x.zone = z.code AND {" AND ".join(where)} {newest}
        ) AS x {newest}""",
        *values,
    )
    return [(row["id"], _handover(row)) for row in rows]


async def count(conn: Connection, query: Query, now: datetime) -> tuple[int, int]:
    """Return how many hand-overs there are, and how many of them wait for somebody who is late."""
    values: list[object] = [list(query.zones), now]
    where = " AND ".join(["x.zone = ANY($1::text[])", *_conditions(query, values)])
    row = await conn.fetchrow(
        f"SELECT count(*) AS total, count(*) FILTER (WHERE {_LATE}) AS late FROM handovers x WHERE {where}", *values
    )
    return (row["total"], row["late"]) if row else (0, 0)


async def due(conn: Connection, node: str, now: datetime, limit: int) -> list[str]:
    """Return the names of own hand-overs that time or their event has overtaken."""
    rows = await conn.fetch(
        f"""SELECT x.name FROM handovers x WHERE x.node = $1 AND x.state IN ('offered', 'disputed')
            AND ({_LATE} OR NOT EXISTS (
                SELECT FROM events e WHERE e.name = x.event AND e.closed_at IS NULL
                    AND e.organisation = x.from_organisation
            ))
        ORDER BY x.id LIMIT $3""",
        node,
        now,
        limit,
    )
    return [row["name"] for row in rows]


def _conditions(query: Query, values: list[object]) -> list[str]:
    """Return what narrows a list, and add its parameters to `values`."""
    where: list[str] = []
    if query.event:
        values.append(query.event)
        where.append(f"x.event = ${len(values)}")
    if query.states:
        values.append(list(query.states))
        where.append(f"x.state = ANY(${len(values)}::text[])")
    if query.node:
        values.append(query.node)
        at = "coalesce(nullif(x.to_node, ''), x.node)" if query.answering else "x.node"
        where.append(f"{at} = ${len(values)} AND {_CURRENT}")
    seen, seen_values = query.visible.clause(len(values) + 1, zone="x.zone", organisation=query.column)
    values.extend(seen_values)
    return [*where, seen]


def _values(handover: Handover) -> Sequence[object]:
    return [_value(handover, column) for column in _COLUMNS]


def _value(handover: Handover, column: str) -> object:
    return explanation_json(handover.explanation) if column == "explanation" else getattr(handover, column)


def _handover(row: Record) -> Handover:
    found = {column: row[column] for column in _COLUMNS}
    found |= {"state": State(row["state"]), "explanation": explanation_of(row["explanation"])}
    return Handover(**found)
