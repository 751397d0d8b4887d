"""Events that other nodes handle, kept up to date from their facts. Only the consumer of facts writes them.

Each fact carries the event's revision: one that is older than what is known adds what it alone can tell (its step, its
report), once, and leaves the event's state. A fact of an event of whose opening this node was not told (it was opened
before there was a charter) makes a partial event rather than an error: trying again would never help, and an upper tier
that sees an event without its first report knows more than one that sees nothing. Should the opening come after all, it
completes the event.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from services.management.model import Deadlines, Doubt, ReportKind, Step
from services.management.model_loop import time_reversed
from services.management.store_joint import put_sub_orders
from services.management.store_rows import (
    EVENT_COLUMNS,
    STEP_COLUMNS,
    event_values,
    flags_json,
    parameters,
    step_values,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection
    from services.management.model import Event, SubOrder

_STEP = f"INSERT INTO event_steps (event_id, {', '.join(STEP_COLUMNS)})"
_COUNT = "INSERT INTO counter_deltas (zone, node, status, events, requests, merged)"

# What the opening says of an event that was partial until then; what later facts said of it stays.
_OPENED = (
    "type", "type_version", "loop", "title", "description", "address", "address_key", "latitude", "longitude",
    "zone_hint", "neighbourhood", "suggestion", "routing", "occurred_at", "opened_at", "first_due_at", "warning",
    "split_from", "component_type", "component_code", "component_key",
)  # fmt: skip
_STEP_FIRST = len(EVENT_COLUMNS) + 1
_KIND, _SOURCE, _MERGED, _MOVES, _COUNTED = (f"${_STEP_FIRST + len(STEP_COLUMNS) + place}" for place in range(5))
# A report gives way to what is said of it after more moves, and only to the node that speaks of it already.
_TAKE_OVER = """ON CONFLICT (source) DO UPDATE SET event_id = excluded.event_id, revision = excluded.revision,
        merged = excluded.merged, moves = excluded.moves
    WHERE r.moves < excluded.moves AND (SELECT o.node FROM events o WHERE o.id = r.event_id)
        = (SELECT o.node FROM {event} o)
    RETURNING r.kind, r.merged"""
# What a report counted for before; nothing for one that is new.
_BEFORE = """SELECT o.zone, o.node, o.status, (r.kind = 'request')::int AS request,
        (r.kind = 'request' AND r.merged)::int AS merged
    FROM event_reports r JOIN events o ON o.id = r.event_id"""
_INSERT = f"""
WITH event AS (
    INSERT INTO events ({", ".join(EVENT_COLUMNS)}, reports_revision)
    VALUES ({parameters(1, len(EVENT_COLUMNS))}, {_COUNTED})
    ON CONFLICT (name) DO UPDATE SET partial = false,
        {", ".join(f"{column} = excluded.{column}" for column in _OPENED)},
        due_at = coalesce(events.due_at, excluded.due_at),
        reports = CASE WHEN events.reports_revision = 0 THEN excluded.reports ELSE events.reports END,
        reports_revision = greatest(events.reports_revision, excluded.reports_revision),
        flags = excluded.flags || (
            SELECT coalesce(jsonb_agg(flag), '[]') FROM jsonb_array_elements(events.flags) AS flag
            WHERE flag ->> 'code' <> '{Doubt.HISTORY_MISSING}'
        )
        WHERE events.partial AND NOT excluded.partial AND events.node = excluded.node
    RETURNING id, zone, node, status, xmax = 0 AS fresh
), step AS (
    {_STEP} SELECT id, {parameters(_STEP_FIRST, len(STEP_COLUMNS))} FROM event ON CONFLICT DO NOTHING
), before AS (
    {_BEFORE} WHERE r.source = {_SOURCE} AND {_SOURCE} <> ''
), report AS (
    INSERT INTO event_reports AS r (event_id, revision, kind, source, merged, moves)
    SELECT id, ${_STEP_FIRST}, {_KIND}, nullif({_SOURCE}, ''), {_MERGED}, {_MOVES} FROM event
    WHERE {_KIND} <> '' AND NOT EXISTS (
        SELECT FROM event_reports k WHERE k.event_id = event.id AND k.revision = ${_STEP_FIRST}
    )
    {_TAKE_OVER.format(event="event")}
), counted AS (
    {_COUNT} SELECT zone, node, status, fresh::int, (kind IS NOT DISTINCT FROM 'request')::int,
        (kind IS NOT DISTINCT FROM 'request' AND merged)::int
    FROM event LEFT JOIN report ON true
    UNION ALL SELECT zone, node, status, 0, -request, -before.merged FROM before CROSS JOIN report
), changed AS (
    INSERT INTO event_changes (event_id) SELECT id FROM event
)
SELECT id FROM event"""

_REPORTS = """reports = CASE WHEN $17::int IS NOT NULL AND e.reports_revision < $3 THEN $17 ELSE e.reports END,
        reports_revision = greatest(e.reports_revision, CASE WHEN $17::int IS NOT NULL THEN $3 END)"""
_CHANGE = f"""
WITH old AS (
    SELECT id, zone, node, status, revision < $3 AS newer FROM events
    WHERE name = $1 AND node = $2
        AND ($34 = '' OR home_above = NOT EXISTS (SELECT FROM nodes_below b WHERE b.node = $34))
    FOR UPDATE
), step AS (
    INSERT INTO event_steps (event_id, {", ".join(STEP_COLUMNS)}, evidence)
    SELECT id, $3, $4, coalesce(nullif($5, ''), status), coalesce(nullif($6, ''), status), {parameters(7, 6)}, $31
    FROM old
    ON CONFLICT DO NOTHING RETURNING event_id
), before AS (
    {_BEFORE} WHERE r.source = $21 AND $21 <> ''
), report AS (
    INSERT INTO event_reports AS r (event_id, revision, kind, source, merged, moves)
    SELECT id, $3, $20, nullif($21, ''), true, $32 FROM old WHERE $20 <> '' AND NOT EXISTS (
        SELECT FROM event_reports k WHERE k.event_id = old.id AND k.revision = $3
    )
    {_TAKE_OVER.format(event="old")}
), newer AS (
    UPDATE events e SET revision = $3, status = coalesce($13, e.status), organisation = coalesce($23, e.organisation),
        closed_at = CASE WHEN $13 IS NULL THEN e.closed_at ELSE $14 END,
        step_at = CASE WHEN $15 THEN $11 ELSE e.step_at END,
        flags = CASE WHEN $15 AND $11 < e.step_at AND NOT e.flags @> $22 THEN e.flags || $22 ELSE e.flags END,
        answer = coalesce(nullif($16, ''), e.answer), {_REPORTS},
        due_at = coalesce($18, e.due_at), returns = greatest(e.returns, $19),
        merged_into = coalesce(nullif($33, ''), e.merged_into), first_due_at = coalesce(e.first_due_at, $24),
        step_due_at = CASE WHEN $26 THEN $25 ELSE e.step_due_at END,
        suspended_until = CASE WHEN $26 THEN $27 ELSE e.suspended_until END,
        reopen_until = CASE WHEN $26 THEN $28 ELSE e.reopen_until END,
        reopens = CASE WHEN $26 THEN $29 ELSE e.reopens END,
        assignee = coalesce($30, CASE WHEN coalesce($23, e.organisation) = e.organisation THEN e.assignee ELSE '' END)
    FROM old WHERE e.id = old.id AND old.newer RETURNING e.id, e.status
), older AS (
    UPDATE events e SET answer = coalesce(nullif(e.answer, ''), $16), {_REPORTS},
        due_at = coalesce(e.due_at, $18), returns = greatest(e.returns, $19)
    FROM old JOIN step ON step.event_id = old.id WHERE e.id = old.id AND NOT old.newer
), counted AS (
    {_COUNT} SELECT old.zone, old.node, moved.status, moved.change, 0, 0 FROM old JOIN newer USING (id)
        CROSS JOIN LATERAL (VALUES (old.status, -1), (newer.status, 1)) AS moved (status, change)
        WHERE old.status <> newer.status
    UNION ALL SELECT zone, node, status, 0, 1, 1 FROM old CROSS JOIN report WHERE report.kind = 'request'
    UNION ALL SELECT zone, node, status, 0, -request, -before.merged FROM before CROSS JOIN report
), changed AS (
    INSERT INTO event_changes (event_id) SELECT id FROM old
)
SELECT id FROM old"""


@dataclass(frozen=True, slots=True)
class Change:
    """What a fact says of an event of another node.

    status "" keeps status and closed_at, organisation None the organisation, assignee None who has it, unless another
    organisation gets the event. in_loop: the step is one of the loop, whose time counts. kind, source and moves tell of
    the report merged, reports how many there are then, None when it is not said. returns: how often it was sent back by
    then. deadlines None keeps them. heard_from is the peer that told it: it must be on the side of this node where the
    event is at home; "" for no check.
    """

    name: str
    node: str
    step: Step
    status: str = ""
    organisation: str | None = None
    closed_at: datetime | None = None
    in_loop: bool = False
    answer: str = ""
    reports: int | None = None
    deadlines: Deadlines | None = None
    returns: int = 0
    kind: ReportKind | None = None
    source: str = ""
    assignee: str | None = None
    moves: int = 0
    merged_into: str = ""
    heard_from: str = ""


async def insert(
    conn: Connection,
    event: Event,
    step: Step,
    kind: ReportKind | None,
    source: str,
    *,
    merged: bool,
    moves: int,
    counted: bool,
) -> int | None:
    """Store an event that is new here, or complete a partial one; return its id, None when it is known already.

    `counted` says whether the number of its reports was told.
    """
    event_id: int | None = await conn.fetchval(
        _INSERT, *event_values(event), *step_values(step), kind or "", source, merged, moves,
        step.revision if counted else 0,
    )  # fmt: skip
    return event_id


async def change(conn: Connection, said: Change) -> int | None:
    """Apply a fact to an event; return its id, None when this node knows no such event of that node."""
    step, due = said.step, said.deadlines or Deadlines()
    event_id: int | None = await conn.fetchval(
        _CHANGE, said.name, said.node, *step_values(step), said.status or None, said.closed_at, said.in_loop,
        said.answer, said.reports, due.due_at, said.returns, said.kind or "", said.source,
        flags_json((time_reversed(step.action),)), said.organisation, due.first_due_at, due.step_due_at,
        said.deadlines is not None, due.suspended_until, due.reopen_until, due.reopens,
        said.assignee, list(step.evidence), said.moves, said.merged_into, said.heard_from,
    )  # fmt: skip
    return event_id


async def node_of(conn: Connection, name: str) -> str | None:
    """Return the node that handles an event, as far as this node knows."""
    node: str | None = await conn.fetchval("SELECT node FROM events WHERE name = $1", name)
    return node


async def put_shares(conn: Connection, event_id: int, shares: Sequence[SubOrder]) -> None:
    """Store shares of an event and count anew how many it has."""
    await put_sub_orders(conn, event_id, shares)
    await conn.execute(
        """UPDATE events e SET shares = s.shares, shares_open = s.open, supporters = s.supporters
        FROM (
            SELECT count(*) AS shares, count(*) FILTER (WHERE done_at IS NULL AND withdrawn_at IS NULL) AS open,
                array_agg(DISTINCT organisation ORDER BY organisation) AS supporters
            FROM sub_orders WHERE event_id = $1
        ) AS s WHERE e.id = $1""",
        event_id,
    )
