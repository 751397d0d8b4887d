"""Facts that were given up, and what an operator may do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from libs import paging
from libs.errors import NotFound, Reason
from libs.inbox_store import DeadFact
from quintet.deadletter.v1 import deadletter_pb2 as pb
from quintet.deadletter.v1 import deadletter_pb2_grpc

if TYPE_CHECKING:
    from libs.db import Connection
    from libs.tx import Transactions, Tx

DEAD_FACTS_PAGE_MAX = 1_000


async def list_dead(conn: Connection, *, after: str = "", limit: int = 100) -> list[DeadFact]:
    """Return dead facts in the order in which they were given up, those behind the one with id `after`.

    At most DEAD_FACTS_PAGE_MAX. When `after` itself was retried or discarded in between, the list starts anew.
    """
    rows = await conn.fetch(
        """SELECT fact_id, type, key, fact, attempts, error, died_at FROM inbox_dead
        WHERE id > coalesce((SELECT id FROM inbox_dead WHERE fact_id = $1), 0) ORDER BY id LIMIT $2""",
        UUID(after) if after else None,
        min(limit, DEAD_FACTS_PAGE_MAX),
    )
    return [
        DeadFact(
            str(row["fact_id"]), row["type"], row["key"], row["fact"], row["attempts"], row["error"], row["died_at"]
        )
        for row in rows
    ]


async def retry_dead(conn: Connection, fact_id: str) -> bool:
    """Hand a dead fact to its handler again, behind the waiting facts of its key. Returns False when there is none.

    Facts of the same key that came after it have been applied meanwhile: the handler sees it out of order.
    """
    return bool(
        await conn.fetchval(
            """WITH raised AS (DELETE FROM inbox_dead WHERE fact_id = $1 RETURNING fact_id, type, key, fact)
            INSERT INTO inbox_waiting (fact_id, type, key, fact, attempts, error, next_attempt_at)
            SELECT fact_id, type, key, fact, 0, '', clock_timestamp() FROM raised RETURNING true""",
            UUID(fact_id),
        )
    )


async def discard_dead(conn: Connection, fact_id: str) -> bool:
    """Drop a dead fact for good. Returns False when there is none. The caller writes the audit entry."""
    return bool(await conn.fetchval("DELETE FROM inbox_dead WHERE fact_id = $1 RETURNING true", UUID(fact_id)))


class DeadLetterServicer(deadletter_pb2_grpc.DeadLetterServiceServicer):
    """Lists and ends the dead letters of the part whose transactions it is given."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def ListPartDeadLetters(
        self, request: pb.ListPartDeadLettersRequest, _context: object
    ) -> pb.ListPartDeadLettersResponse:
        size = paging.size(request.page_size)
        found = await self._transactions.read(lambda conn: list_dead(conn, after=request.after, limit=size))
        return pb.ListPartDeadLettersResponse(letters=[_letter(self._transactions.part, dead) for dead in found])

    async def RetryPartDeadLetter(
        self, request: pb.RetryPartDeadLetterRequest, _context: object
    ) -> pb.RetryPartDeadLetterResponse:
        async def work(tx: Tx) -> None:
            if not await retry_dead(tx.conn, request.fact):
                raise _unknown(request.fact)
            tx.audit("deadletters.retry", _name(self._transactions.part, request.fact), person=request.person)

        await self._transactions.run(work)
        return pb.RetryPartDeadLetterResponse()

    async def DiscardPartDeadLetter(
        self, request: pb.DiscardPartDeadLetterRequest, _context: object
    ) -> pb.DiscardPartDeadLetterResponse:
        async def work(tx: Tx) -> None:
            if not await discard_dead(tx.conn, request.fact):
                raise _unknown(request.fact)
            name = _name(self._transactions.part, request.fact)
            tx.audit("deadletters.discard", name, person=request.person, reason=request.reason)

        await self._transactions.run(work)
        return pb.DiscardPartDeadLetterResponse()


def _letter(part: str, dead: DeadFact) -> pb.DeadLetter:
    letter = pb.DeadLetter(
        name=_name(part, dead.fact_id),
        part=part,
        fact=dead.fact_id,
        type=dead.type,
        key=dead.key,
        attempts=dead.attempts,
        error=dead.error,
        size=len(dead.fact),
    )
    letter.time.FromDatetime(dead.time)
    return letter


def _name(part: str, fact_id: str) -> str:
    return f"parts/{part}/deadLetters/{fact_id}"


def _unknown(fact_id: str) -> NotFound:
    return NotFound(Reason.DEAD_LETTER_NOT_FOUND, f"there is no dead letter {fact_id}", fact=fact_id)
