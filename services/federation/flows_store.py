"""How contracts with objectives flow, and what of the queues shows it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING

from services.federation import lanes_store

if TYPE_CHECKING:
    from uuid import UUID

    from libs.db import Connection
    from services.federation.lanes_store import Lane

# A look into a long queue goes on where the last one ended.
SEARCH_ENVELOPES_MAX = 10_000


@dataclass(frozen=True)
class Flow:
    """One row of `contract_flows`. Ages are in seconds as of `told_at`, by the clock of this node."""

    contract: str
    sender: str
    told_at: datetime
    waiting: int = 0
    searched: int = 0
    acknowledged: int = 0
    stated: int = 0
    stated_at: datetime | None = None
    oldest_fact: str = ""
    oldest_change: datetime | None = None
    change_age_s: float = 0.0
    wait_s: float = 0.0


_NAMES = list(Flow.__dataclass_fields__)
_INSERT = (
    f"INSERT INTO contract_flows ({', '.join(_NAMES)}) VALUES ({', '.join(f'${n + 1}' for n in range(len(_NAMES)))})"
    " ON CONFLICT (contract, sender) DO"
)


@dataclass(frozen=True)
class Waits:
    """The oldest envelope of a contract without a receipt. `written_at` is by the clock of the database."""

    sequence: int
    envelope: bytes
    written_at: datetime


async def get(conn: Connection, contract: str, sender: str, now: datetime) -> Flow:
    """Return how a contract flows; one that was never looked at flows well until now."""
    query = "SELECT * FROM contract_flows WHERE contract = $1 AND sender = $2"
    row = await conn.fetchrow(query, contract, sender)
    return Flow(**dict(row)) if row else Flow(contract, sender, now)


async def begin(conn: Connection, flow: Flow) -> None:
    """Write how a contract flows unless that stands there already."""
    await conn.execute(f"{_INSERT} NOTHING", *(getattr(flow, name) for name in _NAMES))


async def put(conn: Connection, flow: Flow) -> None:
    """Write how a contract flows."""
    changed = ", ".join(f"{name} = excluded.{name}" for name in _NAMES[2:])
    await conn.execute(f"{_INSERT} UPDATE SET {changed}", *(getattr(flow, name) for name in _NAMES))


async def forget(conn: Connection, contracts: list[str]) -> None:
    """Delete the flows of all but these contracts."""
    await conn.execute("DELETE FROM contract_flows WHERE contract <> ALL($1::text[])", contracts)


async def oldest(conn: Connection, peer: str, lane: Lane, flow: Flow) -> tuple[Flow, Waits | None]:
    """Look for the oldest envelope of a contract without a receipt, from where the last look ended.

    Each envelope is looked at once per contract, however long the queue is.
    """
    sent = (await lanes_store.sent(conn, peer))[lane]
    # A peer that was restored from a backup is sent again what it had acknowledged.
    again = sent.acknowledged < flow.acknowledged or sent.last_assigned < flow.searched
    after = sent.acknowledged if again else max(sent.acknowledged, flow.searched)
    found = await conn.fetchrow(
        "WITH part AS (SELECT sequence, contract FROM peer_outbox WHERE peer = $1 AND lane = $2 AND sequence > $3"
        " ORDER BY sequence LIMIT $5)"
        " SELECT min(sequence) FILTER (WHERE contract = $4), max(sequence) FROM part",
        peer,
        lane,
        after,
        flow.contract,
        SEARCH_ENVELOPES_MAX,
    )
    first, last = found.values() if found else (None, None)
    searched = first - 1 if first else last or after
    looked = replace(flow, waiting=first or 0, searched=searched, acknowledged=sent.acknowledged)
    if not first:
        return looked, None
    query = "SELECT sequence, envelope, created_at FROM peer_outbox WHERE peer = $1 AND lane = $2 AND sequence = $3"
    row = await conn.fetchrow(query, peer, lane, first)
    return looked, Waits(*row.values()) if row else None


async def counted_at(conn: Connection, contract: str, sender: str, day: date, fact: UUID) -> datetime | None:
    """Return when a fact was counted here, None when it was not."""
    query = "SELECT noted_at FROM settlement_ledger WHERE contract = $1 AND sender = $2 AND day = $3 AND id = $4"
    found: datetime | None = await conn.fetchval(query, contract.removeprefix("contracts/"), sender, day, fact)
    return found
