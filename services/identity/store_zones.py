"""Zones and organisations in the database. Every change of the zones must hold `lock_zones`."""

from collections.abc import Sequence

from libs.db import Connection, Record
from services.identity.model import Organisation, Text, Zone, folded

_ZONE = """
SELECT z.code, coalesce(z.parent, '') AS parent, z.depth, z.kind, z.title_zh, z.title_en, z.boundary,
    coalesce((SELECT node FROM delegations d WHERE d.zone = z.code), '') AS delegated_to,
    ARRAY(SELECT alias FROM zone_aliases a WHERE a.zone = z.code ORDER BY place) AS aliases
FROM zones z
"""
_ORGANISATION = "SELECT name, title_zh, title_en, zone, coalesce(parent, '') AS parent FROM organisations"


async def lock_zones(conn: Connection) -> None:
    """Let no other transaction change the zones until the end of this one: a tree holds or not as a whole."""
    await conn.execute("LOCK TABLE zones IN SHARE ROW EXCLUSIVE MODE")


async def get_zone(conn: Connection, code: str) -> Zone | None:
    row = await conn.fetchrow(f"{_ZONE} WHERE z.code = $1", code)
    return _zone(row) if row else None


async def find_zone(conn: Connection, code: str) -> Zone | None:
    """Return the zone with this code, now or before it was renamed."""
    row = await conn.fetchrow(
        f"""{_ZONE} WHERE z.code = coalesce(
            (SELECT code FROM zones WHERE code = $1), (SELECT zone FROM zone_aliases WHERE folded = $2))""",
        code, folded(code),
    )  # fmt: skip
    return _zone(row) if row else None


async def zones_since(conn: Connection, version: int) -> list[Zone]:
    """Return the zones that changed after that version; all for 0. Zones are never deleted."""
    return [_zone(row) for row in await conn.fetch(f"{_ZONE} WHERE z.version > $1", version)]


async def get_delegation(conn: Connection, code: str) -> str:
    """Return the id of the child node that has the zone, "" for none."""
    return await conn.fetchval("SELECT node FROM delegations WHERE zone = $1", code) or ""


async def save_delegation(conn: Connection, code: str, node: str) -> None:
    """Give the zone, which may not be there yet, to a child node; "" takes it back."""
    if node:
        await conn.execute(
            """INSERT INTO delegations (zone, node) VALUES ($1, $2)
            ON CONFLICT (zone) DO UPDATE SET node = excluded.node""",
            code, node,
        )  # fmt: skip
    else:
        await conn.execute("DELETE FROM delegations WHERE zone = $1", code)
    await conn.execute(
        """WITH changed AS (UPDATE versions SET version = version + 1 WHERE name = 'zones' RETURNING version)
        UPDATE zones SET version = changed.version FROM changed WHERE code = $1""",
        code,
    )


async def list_zones(
    conn: Connection, *, after: tuple[int, str] | None, limit: int, bytes_max: int
) -> tuple[list[Zone], bool]:
    """Return up to `limit` zones after (depth, code), and whether there are more.

    Fewer when their texts pass `bytes_max` together, but at least one when there is any.
    """
    rows = await conn.fetch(
        f"""SELECT * FROM (
            SELECT weighed.*, count(*) OVER () AS found, row_number() OVER (ORDER BY depth, code) AS place,
                sum(bytes) OVER (ORDER BY depth, code) AS bytes_so_far
            FROM (SELECT page.*, octet_length(boundary) + octet_length(title_zh || title_en)
                    + octet_length(array_to_string(aliases, '')) AS bytes
                FROM ({_ZONE} WHERE (z.depth, z.code) > ($1::bigint, $2)
                    ORDER BY z.depth, z.code LIMIT $3 + 1) page) weighed
        ) measured WHERE place <= $3 AND bytes_so_far - bytes < $4 ORDER BY place""",
        *(after or (-1, "")), limit, bytes_max,
    )  # fmt: skip
    return [_zone(row) for row in rows], bool(rows) and rows[0]["found"] > len(rows)


async def greatest_depth(conn: Connection) -> int:
    """Return how many zones lie above the deepest one."""
    depth: int = await conn.fetchval("SELECT coalesce(max(depth), 0) FROM zones")
    return depth


async def count_zones(conn: Connection) -> int:
    count: int = await conn.fetchval("SELECT count(*) FROM zones")
    return count


async def zone_path(conn: Connection, code: str) -> list[str]:
    """Return the codes from the zone up to the topmost; empty when there is no such zone."""
    rows = await conn.fetch(
        """WITH RECURSIVE path AS (
            SELECT code, parent, 0 AS steps FROM zones WHERE code = $1
            UNION ALL SELECT z.code, z.parent, steps + 1 FROM zones z JOIN path ON z.code = path.parent
        ) SELECT code FROM path ORDER BY steps""",
        code,
    )
    return [row["code"] for row in rows]


async def alias_owner(conn: Connection, zone: Zone) -> tuple[str, str] | None:
    """Return a name that both this zone and another have, codes included, and the other's code; None for none."""
    row = await conn.fetchrow(
        """SELECT alias AS name, zone FROM zone_aliases
            WHERE zone <> $1 AND (folded = ANY($2::text[]) OR folded = $3)
        UNION ALL SELECT code, code FROM zones WHERE code <> $1 AND code = ANY($2::text[]) LIMIT 1""",
        zone.code, [folded(alias) for alias in zone.aliases], folded(zone.code),
    )  # fmt: skip
    return (row["name"], row["zone"]) if row else None


async def save_zone(conn: Connection, zone: Zone) -> None:
    """Write a zone, and the depth of all below it; not its delegation.

    The parent must exist and not lie below the zone.
    """
    await conn.execute(
        """WITH changed AS (UPDATE versions SET version = version + 1 WHERE name = 'zones' RETURNING version)
        INSERT INTO zones (code, parent, depth, kind, title_zh, title_en, boundary, version)
        SELECT $1, nullif($2, ''), $3, $4, $5, $6, $7, version FROM changed
        ON CONFLICT (code) DO UPDATE SET parent = excluded.parent, depth = excluded.depth, kind = excluded.kind,
            title_zh = excluded.title_zh, title_en = excluded.title_en, boundary = excluded.boundary,
            version = excluded.version""",
        zone.code, zone.parent, zone.depth, zone.kind, zone.title.zh, zone.title.en, zone.boundary,
    )  # fmt: skip
    await conn.execute(
        """WITH RECURSIVE below AS (
            SELECT code, depth FROM zones WHERE code = $1
            UNION ALL SELECT z.code, below.depth + 1 FROM zones z JOIN below ON z.parent = below.code
        ) UPDATE zones SET depth = below.depth FROM below
        WHERE zones.code = below.code AND zones.depth <> below.depth""",
        zone.code,
    )
    await conn.execute("DELETE FROM zone_aliases WHERE zone = $1", zone.code)
    await conn.execute(
        """INSERT INTO zone_aliases (zone, place, alias, folded)
        SELECT $1, place, alias, folded
        FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS a(alias, folded, place)""",
        zone.code, list(zone.aliases), [folded(alias) for alias in zone.aliases],
    )  # fmt: skip


def _zone(row: Record) -> Zone:
    return Zone(
        row["code"],
        row["parent"],
        row["kind"],
        Text(row["title_zh"], row["title_en"]),
        tuple(row["aliases"]),
        row["boundary"],
        row["delegated_to"],
        row["depth"],
    )


# ------------------------------------------------------------------------------------------------------- organisations


async def lock_organisations(conn: Connection) -> None:
    """Let no other transaction change the organisations until the end of this one."""
    await conn.execute("LOCK TABLE organisations IN SHARE ROW EXCLUSIVE MODE")


async def get_organisation(conn: Connection, name: str) -> Organisation | None:
    row = await conn.fetchrow(f"{_ORGANISATION} WHERE name = $1", name)
    return _organisation(row) if row else None


async def list_organisations(conn: Connection, *, after: str, limit: int) -> list[Organisation]:
    """Return organisations by name, from the one after `after`."""
    rows = await conn.fetch(f"{_ORGANISATION} WHERE name > $1 ORDER BY name LIMIT $2", after, limit)
    return [_organisation(row) for row in rows]


async def organisation_path(conn: Connection, name: str) -> list[str]:
    """Return the names from the organisation up to the topmost; empty when there is no such organisation."""
    rows = await conn.fetch(
        """WITH RECURSIVE path AS (
            SELECT name, parent, 0 AS steps FROM organisations WHERE name = $1
            UNION ALL SELECT o.name, o.parent, steps + 1 FROM organisations o JOIN path ON o.name = path.parent
        ) SELECT name FROM path ORDER BY steps""",
        name,
    )
    return [row["name"] for row in rows]


async def save_organisation(conn: Connection, organisation: Organisation) -> None:
    await conn.execute(
        """INSERT INTO organisations (name, title_zh, title_en, zone, parent) VALUES ($1, $2, $3, $4, nullif($5, ''))
        ON CONFLICT (name) DO UPDATE SET title_zh = excluded.title_zh, title_en = excluded.title_en,
            zone = excluded.zone, parent = excluded.parent""",
        organisation.name, organisation.title.zh, organisation.title.en, organisation.zone, organisation.parent,
    )  # fmt: skip


async def missing(conn: Connection, *, zones: Sequence[str], organisations: Sequence[str]) -> frozenset[str]:
    """Return which of the zone codes and organisation names stand for nothing."""
    rows = await conn.fetch(
        """SELECT name FROM unnest($1::text[]) AS name WHERE NOT EXISTS (SELECT FROM zones WHERE code = name)
        UNION SELECT name FROM unnest($2::text[]) AS name
            WHERE NOT EXISTS (SELECT FROM organisations o WHERE o.name = name.name)""",
        list(zones), list(organisations),
    )  # fmt: skip
    return frozenset(row["name"] for row in rows)


def _organisation(row: Record) -> Organisation:
    return Organisation(row["name"], Text(row["title_zh"], row["title_en"]), row["zone"], row["parent"])
