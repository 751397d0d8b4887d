"""Warnings, and what rules watch, in PostgreSQL."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from services.perception.model import Text, Verdict, Warned, WarningState
from services.perception.model_alarm import Watch
from services.perception.model_judge import Watching
from services.perception.store import point_of, thresholds_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.access import Visibility
    from libs.db import Connection, Record

_WARNING = """w.name, w.zone, w.rule, w.device, w.organisation, w.indicator, w.level, w.state, w.since, w.raised_at,
    w.ended_at, w.value, w.peak, w.reason_zh, w.reason_en, w.inputs, w.event_type, w.verdict, w.latitude, w.longitude"""

# ------------------------------------------------------------------------------------------------------------- watches


async def load_watches(conn: Connection, series: Sequence[int]) -> dict[int, dict[str, Watching]]:
    """Return what rules watch in locked series: by series, then by rule. `watch.last` is left to the series."""
    rows = await conn.fetch(
        """SELECT series, rule, revision, comparison, raise_at, clear_at, minimum_duration_s, since, first_value, peak,
            readings, warning FROM watches WHERE series = ANY($1::int[])""",
        series,
    )
    names = [row["warning"] for row in rows if row["warning"] is not None]
    running = {warning.name: warning for warning in await _by_name(conn, names)} if names else {}
    found: dict[int, dict[str, Watching]] = {}
    for row in rows:
        warning = running.get(row["warning"])
        watch = Watch(
            since=row["since"],
            first=row["first_value"],
            peak=row["peak"],
            readings=row["readings"],
            raised=warning is not None,
        )
        watching = Watching(row["rule"], row["revision"], thresholds_of(row), watch, warning)
        found.setdefault(row["series"], {})[row["rule"]] = watching
    return found


async def save_watches(conn: Connection, watches: Sequence[tuple[int, Watching]]) -> None:
    """Store what rules watch in locked series."""
    await conn.executemany(
        """INSERT INTO watches (series, rule, revision, comparison, raise_at, clear_at, minimum_duration_s, since,
            first_value, peak, readings, warning)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        ON CONFLICT (series, rule) DO UPDATE SET revision = excluded.revision, comparison = excluded.comparison,
            raise_at = excluded.raise_at, clear_at = excluded.clear_at,
            minimum_duration_s = excluded.minimum_duration_s, since = excluded.since,
            first_value = excluded.first_value, peak = excluded.peak, readings = excluded.readings,
            warning = excluded.warning""",
        [
            (
                series, one.rule, one.revision, one.thresholds.comparison, one.thresholds.raise_at,
                one.thresholds.clear_at, round(one.thresholds.minimum_duration.total_seconds()), one.watch.since,
                one.watch.first, one.watch.peak, one.watch.readings, one.warning.name if one.warning else None,
            )
            for series, one in watches
        ],
    )  # fmt: skip


async def forget_watches(conn: Connection, watches: Sequence[tuple[int, str]]) -> None:
    """Drop (series, rule) pairs."""
    await conn.execute(
        """DELETE FROM watches w USING unnest($1::int[], $2::text[]) AS gone(series, rule)
        WHERE w.series = gone.series AND w.rule = gone.rule""",
        [series for series, _ in watches],
        [rule for _, rule in watches],
    )


# ------------------------------------------------------------------------------------------------------------ warnings


async def insert_warnings(conn: Connection, warnings: Sequence[Warned]) -> None:
    await conn.executemany(
        """INSERT INTO warnings (name, zone, rule, device, organisation, indicator, level, state, since, raised_at,
            ended_at, value, peak, reason_zh, reason_en, inputs, event_type, verdict, latitude, longitude)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)""",
        [
            (
                one.name, one.zone, one.rule, one.device, one.organisation, one.indicator, one.level, one.state,
                one.since, one.raised_at, one.ended_at, one.value, one.peak, one.reason.zh, one.reason.en,
                json.dumps(one.inputs), one.event_type, one.verdict, one.point and one.point.latitude,
                one.point and one.point.longitude,
            )
            for one in warnings
        ],
    )  # fmt: skip


async def update_warnings(conn: Connection, warnings: Sequence[Warned]) -> None:
    """Store state, end and peak; what people said of a warning meanwhile stays."""
    await conn.executemany(
        "UPDATE warnings SET state = $2, ended_at = $3, peak = $4 WHERE name = $1",
        [(one.name, one.state, one.ended_at, one.peak) for one in warnings],
    )


async def get_warning(conn: Connection, name: str) -> Warned | None:
    row = await conn.fetchrow(f"SELECT {_WARNING} FROM warnings w WHERE w.name = $1", name)
    return _warning(row) if row else None


async def lock_warning(conn: Connection, name: str) -> Warned | None:
    row = await conn.fetchrow(f"SELECT {_WARNING} FROM warnings w WHERE w.name = $1 FOR NO KEY UPDATE", name)
    return _warning(row) if row else None


async def set_verdict(conn: Connection, name: str, verdict: Verdict) -> None:
    await conn.execute("UPDATE warnings SET verdict = $2 WHERE name = $1", name, verdict)


async def list_warnings(
    conn: Connection,
    zones: Sequence[str],
    visibility: Visibility,
    *,
    state: WarningState | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Warned]:
    """Return the visible warnings in `zones`, newest first."""
    clause, values = visibility.clause(6, zone="w.zone", organisation="w.organisation")
    time, name = after or (None, None)
    rows = await conn.fetch(
        f"""SELECT {_WARNING} FROM warnings w
        WHERE w.zone = ANY($1::text[]) AND ($2::smallint IS NULL OR w.state = $2)
            AND ($3::timestamptz IS NULL OR (w.raised_at, w.name) < ($3, $4::text)) AND {clause}
        ORDER BY w.raised_at DESC, w.name DESC LIMIT $5""",
        zones, state, time, name, limit, *values,
    )  # fmt: skip
    return [_warning(row) for row in rows]


async def _by_name(conn: Connection, names: Sequence[str]) -> list[Warned]:
    rows = await conn.fetch(f"SELECT {_WARNING} FROM warnings w WHERE w.name = ANY($1::text[])", names)
    return [_warning(row) for row in rows]


def _warning(row: Record) -> Warned:
    return Warned(
        name=row["name"],
        zone=row["zone"],
        rule=row["rule"],
        device=row["device"],
        organisation=row["organisation"],
        indicator=row["indicator"],
        level=row["level"],
        state=WarningState(row["state"]),
        since=row["since"],
        raised_at=row["raised_at"],
        ended_at=row["ended_at"],
        value=row["value"],
        peak=row["peak"],
        reason=Text(row["reason_zh"], row["reason_en"]),
        inputs=json.loads(row["inputs"]),
        event_type=row["event_type"],
        verdict=Verdict(row["verdict"]),
        point=point_of(row),
    )
