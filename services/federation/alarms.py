"""What people should look at now: set once while it lasts, stated on the bus when it begins and when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from quintet.federation.v1 import facts_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection, Record
    from libs.tx import Tx

TEXT_CHARS_MAX = 500

# Names that the links set; other parts of the service have names of their own.
BACKLOG_HIGH = "BACKLOG_HIGH"
BACKLOG_FULL = "BACKLOG_FULL"
LINK_DEAD_LETTER = "LINK_DEAD_LETTER"
RESTORE_HEALING = "RESTORE_HEALING"
SEQUENCE_REVERSED = "SEQUENCE_REVERSED"
SUSPENDED_BY_PEER = "SUSPENDED_BY_PEER"

_COLUMNS = "peer, contract, name, text, since"


@dataclass(frozen=True)
class Alarm:
    """One row of `alarms`. `peer` is a node id, empty when the node itself is meant; `contract` may be empty."""

    peer: str
    contract: str
    name: str
    text: str
    since: datetime


async def set_alarm(tx: Tx, *, peer: str, name: str, text: str, contract: str = "") -> bool:
    """Set an alarm and state AlarmRaised; True when it was not set before. A later text replaces the earlier one."""
    text = text[:TEXT_CHARS_MAX]
    new = await tx.conn.fetchval(
        "INSERT INTO alarms (key, peer, contract, name, text, since) VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (key) DO UPDATE SET text = excluded.text WHERE alarms.text <> excluded.text"
        " RETURNING xmax = 0",
        _key(peer, name, contract),
        peer,
        contract,
        name,
        text,
        tx.now,
    )
    if not new:
        return False
    raised = facts_pb2.AlarmRaised(name=name, peer=peer, contract=contract, text=text)
    raised.since.FromDatetime(tx.now)
    tx.publish(raised, zone=tx.zone, key=_resource(peer))
    return True


async def clear_alarm(tx: Tx, *, peer: str, name: str, contract: str = "") -> bool:
    """Clear an alarm and state AlarmCleared; False when it was not set."""
    row = await tx.conn.fetchrow(
        f"DELETE FROM alarms WHERE key = $1 RETURNING {_COLUMNS}",
        _key(peer, name, contract),
    )
    if row is None:
        return False
    since = Timestamp()
    since.FromDatetime(row["since"])
    cleared = facts_pb2.AlarmCleared(name=name, peer=peer, contract=contract, text=row["text"], since=since)
    tx.publish(cleared, zone=tx.zone, key=_resource(peer))
    return True


async def of_peers(conn: Connection, nodes: Sequence[str]) -> dict[str, list[Alarm]]:
    """Return what is set for each of the peers, the longest standing first."""
    query = f"SELECT {_COLUMNS} FROM alarms WHERE peer = ANY($1::text[]) ORDER BY since, key"
    found: dict[str, list[Alarm]] = {node: [] for node in nodes}
    for row in await conn.fetch(query, list(nodes)):
        found[row["peer"]].append(_alarm(row))
    return found


async def of_contracts(conn: Connection, contracts: Sequence[str]) -> dict[str, list[Alarm]]:
    """Return what is set for each of the contracts, by name, the longest standing first."""
    query = f"SELECT {_COLUMNS} FROM alarms WHERE contract = ANY($1::text[]) ORDER BY since, key"
    found: dict[str, list[Alarm]] = {contract: [] for contract in contracts}
    for row in await conn.fetch(query, list(contracts)):
        found[row["contract"]].append(_alarm(row))
    return found


async def all_set(conn: Connection) -> list[Alarm]:
    """Return everything that is set, the longest standing first."""
    return [_alarm(row) for row in await conn.fetch(f"SELECT {_COLUMNS} FROM alarms ORDER BY since, key")]


def _key(peer: str, name: str, contract: str) -> str:
    return f"{peer}/{name}/{contract}"


def _resource(peer: str) -> str:
    return f"peers/{peer}" if peer else "alarms"


def _alarm(row: Record) -> Alarm:
    return Alarm(**dict(row))
