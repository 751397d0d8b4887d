"""Which contracts and transfers are due: to be reminded of, to end, to begin, or to take over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from quintet.federation.v1 import federation_pb2 as pb
from services.federation import waiting

if TYPE_CHECKING:
    from libs.db import Connection


@dataclass(frozen=True)
class Times:
    """When a step that is owed is reminded of and ends the matter, and when a contract in force ends by the clock."""

    waiting_since: datetime | None
    deadline: datetime | None
    remind_at: datetime | None
    ends_at: datetime | None = None


async def contracts_due(conn: Connection, now: datetime, limit: int) -> list[str]:
    """Return the contracts whose deadline, end or next reminder has come, by name."""
    query = """
        SELECT id FROM contracts WHERE least(deadline, ends_at, remind_at) <= $1 AND state <> $2
        ORDER BY least(deadline, ends_at, remind_at), id LIMIT $3
    """
    return [f"contracts/{row['id']}" for row in await conn.fetch(query, now, pb.CONTRACT_STATE_TERMINATED, limit)]


async def switches_due(conn: Connection, now: datetime, limit: int) -> list[str]:
    """Return the amendments that come into force now and whose place is not stated yet, by name."""
    query = """
        SELECT id FROM contracts WHERE awaits_switch AND NOT switch_stated AND in_force_at <= $1 AND state = $2
        ORDER BY in_force_at, id LIMIT $3
    """
    return [f"contracts/{row['id']}" for row in await conn.fetch(query, now, pb.CONTRACT_STATE_FINALIZED, limit)]


async def transfers_to_begin(conn: Connection, now: datetime, limit: int, *, node: str) -> list[str]:
    """Return the exchanges in force for which this node has to ask for, or to start, the first transfer, by name."""
    query = """
        SELECT c.id FROM contracts c
        WHERE c.kind = $1 AND c.state = $2 AND NOT c.awaits_switch AND c.in_force_at <= $3 AND NOT c.pulled
          AND ((c.consumer = $4 AND NOT EXISTS (SELECT FROM transfers t WHERE t.contract = c.id))
               OR (c.provider = $4 AND EXISTS (SELECT FROM transfers t WHERE t.contract = c.id AND t.state = $5)))
        ORDER BY c.in_force_at, c.id LIMIT $6
    """
    values = (pb.CONTRACT_KIND_EXCHANGE, pb.CONTRACT_STATE_FINALIZED, now, node, pb.TRANSFER_STATE_REQUESTED, limit)
    return [f"contracts/{row['id']}" for row in await conn.fetch(query, *values)]


async def transfers_due(conn: Connection, now: datetime, limit: int) -> list[str]:
    """Return the transfers whose deadline or next reminder has come, by name."""
    query = """
        SELECT id FROM transfers WHERE least(deadline, remind_at) <= $1 ORDER BY least(deadline, remind_at), id LIMIT $2
    """
    return [f"transfers/{row['id']}" for row in await conn.fetch(query, now, limit)]


async def contract_times(conn: Connection, name: str) -> Times:
    """Return what is due of a contract."""
    query = "SELECT waiting_since, deadline, remind_at, ends_at FROM contracts WHERE id = $1"
    return await _times(conn, query, name.removeprefix("contracts/"))


async def transfer_times(conn: Connection, name: str) -> Times:
    """Return what is due of a transfer."""
    query = "SELECT waiting_since, deadline, remind_at FROM transfers WHERE id = $1"
    return await _times(conn, query, name.removeprefix("transfers/"))


async def _times(conn: Connection, query: str, key: str) -> Times:
    row = await conn.fetchrow(query, key)
    return Times(**dict(row)) if row else Times(None, None, None)


async def reminded_of_contract(conn: Connection, name: str, due: Times, now: datetime) -> None:
    """Note that the owner was reminded, and when the next time is."""
    query = "UPDATE contracts SET reminded_at = $2, remind_at = $3 WHERE id = $1"
    await conn.execute(query, name.removeprefix("contracts/"), now, _next(due, now))


async def reminded_of_transfer(conn: Connection, name: str, due: Times, now: datetime) -> None:
    """Note that the owner was reminded, and when the next time is."""
    query = "UPDATE transfers SET reminded_at = $2, remind_at = $3 WHERE id = $1"
    await conn.execute(query, name.removeprefix("transfers/"), now, _next(due, now))


def _next(due: Times, now: datetime) -> datetime | None:
    if due.waiting_since is None or due.deadline is None:
        return None
    return waiting.next_reminder(due.waiting_since, due.deadline, now)
