"""Work lists: pages by keyset, counts, and which of some events are in a list.

Lists hold open events only, for which there are partial indexes in each order (see the migration). A walk along one
ends when the page is full; what is passed over is passed over inside the index. So a page costs little for who sees
much, and never more than a look at the index entries of all open events for who sees next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from services.management.store_rows import EVENT_SELECTED, event_of, of_component
from services.management.worklists.model import Branch, Filter, Order

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from libs.access import Visibility
    from libs.db import Connection
    from services.management.model import Event

_KEYS = {
    Order.DUE: ("due_order", ">", "ASC"),
    Order.NEWEST: ("opened_at", "<", "DESC"),
    Order.OLDEST: ("opened_at", ">", "ASC"),
    Order.STEP_DUE: ("step_due_order", ">", "ASC"),
}
_LIKE_SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\%_"})


@dataclass(frozen=True, slots=True)
class Work:
    """One list at one moment: the events that lie in any of the branches and pass the filter."""

    branches: tuple[Branch, ...]
    filter: Filter
    node: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers of a list; `due_today` are due from now to the end of the day."""

    by_state: dict[str, int]
    overdue: int
    due_today: int
    unassigned: int

    @property
    def total(self) -> int:
        return sum(self.by_state.values())


Row = tuple["datetime", "Event"]  # what the list is ordered by, and the event


async def list_work(
    conn: Connection, work: Work, order: Order, *, after: tuple[datetime, int] | None, limit: int
) -> list[Row]:
    """Return events in order, those behind `after` (the time that the order goes by, id)."""
    if not work.branches:
        return []
    key, behind, direction = _KEYS[order]
    values = _Values()
    ordered = f"ORDER BY e.{key} {direction}, e.id {direction} LIMIT {values(limit)}"
    following = f" AND (e.{key}, e.id) {behind} ({values(after[0])}, {values(after[1])})" if after else ""
    shared = _filtered(work, values)
    heads = " UNION ".join(
        f"(SELECT e.id, e.{key} FROM events e WHERE {shared}{_within(branch, values)}{following} {ordered})"
        for branch in work.branches
    )
    rows = await conn.fetch(
        f"""SELECT {EVENT_SELECTED}, e.{key} AS key FROM (SELECT e.id FROM ({heads}) AS e {ordered}) AS page
        JOIN events e USING (id) ORDER BY e.{key} {direction}, e.id {direction}""",
        *values.given,
    )
    return [(row["key"], event_of(row)) for row in rows]


async def count_work(conn: Connection, work: Work, day_end: datetime) -> Counts:
    """Count a list exactly. `day_end` is the end of the present day."""
    if not work.branches:
        return Counts({}, 0, 0, 0)
    values = _Values()
    now, end = values(work.now, "timestamptz"), values(day_end, "timestamptz")
    shared = _filtered(work, values)
    # UNION rather than UNION ALL: an event may lie in several branches.
    counted = " UNION ".join(
        f"SELECT e.id, e.status, e.due_order, e.assignee FROM events e WHERE {shared}{_within(branch, values)}"
        for branch in work.branches
    )
    rows = await conn.fetch(
        f"""SELECT status, count(*) AS events, count(*) FILTER (WHERE due_order < {now}) AS overdue,
            count(*) FILTER (WHERE due_order >= {now} AND due_order < {end}) AS due_today,
            count(*) FILTER (WHERE assignee = '') AS unassigned
        FROM ({counted}) AS counted GROUP BY status ORDER BY status""",
        *values.given,
    )
    return Counts(
        {row["status"]: row["events"] for row in rows},
        *(sum(row[column] for row in rows) for column in ("overdue", "due_today", "unassigned")),
    )


async def members(conn: Connection, work: Work, *, limit: int) -> list[int]:
    """Return the ids of a list, in no order, at most `limit`."""
    if not work.branches:
        return []
    values = _Values()
    shared = _filtered(work, values)
    found = " UNION ".join(
        f"SELECT e.id FROM events e WHERE {shared}{_within(branch, values)}" for branch in work.branches
    )
    rows = await conn.fetch(f"SELECT id FROM ({found}) AS found LIMIT {values(limit)}", *values.given)
    return [row["id"] for row in rows]


async def among(conn: Connection, work: Work, ids: Sequence[int]) -> list[Event]:
    """Return those of some events that are in a list."""
    if not work.branches:
        return []
    values = _Values()
    shared = _filtered(work, values)
    anywhere = " OR ".join(f"(TRUE{_within(branch, values)})" for branch in work.branches)
    rows = await conn.fetch(
        f"SELECT {EVENT_SELECTED} FROM events e WHERE e.id = ANY({values(list(ids))}::bigint[]) AND {shared}"
        f" AND ({anywhere})",
        *values.given,
    )
    return [event_of(row) for row in rows]


async def due_between(conn: Connection, work: Work, since: datetime, *, limit: int) -> list[int]:
    """Return the ids of what came into a list only because it became due, after `since` until now, at most `limit`."""
    if not work.branches:
        return []
    values = _Values()
    shared = _filtered(work, values) + f" AND e.due_order >= {values(since)}"
    found = " UNION ".join(
        f"SELECT e.id FROM events e WHERE {shared}{_within(branch, values)}" for branch in work.branches
    )
    rows = await conn.fetch(f"SELECT id FROM ({found}) AS found LIMIT {values(limit)}", *values.given)
    return [row["id"] for row in rows]


class _Values:
    """The parameters of a statement, in the order in which they are given."""

    def __init__(self) -> None:
        self.given: list[object] = []

    def __call__(self, value: object, kind: str = "") -> str:
        self.given.append(value)
        return f"${len(self.given)}" + (f"::{kind}" if kind else "")


def _filtered(work: Work, values: _Values) -> str:
    """Return the conditions that hold for every branch; the first is that of the partial indexes."""
    wanted = work.filter
    found = ["e.closed_at IS NULL"]
    if not wanted.mirrored:
        found.append(f"e.node = {values(work.node)}")
    if wanted.states:
        found.append(f"e.status = ANY({values(list(wanted.states), 'text[]')})")
    if wanted.types:
        found.append(f"e.type = ANY({values(list(wanted.types), 'text[]')})")
    found.extend(f"e.assignee = {values(assignee)}" for assignee in wanted.assignees)
    if wanted.overdue:
        found.append(f"e.due_order < {values(work.now)}")
    if wanted.due_before is not None:
        found.append(f"e.due_order < {values(wanted.due_before)}")
    if wanted.component:
        condition, value = of_component(wanted.component)
        found.append(condition.format(values(value)))
    if wanted.title:
        found.append(f"e.title ILIKE {values('%' + wanted.title.translate(_LIKE_SPECIAL) + '%')}")
    return " AND ".join(found)


def _within(branch: Branch, values: _Values) -> str:
    """Return the conditions of a branch, each with AND before it."""
    found: list[str] = []
    if branch.zones is not None:
        found.append(f"e.zone = ANY({values(sorted(branch.zones), 'text[]')})")
    if branch.organisations is not None:
        found.append(f"e.organisation = ANY({values(sorted(branch.organisations), 'text[]')})")
    if branch.states is not None:
        loops, versions, states = (sorted(set(column)) for column in zip(*branch.states, strict=True))
        found.append(f"e.status = ANY({values(states, 'text[]')})")
        found.append(f"e.loop = ANY({values(loops, 'text[]')})")
        if len(branch.states) < len(loops) * len(states) or len(versions) > 1:
            columns = [list(column) for column in zip(*sorted(branch.states), strict=True)]
            kinds = zip(columns, ("text[]", "int[]", "text[]"), strict=True)
            given = ", ".join(values(column, kind) for column, kind in kinds)
            found.append(f"(e.loop, e.loop_version, e.status) IN (SELECT * FROM unnest({given}))")
    if branch.supporters:
        found.append("e.shares > 0")
        found.extend(
            f"e.supporters && {values(sorted(whose), 'text[]')}" for whose in sorted(map(sorted, branch.supporters))
        )
    return "".join(f" AND {condition}" for condition in found)


async def names_of(conn: Connection, ids: Collection[int]) -> list[str]:
    """Return the names of some events."""
    rows = await conn.fetch("SELECT name FROM events WHERE id = ANY($1::bigint[])", list(ids))
    return [row["name"] for row in rows]


async def once_seen(conn: Connection, ids: Collection[int], zones: Collection[str], visible: Visibility) -> list[str]:
    """Return the names of those of some events in the zones that the caller may see, or could at an earlier step."""
    values = _Values()
    first = f"e.id = ANY({values(list(ids))}::bigint[]) AND e.zone = ANY({values(list(zones))}::text[])"
    conditions = []
    for organisation in ("e.handlers[]", "s.organisation"):
        condition, given = visible.clause(len(values.given) + 1, zone="e.zone", organisation=organisation)
        values.given.extend(given)
        conditions.append(condition)
    now, earlier = conditions
    rows = await conn.fetch(
        f"""SELECT e.name FROM events e WHERE {first} AND ({now} OR EXISTS (
            SELECT FROM event_steps s WHERE s.event_id = e.id AND {earlier}
        ))""",
        *values.given,
    )
    return [row["name"] for row in rows]
