"""Whistles: own ones, and those of other nodes as their facts say them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from libs.access import Visibility
from services.management.model import Place
from services.management.store_rows import parameters
from services.management.whistles.model import Arrival, Rating, Summons, Whistle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection, Record

_PLAIN = (
    "name", "zone", "node", "event", "radius_m", "instruction", "blown_by", "blown_at", "report_by", "remind_at",
    "finished_by", "finished_at", "outcome", "version",
)  # fmt: skip
_COLUMNS = (*_PLAIN, "address", "latitude", "longitude", "organisations", "summons", "waiting", "next_at")
_CHANGING = ("finished_by", "finished_at", "outcome", "version", "summons", "waiting", "next_at")
_SELECTED = ", ".join(f"x.{column}" for column in _COLUMNS)
_INSERT = f"INSERT INTO whistles ({', '.join(_COLUMNS)}) VALUES ({parameters(1, len(_COLUMNS))})"


@dataclass(frozen=True, slots=True)
class Query:
    """Which whistles are listed. `zones` and what may be seen always narrow; the others when given."""

    zones: tuple[str, ...]
    visible: Visibility
    finished: bool | None = None
    organisation: str = ""
    event: str = ""


async def insert(conn: Connection, whistle: Whistle) -> None:
    await conn.execute(_INSERT, *_values(whistle, whistle.next_at))


async def update(conn: Connection, whistle: Whistle) -> None:
    """Store a locked whistle of this node as it is now."""
    await _update(conn, whistle, whistle.next_at)


async def note(conn: Connection, whistle: Whistle) -> None:
    """Store what this node knows of another's locked whistle before that one says it."""
    await _update(conn, whistle, None)


async def put(conn: Connection, whistle: Whistle) -> None:
    """Store another node's whistle unless a newer version is known. It is not for this node to look after."""
    changes = ", ".join(f"{column} = excluded.{column}" for column in _CHANGING)
    await conn.execute(
        f"""{_INSERT} ON CONFLICT (name) DO UPDATE SET {changes}
        WHERE whistles.node = excluded.node AND whistles.version < excluded.version""",
        *_values(whistle, None),
    )


async def get(conn: Connection, name: str, *, lock: bool = False) -> Whistle | None:
    """Return a whistle; with `lock` nobody else changes it until the end of the transaction."""
    row = await conn.fetchrow(
        f"SELECT {_SELECTED} FROM whistles x WHERE x.name = $1 {'FOR UPDATE' if lock else ''}", name
    )
    return _whistle(row) if row else None


async def claim(conn: Connection, now: datetime, limit: int) -> list[Whistle]:
    """Return own whistles whose moment has come, locked; those that others hold are left for later."""
    rows = await conn.fetch(
        f"""SELECT {_SELECTED} FROM whistles x WHERE x.next_at <= $1 ORDER BY x.next_at LIMIT $2
        FOR UPDATE SKIP LOCKED""",
        now,
        limit,
    )
    return [_whistle(row) for row in rows]


async def list_whistles(
    conn: Connection, query: Query, *, after: tuple[datetime, int] | None, limit: int
) -> list[tuple[int, Whistle]]:
    """Return whistles that may be seen with their rows, newest first, those behind `after` (blown_at, row)."""
    values: list[object] = [list(query.zones), limit]
    where: list[str] = []
    if query.finished is not None:
        where.append(f"x.finished_at IS {'NOT ' if query.finished else ''}NULL")
    if query.organisation:
        values.append(query.organisation)
        where.append(f"${len(values)} = ANY(x.organisations)")
    if query.event:
        values.append(query.event)
        where.append(f"x.event = ${len(values)}")
    if after:
        values.extend(after)
        where.append(f"(x.blown_at, x.id) < (${len(values) - 1}, ${len(values)})")
    seen, seen_values = query.visible.clause(len(values) + 1, zone="x.zone", organisation="x.organisations[]")
    values.extend(seen_values)
    newest = "ORDER BY x.blown_at DESC, x.id DESC LIMIT $2"
    rows = await conn.fetch(
        f"""SELECT x.id, {_SELECTED} FROM unnest($1::text[]) AS z (code) CROSS JOIN LATERAL (
            SELECT x.* FROM whistles x WHERE x.zone = z.code AND {" AND ".join([*where, seen])} {newest}
        ) AS x {newest}""",
        *values,
    )
    return [(row["id"], _whistle(row)) for row in rows]


async def waiting(conn: Connection, query: Query) -> int:
    """Return how many organisations are waited for in the zones, as far as the caller may see."""
    seen, values = query.visible.clause(2, zone="x.zone", organisation="x.organisations[]")
    total = await conn.fetchval(
        f"""SELECT coalesce(sum(x.waiting), 0) FROM whistles x
        WHERE x.finished_at IS NULL AND x.zone = ANY($1::text[]) AND {seen}""",
        list(query.zones),
        *values,
    )
    return int(total)


# ---------------------------------------------------------------------------------------------------------------- rows


async def _update(conn: Connection, whistle: Whistle, next_at: datetime | None) -> None:
    given = dict(zip(_COLUMNS, _values(whistle, next_at), strict=True))
    await conn.execute(
        f"UPDATE whistles SET ({', '.join(_CHANGING)}) = ROW({parameters(2, len(_CHANGING))}) WHERE name = $1",
        whistle.name,
        *(given[column] for column in _CHANGING),
    )


def _values(whistle: Whistle, next_at: datetime | None) -> Sequence[object]:
    place = whistle.place
    summons = json.dumps([asdict(each) for each in whistle.summons], ensure_ascii=False, default=datetime.isoformat)
    return (
        *(getattr(whistle, column) for column in _PLAIN), place.address, place.latitude, place.longitude,
        list(whistle.organisations), summons, whistle.waiting, next_at,
    )  # fmt: skip


def _whistle(row: Record) -> Whistle:
    return Whistle(
        place=Place(address=row["address"], latitude=row["latitude"], longitude=row["longitude"]),
        summons=tuple(_summons(found) for found in json.loads(row["summons"])),
        **{column: row[column] for column in _PLAIN},
    )


def _summons(found: dict[str, Any]) -> Summons:
    times = {name: _time(found[name]) for name in ("reminded_at", "escalated_at")}
    arrival, rating = found["arrival"], found["rating"]
    nested = {
        "arrival": Arrival(**{**arrival, "at": datetime.fromisoformat(arrival["at"])}) if arrival else None,
        "rating": Rating(**{**rating, "at": datetime.fromisoformat(rating["at"])}) if rating else None,
    }
    return Summons(**{**found, **times, **nested})


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
