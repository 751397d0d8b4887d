"""Who is told of warnings over the network, and what is still to be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from libs import inbox_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from libs.db import Connection, Record

WEBHOOKS_MAX = 1_000
ERROR_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class Webhook:
    """One address, and how its deliveries stand."""

    name: str
    organisation: str
    zones: tuple[str, ...]
    url: str
    paused: bool = False
    last_error: str = ""
    waiting: int = 0
    dead: int = 0


class Delivery(NamedTuple):
    """One thing to tell to one webhook, tried `attempts` times so far."""

    id: UUID
    webhook: str
    url: str
    body: bytes
    attempts: int


_SELECTED = """SELECT name, organisation, zones, url, paused, last_error,
    (SELECT count(*) FROM webhook_deliveries d WHERE d.webhook = w.name) AS waiting,
    (SELECT count(*) FROM inbox_dead i WHERE i.key = w.name) AS dead
    FROM webhooks w"""


async def get(conn: Connection, name: str) -> Webhook | None:
    row = await conn.fetchrow(f"{_SELECTED} WHERE name = $1", name)
    return _webhook(row) if row else None


async def page(conn: Connection, *, after: str, limit: int) -> list[Webhook]:
    """Return webhooks by name, those behind `after`."""
    rows = await conn.fetch(f"{_SELECTED} WHERE name > $1 ORDER BY name LIMIT $2", after, limit)
    return [_webhook(row) for row in rows]


async def count(conn: Connection) -> int:
    return int(await conn.fetchval("SELECT count(*) FROM webhooks"))


async def put(conn: Connection, webhook: Webhook) -> bool:
    """Store a webhook; return whether it was otherwise before."""
    row = await conn.fetchval(
        """INSERT INTO webhooks AS w (name, organisation, zones, url, paused) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (name) DO UPDATE SET organisation = excluded.organisation, zones = excluded.zones,
            url = excluded.url, paused = excluded.paused
        WHERE (w.organisation, w.zones, w.url, w.paused)
            IS DISTINCT FROM (excluded.organisation, excluded.zones, excluded.url, excluded.paused)
        RETURNING true""",
        webhook.name, webhook.organisation, list(webhook.zones), webhook.url, webhook.paused,
    )  # fmt: skip
    return bool(row)


async def concerned(conn: Connection, organisations: Sequence[str], zones: Sequence[str]) -> list[str]:
    """Return the webhooks that are told of a warning for these organisations, and for these zones with their kin."""
    rows = await conn.fetch(
        """SELECT name FROM webhooks WHERE NOT paused AND (organisation = ANY($1::text[]) OR zones && $2::text[])
        ORDER BY name""",
        list(organisations),
        list(zones),
    )
    return [row["name"] for row in rows]


async def enqueue(conn: Connection, delivery: UUID, webhook: str, body: bytes, now: datetime) -> None:
    """Have something told; a webhook that is gone is told nothing. What waits already is left as it is."""
    await conn.execute(
        """INSERT INTO webhook_deliveries (id, webhook, body, attempts, next_at, created_at)
        SELECT $1, name, $3, 0, $4, $4 FROM webhooks WHERE name = $2 ON CONFLICT DO NOTHING""",
        delivery, webhook, body, now,
    )  # fmt: skip


async def claim(conn: Connection, now: datetime, until: datetime, limit: int) -> list[Delivery]:
    """Return what is due, the longest waiting first, and keep it from others until `until`."""
    rows = await conn.fetch(
        """WITH due AS (
            SELECT d.id FROM webhook_deliveries d JOIN webhooks w ON w.name = d.webhook
            WHERE d.next_at <= $1 AND NOT w.paused ORDER BY d.next_at LIMIT $3 FOR UPDATE OF d SKIP LOCKED
        )
        UPDATE webhook_deliveries d SET next_at = $2, attempts = attempts + 1 FROM due, webhooks w
        WHERE d.id = due.id AND w.name = d.webhook RETURNING d.id, d.webhook, w.url, d.body, d.attempts""",
        now, until, limit,
    )  # fmt: skip
    return [Delivery(*row) for row in rows]


async def done(conn: Connection, delivery: UUID) -> None:
    await conn.execute("DELETE FROM webhook_deliveries WHERE id = $1", delivery)


async def postpone(conn: Connection, delivery: Delivery, error: str, next_at: datetime) -> None:
    """Try again later."""
    await conn.execute("UPDATE webhook_deliveries SET next_at = $2 WHERE id = $1", delivery.id, next_at)
    await _note(conn, delivery.webhook, error)


async def give_up(conn: Connection, delivery: Delivery, letter: inbox_store.Taken, error: str) -> None:
    """Make a delivery a dead letter: a fact that, when somebody retries it, has it told again."""
    await done(conn, delivery.id)
    await inbox_store.bury(conn, letter, attempts=delivery.attempts, error=error[:ERROR_CHARS_MAX])
    await _note(conn, delivery.webhook, error)


async def _note(conn: Connection, webhook: str, error: str) -> None:
    await conn.execute("UPDATE webhooks SET last_error = $2 WHERE name = $1", webhook, error[:ERROR_CHARS_MAX])


def _webhook(row: Record) -> Webhook:
    return Webhook(**{**row, "zones": tuple(row["zones"])})
