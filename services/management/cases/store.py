"""Cases and their versions, what is found among them, and whom they helped."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from services.management.cases.model import Case, Content, Version, VersionState
from services.management.cases.model_place import PlaceClass
from services.management.cases.model_similar import Candidate, Library
from services.management.store_rows import parameters
from services.management.warnings.model_indicator import Said

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.access import Visibility
    from libs.db import Connection, Record

CASES_MAX = 50_000
CANDIDATES_MAX = 200
_COLUMNS = tuple(each.name for each in fields(Case))
_SELECTED = ", ".join(_COLUMNS)
_CHANGING = ("version", "last_version", "awaiting", "retired_at", "retired_reason", "revision")
_IN_FORCE = "version > 0 AND retired_at IS NULL"
_VERSION = "version, content, state, written_by, written_at, reviewed_by, reviewed_at, note, masked"


class Query(NamedTuple):
    """What a list keeps; empty values keep all."""

    type: str
    tag: str
    words: Sequence[str]


async def count(conn: Connection) -> int:
    return int(await conn.fetchval("SELECT count(*) FROM cases"))


async def insert(conn: Connection, case: Case) -> None:
    values = [getattr(case, column) for column in _COLUMNS]
    await conn.execute(
        f"""INSERT INTO cases ({_SELECTED}, place_class, tags, grams)
        VALUES ({parameters(1, len(_COLUMNS))}, '', '{{}}', '{{}}')""",
        *values,
    )


async def get(conn: Connection, name: str, *, lock: bool = False) -> Case | None:
    """Return a case; with `lock` nobody else changes it until the end of the transaction."""
    row = await conn.fetchrow(f"SELECT {_SELECTED} FROM cases WHERE name = $1 {'FOR UPDATE' if lock else ''}", name)
    return Case(**dict(row)) if row else None


async def update(conn: Connection, case: Case) -> None:
    """Store what changed of a locked case."""
    changes = ", ".join(f"{column} = ${place}" for place, column in enumerate(_CHANGING, 2))
    values = [getattr(case, column) for column in _CHANGING]
    await conn.execute(f"UPDATE cases SET {changes} WHERE name = $1", case.name, *values)


async def publish(conn: Connection, name: str, content: Content) -> None:
    """Let a locked case be found by what its published version says."""
    await conn.execute(
        "UPDATE cases SET place_class = $2, tags = $3, grams = $4 WHERE name = $1",
        name, content.place, list(content.tags), content.words,
    )  # fmt: skip


async def add_version(conn: Connection, name: str, version: Version) -> None:
    """Store the next version of a locked case; one that still waited is replaced."""
    await conn.execute(
        "UPDATE case_versions SET state = $2 WHERE name = $1 AND state = $3",
        name, VersionState.REPLACED, VersionState.AWAITING,
    )  # fmt: skip
    await conn.execute(
        f"INSERT INTO case_versions (name, {_VERSION}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        name, version.version, _content_json(version.content), version.state, version.written_by, version.written_at,
        version.reviewed_by, version.reviewed_at, version.note, list(version.masked),
    )  # fmt: skip


async def review(conn: Connection, name: str, version: Version) -> None:
    """Store what a review said of a version."""
    await conn.execute(
        """UPDATE case_versions SET state = $3, reviewed_by = $4, reviewed_at = $5, note = $6
        WHERE name = $1 AND version = $2""",
        name, version.version, version.state, version.reviewed_by, version.reviewed_at, version.note,
    )  # fmt: skip


async def versions(conn: Connection, cases: Sequence[Case]) -> dict[tuple[str, int], Version]:
    """Return the published, the awaiting and the last versions of cases, by name and number."""
    names, numbers = [], []
    for case in cases:
        for number in {case.version, case.awaiting, case.last_version} - {0}:
            names.append(case.name)
            numbers.append(number)
    rows = await conn.fetch(
        f"""SELECT name, {_VERSION} FROM case_versions
        WHERE (name, version) IN (SELECT * FROM unnest($1::text[], $2::integer[]))""",
        names, numbers,
    )  # fmt: skip
    return {(row["name"], row["version"]): _version(row) for row in rows}


async def list_versions(conn: Connection, name: str, *, before: int | None, limit: int) -> list[Version]:
    """Return versions, newest first, those before a number."""
    rows = await conn.fetch(
        f"""SELECT {_VERSION} FROM case_versions WHERE name = $1 AND ($2::integer IS NULL OR version < $2)
        ORDER BY version DESC LIMIT $3""",
        name, before, limit,
    )  # fmt: skip
    return [_version(row) for row in rows]


async def list_cases(
    conn: Connection, query: Query, *, after: tuple[datetime, str] | None, limit: int
) -> list[Case]:  # fmt: skip
    """Return the cases in force, newest first, behind `after` = (created_at, name); half of the words must be there."""
    time, name = after or (None, None)
    rows = await conn.fetch(
        f"""SELECT {_SELECTED} FROM cases WHERE {_IN_FORCE}
            AND ($1 = '' OR type = $1) AND ($2 = '' OR $2 = ANY(tags))
            AND ($3::text[] = '{{}}' OR (grams && $3 AND 2 * (
                SELECT count(*) FROM unnest($3::text[]) AS word WHERE word = ANY(grams)
            ) >= cardinality($3::text[])))
            AND ($4::timestamptz IS NULL OR (created_at, name) < ($4, $5))
        ORDER BY created_at DESC, name DESC LIMIT $6""",
        query.type, query.tag, list(query.words), time, name, limit,
    )  # fmt: skip
    return [Case(**dict(row)) for row in rows]


async def list_awaiting(
    conn: Connection, visible: Sequence[Visibility], *, after: tuple[datetime, str] | None, limit: int
) -> list[Case]:
    """Return the cases with a version to be reviewed, newest first, that any of `visible` lets pass."""
    time, name = after or (None, None)
    values: list[object] = [time, name, limit]
    conditions = []
    for each in visible:
        condition, given = each.clause(len(values) + 1, zone="zone", organisation="organisation")
        conditions.append(condition)
        values.extend(given)
    rows = await conn.fetch(
        f"""SELECT {_SELECTED} FROM cases WHERE awaiting > 0 AND ({" OR ".join(conditions)})
            AND ($1::timestamptz IS NULL OR (created_at, name) < ($1, $2))
        ORDER BY created_at DESC, name DESC LIMIT $3""",
        *values,
    )
    return [Case(**dict(row)) for row in rows]


# --------------------------------------------------------------------------------------------------------- suggestions


async def candidates(conn: Connection, type_name: str, words: Sequence[str], *, but_of: str) -> list[Candidate]:
    """Return cases in force of a type or with any of the words, those with most of the words first.

    At most CANDIDATES_MAX; none that was kept from the event `but_of`.
    """
    rows = await conn.fetch(
        f"""SELECT c.name, c.type, c.grams, c.place_class, c.helped, c.did_not_help,
            coalesce(v.definition ->> 'code', '') AS code
        FROM (
            SELECT *, (SELECT count(*) FROM unnest(grams) AS gram WHERE gram = ANY($2::text[])) AS shared
            FROM cases WHERE {_IN_FORCE} AND (type = $1 OR grams && $2::text[]) AND event <> $3
            ORDER BY (type = $1) DESC, shared DESC, name LIMIT $4
        ) AS c
        LEFT JOIN event_types t ON t.name = c.type
        LEFT JOIN event_type_versions v ON (v.name, v.version) = (t.name, t.version)""",
        type_name, list(words), but_of, CANDIDATES_MAX,
    )  # fmt: skip
    return [
        Candidate(
            row["name"],
            row["type"],
            row["code"],
            frozenset(row["grams"]),
            PlaceClass(row["place_class"]),
            row["helped"],
            row["did_not_help"],
        )
        for row in rows
    ]


async def library(conn: Connection, words: Sequence[str]) -> Library:
    """Return how many cases are in force, and how many of them have each of some words."""
    total = int(await conn.fetchval(f"SELECT count(*) FROM cases WHERE {_IN_FORCE}"))
    rows = await conn.fetch(
        f"""SELECT gram, count(*) AS cases FROM cases, unnest(grams) AS gram
        WHERE {_IN_FORCE} AND grams && $1::text[] AND gram = ANY($1::text[]) GROUP BY gram""",
        list(words),
    )
    return Library(total, {row["gram"]: row["cases"] for row in rows})


async def named(conn: Connection, names: Sequence[str]) -> list[Case]:
    """Return cases by name, in no order."""
    rows = await conn.fetch(f"SELECT {_SELECTED} FROM cases WHERE name = ANY($1::text[])", list(names))
    return [Case(**dict(row)) for row in rows]


async def rate(conn: Connection, name: str, event: str, *, helped: bool, actor: str, now: datetime) -> Case:
    """Store whether a locked case helped with an event, and return the case with its counts."""
    await conn.execute(
        """INSERT INTO case_ratings (name, event, helped, rated_by, rated_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (name, event) DO UPDATE SET helped = excluded.helped, rated_by = excluded.rated_by,
            rated_at = excluded.rated_at""",
        name, event, helped, actor, now,
    )  # fmt: skip
    row = await conn.fetchrow(
        f"""UPDATE cases c SET helped = r.helped, did_not_help = r.did_not FROM (
            SELECT count(*) FILTER (WHERE helped) AS helped, count(*) FILTER (WHERE NOT helped) AS did_not
            FROM case_ratings WHERE name = $1
        ) AS r WHERE c.name = $1 RETURNING {", ".join(f"c.{column}" for column in _COLUMNS)}""",
        name,
    )
    return Case(**dict(row or {}))


# ---------------------------------------------------------------------------------------------------------------- rows


def _content_json(content: Content) -> str:
    return json.dumps(asdict(content), ensure_ascii=False)


def _version(row: Record) -> Version:
    found: dict[str, Any] = json.loads(row["content"])
    content = Content(
        title=Said(**found["title"]),
        difficulty=Said(**found["difficulty"]),
        solution=Said(**found["solution"]),
        tags=tuple(found["tags"]),
        place=PlaceClass(found["place"]),
    )
    values: dict[str, Any] = {key: value for key, value in row.items() if key != "name"}
    return Version(
        **(values | {"content": content, "state": VersionState(row["state"]), "masked": tuple(row["masked"])})
    )
