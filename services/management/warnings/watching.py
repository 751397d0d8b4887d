"""Looks at the indicators again and again, passes on what nobody acknowledged, and ends what has expired."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from libs.duty import on_duty
from libs.errors import DomainError
from quintet.management.v1.facts_pb2 import PublicWarningUnacknowledged
from services.management.convert import time_pb
from services.management.warnings import (
    figures,
    model_warning,
    store_indicators,
    store_receipts,
    store_warnings,
    texts,
)
from services.management.warnings.model_indicator import (
    Said,
    Turn,
    Watched,
    figure,
    judge,
    oldest_kept,
    step_at,
)
from services.management.warnings.model_warning import Change
from services.management.warnings.raising import RIGHT, clear_warning, raise_warning

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.management.warnings.announcing import Announcer
    from services.management.warnings.model_indicator import Indicator

LOOK_INTERVAL_S = 5.0
# The centre's list shows what sensors raised for so long; perception keeps them for good.
SENSOR_WARNINGS_KEEP_DAYS = 366
OVERDUE_BATCH_ROWS = 100
EXPIRED_BATCH_ROWS = 100
INDICATORS = "indicators/"
_EXPIRED = Said(texts.EXPIRED.zh, texts.EXPIRED.en)

log = structlog.get_logger()


class Watcher:
    """Background work that one replica does at a time."""

    def __init__(self, transactions: Transactions, zones: Callable[[], ZoneTree], announcer: Announcer) -> None:
        self._transactions = transactions
        self._zones = zones
        self._announcer = announcer

    async def run(self) -> None:
        """Look every LOOK_INTERVAL_S until cancelled."""
        while True:
            try:
                async with on_duty(self._transactions.pool, "warnings") as duty:
                    while True:
                        await self.look()
                        await duty.wait(LOOK_INTERVAL_S)
            except DomainError as error:
                log.warning("warnings.look_failed", error=str(error))
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def look(self) -> None:
        """Look at everything once, each indicator and each warning in a transaction of its own."""
        indicators = await self._transactions.read(
            lambda conn: store_indicators.page(conn, after="", limit=store_indicators.INDICATORS_MAX)
        )
        for indicator in indicators:
            await self._transactions.run(partial(self._look_at, indicator.name))
        await self._transactions.run(self._forget)
        while await self._transactions.run(self._escalate) == OVERDUE_BATCH_ROWS:
            pass
        while await self._transactions.run(self._expire) == EXPIRED_BATCH_ROWS:
            pass

    async def _look_at(self, name: str, tx: Tx) -> None:
        # As it is now: somebody may have put another version since the list was read.
        indicator = await store_indicators.get(tx.conn, name)
        if indicator is None:
            return
        if indicator.standing:
            things = await store_indicators.standing(tx.conn, indicator, tx.now)
            await store_indicators.sample(tx.conn, name, step_at(tx.now, 1), things)
        longest = tx.now - timedelta(days=store_indicators.STANDING_KEEP_DAYS)
        await store_indicators.prune(tx.conn, name, oldest_kept(indicator, tx.now), longest)
        if indicator.thresholds:
            await self._judge(tx, indicator)

    async def _forget(self, tx: Tx) -> None:
        await store_warnings.prune_sensors(tx.conn, tx.now - timedelta(days=SENSOR_WARNINGS_KEEP_DAYS))

    async def _judge(self, tx: Tx, indicator: Indicator) -> None:
        zones = sorted({zone for threshold in indicator.thresholds for zone in threshold.zones})
        buckets = await figures.present(tx.conn, self._zones(), indicator, zones, tx.now)
        watched = await store_indicators.watched(tx.conn, indicator.name)
        for zone in zones:
            value = figure(indicator.aggregation, buckets[zone])
            if value is not None:
                await self._judge_zone(tx, indicator, zone, value, watched)

    async def _judge_zone(
        self, tx: Tx, indicator: Indicator, zone: str, value: float, watched: dict[tuple[int, str], Watched]
    ) -> None:
        """Judge all thresholds that watch a zone, the gravest first, so that one warning says the gravest."""
        back = False
        for threshold in sorted(indicator.thresholds, key=lambda each: each.level):
            if zone not in threshold.zones:
                continue
            key = threshold.level, zone
            before = watched.get(key, Watched())
            after, turn = judge(threshold, before, value, tx.now)
            watched[key] = after
            if after != before:
                await store_indicators.watch(tx.conn, indicator.name, threshold.level, zone, after)
            if turn is Turn.CROSSED:
                await raise_warning(tx, self._announcer, indicator, threshold, zone, value, after)
            back = back or turn is Turn.BACK
        if back and not any(one.crossed for (_, watched_zone), one in watched.items() if watched_zone == zone):
            await clear_warning(tx, self._announcer, indicator, zone, value)

    async def _escalate(self, tx: Tx) -> int:
        """Pass on what was not acknowledged in time, once per recipient; return how many there were."""
        late = await store_receipts.overdue(tx.conn, tx.now, OVERDUE_BATCH_ROWS)
        for receipt in late:
            warning = await store_warnings.get(tx.conn, receipt.warning)
            content = warning.content if warning else None
            if warning is None or content is None:
                continue
            to = content.escalate_to if content.escalate_to != receipt.recipient else ""
            within = timedelta(minutes=content.acknowledge_minutes)
            await store_receipts.escalate(tx.conn, receipt, to, within, tx.now)
            message = PublicWarningUnacknowledged(
                warning=warning.name, recipient=receipt.recipient, escalated_to=to, due_at=time_pb(receipt.due_at)
            )
            tx.publish(message, zone=warning.zone, key=warning.name)
            tx.audit(f"{RIGHT}.escalate", warning.name, recipient=receipt.recipient, escalated_to=to)
        return len(late)

    async def _expire(self, tx: Tx) -> int:
        """End what has expired; return how many there were."""
        expired = await store_warnings.lock_expired(tx.conn, tx.now, EXPIRED_BATCH_ROWS)
        for warning in expired:
            await self._announcer.tell(tx, model_warning.end(warning, _EXPIRED, tx.now), Change.ENDED)
            if warning.source.startswith(INDICATORS):
                # Where the figure is still beyond its threshold, the next look raises a warning anew.
                await store_indicators.forget_crossing(tx.conn, warning.source, warning.zone)
            tx.audit(f"{RIGHT}.expire", warning.name)
        return len(expired)
