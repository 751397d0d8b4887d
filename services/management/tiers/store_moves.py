"""The home of events: where it is, where it was, and how it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from services.management.store_rows import EVENT_COLUMNS, event_values, parameters

if TYPE_CHECKING:
    from libs.db import Connection
    from services.management.model import Event

# What an event counts for goes with it, as do its ledger and its hand-overs.
_MOVE = """
WITH moved AS (
    UPDATE events SET node = $4, home_above = $5, next_clock_at = NULL, assignee = '', assigned_as = '' WHERE id = $1
    RETURNING id, name, zone, status
), kept AS (
    INSERT INTO event_moves (event_id, revision, from_node, to_node) VALUES ($1, $2, $3, $4)
), reports AS (
    SELECT count(*) FILTER (WHERE kind = 'request') AS requests,
        count(*) FILTER (WHERE kind = 'request' AND merged) AS merged
    FROM event_reports WHERE event_id = $1
), counted AS (
    INSERT INTO counter_deltas (zone, node, status, events, requests, merged)
    SELECT moved.zone, side.node, moved.status, side.sign, side.sign * reports.requests, side.sign * reports.merged
    FROM moved CROSS JOIN reports CROSS JOIN (VALUES ($3, -1), ($4, 1)) AS side (node, sign)
), ledger AS (
    UPDATE event_exceptions x SET node = $4 FROM moved WHERE x.event = moved.name
), offered AS (
    UPDATE handovers x SET node = $4 FROM moved WHERE x.event = moved.name
)
INSERT INTO event_changes (event_id) SELECT id FROM moved"""

_KEPT = ("name", "zone", "node", "opened_at", "reports")
_COMPLETED = [column for column in EVENT_COLUMNS if column not in _KEPT]


class Home(NamedTuple):
    """Where an event is at home. `told_rightly`: the peer that was asked about is on that side of this node."""

    node: str
    told_rightly: bool


async def is_below(conn: Connection, peer: str) -> bool:
    """Tell whether a peer has, or had, a zone of this node."""
    return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM nodes_below WHERE node = $1)", peer))


async def learn_above(conn: Connection, node: str) -> None:
    """Remember that a node is above this one."""
    await conn.execute("INSERT INTO nodes_above (node) VALUES ($1) ON CONFLICT DO NOTHING", node)


async def is_above(conn: Connection, node: str) -> bool:
    """Tell whether a node is above this one, as far as it was heard of."""
    return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM nodes_above WHERE node = $1)", node))


async def home_of(conn: Connection, name: str, peer: str) -> Home | None:
    """Return the home of an event, and whether `peer` may tell of it; None for an event that is not known here."""
    row = await conn.fetchrow(
        """SELECT node, home_above = NOT EXISTS (SELECT FROM nodes_below WHERE node = $2) AS told_rightly
        FROM events WHERE name = $1""",
        name,
        peer,
    )
    return Home(*row) if row else None


async def was_home(conn: Connection, name: str, node: str, revision: int) -> bool:
    """Tell whether a node was the home of an event when this revision of it was made."""
    return bool(
        await conn.fetchval(
            """SELECT EXISTS (SELECT FROM event_moves m JOIN events e ON e.id = m.event_id
                WHERE e.name = $1 AND m.from_node = $2 AND m.revision >= $3)""",
            name,
            node,
            revision,
        )
    )


async def move(conn: Connection, event: Event, to_node: str, *, above: bool) -> None:
    """Give an event another home, once it stands here as the old one left it; `event` still has the old one."""
    await conn.execute(_MOVE, event.id, event.revision, event.node, to_node, above)


async def is_home_above(conn: Connection, event_id: int) -> bool:
    """Tell whether an event is at home at a node above this one."""
    return bool(await conn.fetchval("SELECT home_above FROM events WHERE id = $1", event_id))


async def last_home(conn: Connection, event_id: int) -> str:
    """Return the node at which an event was at home before its present one; "" for one that never moved."""
    query = "SELECT from_node FROM event_moves WHERE event_id = $1 ORDER BY revision DESC LIMIT 1"
    return str(await conn.fetchval(query, event_id) or "")


async def was_moved(conn: Connection, event_id: int) -> bool:
    """Tell whether an event has, or had, another home than the node that opened it."""
    return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM event_moves WHERE event_id = $1)", event_id))


async def complete(conn: Connection, event: Event) -> None:
    """Store what this node did not know of an event as long as another was its home."""
    values = dict(zip(EVENT_COLUMNS, event_values(event), strict=True))
    await conn.execute(
        f"UPDATE events SET ({', '.join(_COMPLETED)}) = ROW({parameters(2, len(_COMPLETED))}) WHERE id = $1",
        event.id,
        *(values[column] for column in _COMPLETED),
    )
