"""The directory in PostgreSQL: organisations, and who holds which post in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from services.collaboration.model import Entry, Holder, LocalText, Organisation

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from libs.access import Visibility
    from libs.db import Connection, Record
    from services.collaboration.model import Post

POSTS_PER_ORGANISATION_MAX = 100


async def put_organisation(conn: Connection, node: str, organisation: Organisation) -> None:
    """Create or replace an organisation of a node."""
    await conn.execute(
        """INSERT INTO organisations (node, name, title_zh, title_en, zone) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (name, node) DO UPDATE SET title_zh = excluded.title_zh, title_en = excluded.title_en,
            zone = excluded.zone""",
        node, organisation.name, organisation.title.zh, organisation.title.en, organisation.zone,
    )  # fmt: skip


async def put_person(conn: Connection, node: str, person: str, display_name: str, posts: Sequence[Post]) -> None:
    """Create or replace a person of a node; without posts they leave the directory."""
    await conn.execute("DELETE FROM people WHERE node = $1 AND name = $2", node, person)
    if not posts:
        return
    await conn.execute("INSERT INTO people (node, name, display_name) VALUES ($1, $2, $3)", node, person, display_name)
    await conn.execute(
        """INSERT INTO posts (node, person, place, organisation, zone, title_zh, title_en, role)
        SELECT $1, $2, place, organisation, zone, title_zh, title_en, role
        FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) WITH ORDINALITY
            AS p(organisation, zone, title_zh, title_en, role, place)""",
        node,
        person,
        [post.organisation for post in posts],
        [post.zone for post in posts],
        [post.title.zh for post in posts],
        [post.title.en for post in posts],
        [post.role for post in posts],
    )


async def unknown(conn: Connection, organisations: Collection[str]) -> set[str]:
    """Return those names that no node has an organisation of."""
    rows = await conn.fetch("SELECT DISTINCT name FROM organisations WHERE name = ANY($1::text[])", list(organisations))
    return set(organisations) - {row["name"] for row in rows}


async def holds_post(conn: Connection, node: str, person: str, organisation: str) -> bool:
    found = await conn.fetchval(
        "SELECT true FROM posts WHERE node = $1 AND person = $2 AND organisation = $3 LIMIT 1",
        node,
        person,
        organisation,
    )
    return found is not None


async def list_entries(
    conn: Connection, visibility: Visibility, zones: Sequence[str] | None, after: tuple[str, str] | None, limit: int
) -> list[Entry]:
    """Return organisations by name, and by node where two have the same, from behind `after` = (name, node) on.

    `zones` keeps only organisations of these zones; None keeps all. At most POSTS_PER_ORGANISATION_MAX holders each.
    """
    condition, values = visibility.clause(1, zone="zone", organisation="name")
    conditions = [condition]

    def parameter(value: object) -> str:
        values.append(value)
        return f"${len(values)}"

    if zones is not None:
        conditions.append(f"zone = ANY({parameter(list(zones))}::text[])")
    if after is not None:
        conditions.append(f"(name, node) > ({parameter(after[0])}::text, {parameter(after[1])}::text)")
    rows = await conn.fetch(
        f"""WITH page AS (
            SELECT name, node, title_zh, title_en, zone FROM organisations WHERE {" AND ".join(conditions)}
            ORDER BY name, node LIMIT {parameter(limit)}
        )
        SELECT page.*, (
            SELECT json_agg(json_build_array(h.person, h.display_name, h.title_zh, h.title_en, h.zone))
            FROM (
                SELECT p.person, n.display_name, p.title_zh, p.title_en, p.zone
                FROM posts p JOIN people n ON n.node = p.node AND n.name = p.person
                WHERE p.node = page.node AND p.organisation = page.name
                ORDER BY p.person, p.place LIMIT {parameter(POSTS_PER_ORGANISATION_MAX)}
            ) AS h
        ) AS holders
        FROM page ORDER BY name, node""",
        *values,
    )
    return [_entry(row) for row in rows]


def _entry(row: Record) -> Entry:
    holders = tuple(
        Holder(person, display_name, LocalText(title_zh, title_en), zone)
        for person, display_name, title_zh, title_en, zone in json.loads(row["holders"] or "[]")
    )
    title = LocalText(row["title_zh"], row["title_en"])
    return Entry(Organisation(row["name"], title, row["zone"]), row["node"], holders)
