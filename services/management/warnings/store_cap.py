"""What was said in the Common Alerting Protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection

_COLUMNS = "warning, number, identifier, zh, en, sent_at, xml"


class Kept(NamedTuple):
    """One message; zh and en are the headline."""

    warning: str
    number: int
    identifier: str
    zh: str
    en: str
    sent_at: datetime
    xml: str


async def keep(conn: Connection, message: Kept) -> None:
    query = f"INSERT INTO cap_messages ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)"
    await conn.execute(query, *message)


async def of(conn: Connection, warning: str) -> list[Kept]:
    """Return the messages of a warning, the first one first."""
    rows = await conn.fetch(f"SELECT {_COLUMNS} FROM cap_messages WHERE warning = $1 ORDER BY number", warning)
    return [Kept(*row) for row in rows]


async def get(conn: Connection, warning: str, number: int) -> Kept | None:
    query = f"SELECT {_COLUMNS} FROM cap_messages WHERE warning = $1 AND number = $2"
    row = await conn.fetchrow(query, warning, number)
    return Kept(*row) if row else None


async def newest(conn: Connection, warnings: Sequence[str]) -> dict[str, Kept]:
    """Return the newest message of each of the warnings."""
    rows = await conn.fetch(
        f"""SELECT DISTINCT ON (warning) {_COLUMNS} FROM cap_messages WHERE warning = ANY($1::text[])
        ORDER BY warning, number DESC""",
        list(warnings),
    )
    return {row["warning"]: Kept(*row) for row in rows}
