"""What happened to contracts and transfers, for people who want to see how a contract came about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quintet.federation.v1 import federation_pb2 as pb

if TYPE_CHECKING:
    from datetime import datetime

    from libs.db import Connection

TEXT_CHARS_MAX = 1000


@dataclass(frozen=True)
class Step:
    """One message of a negotiation or a transfer. `node` took the step, `actor` is who did it there."""

    contract: str
    message_id: str
    type: str
    node: str
    actor: str
    state: str
    outcome: str
    text: str = ""
    transfer: str = ""


async def add(conn: Connection, step: Step, now: datetime) -> None:
    """Append a step."""
    await conn.execute(
        "INSERT INTO contract_steps (contract, transfer, message_id, type, node, actor, time, state, outcome, text)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        step.contract,
        step.transfer,
        step.message_id,
        step.type,
        step.node,
        step.actor,
        now,
        step.state,
        step.outcome,
        step.text[:TEXT_CHARS_MAX],
    )


async def page(conn: Connection, contract: str, after: int, limit: int) -> list[tuple[int, pb.ContractStep]]:
    """Return the steps of a contract and its transfers with their ids, oldest first."""
    query = """
        SELECT id, contract, transfer, message_id, type, node, actor, time, state, outcome, text
        FROM contract_steps WHERE contract = $1 AND id > $2 ORDER BY id LIMIT $3
    """
    found: list[tuple[int, pb.ContractStep]] = []
    for row in await conn.fetch(query, contract, after, limit):
        plain = {name: value for name, value in row.items() if name not in {"id", "time"}}
        step = pb.ContractStep(**plain)
        step.time.FromDatetime(row["time"])
        found.append((row["id"], step))
    return found
