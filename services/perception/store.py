"""Device models, devices and rules in PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from libs import db
from libs.errors import AlreadyExists, Reason
from services.perception.model import Comparison, Device, DeviceModel, Indicator, Point, Rule, Text, Thresholds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.access import Visibility
    from libs.db import Connection, Record

_DEVICE = """d.name, d.zone, d.id, d.model, d.title_zh, d.title_en, d.latitude, d.longitude, d.organisation,
    (SELECT max(s.seen_at) FROM series s WHERE s.device = d.number) AS last_seen"""
_RULE = """name, title_zh, title_en, zone, indicator, comparison, raise_at, clear_at, minimum_duration_s, level,
    event_type, disabled, revision, true_alarms, false_alarms"""

# ------------------------------------------------------------------------------------------------------- device models


async def lock_model(conn: Connection, name: str) -> DeviceModel | None:
    """Return the model, locked against changes and against new devices of it; None when there is none."""
    row = await conn.fetchrow("SELECT name, title_zh, title_en FROM device_models WHERE name = $1 FOR UPDATE", name)
    if row is None:
        return None
    return DeviceModel(row["name"], _text(row), (await _indicators(conn, [name])).get(name, ()))


async def put_model(conn: Connection, model: DeviceModel) -> None:
    """Create or replace a model; its devices get series for indicators that are new."""
    await conn.execute(
        """INSERT INTO device_models (name, title_zh, title_en) VALUES ($1, $2, $3)
        ON CONFLICT (name) DO UPDATE SET title_zh = excluded.title_zh, title_en = excluded.title_en""",
        model.name, model.title.zh, model.title.en,
    )  # fmt: skip
    await conn.execute("DELETE FROM indicators WHERE model = $1", model.name)
    await conn.executemany(
        """INSERT INTO indicators (model, code, place, title_zh, title_en, unit, minimum, maximum)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)""",
        [
            (model.name, one.code, place, one.title.zh, one.title.en, one.unit, one.minimum, one.maximum)
            for place, one in enumerate(model.indicators)
        ],
    )
    await _add_series(conn, "d.model = $1", model.name)


async def list_models(conn: Connection, *, after: str | None, limit: int) -> list[DeviceModel]:
    rows = await conn.fetch(
        """SELECT name, title_zh, title_en FROM device_models WHERE $1::text IS NULL OR name > $1
        ORDER BY name LIMIT $2""",
        after, limit,
    )  # fmt: skip
    indicators = await _indicators(conn, [row["name"] for row in rows])
    return [DeviceModel(row["name"], _text(row), indicators.get(row["name"], ())) for row in rows]


async def has_model(conn: Connection, name: str) -> bool:
    """Say whether the model exists, and keep it as it is until the end of the transaction."""
    return bool(await conn.fetchval("SELECT true FROM device_models WHERE name = $1 FOR SHARE", name))


async def is_measured(conn: Connection, indicator: str) -> bool:
    """Say whether any model measures the indicator."""
    return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM indicators WHERE code = $1)", indicator))


async def _indicators(conn: Connection, models: Sequence[str]) -> dict[str, tuple[Indicator, ...]]:
    rows = await conn.fetch(
        """SELECT model, code, title_zh, title_en, unit, minimum, maximum FROM indicators
        WHERE model = ANY($1::text[]) ORDER BY model, place""",
        models,
    )
    found: dict[str, tuple[Indicator, ...]] = {}
    for row in rows:
        one = Indicator(row["code"], _text(row), row["unit"], row["minimum"], row["maximum"])
        found[row["model"]] = (*found.get(row["model"], ()), one)
    return found


# ------------------------------------------------------------------------------------------------------------- devices


async def lock_device(conn: Connection, name: str) -> Device | None:
    row = await conn.fetchrow(f"SELECT {_DEVICE} FROM devices d WHERE d.name = $1 FOR UPDATE OF d", name)
    return _device(row) if row else None


async def get_device(conn: Connection, name: str) -> Device | None:
    row = await conn.fetchrow(f"SELECT {_DEVICE} FROM devices d WHERE d.name = $1", name)
    return _device(row) if row else None


async def put_device(conn: Connection, device: Device) -> None:
    """Create or replace a device, with a series for every indicator of its model.

    Raises AlreadyExists when its id is that of a device in another zone.
    """
    taken = AlreadyExists(Reason.DEVICE_ID_TAKEN, f"another device of this node is called {device.id}", id=device.id)
    point = device.point
    with db.violations({"devices_id_key": taken}):
        await conn.execute(
            """INSERT INTO devices (name, zone, id, model, title_zh, title_en, latitude, longitude, organisation)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            ON CONFLICT (name) DO UPDATE SET model = excluded.model, title_zh = excluded.title_zh,
                title_en = excluded.title_en, latitude = excluded.latitude, longitude = excluded.longitude,
                organisation = excluded.organisation""",
            device.name, device.zone, device.id, device.model, device.title.zh, device.title.en,
            point and point.latitude, point and point.longitude, device.organisation,
        )  # fmt: skip
    await _add_series(conn, "d.name = $1", device.name)


async def list_devices(
    conn: Connection, zones: Sequence[str], visibility: Visibility, *, after: str | None, limit: int
) -> list[Device]:
    """Return the visible devices in `zones` by name."""
    clause, values = visibility.clause(4, zone="d.zone", organisation="d.organisation")
    rows = await conn.fetch(
        f"""SELECT {_DEVICE} FROM devices d
        WHERE d.zone = ANY($1::text[]) AND ($2::text IS NULL OR d.name > $2) AND {clause}
        ORDER BY d.name LIMIT $3""",
        zones, after, limit, *values,
    )  # fmt: skip
    return [_device(row) for row in rows]


async def device_names(conn: Connection, ids: Sequence[str]) -> dict[str, str]:
    """Return the names of the devices with these ids; unknown ids are missing."""
    rows = await conn.fetch("SELECT id, name FROM devices WHERE id = ANY($1::text[])", ids)
    return {row["id"]: row["name"] for row in rows}


async def _add_series(conn: Connection, which: str, value: str) -> None:
    await conn.execute(
        f"""INSERT INTO series (device, indicator)
        SELECT d.number, i.code FROM devices d JOIN indicators i ON i.model = d.model
        WHERE {which} ORDER BY 1, 2 ON CONFLICT DO NOTHING""",
        value,
    )


def _device(row: Record) -> Device:
    return Device(
        name=row["name"],
        zone=row["zone"],
        id=row["id"],
        model=row["model"],
        title=_text(row),
        point=point_of(row),
        organisation=row["organisation"],
        last_seen=row["last_seen"],
    )


# --------------------------------------------------------------------------------------------------------------- rules


async def lock_rule(conn: Connection, name: str) -> Rule | None:
    row = await conn.fetchrow(f"SELECT {_RULE} FROM rules WHERE name = $1 FOR NO KEY UPDATE", name)
    return _rule(row) if row else None


async def put_rule(conn: Connection, rule: Rule) -> None:
    """Create or replace a rule; its counters stay."""
    limits = rule.thresholds
    await conn.execute(
        """INSERT INTO rules (name, title_zh, title_en, zone, indicator, comparison, raise_at, clear_at,
            minimum_duration_s, level, event_type, disabled)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        ON CONFLICT (name) DO UPDATE SET title_zh = excluded.title_zh, title_en = excluded.title_en,
            zone = excluded.zone, indicator = excluded.indicator, comparison = excluded.comparison,
            raise_at = excluded.raise_at, clear_at = excluded.clear_at,
            minimum_duration_s = excluded.minimum_duration_s, level = excluded.level,
            event_type = excluded.event_type, disabled = excluded.disabled, revision = rules.revision + 1""",
        rule.name, rule.title.zh, rule.title.en, rule.zone, rule.indicator, limits.comparison, limits.raise_at,
        limits.clear_at, round(limits.minimum_duration.total_seconds()), rule.level, rule.event_type, rule.disabled,
    )  # fmt: skip


async def list_rules(conn: Connection, visibility: Visibility, *, after: str | None, limit: int) -> list[Rule]:
    """Return the rules over visible zones by name."""
    clause, values = visibility.clause(3)
    rows = await conn.fetch(
        f"""SELECT {_RULE} FROM rules WHERE ($1::text IS NULL OR name > $1) AND {clause} ORDER BY name LIMIT $2""",
        after, limit, *values,
    )  # fmt: skip
    return [_rule(row) for row in rows]


async def rules_for(conn: Connection, indicators: Sequence[str]) -> list[Rule]:
    """Return the enabled rules over these indicators, of all zones."""
    rows = await conn.fetch(f"SELECT {_RULE} FROM rules WHERE indicator = ANY($1::text[]) AND NOT disabled", indicators)
    return [_rule(row) for row in rows]


async def count_alarms(conn: Connection, rule: str, *, true: int, false: int) -> None:
    """Add to the counters of a rule."""
    await conn.execute(
        "UPDATE rules SET true_alarms = true_alarms + $2, false_alarms = false_alarms + $3 WHERE name = $1",
        rule, true, false,
    )  # fmt: skip


def thresholds_of(row: Record) -> Thresholds:
    return Thresholds(
        Comparison(row["comparison"]), row["raise_at"], row["clear_at"], timedelta(seconds=row["minimum_duration_s"])
    )


def _rule(row: Record) -> Rule:
    return Rule(
        name=row["name"],
        title=_text(row),
        zone=row["zone"],
        indicator=row["indicator"],
        thresholds=thresholds_of(row),
        level=row["level"],
        event_type=row["event_type"],
        disabled=row["disabled"],
        revision=row["revision"],
        true_alarms=row["true_alarms"],
        false_alarms=row["false_alarms"],
    )


def _text(row: Record) -> Text:
    return Text(row["title_zh"], row["title_en"])


def point_of(row: Record) -> Point | None:
    return None if row["latitude"] is None else Point(row["latitude"], row["longitude"])
