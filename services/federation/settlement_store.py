"""Where the comparison of a day stands, and what is needed of queues and contracts to repair a difference."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from quintet.federation.v1 import link_pb2
from services.federation import lanes_store

if TYPE_CHECKING:
    from libs.db import Connection
    from services.federation.metering_store import Noted, Settlement


@dataclass(frozen=True)
class Progress:
    """The columns of `settlement_days` that say where a comparison stands."""

    check_at: datetime | None
    attempts: int
    differs: bool
    asked: int
    listed_at: datetime | None
    listed_through: str


async def set_progress(conn: Connection, found: Settlement, progress: Progress) -> None:
    """Write where a comparison stands."""
    await conn.execute(
        "UPDATE settlement_days SET check_at = $4, attempts = $5, differs = $6, asked = $7, listed_at = $8,"
        " listed_through = $9 WHERE contract = $1 AND sender = $2 AND day = $3",
        found.contract.removeprefix("contracts/"),
        found.sender,
        found.day,
        *(getattr(progress, name) for name in Progress.__dataclass_fields__),
    )


def progress_of(found: Settlement) -> Progress:
    """Return where a day's comparison stands."""
    return Progress(**{name: getattr(found, name) for name in Progress.__dataclass_fields__})


async def differs(conn: Connection, contract: str) -> bool:
    """Say whether there is still a day of the contract on which both ends differ."""
    query = "SELECT EXISTS (SELECT FROM settlement_days WHERE contract = $1 AND differs)"
    return bool(await conn.fetchval(query, contract.removeprefix("contracts/")))


async def is_unheard(conn: Connection, peer: str, sequence: int) -> bool:
    """Say whether a control message of this sequence still waits for the peer's receipt."""
    lane = (await lanes_store.sent(conn, peer))[link_pb2.LANE_CONTROL]
    return lane.acknowledged < sequence <= lane.last_assigned


async def is_under_way(conn: Connection, peer: str, noted: Noted) -> bool:
    """Say whether the envelope of a fact still waits for the peer's receipt."""
    lanes = (await lanes_store.sent(conn, peer)).values()
    return any(lane.lane == noted.lane and lane.acknowledged < noted.sequence for lane in lanes)


async def kept_envelope(conn: Connection, peer: str, noted: Noted) -> bytes | None:
    """Return the envelope of a fact that was acknowledged, as long as it is kept."""
    query = "SELECT envelope FROM peer_outbox WHERE peer = $1 AND lane = $2 AND sequence = $3"
    found: bytes | None = await conn.fetchval(query, peer, noted.lane, noted.sequence)
    return found
