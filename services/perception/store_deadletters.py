"""What came over MQTT and could not be stored, in PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection

DEAD_LETTERS_MAX = 10_000
PAYLOAD_BYTES_MAX = 4 * 1024
ERROR_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message: where it came in, its place in the stream, the beginning of it, and what was wrong."""

    subject: str
    stream_sequence: int
    payload: bytes
    error: str
    received_at: datetime


async def bury(conn: Connection, letters: Sequence[DeadLetter]) -> None:
    """Keep messages, cut to PAYLOAD_BYTES_MAX, and drop the oldest beyond DEAD_LETTERS_MAX.

    A message that comes again replaces itself.
    """
    await conn.executemany(
        """INSERT INTO dead_letters (subject, stream_sequence, payload, error, received_at)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (stream_sequence) DO UPDATE SET subject = excluded.subject,
            payload = excluded.payload, error = excluded.error, received_at = excluded.received_at""",
        [
            (one.subject, one.stream_sequence, one.payload[:PAYLOAD_BYTES_MAX], one.error[:ERROR_CHARS_MAX],
             one.received_at)
            for one in letters
        ],
    )  # fmt: skip
    await conn.execute(
        "DELETE FROM dead_letters WHERE id <= (SELECT max(id) FROM dead_letters) - $1::bigint", DEAD_LETTERS_MAX
    )


async def newest(conn: Connection, limit: int) -> list[DeadLetter]:
    """Return the newest dead letters, the newest first."""
    rows = await conn.fetch(
        """SELECT subject, stream_sequence, payload, error, received_at FROM dead_letters
        ORDER BY id DESC LIMIT $1""",
        limit,
    )
    return [DeadLetter(*row) for row in rows]
