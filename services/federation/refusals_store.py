"""What was refused under contracts: counted, and the first of each day kept with why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.db import Connection

# Of one contract and reason: a peer that does not stop must not fill the disk. All are counted.
REFUSALS_LISTED_PER_DAY_MAX = 100


@dataclass(frozen=True)
class NewRefusal:
    """Something that was refused under a contract, and why."""

    contract: str
    reason: str
    description: str
    actor: str
    node: str


@dataclass(frozen=True)
class Refused:
    """One row of `refusals`."""

    id: int
    time: datetime
    reason: str
    description: str
    actor: str
    node: str


async def refuse(conn: Connection, refusals: Sequence[NewRefusal], now: datetime) -> None:
    """Count what was refused, and keep the first REFUSALS_LISTED_PER_DAY_MAX of a contract, reason and UTC day."""
    if not refusals:
        return
    query = """
        WITH refused AS (
            SELECT *, row_number() OVER (PARTITION BY contract, reason ORDER BY place) AS nth
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY
                AS r(contract, reason, description, actor, node, place)
        ), sums AS (
            SELECT contract, reason, count(*) AS refused FROM refused GROUP BY contract, reason
        ), days AS (
            INSERT INTO refusal_days AS d (contract, reason, day, refused)
            SELECT contract, reason, $7, refused FROM sums ORDER BY contract, reason
            ON CONFLICT (contract, reason, day) DO UPDATE SET refused = d.refused + excluded.refused
            RETURNING contract, reason, refused
        ), counted AS (
            UPDATE contracts SET refused = contracts.refused + total.refused
            FROM (SELECT contract, sum(refused) AS refused FROM sums GROUP BY contract ORDER BY contract) AS total
            WHERE contracts.id = total.contract
        )
        INSERT INTO refusals (contract, time, reason, description, actor, node)
        SELECT contract, $6, reason, description, actor, node FROM refused
        JOIN sums USING (contract, reason) JOIN days USING (contract, reason)
        WHERE days.refused - sums.refused + refused.nth <= $8 ORDER BY place
    """
    await conn.execute(
        query,
        [refusal.contract.removeprefix("contracts/") for refusal in refusals],
        [refusal.reason for refusal in refusals],
        [refusal.description for refusal in refusals],
        [refusal.actor for refusal in refusals],
        [refusal.node for refusal in refusals],
        now,
        now.date(),
        REFUSALS_LISTED_PER_DAY_MAX,
    )


async def refusals(conn: Connection, contract: str, before: int | None, limit: int) -> list[Refused]:
    """Return refusals under a contract, newest first."""
    query = """
        SELECT id, time, reason, description, actor, node FROM refusals
        WHERE contract = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
    """
    return [Refused(**dict(row)) for row in await conn.fetch(query, contract.removeprefix("contracts/"), before, limit)]
