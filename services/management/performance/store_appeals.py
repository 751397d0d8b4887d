"""Appeals against scorecards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.management.performance.model_scorecard import Appeal, AppealState, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection, Record

APPEALS_MAX = 2000
_COLUMNS = """id, name, version, organisation, indicator, wanted, events, reason, state, asked_by, asked_at, decided_by,
    decided_at, note"""


async def insert(conn: Connection, card_id: int, appeal: Appeal) -> None:
    await conn.execute(
        """INSERT INTO scorecard_appeals (name, scorecard, version, organisation, indicator, wanted, events, reason,
            state, asked_by, asked_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)""",
        appeal.name, card_id, appeal.version, appeal.organisation, appeal.indicator, appeal.wanted,
        list(appeal.events), appeal.reason, appeal.state, appeal.asked_by, appeal.asked_at,
    )  # fmt: skip


async def lock(conn: Connection, name: str) -> Appeal | None:
    """Return an appeal that nobody else decides until the end of the transaction."""
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM scorecard_appeals WHERE name = $1 FOR UPDATE", name)
    return _appeal(row) if row else None


async def decide(conn: Connection, appeal: Appeal) -> None:
    """Store the decision of a locked appeal."""
    await conn.execute(
        "UPDATE scorecard_appeals SET state = $2, decided_by = $3, decided_at = $4, note = $5 WHERE id = $1",
        appeal.id, appeal.state, appeal.decided_by, appeal.decided_at, appeal.note,
    )  # fmt: skip


async def granted(conn: Connection, card_id: int) -> list[Appeal]:
    """Return the appeals against a scorecard that were granted, in the order of the decisions."""
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS} FROM scorecard_appeals WHERE scorecard = $1 AND state = '{AppealState.GRANTED}'
        ORDER BY decided_at, id""",
        card_id,
    )
    return [_appeal(row) for row in rows]


async def count(conn: Connection, card_id: int) -> int:
    return int(await conn.fetchval("SELECT count(*) FROM scorecard_appeals WHERE scorecard = $1", card_id))


async def page(
    conn: Connection, card_id: int, *, organisations: Sequence[str] | None, after: int | None, limit: int
) -> list[Appeal]:
    """Return appeals, the latest first, behind `after`; of `organisations` alone unless that is None."""
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS} FROM scorecard_appeals WHERE scorecard = $1
        AND ($2::text[] IS NULL OR organisation = ANY($2)) AND ($3::bigint IS NULL OR id < $3)
        ORDER BY id DESC LIMIT $4""",
        card_id, None if organisations is None else list(organisations), after, limit,
    )  # fmt: skip
    return [_appeal(row) for row in rows]


def _appeal(row: Record) -> Appeal:
    return Appeal(
        id=row["id"],
        name=row["name"],
        version=row["version"],
        organisation=row["organisation"],
        indicator=row["indicator"],
        wanted=Part(row["wanted"]),
        events=tuple(row["events"]),
        reason=row["reason"],
        state=AppealState(row["state"]),
        asked_by=row["asked_by"],
        asked_at=row["asked_at"],
        decided_by=row["decided_by"],
        decided_at=row["decided_at"],
        note=row["note"],
    )
