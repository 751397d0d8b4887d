"""What may be the same as what, and how good merging was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.management.merging.model_suggestion import Quality, State, Suggestion
from services.management.model import Explanation
from services.management.store_rows import explanation_json, explanation_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.access import Visibility
    from libs.db import Connection, Record
    from services.management.model import Event
    from services.management.model_merge import Match

_STATE = (
    "CASE WHEN s.state = 'open' AND (e.closed_at IS NOT NULL OR o.closed_at IS NOT NULL) THEN 'lapsed' ELSE s.state END"
)
_SELECT = f"""SELECT s.id, e.name AS event, o.name AS same_as, s.type, s.score, s.explanation, {_STATE} AS state,
    s.suggested_at, s.decided_by, s.decided_at, s.reason
FROM merge_suggestions s JOIN events e ON e.id = s.event_id JOIN events o ON o.id = s.same_as_id"""


@dataclass(frozen=True, slots=True)
class Query:
    """Which suggestions are listed. `zones` always narrows; the others when not empty."""

    zones: tuple[str, ...]
    event: str = ""
    state: str = ""


async def add(conn: Connection, event: Event, found: Sequence[Match], now: datetime) -> None:
    """Store what a new event may be the same as."""
    if not found:
        return
    await conn.execute(
        """INSERT INTO merge_suggestions
            (event_id, same_as_id, zone, type, score, explanation, state, suggested_at, decided_by, reason)
        SELECT $1, same_as_id, $2, $3, score, explanation, 'open', $4, '', ''
        FROM unnest($5::bigint[], $6::float8[], $7::jsonb[]) AS s (same_as_id, score, explanation)""",
        event.id, event.zone, event.type, now, [match.candidate.id for match in found],
        [match.score for match in found], [explanation_json(match.explanation) for match in found],
    )  # fmt: skip


async def get(conn: Connection, event: str, suggestion: int) -> Suggestion | None:
    """Return a suggestion of an event. Who decides it holds the lock on the event."""
    row = await conn.fetchrow(f"{_SELECT} WHERE s.id = $1 AND e.name = $2", suggestion, event)
    return _suggestion(row) if row else None


async def decide(conn: Connection, suggestion: Suggestion) -> None:
    """Store what was decided of a suggestion."""
    await conn.execute(
        "UPDATE merge_suggestions SET state = $2, decided_by = $3, decided_at = $4, reason = $5 WHERE id = $1",
        suggestion.id, suggestion.state, suggestion.decided_by, suggestion.decided_at, suggestion.reason,
    )  # fmt: skip


async def accept_between(
    conn: Connection, event: Event, into: Event, *, actor: str, reason: str, now: datetime
) -> None:
    """Mark what was suggested of two events as right, whichever of them was the later: somebody merged them."""
    await conn.execute(
        """UPDATE merge_suggestions SET state = 'accepted', decided_by = $3, decided_at = $4, reason = $5
        WHERE (event_id, same_as_id) IN (($1, $2), ($2, $1)) AND state = 'open'""",
        event.id, into.id, actor, now, reason,
    )  # fmt: skip


async def list_suggestions(
    conn: Connection, query: Query, visible: Visibility, *, after: tuple[datetime, int] | None, limit: int
) -> list[Suggestion]:
    """Return suggestions about events that the caller may see, newest first, those behind `after`."""
    seen, values = visible.clause(7, zone="e.zone", organisation="e.handlers[]")
    at, number = after or (None, 0)
    rows = await conn.fetch(
        f"""{_SELECT} WHERE s.zone = ANY($1::text[]) AND ($2 = '' OR e.name = $2 OR o.name = $2)
        AND ($3 = '' OR {_STATE} = $3) AND ($4::timestamptz IS NULL OR (s.suggested_at, s.id) < ($4, $5)) AND {seen}
        ORDER BY s.suggested_at DESC, s.id DESC LIMIT $6""",
        list(query.zones), query.event, query.state, at, number, limit, *values,
    )  # fmt: skip
    return [_suggestion(row) for row in rows]


async def quality(conn: Connection, node: str, zones: Sequence[str], since: datetime, until: datetime) -> list[Quality]:
    """Return the figures of all types with events of a node that were opened from `since` to `until`."""
    rows = await conn.fetch(
        """WITH opened AS (
            SELECT id, type FROM events
            WHERE zone = ANY($1::text[]) AND node = $2 AND opened_at BETWEEN $3 AND $4
        ), merged AS (
            SELECT o.type, count(*) FILTER (WHERE r.merged AND r.moves = 0) AS automatic,
                count(*) FILTER (WHERE NOT r.merged AND r.moves = 1) AS undone,
                count(*) FILTER (WHERE r.merged AND r.moves > 0) AS by_hand
            FROM opened o JOIN event_reports r ON r.event_id = o.id WHERE r.merged OR r.moves > 0 GROUP BY o.type
        ), suggested AS (
            SELECT o.type, count(*) AS suggested, count(*) FILTER (WHERE s.state = 'accepted') AS accepted,
                count(*) FILTER (WHERE s.state = 'dismissed') AS dismissed
            FROM opened o JOIN merge_suggestions s ON s.event_id = o.id GROUP BY o.type
        )
        SELECT type, coalesce(automatic, 0) AS automatic, coalesce(undone, 0) AS undone,
            coalesce(by_hand, 0) AS by_hand, coalesce(suggested, 0) AS suggested, coalesce(accepted, 0) AS accepted,
            coalesce(dismissed, 0) AS dismissed
        FROM merged FULL JOIN suggested USING (type) ORDER BY type""",
        list(zones), node, since, until,
    )  # fmt: skip
    return [Quality(**dict(row)) for row in rows]


def _suggestion(row: Record) -> Suggestion:
    values = dict(row)
    explanation = explanation_of(values["explanation"]) or Explanation("", "", "")
    return Suggestion(**(values | {"state": State(values["state"]), "explanation": explanation}))
