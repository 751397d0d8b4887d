"""Shares of joint disposals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.management.store_rows import sub_order_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection
    from services.management.model import SubOrder


async def list_sub_orders(conn: Connection, event_id: int) -> list[SubOrder]:
    """Return the shares of an event; there are at most model_joint.SUB_ORDERS_MAX."""
    rows = await conn.fetch(
        """SELECT number, organisation, instruction, lead, done_at, withdrawn_at, note
        FROM sub_orders WHERE event_id = $1 ORDER BY number""",
        event_id,
    )
    return [sub_order_of(row) for row in rows]


async def put_sub_orders(conn: Connection, event_id: int, shares: Sequence[SubOrder]) -> None:
    """Add shares of a locked event, or bring those with the same number up to date. What is done stays done."""
    await conn.execute(
        """INSERT INTO sub_orders (event_id, number, organisation, instruction, lead, done_at, withdrawn_at, note)
        SELECT $1, number, organisation, instruction, lead, done_at, withdrawn_at, note
        FROM unnest($2::int[], $3::text[], $4::text[], $5::bool[], $6::timestamptz[], $7::timestamptz[], $8::text[])
            AS s (number, organisation, instruction, lead, done_at, withdrawn_at, note)
        ON CONFLICT (event_id, number) DO UPDATE SET
            done_at = coalesce(sub_orders.done_at, excluded.done_at),
            withdrawn_at = coalesce(sub_orders.withdrawn_at, excluded.withdrawn_at),
            note = coalesce(nullif(excluded.note, ''), sub_orders.note)""",
        event_id,
        [int(share.id) for share in shares],
        [share.organisation for share in shares],
        [share.instruction for share in shares],
        [share.lead for share in shares],
        [share.done_at for share in shares],
        [share.withdrawn_at for share in shares],
        [share.note for share in shares],
    )
