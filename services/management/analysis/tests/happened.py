"""Events that happened, put into the table in one statement: the analysis reads many."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from services.management.tests.samples import GRAFFITI, WORKS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from libs.db import Connection
    from libs.tx import Tx
    from services.management.tests.conftest import Node


@dataclass(frozen=True)
class Happened:
    """What matters of an event to the analysis."""

    at: datetime
    zone: str = "us-ca-sf-d6"
    type: str = GRAFFITI.name
    organisation: str = WORKS
    latitude: float | None = None
    longitude: float | None = None
    closed_at: datetime | None = None
    address_key: str = ""
    due_at: datetime | None = None
    returns: int = 0


async def put(node: Node, events: Iterable[Happened]) -> None:
    rows = list(events)

    async def work(tx: Tx) -> None:
        await insert(tx.conn, rows, node.id)
        await tx.conn.execute("ANALYZE events")

    await node.transactions.run(work)


async def insert(conn: Connection, rows: list[Happened], node: str) -> None:
    columns = [
        [row.at for row in rows],
        [row.zone for row in rows],
        [row.type for row in rows],
        [row.organisation for row in rows],
        [row.latitude for row in rows],
        [row.longitude for row in rows],
        [row.closed_at for row in rows],
        [row.address_key for row in rows],
        [row.due_at for row in rows],
        [row.returns for row in rows],
    ]
    await conn.execute(
        """WITH base AS (SELECT coalesce(max(id), 0) AS id FROM events)
        INSERT INTO events (name, zone, node, type, type_version, loop, title, description, address, address_key,
            latitude, longitude, zone_hint, neighbourhood, status, organisation, suggestion, supporters, occurred_at,
            opened_at, step_at, closed_at, due_at, revision, reports, warning, shares, shares_open, flags, returns,
            answer, partial)
        SELECT 'zones/' || h.zone || '/events/h' || base.id + h.n, h.zone, $11, h.type, 1, 'loops/seven-step', 'T', 'D',
            '', h.address_key, h.latitude, h.longitude, '', '', CASE WHEN h.closed_at IS NULL THEN 'filed' ELSE 'closed'
            END, h.organisation, '', '{}', h.at, h.at, coalesce(h.closed_at, h.at), h.closed_at, h.due_at, 1, 1, '', 0,
            0, '[]', h.returns, '', false
        FROM base, unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::float8[],
            $7::timestamptz[], $8::text[], $9::timestamptz[], $10::int[]) WITH ORDINALITY AS h (at, zone, type,
            organisation, latitude, longitude, closed_at, address_key, due_at, returns, n)""",
        *columns,
        node,
    )
