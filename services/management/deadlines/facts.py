"""What deadlines take in from other nodes: their ledgers, under a tier charter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from services.management.deadlines import store_exceptions
from services.management.deadlines.convert_exceptions import entry_of, kind_of, state_of

if TYPE_CHECKING:
    from libs.tx import Tx
    from quintet.fact.v1.fact_pb2 import Fact
    from quintet.management.v1 import facts_pb2
    from services.management.facts_mirrored import MirrorHandlers

log = structlog.get_logger()


class LedgerHandlers:
    """Keeps the ledgers of other nodes beside the own one."""

    def __init__(self, mirrored: MirrorHandlers) -> None:
        self._mirrored = mirrored

    async def exception_changed(self, tx: Tx, fact: Fact, message: facts_pb2.ExceptionChanged) -> None:
        """Store an entry as it is now. Raises Invalid for one that speaks for another node."""
        entry = message.exception
        if not self._mirrored.is_mirrored(fact, entry.event, message.zone, message.node):
            return
        kind, state = kind_of(entry.kind), state_of(entry.state)
        if kind is None or state is None:
            log.warning("management.exception_not_understood", exception=entry.name, node=message.node)
            return
        told = entry_of(entry, zone=message.zone, node=message.node, kind=kind, state=state)
        await store_exceptions.put(tx.conn, told)
        if told.ended_at is not None:
            await store_exceptions.end_suspension(tx.conn, told.event, told.node, told.ended_at)
