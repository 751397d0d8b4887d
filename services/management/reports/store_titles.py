"""What organisations are called, as identity says it: here, and in the tiers below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.management.reports.model_findings import Title

if TYPE_CHECKING:
    from collections.abc import Collection

    from libs.db import Connection


async def put(conn: Connection, name: str, title: Title, *, node: str, own: bool) -> None:
    """Keep what a node calls an organisation. Nobody renames one of another node; this node's own come first."""
    await conn.execute(
        """INSERT INTO organisation_titles AS t (name, node, zh, en) VALUES ($1, $2, $3, $4)
        ON CONFLICT (name) DO UPDATE SET node = excluded.node, zh = excluded.zh, en = excluded.en
        WHERE t.node = excluded.node OR $5""",
        name, node, *title, own,
    )  # fmt: skip


async def get(conn: Connection, names: Collection[str]) -> dict[str, Title]:
    """Return what those of some organisations are called that are known."""
    rows = await conn.fetch("SELECT name, zh, en FROM organisation_titles WHERE name = ANY($1::text[])", list(names))
    return {row["name"]: Title(row["zh"], row["en"]) for row in rows}
