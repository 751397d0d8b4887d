"""Who must acknowledge a warning, who has, and who did not in time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection, Record

RECEIPTS_MAX = 440  # 200 organisations, 20 roles, and who acts in the place of each
_COLUMNS = "warning, recipient, revision, due_at, acknowledged_at, acknowledged_by, escalated_at, escalated_from"


@dataclass(frozen=True, slots=True)
class Receipt:
    """One acknowledgement owed. `escalated_from` is whose place the recipient takes, "" for one of the audience."""

    warning: str
    recipient: str
    revision: int
    due_at: datetime
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    escalated_at: datetime | None = None
    escalated_from: str = ""


async def ask(conn: Connection, warning: str, recipients: Sequence[str], revision: int, due_at: datetime) -> None:
    """Ask for the acknowledgement of a revision, from exactly these; those of an earlier revision are forgotten."""
    await conn.execute("DELETE FROM warning_receipts WHERE warning = $1", warning)
    await conn.execute(
        """INSERT INTO warning_receipts (warning, recipient, revision, due_at)
        SELECT $1, recipient, $3, $4 FROM unnest($2::text[]) AS recipient""",
        warning,
        list(recipients),
        revision,
        due_at,
    )


async def page(conn: Connection, warning: str) -> list[Receipt]:
    """Return all receipts of a warning by recipient."""
    query = f"SELECT {_COLUMNS} FROM warning_receipts WHERE warning = $1 ORDER BY recipient LIMIT {RECEIPTS_MAX}"
    return [_receipt(row) for row in await conn.fetch(query, warning)]


async def acknowledge(conn: Connection, warning: str, recipient: str, *, by: str, now: datetime) -> Receipt | None:
    """Acknowledge once: who did it first stands. Returns None when the recipient was not asked."""
    row = await conn.fetchrow(
        f"""UPDATE warning_receipts SET acknowledged_at = coalesce(acknowledged_at, $3),
            acknowledged_by = CASE WHEN acknowledged_at IS NULL THEN $4 ELSE acknowledged_by END
        WHERE warning = $1 AND recipient = $2 RETURNING {_COLUMNS}""",
        warning, recipient, now, by,
    )  # fmt: skip
    return _receipt(row) if row else None


async def overdue(conn: Connection, now: datetime, limit: int) -> list[Receipt]:
    """Return receipts of warnings in force that are past their time and were not passed on, locked."""
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS} FROM warning_receipts WHERE due_at <= $1 AND acknowledged_at IS NULL
            AND escalated_at IS NULL AND EXISTS (SELECT FROM public_warnings w WHERE w.name = warning
                AND w.state = 'published' AND w.expires_at > $1)
        ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED""",
        now,
        limit,
    )
    return [_receipt(row) for row in rows]


async def escalate(conn: Connection, late: Receipt, to: str, within: timedelta, now: datetime) -> bool:
    """Note that nobody acknowledged in time, and ask `to` instead unless it was asked. Returns if it was asked now."""
    await conn.execute(
        "UPDATE warning_receipts SET escalated_at = $3 WHERE warning = $1 AND recipient = $2",
        late.warning,
        late.recipient,
        now,
    )
    if not to:
        return False
    return bool(
        await conn.fetchval(
            """INSERT INTO warning_receipts (warning, recipient, revision, due_at, escalated_from)
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING true""",
            late.warning,
            to,
            late.revision,
            now + within,
            late.recipient,
        )
    )


def _receipt(row: Record) -> Receipt:
    return Receipt(**row)
