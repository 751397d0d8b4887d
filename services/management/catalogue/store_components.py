"""Component types and their versions."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from services.management.catalogue.model_components import ComponentType, Owner
from services.management.model import MajorClass

if TYPE_CHECKING:
    from datetime import datetime

    from libs.db import Connection, Record

_PRESENT = """SELECT t.name, t.version, v.definition FROM component_types t
    JOIN component_type_versions v USING (name, version)"""


async def get(conn: Connection, name: str, version: int = 0) -> ComponentType | None:
    """Return the present version of a type, or the one asked for."""
    if version:
        query = "SELECT name, version, definition FROM component_type_versions WHERE name = $1 AND version = $2"
        row = await conn.fetchrow(query, name, version)
    else:
        row = await conn.fetchrow(f"{_PRESENT} WHERE t.name = $1", name)
    return _type(row) if row else None


async def list_types(conn: Connection, *, event_type: str, after: str, limit: int) -> list[ComponentType]:
    """Return present versions by name, those behind `after`, and of which `event_type` can be reported unless ""."""
    rows = await conn.fetch(
        f"""{_PRESENT} WHERE t.name > $1 AND ($2 = '' OR t.event_types @> ARRAY[$2])
        ORDER BY t.name LIMIT $3""",
        after,
        event_type,
        limit,
    )
    return [_type(row) for row in rows]


async def put(conn: Connection, wanted: ComponentType, *, actor: str, now: datetime) -> tuple[ComponentType, bool]:
    """Store a type as its next version unless it is as given already; return it with its version, and if it changed."""
    await conn.execute("INSERT INTO component_types (name, version) VALUES ($1, 0) ON CONFLICT DO NOTHING", wanted.name)
    # Two who put the same type at once take turns here.
    version = await conn.fetchval("SELECT version FROM component_types WHERE name = $1 FOR UPDATE", wanted.name)
    present = await get(conn, wanted.name)
    if present is not None and present == replace(wanted, version=version):
        return present, False
    stored = replace(wanted, version=version + 1)
    definition = asdict(stored)
    del definition["name"], definition["version"]
    await conn.execute(
        """INSERT INTO component_type_versions (name, version, definition, changed_by, changed_at)
        VALUES ($1, $2, $3, $4, $5)""",
        stored.name, stored.version, json.dumps(definition, ensure_ascii=False), actor, now,
    )  # fmt: skip
    await conn.execute(
        "UPDATE component_types SET version = $2, event_types = $3 WHERE name = $1",
        stored.name,
        stored.version,
        list(stored.event_types),
    )
    return stored, True


def _type(row: Record) -> ComponentType:
    found = json.loads(row["definition"])
    return ComponentType(
        name=row["name"],
        version=row["version"],
        major=MajorClass(**found.pop("major")),
        owners=tuple(Owner(**owner) for owner in found.pop("owners")),
        event_types=tuple(found.pop("event_types")),
        **found,
    )
