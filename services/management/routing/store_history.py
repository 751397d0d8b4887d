"""What became of events, for suggestions: where they ended up, who should not have had them, and who has how many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.management.routing.model_history import Correction, Ended

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from libs.db import Connection, Record
    from libs.tx import Tx
    from services.management.model import Event, Step

OPEN_EVENTS_COUNTED_MAX = 1_000
_ENDED = """SELECT e.type, e.zone, e.organisation, e.suggestion, e.description, e.occurred_at, e.closed_at FROM events e
    WHERE e.closed_at IS NOT NULL AND e.organisation <> '' AND NOT e.partial AND e.node = $1
        AND e.status <> ALL($2::text[])"""


def correct(tx: Tx, before: Event, step: Step) -> None:
    """Note that who had an event until a step should not have had it."""
    tx.write(
        """corrected AS (INSERT INTO routing_corrections (event_id, revision, type, zone, organisation, at)
        VALUES ($1, $2, $3, $4, $5, $6))""",
        before.id, step.revision, before.type, before.zone, before.organisation, step.recorded_at,
    )  # fmt: skip


async def ended(conn: Connection, node: str, voided: Sequence[str], type_name: str, *, limit: int) -> list[Ended]:
    """Return the events of a type that were closed last, the latest first; those in the states `voided` count not."""
    rows = await conn.fetch(
        f"{_ENDED} AND e.type = $3 ORDER BY e.closed_at DESC LIMIT $4", node, list(voided), type_name, limit
    )
    return [_ended(row) for row in rows]


async def ended_of_each(conn: Connection, node: str, voided: Sequence[str], *, each: int, limit: int) -> list[Ended]:
    """Return the events that were closed last, at most `each` of a type and `limit` in all."""
    rows = await conn.fetch(
        f"""SELECT l.* FROM event_types t CROSS JOIN LATERAL (
            {_ENDED} AND e.type = t.name ORDER BY e.closed_at DESC LIMIT $3
        ) AS l ORDER BY l.closed_at DESC LIMIT $4""",
        node, list(voided), each, limit,
    )  # fmt: skip
    return [_ended(row) for row in rows]


async def corrections(conn: Connection, types: Collection[str], *, limit: int) -> list[Correction]:
    """Return corrections of types, the latest first."""
    rows = await conn.fetch(
        """SELECT type, zone, organisation, at FROM routing_corrections WHERE type = ANY($1::text[])
        ORDER BY at DESC LIMIT $2""",
        list(types), limit,
    )  # fmt: skip
    return [Correction(**dict(row)) for row in rows]


async def open_events(
    conn: Connection, node: str, organisations: Collection[str], *, most: int = OPEN_EVENTS_COUNTED_MAX
) -> dict[str, int]:
    """Return how many open events of the node organisations handle, `most` at most."""
    rows = await conn.fetch(
        """SELECT o.name, (
            SELECT count(*) FROM (
                SELECT FROM events e WHERE e.closed_at IS NULL AND e.node = $1 AND e.organisation = o.name LIMIT $3
            ) AS open
        ) AS events FROM unnest($2::text[]) AS o (name)""",
        node, list(organisations), most,
    )  # fmt: skip
    return {row["name"]: row["events"] for row in rows}


def _ended(row: Record) -> Ended:
    return Ended(**dict(row))
