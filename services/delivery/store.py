"""Requests in PostgreSQL."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from libs.zones import Doubt
from services.delivery.model import Component, Place, Request, Status

if TYPE_CHECKING:
    from datetime import datetime

    from libs.access import Visibility
    from libs.db import Connection, Record

_COLUMNS = """id, number, zone, type, description, place, channel, reporter, contact, external_id, reported_at,
    filed_at, flags, status, event, merged, event_status, event_revision, organisation, due_at, answer, linked_at,
    linked_revision, linked_status, linked_event_status, linked_organisation, linked_moves, rating, rating_comment,
    component"""


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list of requests is narrowed to; an empty value narrows nothing."""

    status: Status | None = None
    flagged_only: bool = False
    number: str = ""


async def add(conn: Connection, request: Request) -> bool:
    """Keep a new request. Returns False when its number, or its external id for this reporter, is taken."""
    added = await conn.fetchval(
        """INSERT INTO requests (id, number, zone, type, description, place, channel, reporter, contact, external_id,
            reported_at, filed_at, flags, status, component)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        ON CONFLICT DO NOTHING RETURNING true""",
        request.id, request.number, request.zone, request.type, request.description, _text(request.place),
        request.channel, request.reporter, request.contact, request.external_id, request.reported_at, request.filed_at,
        json.dumps([asdict(flag) for flag in request.flags]), request.status,
        _text(request.component),
    )  # fmt: skip
    return added is not None


async def get(conn: Connection, zone: str, request_id: str, *, lock: bool = False) -> Request | None:
    """Return a request by the parts of its name; with `lock` held until the end of the transaction."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM requests WHERE id = $1 AND zone = $2 {'FOR UPDATE' if lock else ''}",
        request_id,
        zone,
    )
    return _request(row) if row else None


async def find(conn: Connection, reporter: str, external_id: str) -> Request | None:
    """Return the request that the reporter filed under this number of another system."""
    if not external_id:
        return None
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM requests WHERE reporter = $1 AND external_id = $2 AND external_id <> ''",
        reporter,
        external_id,
    )
    return _request(row) if row else None


async def list_requests(
    conn: Connection, visibility: Visibility, narrow: Filter, after: tuple[datetime, str] | None, limit: int
) -> list[Request]:
    """Return the newest requests that may be seen, from behind `after` = (filed_at, id) on, at most `limit`."""
    condition, values = visibility.clause(1, zone="zone", organisation="organisation", owner="reporter")
    conditions = [condition]

    def parameter(value: object) -> str:
        values.append(value)
        return f"${len(values)}"

    if narrow.status is not None:
        conditions.append(f"status = {parameter(narrow.status)}")
    if narrow.flagged_only:
        conditions.append("flags <> '[]'::jsonb")
    if narrow.number:
        conditions.append(f"number = {parameter(narrow.number)}")
    if after is not None:
        time, last_id = parameter(after[0]), parameter(after[1])
        conditions.append(f"(filed_at, id) < ({time}::timestamptz, {last_id}::text)")
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS} FROM requests WHERE {" AND ".join(conditions)}
        ORDER BY filed_at DESC, id DESC LIMIT {parameter(limit)}""",
        *values,
    )
    return [_request(row) for row in rows]


async def rate(conn: Connection, request_id: str, rating: int, comment: str, now: datetime) -> None:
    """Keep a rating; who may rate and when is settled before, under the lock of `get`."""
    await conn.execute(
        "UPDATE requests SET rating = $2, rating_comment = $3, rated_at = $4 WHERE id = $1",
        request_id,
        rating,
        comment,
        now,
    )


def _request(row: Record) -> Request:
    values: dict[str, Any] = dict(row)
    values["place"] = Place(**json.loads(values["place"])) if values["place"] else None
    values["component"] = Component(**json.loads(values["component"])) if values["component"] else None
    values["flags"] = tuple(Doubt(**flag) for flag in json.loads(values["flags"]))
    values["status"] = Status(values["status"])
    return Request(**values)


def _text(value: Place | Component | None) -> str | None:
    return json.dumps(asdict(value)) if value is not None else None
