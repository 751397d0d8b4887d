"""What deadlines take in: the ledgers of other nodes, under a tier charter, and citizens who are not satisfied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from libs.errors import WrongState
from services.management import store_events
from services.management.convert import time_of
from services.management.deadlines import store_exceptions
from services.management.deadlines.convert_exceptions import entry_of, kind_of, state_of
from services.management.deadlines.model_exceptions import Kind

if TYPE_CHECKING:
    from libs.tx import Tx
    from quintet.delivery.v1.facts_pb2 import RequestReopened
    from quintet.fact.v1.fact_pb2 import Fact
    from quintet.management.v1 import facts_pb2
    from services.management.deadlines.ledger import Ledger
    from services.management.facts_mirrored import MirrorHandlers

log = structlog.get_logger()


class LedgerHandlers:
    """Keeps the ledgers of other nodes beside the own one, and reopens what citizens call not solved."""

    def __init__(self, node: str, mirrored: MirrorHandlers, ledger: Ledger) -> None:
        self._node = node
        self._mirrored = mirrored
        self._ledger = ledger

    async def request_reopened(self, tx: Tx, _fact: Fact, message: RequestReopened) -> None:
        """Reopen the event of a request, if this node handles it. In the ledger the request stands for its reporter.

        Delivery has checked the window. What cannot be reopened all the same, because another reporter was faster or
        the event moved on, is left as it is.
        """
        event = await store_events.lock(tx.conn, message.event)
        if event is None or event.node != self._node:
            return
        if await store_events.event_for(tx.conn, message.request) != event.name:
            log.warning("management.reopening_of_another_event", request=message.request, about=message.event)
            return
        asked_at = min(time_of(message, "asked_at") or tx.now, tx.now)
        try:
            await self._ledger.record(tx, event, Kind.REOPEN, message.reason, actor=message.request, asked_at=asked_at)
        except WrongState as error:
            log.info("management.not_reopened", request=message.request, about=message.event, error=str(error))

    async def exception_changed(self, tx: Tx, fact: Fact, message: facts_pb2.ExceptionChanged) -> None:
        """Store an entry as it is now. Raises Invalid for one that speaks for another node."""
        entry = message.exception
        if not self._mirrored.is_mirrored(fact, entry.event, message.zone, message.node):
            return
        if not await self._mirrored.is_home(tx, fact, entry.event, entry.revision):
            return
        kind, state = kind_of(entry.kind), state_of(entry.state)
        if kind is None or state is None:
            log.warning("management.exception_not_understood", exception=entry.name, node=message.node)
            return
        told = entry_of(entry, zone=message.zone, node=message.node, kind=kind, state=state)
        await store_exceptions.put(tx.conn, told)
        if told.ended_at is not None:
            await store_exceptions.end_suspension(tx.conn, told.event, told.node, told.ended_at)
