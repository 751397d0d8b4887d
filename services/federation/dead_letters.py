"""Envelopes from peers that could not be applied: kept with their bytes and the error, until a person decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from prometheus_client import Counter

from libs.errors import NotFound, Reason
from libs.ids import new_id
from services.federation import alarms
from services.federation.lanes_store import LANE_NAMES, Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection
    from libs.tx import Tx

ERROR_CHARS_MAX = 1_000

BURIED = Counter("quintet_peer_dead_letters", "Envelopes that could not be applied.", ["peer", "lane"])

_COLUMNS = "id, peer, lane, sequence, contract, body, envelope, error, attempts, received_at"


@dataclass(frozen=True)
class DeadLetter:
    """One row of `peer_dead_letters`."""

    id: str
    peer: str
    lane: Lane
    sequence: int
    contract: str
    body: str
    envelope: bytes
    error: str
    attempts: int
    received_at: datetime


async def bury(
    tx: Tx, peer: str, lane: Lane, sequence: int, envelope: bytes, error: BaseException, *, contract: str, body: str
) -> None:
    """Keep an envelope, and let people know."""
    await tx.conn.execute(
        f"INSERT INTO peer_dead_letters ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9)",
        new_id(),
        peer,
        lane,
        sequence,
        contract,
        body,
        envelope,
        repr(error).replace("\0", "")[:ERROR_CHARS_MAX],
        tx.now,
    )
    text = f"envelopes of {peer} could not be applied, the last one {sequence} of lane {LANE_NAMES[lane]}"
    await alarms.set_alarm(tx, peer=peer, name=alarms.LINK_DEAD_LETTER, text=text)
    tx.audit("federation.dead_letters.keep", f"peers/{peer}", lane=LANE_NAMES[lane], sequence=sequence, body=body)
    tx.after_commit(BURIED.labels(peer, LANE_NAMES[lane]).inc)


async def counts(conn: Connection, nodes: Sequence[str]) -> dict[str, int]:
    """Return how many there are of each of the peers that have any."""
    query = "SELECT peer, count(*) AS n FROM peer_dead_letters WHERE peer = ANY($1::text[]) GROUP BY peer"
    return {row["peer"]: row["n"] for row in await conn.fetch(query, list(nodes))}


async def page(conn: Connection, peer: str, after: str, limit: int) -> list[DeadLetter]:
    """Return dead letters of a peer in the order in which they came."""
    query = f"SELECT {_COLUMNS} FROM peer_dead_letters WHERE peer = $1 AND id > $2 ORDER BY id LIMIT $3"
    return [DeadLetter(**dict(row)) for row in await conn.fetch(query, peer, after, limit)]


async def lock(conn: Connection, peer: str, letter: str) -> DeadLetter:
    """Return a dead letter, locked. Raises NotFound."""
    query = f"SELECT {_COLUMNS} FROM peer_dead_letters WHERE peer = $1 AND id = $2 FOR UPDATE"
    row = await conn.fetchrow(query, peer, letter)
    if row is None:
        text = f"peers/{peer}/deadLetters/{letter} does not exist"
        raise NotFound(Reason.DEAD_LETTER_NOT_FOUND, text, peer=peer)
    return DeadLetter(**dict(row))


async def remove(tx: Tx, letter: DeadLetter) -> None:
    """Forget a dead letter; the alarm ends with the last one."""
    await tx.conn.execute("DELETE FROM peer_dead_letters WHERE id = $1", letter.id)
    if not await counts(tx.conn, [letter.peer]):
        await alarms.clear_alarm(tx, peer=letter.peer, name=alarms.LINK_DEAD_LETTER)


async def failed_again(tx: Tx, letter: DeadLetter, error: BaseException) -> None:
    """Note one more failed attempt."""
    await tx.conn.execute(
        "UPDATE peer_dead_letters SET attempts = attempts + 1, error = $2 WHERE id = $1",
        letter.id,
        repr(error).replace("\0", "")[:ERROR_CHARS_MAX],
    )
