"""The ledger of exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from libs import db
from libs.errors import Reason, WrongState
from services.management.deadlines.model_exceptions import Entry, Kind, State
from services.management.store_rows import explanation_json, explanation_of, parameters

if TYPE_CHECKING:
    from datetime import datetime

    from libs.access import Visibility
    from libs.db import Connection, Record

_COLUMNS = (
    "name", "event", "zone", "node", "kind", "state", "reason", "asked_by", "asked_at", "minutes", "until", "role",
    "organisation", "decide_by", "decided_by", "decided_at", "note", "ended_at", "due_before", "due_after",
    "step_due_before", "step_due_after", "revision", "explanation",
)  # fmt: skip
_SELECTED = ", ".join(f"x.{column}" for column in _COLUMNS)
_INSERT = f"INSERT INTO event_exceptions ({', '.join(_COLUMNS)}) VALUES ({parameters(1, len(_COLUMNS))})"
_CHANGING = (
    "state", "decided_by", "decided_at", "note", "ended_at", "due_before", "due_after", "step_due_before",
    "step_due_after", "revision", "explanation",
)  # fmt: skip
# Entries of one event that explain its deadline: at most what PAUSES_MAX and the number of extensions leave room for.
EFFECTS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries are listed. `zones` always narrows; the others when not empty."""

    zones: tuple[str, ...]
    event: str = ""
    state: str = ""
    kind: str = ""


async def insert(conn: Connection, entry: Entry) -> None:
    """Store a new entry. Raises WrongState when one of its kind waits for its decision."""
    text = f"{entry.kind} of {entry.event} was asked for already and waits for its decision"
    pending = WrongState(Reason.EXCEPTION_PENDING, text, event=entry.event)
    with db.violations({"event_exceptions_asked_key": pending}):
        await conn.execute(_INSERT, *_values(entry))


async def update(conn: Connection, entry: Entry) -> None:
    """Store the new state of an entry of a locked event."""
    await conn.execute(
        f"UPDATE event_exceptions SET ({', '.join(_CHANGING)}) = ROW({parameters(2, len(_CHANGING))}) WHERE name = $1",
        entry.name,
        *(_value(entry, column) for column in _CHANGING),
    )


async def put(conn: Connection, entry: Entry) -> None:
    """Store an entry of another node's ledger as its newest fact says it."""
    changes = ", ".join(f"{column} = excluded.{column}" for column in _CHANGING)
    await conn.execute(
        f"{_INSERT} ON CONFLICT (name) DO UPDATE SET {changes} WHERE event_exceptions.node = excluded.node",
        *_values(entry),
    )


async def end_suspension(conn: Connection, event: str, node: str, at: datetime) -> None:
    """Note that the suspension of another node's event is over."""
    await conn.execute(
        """WITH ended AS (
            UPDATE events SET suspended_until = NULL WHERE name = $1 AND node = $2 AND suspended_until <= $3
            RETURNING id
        ) INSERT INTO event_changes (event_id) SELECT id FROM ended""",
        event,
        node,
        at,
    )


async def get(conn: Connection, name: str) -> Entry | None:
    """Return an entry. Whoever means to change it holds the lock on its event."""
    row = await conn.fetchrow(f"SELECT {_SELECTED} FROM event_exceptions x WHERE x.name = $1", name)
    return _entry(row) if row else None


async def effects(conn: Connection, event: str) -> list[Entry]:
    """Return the entries of an event that took effect, in the order of the revisions that they made."""
    rows = await conn.fetch(
        f"""SELECT {_SELECTED} FROM event_exceptions x WHERE x.event = $1 AND x.revision > 0
        ORDER BY x.revision LIMIT $2""",
        event,
        EFFECTS_MAX,
    )
    return [_entry(row) for row in rows]


async def list_entries(
    conn: Connection, query: Query, visible: Visibility, *, after: tuple[datetime, int] | None, limit: int
) -> list[tuple[int, Entry]]:
    """Return entries that the caller may see with their rows, newest first, those behind `after` (asked_at, row).

    The list is merged from the newest of each zone, each a walk along an index that ends after `limit` rows.
    """
    values: list[object] = [list(query.zones), limit]
    where: list[str] = []
    for column, value in (("event", query.event), ("state", query.state), ("kind", query.kind)):
        if value:
            values.append(value)
            where.append(f"x.{column} = ${len(values)}")
    if query.state == State.ASKED:
        where.append("x.state = 'asked'")  # spelt out, so that its index serves
    if after:
        values.extend(after)
        where.append(f"(x.asked_at, x.id) < (${len(values) - 1}, ${len(values)})")
    seen, seen_values = visible.clause(len(values) + 1, zone="x.zone", organisation="x.organisation")
    values.extend(seen_values)
    newest = "ORDER BY x.asked_at DESC, x.id DESC LIMIT $2"
    rows = await conn.fetch(
        f"""SELECT x.id, {_SELECTED} FROM unnest($1::text[]) AS z (code) CROSS JOIN LATERAL (
            SELECT x.* FROM event_exceptions x WHERE x.zone = z.code AND {" AND ".join([*where, seen])} {newest}
        ) AS x {newest}""",
        *values,
    )
    return [(row["id"], _entry(row)) for row in rows]


def _values(entry: Entry) -> list[object]:
    return [_value(entry, column) for column in _COLUMNS]


def _value(entry: Entry, column: str) -> object:
    return explanation_json(entry.explanation) if column == "explanation" else getattr(entry, column)


def _entry(row: Record) -> Entry:
    found = {column: row[column] for column in _COLUMNS}
    found |= {
        "kind": Kind(row["kind"]),
        "state": State(row["state"]),
        "explanation": explanation_of(row["explanation"]),
    }
    return Entry(**found)
