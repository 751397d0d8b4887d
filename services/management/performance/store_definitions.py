"""Definitions of scorecards, as the YAML that they were given in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from services.management.performance.definition_yaml import parse_definition

if TYPE_CHECKING:
    from datetime import datetime

    from libs.db import Connection, Record
    from services.management.performance.model_scorecard import Definition

DEFINITIONS_MAX = 200
_VERSIONS = "SELECT v.name, v.version, v.source FROM scorecard_definition_versions v"


async def get(conn: Connection, name: str, version: int = 0) -> Definition | None:
    """Return a version of a definition, the present one for 0."""
    row = await conn.fetchrow(
        f"""{_VERSIONS} WHERE v.name = $1
        AND v.version = coalesce(nullif($2, 0), (SELECT version FROM scorecard_definitions WHERE name = $1))""",
        name,
        version,
    )
    return _definition(row) if row else None


async def page(conn: Connection, *, after: str, limit: int) -> list[Definition]:
    """Return present versions by name, those behind `after`."""
    rows = await conn.fetch(
        f"{_VERSIONS} JOIN scorecard_definitions USING (name, version) WHERE v.name > $1 ORDER BY v.name LIMIT $2",
        after,
        limit,
    )
    return [_definition(row) for row in rows]


async def count(conn: Connection) -> int:
    return int(await conn.fetchval("SELECT count(*) FROM scorecard_definitions"))


async def put(conn: Connection, wanted: Definition, *, actor: str, now: datetime) -> tuple[Definition, bool]:
    """Store a definition as its next version unless it is as given already; return it, and if it changed."""
    await conn.execute(
        "INSERT INTO scorecard_definitions (name, version) VALUES ($1, 0) ON CONFLICT DO NOTHING", wanted.name
    )
    # Two who put the same definition at once take turns here.
    version = await conn.fetchval("SELECT version FROM scorecard_definitions WHERE name = $1 FOR UPDATE", wanted.name)
    present = await get(conn, wanted.name)
    if present is not None and present.source == wanted.source:
        return present, False
    stored = replace(wanted, version=version + 1)
    await conn.execute(
        """INSERT INTO scorecard_definition_versions (name, version, source, changed_by, changed_at)
        VALUES ($1, $2, $3, $4, $5)""",
        stored.name, stored.version, stored.source, actor, now,
    )  # fmt: skip
    await conn.execute("UPDATE scorecard_definitions SET version = $2 WHERE name = $1", stored.name, stored.version)
    return stored, True


def _definition(row: Record) -> Definition:
    return replace(parse_definition(row["source"]), version=row["version"])
