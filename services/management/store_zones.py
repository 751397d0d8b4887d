"""Which zones of this node child nodes handle, as the stream of facts says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection


async def delegate(conn: Connection, zone: str, node: str) -> None:
    """Leave a zone, with what lies below, to a child node."""
    await conn.execute(
        """WITH below AS (INSERT INTO nodes_below (node) VALUES ($2) ON CONFLICT DO NOTHING)
        INSERT INTO delegations (zone, node) VALUES ($1, $2) ON CONFLICT (zone) DO UPDATE SET node = excluded.node""",
        zone,
        node,
    )


async def withdraw(conn: Connection, zone: str, node: str) -> None:
    """Take a zone back from a child node, unless another has it by now."""
    await conn.execute("DELETE FROM delegations WHERE zone = $1 AND node = $2", zone, node)


async def delegated(conn: Connection, zones: Sequence[str]) -> dict[str, str]:
    """Return those of the zones that were delegated, each with the node that has it."""
    rows = await conn.fetch("SELECT zone, node FROM delegations WHERE zone = ANY($1::text[])", list(zones))
    return {row["zone"]: row["node"] for row in rows}
