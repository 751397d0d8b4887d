"""The deadlines of events, as their reporters see them: facts may come twice and in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.delivery.model import DeadlineChange, Deadlines

if TYPE_CHECKING:
    from libs.db import Connection

# More changes than a reporter reads; an event can be extended, suspended and reopened about as often.
CHANGES_MAX = 200

# The source gives event, revision and the three times.
NOTING = """INSERT INTO event_deadlines AS d (event, revision, first_due_at, suspended_until, reopen_until) {source}
    ON CONFLICT (event) DO UPDATE SET revision = excluded.revision,
        first_due_at = coalesce(excluded.first_due_at, d.first_due_at),
        suspended_until = excluded.suspended_until, reopen_until = excluded.reopen_until
    WHERE excluded.revision > d.revision"""


async def note(conn: Connection, event: str, revision: int, deadlines: Deadlines) -> None:
    """Keep what a fact says of the deadlines of an event, unless a later revision is known."""
    await conn.execute(
        NOTING.format(source="VALUES ($1, $2, $3, $4, $5)"),
        event, revision, deadlines.first_due_at, deadlines.suspended_until, deadlines.reopen_until,
    )  # fmt: skip


async def add_change(conn: Connection, event: str, exception: str, change: DeadlineChange) -> None:
    """Keep why a deadline moved, once."""
    await conn.execute(
        """INSERT INTO event_deadline_changes
            (event, exception, revision, due_before, due_after, reason_zh, reason_en, time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING""",
        event, exception, change.revision, change.due_before, change.due_after, change.reason_zh, change.reason_en,
        change.time,
    )  # fmt: skip


async def of_event(conn: Connection, event: str) -> Deadlines:
    """Return what is known of the deadlines of an event."""
    row = await conn.fetchrow(
        "SELECT first_due_at, suspended_until, reopen_until FROM event_deadlines WHERE event = $1", event
    )
    if row is None:
        return Deadlines()
    changes = await conn.fetch(
        """SELECT revision, due_before, due_after, reason_zh, reason_en, time FROM event_deadline_changes
        WHERE event = $1 ORDER BY revision LIMIT $2""",
        event,
        CHANGES_MAX,
    )
    return Deadlines(**dict(row), changes=tuple(DeadlineChange(**dict(change)) for change in changes))
