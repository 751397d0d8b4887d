"""What is known of the events of a period, and how each counts by the formulas: a few statements over their tables.

A formula becomes SQL here and nowhere else. Its words become fixed expressions, its values parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.management.model import StepAction
from services.management.performance.model_formula import (
    Both,
    Duration,
    Either,
    Formula,
    Not,
    Number,
    OneOf,
    Operator,
    Word,
)
from services.management.performance.model_scorecard import CountsBy, Part

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from libs.db import Connection
    from services.management.performance.model_scorecard import Card, Definition

# What one statement reads: far below the time that one may take.
EVENTS_BATCH = 5000
# An open event is late once its time is over; before that nobody knows.
_ON_TIME = "CASE WHEN f.closed_at IS NOT NULL THEN f.closed_at <= f.{due} WHEN f.{due} < f.as_of THEN FALSE END"
_CONDITIONS = {
    "all": "TRUE",
    "open": "f.closed_at IS NULL",
    "closed": "(f.closed_at IS NOT NULL AND NOT f.voided)",
    "voided": "f.voided",
    "dispatched": "f.sent_at IS NOT NULL",
    "responded": "f.response_at IS NOT NULL",
    "has_deadline": "f.due_at IS NOT NULL",
    "on_time": f"({_ON_TIME.format(due='due_at')})",
    "on_time_as_opened": f"({_ON_TIME.format(due='first_due_at')})",
    "first_time_right": "(CASE WHEN f.sent_at IS NOT NULL THEN f.organisations = 1 AND f.returns = 0 END)",
    "returned": "f.returns > 0",
    "reopened": "f.reopens > 0",
    "rated": "f.ratings > 0",
    "extended": "f.extensions > 0",
    "suspended": "f.suspensions > 0",
    "escalated": "f.escalations > 0",
    "supervised": "f.supervisions > 0",
    "merged": "f.reports > 1",
    "joint": "f.shares > 0",
    "mirrored": "f.node <> f.own",
}
# The beginning and the end of each duration.
_SPANS = {
    "response": ("f.sent_at", "f.response_at"),
    "handling": ("f.sent_at", "f.closed_at"),
    "total": ("f.occurred_at", "f.closed_at"),
}
# Steps that no loop declares, besides taking the event: whoever was sent it has not answered by them.
_NO_ANSWER = tuple(action for action in StepAction if action is not StepAction.CLAIM)
_TIMES = {CountsBy.OCCURRED: "occurred_at", CountsBy.OPENED: "opened_at", CountsBy.CLOSED: "closed_at"}


@dataclass(frozen=True, slots=True)
class Area:
    """A zone below the scorecard's, or itself: the path down to it, and its tier."""

    code: str
    path: tuple[str, ...]
    tier: str


def compiled(formula: Formula, values: list[object]) -> str:
    """Return a formula as an SQL expression over the rows `f`; what it compares with is added to `values`.

    `values` holds all parameters so far.
    """
    match formula:
        case Word(name):
            return _CONDITIONS[name]
        case Number(name, operator, value):
            values.append(value)
            return f"(f.{name}::float8 {_sql(operator)} ${len(values)}::float8)"
        case Duration():
            return _duration(formula, values)
        case OneOf(name, chosen):
            values.append(list(chosen))
            return f"(f.{name} = ANY(${len(values)}::text[]))"
        case Not(part):
            return f"(NOT {compiled(part, values)})"
        case Both(parts) | Either(parts):
            word = " AND " if isinstance(formula, Both) else " OR "
            return f"({word.join([compiled(part, values) for part in parts])})"


def _sql(operator: Operator) -> str:
    return "<>" if operator is Operator.UNEQUAL else str(operator.value)


def _duration(formula: Duration, values: list[object]) -> str:
    """What goes on has taken so long at least: that settles a comparison as soon as it is beyond the value."""
    start, end = _SPANS[formula.name]
    values.append(formula.value_s)
    value = f"make_interval(secs => ${len(values)}::int)"
    upward = formula.operator in {Operator.MORE, Operator.AT_LEAST}
    # "< v" and ">= v" are settled once v has passed, "<= v" and "> v" after that.
    beyond = ">=" if formula.operator in {Operator.LESS, Operator.AT_LEAST} else ">"
    settled = "TRUE" if upward else "FALSE"
    return (
        f"(CASE WHEN {end} IS NOT NULL THEN {end} - {start} {_sql(formula.operator)} {value}"
        f" WHEN f.as_of - {start} {beyond} {value} THEN {settled} END)"
    )


def _verdict(of: str, that: str) -> str:
    return (
        f"CASE WHEN {of} THEN CASE WHEN {that} THEN '{Part.MET}' WHEN NOT {that} THEN '{Part.NOT_MET}'"
        f" ELSE '{Part.UNKNOWN}' END WHEN NOT {of} THEN '{Part.OUTSIDE}' ELSE '{Part.UNKNOWN}' END"
    )


async def chosen(conn: Connection, card: Card, definition: Definition, zones: Collection[str], limit: int) -> list[int]:
    """Return the ids of the events of the period, in order, at most `limit`."""
    at = _TIMES[definition.counts_by]
    rows = await conn.fetch(
        f"""SELECT e.id FROM events e WHERE e.zone = ANY($1::text[]) AND e.{at} >= $2 AND e.{at} < $3
        ORDER BY e.id LIMIT $4""",
        list(zones), card.period_from, card.period_to, limit,
    )  # fmt: skip
    return [row["id"] for row in rows]


async def read(
    conn: Connection,
    version_id: int,
    definition: Definition,
    events: Sequence[int],
    areas: Sequence[Area],
    voided: Sequence[str],
    *,
    node: str,
    as_of: datetime,
) -> None:
    """Store how events count by the formulas. `voided` are the states of what was voided.

    Each statement reads EVENTS_BATCH of them: none takes longer than a statement may.
    """
    for first in range(0, len(events), EVENTS_BATCH):
        values: list[object] = [
            version_id, list(events[first : first + EVENTS_BATCH]), [area.code for area in areas],
            ["/".join(area.path) for area in areas], [area.tier for area in areas], as_of, node, list(_NO_ANSWER),
            list(voided), list(definition.excludes),
        ]  # fmt: skip
        verdicts = " || ".join(
            _verdict(compiled(indicator.denominator, values), compiled(indicator.numerator, values))
            for indicator in definition.indicators
        )
        await conn.execute(f"{_FACTS} {_INSERT.format(verdicts=verdicts)}", *values)


_FACTS = f"""
WITH chosen AS MATERIALIZED (
    SELECT e.*, a.path, a.tier FROM events e
    JOIN unnest($3::text[], $4::text[], $5::text[]) AS a (code, path, tier) ON a.code = e.zone
    WHERE e.id = ANY($2::bigint[])
), steps AS MATERIALIZED (
    SELECT s.event_id, s.revision, s.action, s.organisation, s.occurred_at
    FROM chosen c JOIN event_steps s ON s.event_id = c.id
), sent AS (
    SELECT DISTINCT ON (event_id) event_id, revision, occurred_at, organisation FROM steps
    WHERE organisation <> '' ORDER BY event_id, revision
), answered AS (
    SELECT DISTINCT ON (s.event_id) s.event_id, s.occurred_at FROM steps s JOIN sent USING (event_id)
    WHERE s.revision > sent.revision AND s.action <> ALL($8::text[]) ORDER BY s.event_id, s.revision
), tallied AS (
    SELECT event_id, count(DISTINCT organisation) FILTER (WHERE organisation <> '') AS organisations,
        count(*) FILTER (WHERE action = '{StepAction.EXTEND}') AS extensions,
        count(*) FILTER (WHERE action = '{StepAction.SUSPEND}') AS suspensions,
        count(*) FILTER (WHERE action = '{StepAction.ESCALATE}') AS escalations,
        count(*) FILTER (WHERE action = '{StepAction.SUPERVISE}') AS supervisions
    FROM steps GROUP BY event_id
), rated AS (
    SELECT c.id AS event_id, count(*) AS ratings, avg(r.rating) AS rating
    FROM chosen c JOIN event_ratings r ON r.event = c.name GROUP BY c.id
), facts AS (
    SELECT $6::timestamptz AS as_of, $7::text AS own,
        c.id, c.name, c.zone, c.path, c.tier, c.type, c.node, c.organisation, c.occurred_at, c.closed_at, c.due_at,
        c.first_due_at, c.reports, c.returns, c.reopens, c.shares, c.flags,
        c.status = ANY($9::text[]) AS voided, sent.occurred_at AS sent_at, sent.organisation AS first_organisation,
        answered.occurred_at AS response_at, coalesce(t.organisations, 0) AS organisations,
        coalesce(t.extensions, 0) AS extensions, coalesce(t.suspensions, 0) AS suspensions,
        coalesce(t.escalations, 0) AS escalations, coalesce(t.supervisions, 0) AS supervisions,
        coalesce(rated.ratings, 0) AS ratings, rated.rating
    FROM chosen c
    LEFT JOIN sent ON sent.event_id = c.id
    LEFT JOIN answered ON answered.event_id = c.id
    LEFT JOIN tallied t ON t.event_id = c.id
    LEFT JOIN rated ON rated.event_id = c.id
)"""
_INSERT = """
INSERT INTO scorecard_events (version_id, event_id, event, zone, zones, tier, type, node, handler, first_organisation,
    verdicts, excluded)
SELECT $1, f.id, f.name, f.zone, string_to_array(f.path, '/'), f.tier, f.type, f.node, f.organisation,
    coalesce(f.first_organisation, ''), {verdicts},
    coalesce((
        SELECT x.code FROM unnest($10::text[]) WITH ORDINALITY AS x (code, place)
        WHERE f.flags @> jsonb_build_array(jsonb_build_object('code', x.code)) ORDER BY x.place LIMIT 1
    ), '')
FROM facts f"""
