"""Indicators, what they counted, and where their thresholds stand."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from services.management.warnings.model_indicator import (
    Aggregation,
    Bucket,
    Condition,
    Indicator,
    Said,
    Selector,
    Threshold,
    Watched,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection, Record

# The indicators of a node are read together, once per batch of facts.
INDICATORS_MAX = 500
# What nobody ever ended is forgotten after this.
STANDING_KEEP_DAYS = 366
PRUNE_BATCH_ROWS = 10_000

_COLUMNS = "name, version, definition, counted_since"


async def get(conn: Connection, name: str) -> Indicator | None:
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM indicators WHERE name = $1", name)
    return _indicator(row) if row else None


async def page(conn: Connection, *, after: str, limit: int) -> list[Indicator]:
    """Return indicators by name, those behind `after`."""
    query = f"SELECT {_COLUMNS} FROM indicators WHERE name > $1 ORDER BY name LIMIT $2"
    return [_indicator(row) for row in await conn.fetch(query, after, limit)]


async def put(
    conn: Connection, wanted: Indicator, *, actor: str, now: datetime
) -> tuple[Indicator, bool]:  # fmt: skip
    """Store an indicator as its next version unless it is as given already; return it, and if it changed.

    What was counted is dropped when the new version counts otherwise.
    """
    # Two who put at once take turns here; the number of indicators is checked by the caller.
    await conn.execute("SELECT pg_advisory_xact_lock(hashtext('indicators'))")
    present = await get(conn, wanted.name)
    if present is not None:
        wanted = replace(wanted, counted_since=present.counted_since)
        if replace(wanted, version=present.version) == present:
            return present, False
    anew = present is None or not present.counts_like(wanted)
    stored = replace(
        wanted,
        version=present.version + 1 if present else 1,
        counted_since=now if anew else wanted.counted_since,
    )
    await conn.execute(
        """INSERT INTO indicators (name, version, definition, counted_since, changed_by, changed_at)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO UPDATE SET version = excluded.version,
            definition = excluded.definition, counted_since = excluded.counted_since,
            changed_by = excluded.changed_by, changed_at = excluded.changed_at""",
        stored.name, stored.version, _definition(stored), stored.counted_since, actor, now,
    )  # fmt: skip
    if anew:
        for table in ("indicator_buckets", "indicator_standing"):
            await conn.execute(f"DELETE FROM {table} WHERE indicator = $1", stored.name)
    await _keep_thresholds(conn, stored)
    return stored, True


async def count(conn: Connection) -> int:
    return int(await conn.fetchval("SELECT count(*) FROM indicators"))


# ------------------------------------------------------------------------------------------------------------ counting


async def add(conn: Connection, indicator: str, at: datetime, zone: str, bucket: Bucket) -> None:
    """Add facts to the bucket of a step; of two latest values of one time the one that came last counts."""
    await conn.execute(
        """INSERT INTO indicator_buckets AS b (indicator, at, zone, facts, total, greatest, latest, latest_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (indicator, at, zone) DO UPDATE SET
            facts = b.facts + excluded.facts,
            total = b.total + excluded.total,
            greatest = greatest(b.greatest, excluded.greatest),
            latest = CASE WHEN excluded.latest_at >= b.latest_at THEN excluded.latest ELSE b.latest END,
            latest_at = greatest(b.latest_at, excluded.latest_at)""",
        indicator, at, zone, bucket.facts, bucket.total, bucket.greatest, bucket.latest, bucket.latest_at,
    )  # fmt: skip


async def buckets(
    conn: Connection, indicator: str, first: datetime, last: datetime, zones: Sequence[str]
) -> list[tuple[datetime, str, Bucket]]:
    """Return the buckets of the zones in the steps from `first` to `last`: step, zone, bucket."""
    rows = await conn.fetch(
        """SELECT at, zone, facts, total, greatest, latest, latest_at FROM indicator_buckets
        WHERE indicator = $1 AND at BETWEEN $2 AND $3 AND zone = ANY($4::text[])""",
        indicator, first, last, list(zones),
    )  # fmt: skip
    return [(row["at"], row["zone"], Bucket(*row[2:])) for row in rows]


async def stand(
    conn: Connection, indicator: str, key: str, zone: str, since: datetime, due_at: datetime | None
) -> None:
    """Note that a thing stands. A due time that is not given stays as it was."""
    await conn.execute(
        """INSERT INTO indicator_standing AS s (indicator, key, zone, since, due_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (indicator, key) DO UPDATE SET zone = excluded.zone,
            due_at = coalesce(excluded.due_at, s.due_at)""",
        indicator, key, zone, since, due_at,
    )  # fmt: skip


async def end(conn: Connection, indicator: str, key: str) -> None:
    await conn.execute("DELETE FROM indicator_standing WHERE indicator = $1 AND key = $2", indicator, key)


async def standing(conn: Connection, indicator: Indicator, now: datetime) -> dict[str, int]:
    """Return how many things stand by zone, each alone; with a due field only those past it."""
    rows = await conn.fetch(
        """SELECT zone, count(*) AS things FROM indicator_standing
        WHERE indicator = $1 AND (NOT $2 OR due_at < $3) GROUP BY zone""",
        indicator.name, bool(indicator.due_field), now,
    )  # fmt: skip
    return {row["zone"]: row["things"] for row in rows}


async def sample(conn: Connection, indicator: str, at: datetime, things: dict[str, int]) -> None:
    """Keep how many things stood in each zone at a minute, for the series, unless the minute has its sample already.

    When nothing stands anywhere the sample is one row of no zone.
    """
    kept = things or {"": 0}
    await conn.execute(
        """INSERT INTO indicator_buckets (indicator, at, zone, facts, total, greatest, latest, latest_at)
        SELECT $1, $2, zone, things, 0, 0, 0, $2 FROM unnest($3::text[], $4::bigint[]) AS given(zone, things)
        WHERE NOT EXISTS (SELECT FROM indicator_buckets WHERE indicator = $1 AND at = $2)""",
        indicator, at, list(kept), list(kept.values()),
    )  # fmt: skip


async def sampled(conn: Connection, indicator: str, first: datetime) -> list[datetime]:
    """Return the minutes since `first` at which an indicator of what stands was looked at, oldest first."""
    query = "SELECT DISTINCT at FROM indicator_buckets WHERE indicator = $1 AND at >= $2 ORDER BY at"
    return [row["at"] for row in await conn.fetch(query, indicator, first)]


async def prune(conn: Connection, indicator: str, oldest: datetime, longest_standing: datetime) -> int:
    """Delete up to PRUNE_BATCH_ROWS buckets from before `oldest`, and things older than `longest_standing`."""
    await conn.execute(
        "DELETE FROM indicator_standing WHERE indicator = $1 AND since < $2", indicator, longest_standing
    )
    gone = await conn.fetch(
        """DELETE FROM indicator_buckets WHERE ctid IN
            (SELECT ctid FROM indicator_buckets WHERE indicator = $1 AND at < $2 LIMIT $3) RETURNING 1""",
        indicator, oldest, PRUNE_BATCH_ROWS,
    )  # fmt: skip
    return len(gone)


# ---------------------------------------------------------------------------------------------------------- thresholds


async def watched(conn: Connection, indicator: str) -> dict[tuple[int, str], Watched]:
    """Return where the thresholds of an indicator stand, by level and zone."""
    rows = await conn.fetch(
        "SELECT level, zone, beyond_since, crossed FROM indicator_watched WHERE indicator = $1", indicator
    )
    return {(row["level"], row["zone"]): Watched(row["beyond_since"], row["crossed"]) for row in rows}


async def watch(conn: Connection, indicator: str, level: int, zone: str, now: Watched) -> None:
    await conn.execute(
        """INSERT INTO indicator_watched (indicator, level, zone, beyond_since, crossed) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (indicator, level, zone) DO UPDATE SET beyond_since = excluded.beyond_since,
            crossed = excluded.crossed""",
        indicator, level, zone, now.beyond_since, now.crossed,
    )  # fmt: skip


async def forget_crossing(conn: Connection, indicator: str, zone: str) -> None:
    """Take the thresholds of an indicator in a zone as not crossed."""
    await conn.execute("DELETE FROM indicator_watched WHERE indicator = $1 AND zone = $2", indicator, zone)


async def _keep_thresholds(conn: Connection, indicator: Indicator) -> None:
    """Forget where thresholds stand that are no more."""
    pairs = [(threshold.level, zone) for threshold in indicator.thresholds for zone in threshold.zones]
    await conn.execute(
        """DELETE FROM indicator_watched WHERE indicator = $1
        AND (level, zone) NOT IN (SELECT * FROM unnest($2::integer[], $3::text[]))""",
        indicator.name, [level for level, _ in pairs], [zone for _, zone in pairs],
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- rows


def _definition(indicator: Indicator) -> str:
    """Return an indicator without what stands in columns."""
    found = asdict(indicator)
    for column in ("name", "version", "counted_since"):
        del found[column]
    return json.dumps(found, ensure_ascii=False)


def _indicator(row: Record) -> Indicator:
    found: dict[str, Any] = json.loads(row["definition"])
    thresholds = tuple(
        Threshold(
            **{
                **each,
                "zones": tuple(each["zones"]),
                "headline": Said(**each["headline"]),
                "instruction": Said(**each["instruction"]),
            }
        )
        for each in found["thresholds"]
    )
    return Indicator(
        name=row["name"],
        version=row["version"],
        counted_since=row["counted_since"],
        title=Said(**found["title"]),
        unit=Said(**found["unit"]),
        facts=tuple(_selector(each) for each in found["facts"]),
        aggregation=Aggregation(found["aggregation"]),
        field=found["field"],
        window_minutes=found["window_minutes"],
        step_minutes=found["step_minutes"],
        ends=tuple(_selector(each) for each in found["ends"]),
        due_field=found["due_field"],
        thresholds=thresholds,
    )


def _selector(found: dict[str, Any]) -> Selector:
    return Selector(found["type"], tuple(Condition(**each) for each in found["where"]))
