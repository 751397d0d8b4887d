"""Contingency plans and their runs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from services.management.model import Explanation
from services.management.plans.model_plan import Change, ChangeKind, Plan, PlanStep, Run, Trigger
from services.management.store_rows import explanation_json
from services.management.warnings.model_indicator import Said

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from libs.db import Connection, Record

PLANS_MAX = 500
_PRESENT = "SELECT p.name, p.version, v.definition FROM plans p JOIN plan_versions v USING (name, version)"
_RUN = """SELECT r.name, r.zone, r.warning, r.explanation, r.plan, r.version, r.activated_at, v.definition
    FROM plan_runs r JOIN plan_versions v ON (v.name, v.version) = (r.plan, r.version)"""


async def get(conn: Connection, name: str) -> Plan | None:
    """Return the present version of a plan."""
    row = await conn.fetchrow(f"{_PRESENT} WHERE p.name = $1", name)
    return _plan(row["name"], row["version"], row["definition"]) if row else None


async def page(conn: Connection, *, after: str, limit: int) -> list[Plan]:
    """Return present versions by name, those behind `after`."""
    rows = await conn.fetch(f"{_PRESENT} WHERE p.name > $1 ORDER BY p.name LIMIT $2", after, limit)
    return [_plan(row["name"], row["version"], row["definition"]) for row in rows]


async def count(conn: Connection) -> int:
    return int(await conn.fetchval("SELECT count(*) FROM plans"))


async def put(conn: Connection, plan: Plan, *, actor: str, now: datetime) -> tuple[Plan, bool]:
    """Store a plan as its next version unless it is as given already; return it with its version, and if it changed."""
    await conn.execute("INSERT INTO plans (name, version) VALUES ($1, 0) ON CONFLICT DO NOTHING", plan.name)
    # Two who put the same plan at once take turns here.
    version = await conn.fetchval("SELECT version FROM plans WHERE name = $1 FOR UPDATE", plan.name)
    present = await get(conn, plan.name)
    if present is not None and present == replace(plan, version=version):
        return present, False
    stored = replace(plan, version=version + 1)
    await conn.execute(
        "INSERT INTO plan_versions (name, version, definition, changed_by, changed_at) VALUES ($1, $2, $3, $4, $5)",
        stored.name, stored.version, _definition(stored), actor, now,
    )  # fmt: skip
    await conn.execute("UPDATE plans SET version = $2 WHERE name = $1", stored.name, stored.version)
    return stored, True


# ---------------------------------------------------------------------------------------------------------------- runs


async def activate(conn: Connection, run: Run) -> bool:
    """Store a run with its first change; return False when the plan has answered the warning already."""
    stored = await conn.fetchval(
        """INSERT INTO plan_runs (name, zone, plan, version, warning, explanation, activated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (plan, warning) WHERE warning <> ''
        DO NOTHING RETURNING true""",
        run.name, run.zone, run.plan.name, run.plan.version, run.warning, explanation_json(run.explanation),
        run.changes[0].at,
    )  # fmt: skip
    if stored:
        await add(conn, run.name, run.changes[0])
    return bool(stored)


async def add(conn: Connection, run: str, change: Change) -> None:
    """Add the next change to a run, whose row is locked."""
    await conn.execute(
        """INSERT INTO plan_changes (run, number, at, kind, step, actor, note, directive)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)""",
        run, change.number, change.at, change.kind, change.step, change.actor, change.note, change.directive,
    )  # fmt: skip


async def get_run(conn: Connection, name: str, *, lock: bool = False) -> Run | None:
    """Return a run with all its changes; with `lock` nobody else changes it until the end of the transaction."""
    row = await conn.fetchrow(f"{_RUN} WHERE r.name = $1 {'FOR UPDATE OF r' if lock else ''}", name)
    if row is None:
        return None
    return (await _with_changes(conn, [row]))[0]


async def runs(
    conn: Connection, zones: Sequence[str], *, after: tuple[datetime, str] | None, limit: int
) -> list[Run]:  # fmt: skip
    """Return the runs of zones, newest first, behind `after`."""
    time, name = after or (None, None)
    rows = await conn.fetch(
        f"""{_RUN} WHERE r.zone = ANY($1::text[])
            AND ($2::timestamptz IS NULL OR (r.activated_at, r.name) < ($2, $3))
        ORDER BY r.activated_at DESC, r.name DESC LIMIT $4""",
        list(zones), time, name, limit,
    )  # fmt: skip
    return await _with_changes(conn, rows)


async def _with_changes(conn: Connection, rows: Sequence[Record]) -> list[Run]:
    found = await conn.fetch(
        """SELECT run, number, at, kind, actor, step, note, directive FROM plan_changes WHERE run = ANY($1::text[])
        ORDER BY run, number""",
        [row["name"] for row in rows],
    )
    changes: dict[str, list[Change]] = {row["name"]: [] for row in rows}
    for row in found:
        number, at, kind, *said = tuple(row)[1:]
        changes[row["run"]].append(Change(number, at, ChangeKind(kind), *said))
    return [
        Run(
            name=row["name"],
            zone=row["zone"],
            plan=_plan(row["plan"], row["version"], row["definition"]),
            changes=tuple(changes[row["name"]]),
            warning=row["warning"],
            explanation=Explanation(**json.loads(row["explanation"])) if row["explanation"] else None,
        )
        for row in rows
    ]


# ---------------------------------------------------------------------------------------------------------------- rows


def _definition(plan: Plan) -> str:
    """Return a plan without its name and version, which are columns."""
    found = asdict(plan)
    del found["name"], found["version"]
    return json.dumps(found, ensure_ascii=False)


def _plan(name: str, version: int, definition: str) -> Plan:
    found: dict[str, Any] = json.loads(definition)
    trigger = found["trigger"]
    return Plan(
        name=name,
        version=version,
        title=Said(**found["title"]),
        level=found["level"],
        steps=tuple(_step(step) for step in found["steps"]),
        trigger=Trigger(trigger["category"], tuple(trigger["zones"])) if trigger else None,
        retired=found["retired"],
    )


def _step(found: dict[str, Any]) -> PlanStep:
    return PlanStep(
        **{
            **found,
            "title": Said(**found["title"]),
            "instruction": Said(**found["instruction"]),
            "after": tuple(found["after"]),
            "resources": tuple(Said(**each) for each in found["resources"]),
        }
    )
