"""Facts counted into indicators, in the transaction that marks each fact as taken: each counts once."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from services.management.warnings import fields, store_indicators
from services.management.warnings.model_indicator import Bucket, oldest_kept, step_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.message import Message

    from libs.inbox import Handler
    from libs.tx import Tx
    from libs.zones import ZoneTree
    from quintet.fact.v1.fact_pb2 import Fact
    from services.management.warnings.model_indicator import Indicator, Selector


class Observer:
    """Counts what the node's indicators ask for. A fact counts where it is about: in its zone, by its present code."""

    def __init__(self, zones: Callable[[], ZoneTree]) -> None:
        self._zones = zones
        # The indicators as the transaction of the present batch sees them, so that a batch asks once.
        self._of: Tx | None = None
        self._indicators: list[Indicator] = []

    async def observe(self, tx: Tx, fact: Fact, message: Message) -> None:
        if self._of is not tx:
            self._indicators = await store_indicators.page(tx.conn, after="", limit=store_indicators.INDICATORS_MAX)
            self._of = tx
        for indicator in self._indicators:
            if indicator.standing:
                await self._stand(tx, indicator, fact, message)
            elif _meant(indicator.facts, fact, message):
                await self._count(tx, indicator, fact, message)

    async def _count(self, tx: Tx, indicator: Indicator, fact: Fact, message: Message) -> None:
        at = fact.time.ToDatetime(tzinfo=UTC)
        step = step_at(at, indicator.step_minutes)
        if step < oldest_kept(indicator, tx.now) or at < indicator.counted_since:
            return
        value = fields.number(message, indicator.field) if indicator.field else 0.0
        if value is not None:
            zone = self._zone(fact)
            await store_indicators.add(tx.conn, indicator.name, step, zone, Bucket(1, value, value, value, at))

    async def _stand(self, tx: Tx, indicator: Indicator, fact: Fact, message: Message) -> None:
        if _meant(indicator.ends, fact, message):
            await store_indicators.end(tx.conn, indicator.name, fact.key)
        elif _meant(indicator.facts, fact, message):
            due_at = fields.due(message, indicator.due_field)
            at = fact.time.ToDatetime(tzinfo=UTC)
            zone = self._zone(fact)
            await store_indicators.stand(tx.conn, indicator.name, fact.key, zone, at, due_at)

    def _zone(self, fact: Fact) -> str:
        tree = self._zones()
        return tree.canonical(fact.zone) if fact.zone else tree.root


def _meant(selectors: tuple[Selector, ...], fact: Fact, message: Message) -> bool:
    return any(selector.type == fact.type and fields.matches(selector, message) for selector in selectors)


def observed(handlers: Mapping[type[Message], Handler], observer: Observer) -> dict[type[Message], Handler]:
    """Return the handlers with the observer behind each, and alone for what only indicators read."""

    def both(handle: Handler) -> Handler:
        async def run(tx: Tx, fact: Fact, message: Message) -> None:
            await handle(tx, fact, message)
            await observer.observe(tx, fact, message)

        return run

    readable = set(fields.OBSERVABLE.values())
    found = {kind: both(handle) if kind in readable else handle for kind, handle in handlers.items()}
    return found | {kind: observer.observe for kind in readable if kind not in found}
