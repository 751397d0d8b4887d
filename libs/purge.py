"""Forgetting what is only kept for a while: answers to old requests, ids of old facts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter

from libs import db
from libs.errors import Away
from libs.idempotency import REQUEST_LOG_KEEP_S

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx

# The bus keeps facts for seven days after all have read them; until then one may be delivered again. The same again as
# a margin, for what is published a second time after a long interruption.
INBOX_KEEP_S = 14 * 24 * 3600
PURGE_INTERVAL_S = 600.0
PURGE_BATCH_ROWS = 5_000

PURGED = Counter("quintet_purged_rows", "Rows that were kept long enough.", ["part", "table"])

log = structlog.get_logger()


@dataclass(frozen=True)
class Keep:
    """How long rows of a table are kept. `time_column` has the time of the database, which wrote it."""

    table: str
    time_column: str
    keep_s: float


KEPT = (Keep("request_log", "created_at", REQUEST_LOG_KEEP_S), Keep("inbox", "received_at", INBOX_KEEP_S))


class Purger:
    """Deletes old rows of one part in the background. Replicas may run it at the same time."""

    def __init__(self, transactions: Transactions, kept: tuple[Keep, ...] = KEPT) -> None:
        self._transactions = transactions
        self._kept = kept

    async def run(self) -> None:
        """Purge every PURGE_INTERVAL_S until cancelled."""
        while True:
            try:
                await self.purge()
            except Exception as error:
                if isinstance(error, Away) or db.is_away(error):
                    log.warning("purge.interrupted", part=self._transactions.part, error=repr(error))
                else:
                    log.exception("purge.failed", part=self._transactions.part)
            await asyncio.sleep(PURGE_INTERVAL_S)

    async def purge(self) -> int:
        """Delete what has been kept long enough, in small transactions, and return how many rows it was."""
        total = 0
        for keep in self._kept:
            deleted = PURGE_BATCH_ROWS
            while deleted == PURGE_BATCH_ROWS:
                deleted = await self._transactions.run(partial(_delete, keep))
                PURGED.labels(self._transactions.part, keep.table).inc(deleted)
                total += deleted
        return total


async def _delete(keep: Keep, tx: Tx) -> int:
    status = await tx.conn.execute(
        f"""DELETE FROM {keep.table} WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM {keep.table} WHERE {keep.time_column} < clock_timestamp() - $1::interval
            LIMIT $2 FOR UPDATE SKIP LOCKED
        ))""",
        timedelta(seconds=keep.keep_s),
        PURGE_BATCH_ROWS,
    )
    return int(status.split()[-1])
