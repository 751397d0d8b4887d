"""Lists of events and of their steps, by keyset and narrowed to what the caller may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.management.model_component import Component
from services.management.store_rows import EVENT_SELECTED, STEP_SELECTED, event_of, of_component, step_of

if TYPE_CHECKING:
    from datetime import datetime

    from libs.access import Visibility
    from libs.db import Connection
    from services.management.model import Event, Step


@dataclass(frozen=True, slots=True)
class Query:
    """Which events are listed. `zones` always narrows; the others when not empty."""

    zones: tuple[str, ...]
    status: str = ""
    type: str = ""
    organisation: str = ""
    request: str = ""
    node: str = ""
    component: Component | None = None  # without a code: all of its type


_NEWEST = "ORDER BY e.opened_at DESC, e.id DESC LIMIT $3"


async def list_events(
    conn: Connection, query: Query, visible: Visibility, *, after: tuple[datetime, int] | None, limit: int
) -> list[Event]:
    """Return events that the caller may see, newest first, those behind `after` (opened_at, id).

    The list is merged from the newest of each zone or, where only organisations count, of each organisation: each is a
    walk along an index that ends after `limit` rows, however many events there are.
    """
    organisations = _organisations(query, visible)
    values: list[object] = [list(query.zones), organisations, limit]
    where = " AND ".join(_conditions(query, visible, after, values))
    walk = f"SELECT e.id, e.opened_at FROM events e WHERE {where}"
    if organisations:
        heads = f"""SELECT p.* FROM unnest($2::text[]) AS k (key) CROSS JOIN LATERAL (
            {walk} AND e.zone = ANY($1::text[]) AND e.organisation <> '' AND e.organisation = k.key {_NEWEST}
        ) AS p"""
        if not query.organisation:  # what they only have a share of
            heads = f"""{heads} UNION (
                {walk} AND e.zone = ANY($1::text[]) AND e.shares > 0 AND e.supporters && $2::text[] {_NEWEST}
            )"""
    else:
        heads = f"""SELECT p.* FROM unnest($1::text[]) AS k (key) CROSS JOIN LATERAL (
            {walk} AND $2::text[] IS NOT NULL AND e.zone = k.key {_NEWEST}
        ) AS p"""
    rows = await conn.fetch(
        f"""SELECT {EVENT_SELECTED} FROM (SELECT e.id FROM ({heads}) AS e {_NEWEST}) AS page JOIN events e USING (id)
        ORDER BY e.opened_at DESC, e.id DESC""",
        *values,
    )
    return [event_of(row) for row in rows]


def _organisations(query: Query, visible: Visibility) -> list[str]:
    """Return the organisations that bound the list: the one asked for, or the caller's where zones do not count."""
    if query.organisation:
        return [query.organisation]
    if visible.everything or visible.zones:
        return []
    pairs = (organisation for organisation, _ in visible.organisation_zones)
    return list(dict.fromkeys((*visible.organisation_everywhere, *pairs)))


def _conditions(
    query: Query, visible: Visibility, after: tuple[datetime, int] | None, values: list[object]
) -> list[str]:
    """Return what narrows the list, and add its parameters to `values`."""
    conditions: list[str] = []
    given: tuple[tuple[str, tuple[object, ...] | None], ...] = (
        ("e.status = {}", (query.status,) if query.status else None),
        ("e.type = {}", (query.type,) if query.type else None),
        ("e.node = {}", (query.node,) if query.node else None),
        ("e.id = (SELECT event_id FROM event_reports WHERE source = {})", (query.request,) if query.request else None),
        ("(e.opened_at, e.id) < ({}, {})", after),
    )
    if query.component:
        condition, value = of_component(query.component)
        given = ((condition, (value,)), *given)
    for condition, parameters in given:
        if parameters:
            first = len(values) + 1
            conditions.append(condition.format(*(f"${first + place}" for place in range(len(parameters)))))
            values.extend(parameters)
    seen, seen_values = visible.clause(len(values) + 1, zone="e.zone", organisation="e.handlers[]")
    values.extend(seen_values)
    return [*conditions, seen]


async def list_steps(conn: Connection, event_id: int, *, after: int, limit: int) -> list[Step]:
    """Return the steps of an event, oldest first, those behind revision `after`."""
    rows = await conn.fetch(
        f"""SELECT {STEP_SELECTED} FROM event_steps WHERE event_id = $1 AND revision > $2
        ORDER BY revision LIMIT $3""",
        event_id, after, limit,
    )  # fmt: skip
    return [step_of(row) for row in rows]
