"""Transfers: the rows of a product flowing under a contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.errors import NotFound, Reason
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import transfer_machine, waiting
from services.federation.transfer_machine import Stand

if TYPE_CHECKING:
    from datetime import datetime

    from libs.db import Connection, Record
    from services.federation.waiting import WaitDays

_QUERY = """
    SELECT t.id, t.contract, t.state, t.step, t.by_provider, t.reason, t.changed_by, t.created_at, t.updated_at,
           t.deadline, t.reminded_at, c.provider, c.consumer, c.terms
    FROM transfers t JOIN contracts c ON c.id = t.contract
"""


async def insert(conn: Connection, transfer: pb.Transfer, terms: pb.Terms, days: WaitDays, now: datetime) -> None:
    """Insert a transfer in its present state, taken by the consumer."""
    await conn.execute(
        "INSERT INTO transfers (id, contract, state, step, by_provider, reason, changed_by, created_at, updated_at)"
        " VALUES ($1, $2, $3, $4, false, $5, $6, $7, $7)",
        _id(transfer.name),
        _contract_id(transfer.contract),
        transfer.state,
        transfer.step,
        transfer.reason,
        transfer.changed_by,
        now,
    )
    transfer.created_at.FromDatetime(now)
    await _plan(conn, transfer, terms, days, now)


async def update(
    conn: Connection, transfer: pb.Transfer, stand: Stand, terms: pb.Terms, days: WaitDays, now: datetime
) -> None:
    """Write the step that stands now, and until when the next one is owed. Rows flow no more unless it is STARTED."""
    transfer.state, transfer.step = stand.state, stand.step
    transfer.updated_at.FromDatetime(now)
    await conn.execute(
        "UPDATE transfers SET state = $2, step = $3, by_provider = $4, reason = $5, changed_by = $6, updated_at = $7"
        " WHERE id = $1",
        _id(transfer.name),
        stand.state,
        stand.step,
        stand.by_provider,
        transfer.reason,
        transfer.changed_by,
        now,
    )
    if stand.state != pb.TRANSFER_STATE_STARTED:
        query = "UPDATE contracts SET flowing = false WHERE id = $1"
        await conn.execute(query, _contract_id(transfer.contract))
    await _plan(conn, transfer, terms, days, now)


async def _plan(conn: Connection, transfer: pb.Transfer, terms: pb.Terms, days: WaitDays, now: datetime) -> None:
    owed = waiting.of_transfer(transfer, terms, days, now)
    transfer.waits_for, transfer.owner = (owed.node, owed.owner) if owed else ("", "")
    transfer.ClearField("deadline")
    transfer.ClearField("reminded_at")
    if owed is not None:
        transfer.deadline.FromDatetime(owed.deadline)
    await conn.execute(
        "UPDATE transfers SET waiting_since = $2, deadline = $3, remind_at = $4, reminded_at = NULL WHERE id = $1",
        _id(transfer.name),
        now if owed else None,
        owed.deadline if owed else None,
        waiting.next_reminder(now, owed.deadline, now) if owed else None,
    )


async def get(conn: Connection, name: str, *, lock: bool = False) -> tuple[pb.Transfer, Stand]:
    """Return a transfer and the step that stands. Raises NotFound."""
    found = await find(conn, name, lock=lock)
    if found is None:
        raise NotFound(Reason.TRANSFER_NOT_FOUND, f"{name} does not exist", transfer=name)
    return found


async def find(conn: Connection, name: str, *, lock: bool = False) -> tuple[pb.Transfer, Stand] | None:
    """Return a transfer and the step that stands; None when there is none."""
    row = await conn.fetchrow(_QUERY + "WHERE t.id = $1" + (" FOR UPDATE OF t" if lock else ""), _id(name))
    return (_transfer(row), _stand(row)) if row else None


async def open_under(conn: Connection, contract: str) -> list[tuple[pb.Transfer, Stand]]:
    """Return and lock the transfers of a contract that have not ended."""
    query = _QUERY + "WHERE t.contract = $1 AND t.state = ANY($2::smallint[]) ORDER BY t.id FOR UPDATE OF t"
    rows = await conn.fetch(query, _contract_id(contract), list(transfer_machine.OPEN))
    return [(_transfer(row), _stand(row)) for row in rows]


async def had_one(conn: Connection, contract: str) -> bool:
    """Say whether there ever was a transfer under a contract."""
    query = "SELECT EXISTS (SELECT FROM transfers WHERE contract = $1)"
    return bool(await conn.fetchval(query, _contract_id(contract)))


async def page(
    conn: Connection, *, contract: str, peer: str, state: int, after: tuple[datetime, str] | None, limit: int
) -> list[pb.Transfer]:
    """Return transfers, newest first; "" and 0 mean all."""
    query = (
        _QUERY
        + """
        WHERE ($1 = '' OR t.contract = $1) AND ($2 = '' OR c.peer = $2) AND ($3::smallint = 0 OR t.state = $3::smallint)
          AND ($4::timestamptz IS NULL OR (t.created_at, t.id) < ($4, $5))
        ORDER BY t.created_at DESC, t.id DESC LIMIT $6
    """
    )
    time, last = after or (None, "")
    rows = await conn.fetch(query, _contract_id(contract), peer, state, time, last, limit)
    return [_transfer(row) for row in rows]


async def let_flow(conn: Connection, contract: str) -> None:
    """Let rows flow from this place of the stream of facts on, if the contract and a transfer under it stand."""
    await conn.execute(
        "UPDATE contracts c SET flowing = true WHERE id = $1 AND state = $2 AND NOT awaits_switch"
        " AND EXISTS (SELECT FROM transfers t WHERE t.contract = c.id AND t.state = $3)",
        _contract_id(contract),
        pb.CONTRACT_STATE_FINALIZED,
        pb.TRANSFER_STATE_STARTED,
    )


def _id(name: str) -> str:
    return name.removeprefix("transfers/")


def _contract_id(name: str) -> str:
    return name.removeprefix("contracts/")


def _stand(row: Record) -> Stand:
    return Stand(row["state"], row["step"], row["by_provider"])


def _transfer(row: Record) -> pb.Transfer:
    transfer = pb.Transfer(name=f"transfers/{row['id']}", contract=f"contracts/{row['contract']}")
    for name in ("state", "reason", "changed_by", "step", "provider", "consumer"):
        setattr(transfer, name, row[name])
    for time in ("created_at", "updated_at", "deadline", "reminded_at"):
        if row[time] is not None:
            getattr(transfer, time).FromDatetime(row[time])
    transfer.waits_for = waiting.transfer_waits_for(transfer)
    if transfer.waits_for:
        terms = pb.Terms.FromString(row["terms"])
        transfer.owner = waiting.transfer_owner(transfer, terms, transfer.waits_for)
    return transfer
