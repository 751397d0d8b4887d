"""Stating rows that changed: gathered into few facts, a short while after the change.

A row that changes again before it was stated is stated once, as it is then.
"""

from __future__ import annotations

import asyncio
from itertools import groupby
from typing import TYPE_CHECKING

import structlog

from libs import rows as blocks
from libs.backoff import Backoff
from libs.duty import on_duty
from libs.errors import Away, Stale
from quintet.sharing.v1.facts_pb2 import ProductRowsWritten
from services.sharing import store, store_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from libs.tx import Transactions, Tx
    from services.sharing.store_rows import Row, Unstated

ROWS_PER_FACT_MAX = 200
# As JSON. A row in a fact takes up to three times as much, and a fact is limited (libs.bus.FACT_BYTES_MAX).
ROW_BYTES_PER_FACT_MAX = 128 * 1024
ROWS_PER_TRANSACTION_MAX = 1000
PAUSE_S = 0.25
RECOVERY_DELAY_FIRST_S = 0.1
RECOVERY_DELAY_MAX_S = 10.0

log = structlog.get_logger()


class RowPublisher:
    """States changed rows. Replicas stand by."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def run(self) -> None:
        """State rows until cancelled, through interruptions of the database."""
        backoff = Backoff(RECOVERY_DELAY_FIRST_S, RECOVERY_DELAY_MAX_S)
        while True:
            try:
                async with on_duty(self._transactions.pool, "rows") as duty:
                    while True:
                        duty.check()
                        if await self.publish() < ROWS_PER_TRANSACTION_MAX:
                            await asyncio.sleep(PAUSE_S)
                        backoff.reset()
            except (Away, Stale) as error:
                log.warning("sharing.publisher_interrupted", error=repr(error))
            except Exception:
                log.exception("sharing.publisher_failed")
            await backoff.wait()

    async def publish(self) -> int:
        """State at most ROWS_PER_TRANSACTION_MAX rows, for new contracts first; return how many."""
        return await self._transactions.run(_restate) or await self._transactions.run(_publish)


async def _publish(tx: Tx) -> int:
    unstated = await store_rows.take_unstated(tx.conn, ROWS_PER_TRANSACTION_MAX)
    await _state(tx, unstated, only_contract="")
    return len(unstated)


async def _restate(tx: Tx) -> int:
    """State rows that were there before a contract came into force, for its consumer alone.

    Rows that have changed are left to be stated for everybody, after this, by this same worker: so the consumer ends
    with the newer one.
    """
    wanted = await store_rows.next_restatement(tx.conn)
    if wanted is None:
        return 0
    rows = await store_rows.restate(tx.conn, wanted, ROWS_PER_TRANSACTION_MAX)
    if not rows:
        await store_rows.drop_restatement(tx.conn, wanted.contract)
    rows.sort(key=lambda one: one.zone)
    await _state(tx, rows, only_contract=wanted.contract)
    return len(rows)


async def _state(tx: Tx, unstated: Sequence[Unstated], *, only_contract: str) -> None:
    if not unstated:
        return
    products = await store.products_named(tx.conn, list({one.product for one in unstated}))
    for (name, zone, version), group in groupby(unstated, lambda one: (one.product, one.zone, one.version)):
        # A row may hold fields that its product has no more.
        fields = [one.name for one in products[name].fields]
        for rows in _portions(list(group)):
            message = ProductRowsWritten(
                product=name,
                version=version,
                fields=fields,
                rows=blocks.dumps([row.values.get(field) for field in fields] for row in rows),
                count=len(rows),
                key_fields=products[name].key_fields,
                only_contract=only_contract,
            )
            tx.publish(message, zone=zone, key=name)
            tx.audit("sharing.rows.state", name, rows=len(rows), version=version, zone=zone)


def _portions(rows: Sequence[Unstated]) -> Iterator[list[Row]]:
    """Yield rows in portions that fit into a fact."""
    portion: list[Row] = []
    size = 0
    for one in rows:
        length = len(one.row.text.encode())
        if portion and (len(portion) == ROWS_PER_FACT_MAX or size + length > ROW_BYTES_PER_FACT_MAX):
            yield portion
            portion, size = [], 0
        portion.append(one.row)
        size += length
    if portion:
        yield portion
