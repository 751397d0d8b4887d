"""Stating rows to partners: contract by contract, what changed since the last time, a short while after the change.

Each contract has its own place in the order of the product's changes. So a contract that comes into force is told of
the rows that were there before, one on schedule of what changed in between, and one that stood still of what it missed.
Only what a contract needs is stated: its fields, and those by which federation chooses the rows once more.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

import structlog

from libs import durations, masking, rowfilter
from libs.backoff import Backoff
from libs.duty import on_duty
from libs.errors import Away, Invalid, Stale
from libs.ids import new_id
from quintet.federation.v1.federation_pb2 import DELIVERY_MODE_PUSH_ON_SCHEDULE
from quintet.sharing.v1.facts_pb2 import ProductRowsWritten
from quintet.sharing.v1.sharing_pb2 import MASKING_HASH
from services.sharing import store, store_flows
from services.sharing.store_select import Parameters, chosen, counts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from quintet.federation.v1.federation_pb2 import Terms
    from quintet.sharing.v1.sharing_pb2 import ReadForContractRequest
    from services.sharing.model import FieldType, Product
    from services.sharing.store_flows import Block, Flow

# As JSON, masked. With one row more (model.ROW_BYTES_MAX) it still fits into a fact (libs.bus.FACT_BYTES_MAX).
BLOCK_BYTES_MAX = 384 * 1024
# What a hash takes as JSON.
HASH_BYTES = 66
CHANGES_PER_TRANSACTION_MAX = 20_000
PAUSE_S = 0.25
RECOVERY_DELAY_FIRST_S = 0.1
RECOVERY_DELAY_MAX_S = 10.0

log = structlog.get_logger()


class RowPublisher:
    """States changed rows. Replicas stand by."""

    def __init__(self, transactions: Transactions, zones: Callable[[], ZoneTree]) -> None:
        """`zones` gives the present tree."""
        self._transactions = transactions
        self._zones = zones

    async def run(self) -> None:
        """State rows until cancelled, through interruptions of the database."""
        backoff = Backoff(RECOVERY_DELAY_FIRST_S, RECOVERY_DELAY_MAX_S)
        while True:
            try:
                async with on_duty(self._transactions.pool, "rows") as duty:
                    while True:
                        duty.check()
                        if not await self.publish():
                            await asyncio.sleep(PAUSE_S)
                        backoff.reset()
            except (Away, Stale) as error:
                log.warning("sharing.publisher_interrupted", error=repr(error))
            except Exception:
                log.exception("sharing.publisher_failed")
            await backoff.wait()

    async def publish(self) -> bool:
        """State the next portion of one contract; False when nothing is due."""
        return await self._transactions.run(self._publish)

    async def _publish(self, tx: Tx) -> bool:
        flow = await store_flows.next_due(tx.conn, tx.now)
        if flow is None:
            return False
        last_change = await store_flows.hold_still(tx.conn, flow.product)
        product = await store.get_product(tx.conn, flow.product)
        left = _quota_left(flow, tx.now)
        if product is None or left <= 0:
            await store_flows.advance(
                tx.conn, flow, after_change=flow.after_change, next_at=_tomorrow(tx.now), rows=0, now=tx.now
            )
        elif last_change == flow.after_change:
            await _advance(tx, flow, flow.after_change, rows=0, done=True)
        elif flow.terms.HasField("aggregation"):
            await self._state_counts(tx, flow, product, last_change, left)
        else:
            await self._state_rows(tx, flow, product, min(left, CHANGES_PER_TRANSACTION_MAX))
        return True

    async def _state_rows(self, tx: Tx, flow: Flow, product: Product, limit: int) -> None:
        terms = flow.terms
        fields = stated_fields(product, terms)
        hashed = sum(one.masking == MASKING_HASH for one in masking.given(terms.fields).values())
        parameters = Parameters()
        try:
            where = chosen(parameters, terms.filter, _types(product), zone_codes(self._zones(), terms))
        except (Invalid, KeyError) as error:
            await _stop(tx, flow, repr(error))
            return
        portion = await store_flows.portion(
            tx.conn,
            product.name,
            fields,
            parameters,
            where,
            after=flow.after_change,
            limit=limit,
            block_bytes=BLOCK_BYTES_MAX,
            row_growth_bytes=1 + HASH_BYTES * hashed,
        )
        for block in portion.blocks:
            message = _message(flow, fields, block)
            message.key_fields.extend(product.key_fields)
            message.subject_fields.extend(product.subject_fields)
            _state(tx, flow, message, block)
        rows = sum(block.count for block in portion.blocks)
        await _advance(tx, flow, portion.last_change, rows=rows, done=portion.changes < limit)

    async def _state_counts(self, tx: Tx, flow: Flow, product: Product, last_change: int, left: int) -> None:
        """State all counts anew: they replace those given before, as a group may have become too small to be told."""
        terms, tree = flow.terms, self._zones()
        given = list(masking.given(terms.fields).values())
        place = _place(tree, terms, product.zone)
        parameters = Parameters()
        try:
            where = chosen(parameters, terms.filter, _types(product), zone_codes(tree, terms))
        except (Invalid, KeyError) as error:
            await _stop(tx, flow, repr(error))
            return
        query = counts(parameters, given, where, product.name, terms.aggregation.k)
        blocks = await store_flows.counted(tx.conn, query, parameters, place, block_bytes=BLOCK_BYTES_MAX)
        rows = sum(block.count for block in blocks)
        if rows > left:
            await _stop(tx, flow, f"{rows} counts are more than the quota of {terms.quota_rows_per_day} a day")
            return
        snapshot = new_id()
        for part, block in enumerate(blocks or [store_flows.Block(place, "[]", 0)]):
            message = _message(flow, [*(one.field for one in given), terms.aggregation.count_field], block)
            message.snapshot.id, message.snapshot.part = snapshot, part
            message.snapshot.last = part >= len(blocks) - 1
            _state(tx, flow, message, block)
        await _advance(tx, flow, last_change, rows=rows, done=True)


def stated_fields(product: Product, terms: Terms) -> list[str]:
    """Return the columns that federation needs: what is given, what identifies a row or the person that it is about,
    and what rows are chosen by.
    """
    needed = (*product.key_fields, *product.subject_fields, *rowfilter.fields_of(terms.filter))
    names = dict.fromkeys((*masking.given(terms.fields), *needed))
    return [name for name in names if product.field(name) is not None]


def zone_codes(tree: ZoneTree, terms: Terms | ReadForContractRequest) -> list[str] | None:
    """Return the codes of the zones that rows must be about, former ones included; None when they may be about any."""
    parts = [{*tree.codes(terms.zone)}] if terms.zone else []
    if terms.filter.zones:
        parts.append({code for zone in terms.filter.zones for code in tree.codes(zone)})
    return sorted(set.intersection(*parts)) if parts else None


def first_due(terms: Terms, now: datetime) -> datetime:
    """Return when rows are due for the first time."""
    return max(now, terms.valid_from.ToDatetime(UTC)) if terms.HasField("valid_from") else now


def _place(tree: ZoneTree, terms: Terms, zone: str) -> str:
    """Return the zone that counts are about: the widest that the terms allow."""
    within = [one for one in terms.filter.zones if not terms.zone or tree.covers(terms.zone, one)]
    return terms.zone if not terms.filter.zones and terms.zone else next(iter(within), terms.zone or zone)


def _message(flow: Flow, fields: Sequence[str], block: Block) -> ProductRowsWritten:
    return ProductRowsWritten(
        product=flow.product,
        version=flow.version,
        fields=fields,
        rows=block.rows.encode(),
        count=block.count,
        only_contract=flow.contract,
    )


def _state(tx: Tx, flow: Flow, message: ProductRowsWritten, block: Block) -> None:
    tx.publish(message, zone=block.zone, key=flow.product)
    tx.audit("sharing.rows.state", flow.product, contract=flow.contract, rows=block.count, zone=block.zone)


async def _advance(tx: Tx, flow: Flow, after_change: int, *, rows: int, done: bool) -> None:
    """Note how far a flow has got; one on schedule that has stated everything waits for its next time."""
    next_at = flow.next_at
    if done and flow.terms.mode == DELIVERY_MODE_PUSH_ON_SCHEDULE:
        next_at = following(flow.next_at, flow.terms.frequency, tx.now)
    await store_flows.advance(tx.conn, flow, after_change=after_change, next_at=next_at, rows=rows, now=tx.now)


async def _stop(tx: Tx, flow: Flow, why: str) -> None:
    """Nothing is given that the terms do not describe; a day later it is tried again."""
    log.error("sharing.flow_stopped", contract=flow.contract, why=why)
    tx.audit("sharing.rows.withhold", flow.product, contract=flow.contract, why=why)
    next_at = _tomorrow(tx.now)
    await store_flows.advance(tx.conn, flow, after_change=flow.after_change, next_at=next_at, rows=0, now=tx.now)


def following(due: datetime, frequency: str, now: datetime) -> datetime:
    """Return the first of the times `due`, `due` and one frequency, and so on, that is after now.

    What was missed is made up for once. A frequency that cannot be read counts as a day.
    """
    try:
        duration = durations.parse(frequency)
    except ValueError:
        return _tomorrow(now)
    times = max(0, (now - due) // (duration.shortest * 2)) if duration.months else (now - due) // duration.shortest
    while duration.after(due, times) <= now:
        times += 1
    return duration.after(due, times)


def _types(product: Product) -> dict[str, FieldType]:
    return {one.name: one.type for one in product.fields}


def _quota_left(flow: Flow, now: datetime) -> int:
    quota = flow.terms.quota_rows_per_day
    if not quota:
        return sys.maxsize
    return quota - (flow.quota_rows if flow.quota_day == now.date() else 0)


def _tomorrow(now: datetime) -> datetime:
    return datetime.combine(now.date() + timedelta(days=1), time(), UTC)
