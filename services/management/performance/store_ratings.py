"""Ratings of events by those who reported them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from libs.db import Connection


async def put(conn: Connection, event: str, request: str, rating: int, rated_at: datetime) -> bool:
    """Store a rating; a request rates its event once. Return whether it is new."""
    return bool(
        await conn.fetchval(
            """INSERT INTO event_ratings (event, request, rating, rated_at) VALUES ($1, $2, $3, $4)
            ON CONFLICT DO NOTHING RETURNING true""",
            event, request, rating, rated_at,
        )
    )  # fmt: skip
