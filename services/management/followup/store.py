"""Follow-ups, the policies that draw them, and the seeds of the draws."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from services.management.followup.model import FollowUp, Policy, State, Way
from services.management.store_rows import explanation_json, explanation_of, parameters
from services.management.warnings.model_indicator import Said

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection, Record

POLICIES_MAX = 200
PERIODS_LISTED_MAX = 120
COUNTS_MAX = 5_000
_COLUMNS = tuple(each.name for each in fields(FollowUp))
_SELECTED = ", ".join(_COLUMNS)
# What changes after the draw, in the order of `update`.
_CHANGING = (
    "state", "call_at", "tries", "caller", "claim_ends_at", "satisfaction", "note", "way", "finished_at", "finished_by",
    "reopened",
)  # fmt: skip

# What is counted by month and organisation, and how.
_COUNTS = {
    "drawn": "count(*) FILTER (WHERE state <> 'not_drawn')",
    "not_drawn": "count(*) FILTER (WHERE state = 'not_drawn')",
    "solved": "count(*) FILTER (WHERE state = 'solved')",
    "not_solved": "count(*) FILTER (WHERE state = 'not_solved')",
    "not_reached": "count(*) FILTER (WHERE state = 'not_reached')",
    "withdrawn": "count(*) FILTER (WHERE state = 'withdrawn')",
    "not_made": "count(*) FILTER (WHERE state = 'not_made')",
    "reopened": "count(*) FILTER (WHERE reopened)",
    "by_form": "count(*) FILTER (WHERE way = 'form')",
    "rated": "count(*) FILTER (WHERE satisfaction > 0)",
    "satisfactions": "coalesce(sum(satisfaction) FILTER (WHERE satisfaction > 0), 0)",
}
_COUNTED = ", ".join(f"{counted} AS {name}" for name, counted in _COUNTS.items())
_ADDED = ", ".join(f"sum({name})::bigint AS {name}" for name in _COUNTS)


class Period(NamedTuple):
    """The month of a draw."""

    period: str
    seed: str
    begun_at: datetime


class Query(NamedTuple):
    """What a list keeps; `due` None, `caller` "" and `event` "" keep all. A claim that has lapsed by `now` is none."""

    zones: Sequence[str]
    state: State
    due: datetime | None
    caller: str
    event: str
    now: datetime


# ------------------------------------------------------------------------------------------------- policies and periods


async def put_policy(conn: Connection, policy: Policy, *, actor: str, now: datetime) -> None:
    found = asdict(policy)
    del found["name"]
    await conn.execute(
        """INSERT INTO follow_up_policies (name, definition, changed_by, changed_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, changed_by = excluded.changed_by,
            changed_at = excluded.changed_at""",
        policy.name, json.dumps(found, ensure_ascii=False), actor, now,
    )  # fmt: skip


async def policies(conn: Connection) -> list[Policy]:
    """Return all policies by name."""
    rows = await conn.fetch("SELECT name, definition FROM follow_up_policies ORDER BY name")
    return [_policy(row) for row in rows]


async def policy(conn: Connection, name: str) -> Policy | None:
    row = await conn.fetchrow("SELECT name, definition FROM follow_up_policies WHERE name = $1", name)
    return _policy(row) if row else None


async def seed_of(conn: Connection, period: str, new_seed: str, now: datetime) -> str:
    """Return the seed of a month, which is `new_seed` when it has none yet."""
    await conn.execute(
        "INSERT INTO follow_up_periods (period, seed, begun_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        period, new_seed, now,
    )  # fmt: skip
    return str(await conn.fetchval("SELECT seed FROM follow_up_periods WHERE period = $1", period))


async def periods(conn: Connection) -> list[Period]:
    """Return the last months, newest first, at most PERIODS_LISTED_MAX."""
    rows = await conn.fetch(
        "SELECT period, seed, begun_at FROM follow_up_periods ORDER BY period DESC LIMIT $1", PERIODS_LISTED_MAX
    )
    return [Period(**dict(row)) for row in rows]


# ---------------------------------------------------------------------------------------------------------- follow-ups


async def insert(conn: Connection, follow_ups: Sequence[FollowUp]) -> list[str]:
    """Store new follow-ups; return the names of those that were not there for their request and closing already."""
    query = (
        f"INSERT INTO follow_ups ({_SELECTED}) VALUES ({parameters(1, len(_COLUMNS))})"
        " ON CONFLICT DO NOTHING RETURNING name"
    )
    # One round trip for each: an event stands for one request mostly.
    stored = [await conn.fetchval(query, *_values(each)) for each in follow_ups]
    return [name for name in stored if name]


async def lock(conn: Connection, name: str) -> FollowUp | None:
    """Return a follow-up and keep others from changing it until the transaction ends."""
    row = await conn.fetchrow(f"SELECT {_SELECTED} FROM follow_ups WHERE name = $1 FOR UPDATE", name)
    return _follow_up(row) if row else None


async def get(conn: Connection, name: str) -> FollowUp | None:
    row = await conn.fetchrow(f"SELECT {_SELECTED} FROM follow_ups WHERE name = $1", name)
    return _follow_up(row) if row else None


async def update(conn: Connection, found: FollowUp) -> None:
    """Store what changed of a locked follow-up."""
    changes = ", ".join(f"{column} = ${place}" for place, column in enumerate(_CHANGING, 2))
    values = [getattr(found, column) for column in _CHANGING]
    await conn.execute(f"UPDATE follow_ups SET {changes} WHERE name = $1", found.name, *values)


async def not_solved(conn: Connection, requests: Sequence[str]) -> set[str]:
    """Return those of some requests whose reporter called them not solved the last time."""
    rows = await conn.fetch(
        """SELECT request FROM (
            SELECT DISTINCT ON (request) request, state FROM follow_ups
            WHERE request = ANY($1::text[]) AND state IN ('solved', 'not_solved')
            ORDER BY request, event_revision DESC
        ) AS last WHERE state = 'not_solved'""",
        list(requests),
    )
    return {row["request"] for row in rows}


async def lock_reopened(conn: Connection, event: str, revision: int) -> list[FollowUp]:
    """Return, locked, what an event's reopening before `revision` concerns: open ones, and those called not solved."""
    rows = await conn.fetch(
        f"""SELECT {_SELECTED} FROM follow_ups WHERE event = $1 AND event_revision < $2
            AND (state = 'open' OR (state = 'not_solved' AND NOT reopened)) ORDER BY name FOR UPDATE""",
        event, revision,
    )  # fmt: skip
    return [_follow_up(row) for row in rows]


async def lock_unmade(conn: Connection, node: str, call_before: datetime, now: datetime, limit: int) -> list[FollowUp]:
    """Return, locked, a node's calls whose time was before another and that nobody has in hand, at most `limit`."""
    rows = await conn.fetch(
        f"""SELECT {_SELECTED} FROM follow_ups WHERE state = 'open' AND node = $1 AND call_at < $2
            AND (claim_ends_at IS NULL OR claim_ends_at <= $3)
        ORDER BY call_at, name LIMIT $4 FOR UPDATE SKIP LOCKED""",
        node, call_before, now, limit,
    )  # fmt: skip
    return [_follow_up(row) for row in rows]


async def list_follow_ups(
    conn: Connection, query: Query, *, after: tuple[datetime, str] | None, limit: int
) -> list[FollowUp]:
    """Return follow-ups in the order of their time to call, behind `after` = (call_at, name)."""
    time, name = after or (None, None)
    rows = await conn.fetch(
        f"""SELECT {_SELECTED} FROM follow_ups WHERE zone = ANY($1::text[]) AND state = $2
            AND ($3::timestamptz IS NULL OR call_at <= $3) AND ($5 = '' OR event = $5)
            AND ($4 = '' OR (caller = $4 AND claim_ends_at > $9))
            AND ($6::timestamptz IS NULL OR (call_at, name) > ($6, $7))
        ORDER BY call_at, name LIMIT $8""",
        list(query.zones), query.state, query.due, query.caller, query.event, time, name, limit,
        query.now,
    )  # fmt: skip
    return [_follow_up(row) for row in rows]


async def counts(
    conn: Connection, zones: Sequence[str], first: str, last: str, organisation: str
) -> list[Record]:  # fmt: skip
    """Return one row per month and organisation: the fields of FollowUpCount, of those that are kept no more, too."""
    return await conn.fetch(
        f"""WITH counted AS (
            SELECT period, organisation, count(*) FILTER (WHERE state = 'open') AS open, {_COUNTED} FROM follow_ups
            WHERE zone = ANY($1::text[]) AND period BETWEEN $2 AND $3 AND ($4 = '' OR organisation = $4)
            GROUP BY period, organisation
            UNION ALL
            SELECT period, organisation, 0, {", ".join(_COUNTS)} FROM follow_up_counts
            WHERE zone = ANY($1::text[]) AND period BETWEEN $2 AND $3 AND ($4 = '' OR organisation = $4)
        ), added AS (
            SELECT period, organisation, sum(open)::bigint AS open, {_ADDED} FROM counted GROUP BY period, organisation
        )
        SELECT period, organisation, drawn, not_drawn, open, solved + not_solved AS reached, solved, not_solved,
            not_reached, withdrawn, not_made, reopened, by_form, rated,
            coalesce(satisfactions::double precision / nullif(rated, 0), 0) AS satisfaction
        FROM added ORDER BY period, organisation LIMIT $5""",
        list(zones), first, last, organisation, COUNTS_MAX,
    )  # fmt: skip


async def forget(conn: Connection, before: datetime, limit: int) -> int:
    """Delete what was over before a time, at most `limit`, and keep its counts; return how many follow-ups went."""
    return int(
        await conn.fetchval(
            f"""WITH gone AS (
                DELETE FROM follow_ups WHERE name IN (
                    SELECT name FROM follow_ups WHERE state <> 'open' AND coalesce(finished_at, asked_at) < $1
                    ORDER BY coalesce(finished_at, asked_at) LIMIT $2 FOR UPDATE SKIP LOCKED
                ) RETURNING *
            ), counted AS (
                INSERT INTO follow_up_counts AS c (period, zone, organisation, {", ".join(_COUNTS)})
                SELECT period, zone, organisation, {_COUNTED} FROM gone
                GROUP BY period, zone, organisation ORDER BY period, zone, organisation
                ON CONFLICT (period, zone, organisation) DO UPDATE SET
                {", ".join(f"{name} = c.{name} + excluded.{name}" for name in _COUNTS)}
            )
            SELECT count(*) FROM gone""",
            before, limit,
        )
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- rows


def _values(found: FollowUp) -> list[object]:
    values = {column: getattr(found, column) for column in _COLUMNS}
    return list((values | {"explanation": explanation_json(found.explanation)}).values())


def _follow_up(row: Record) -> FollowUp:
    values: dict[str, Any] = dict(row)
    kinds = {
        "explanation": explanation_of(row["explanation"]),
        "state": State(row["state"]),
        "way": Way(row["way"]),
    }
    return FollowUp(**(values | kinds))


def _policy(row: Record) -> Policy:
    found: dict[str, Any] = json.loads(row["definition"])
    found |= {
        "title": Said(**found["title"]),
        "types": tuple(found["types"]),
        "zones": tuple(found["zones"]),
    }
    return Policy(name=row["name"], **found)
