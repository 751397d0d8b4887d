"""What whistles take in: those of other nodes, and who of other nodes' organisations came to the own ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from libs import names
from libs.errors import DomainError, Invalid
from services.management.convert import time_of
from services.management.whistles import stating, store_whistles
from services.management.whistles.convert_whistles import point_of, whistle_of
from services.management.whistles.model import WHISTLE_NAME, Arrival, report_in

if TYPE_CHECKING:
    from libs.tx import Tx
    from quintet.fact.v1.fact_pb2 import Fact
    from quintet.management.v1.facts_pb2 import WhistleChanged, WhistleReportedIn

log = structlog.get_logger()


class WhistleHandlers:
    """Keeps the whistles of other nodes beside the own ones, and takes in arrivals that were reported elsewhere."""

    def __init__(self, node: str) -> None:
        self._node = node

    async def whistle_changed(self, tx: Tx, fact: Fact, message: WhistleChanged) -> None:
        """Store another node's whistle as it is now. Raises Invalid for one that speaks for somebody else."""
        told = message.whistle
        if not fact.received_from or fact.node == self._node:
            return
        if told.node != fact.node:
            raise Invalid("whistle.node", f"{told.name} is of {told.node or 'no node'}, and {fact.node} speaks of it")
        if names.parse(told.name, WHISTLE_NAME, field="whistle.name")["zone"] != told.zone:
            raise Invalid("whistle.zone", f"{told.name} is not in {told.zone}")
        await store_whistles.put(tx.conn, whistle_of(told))

    async def reported_in(self, tx: Tx, fact: Fact, message: WhistleReportedIn) -> None:
        """Take in an arrival that another node's organisation reported there.

        What cannot be taken in, because the organisation is there already or the whistle is over, is left as it is: the
        node that reported hears how the whistle stands.
        """
        if not fact.received_from or fact.node == self._node:
            return
        whistle = await store_whistles.get(tx.conn, message.whistle, lock=True)
        if whistle is None or whistle.node != self._node:
            return
        at = min(time_of(message, "reported_at") or tx.now, tx.now)
        latitude, longitude = point_of(message, "position")
        arrival = Arrival(message.organisation, message.reported_by, at, latitude, longitude, message.note)
        try:
            after = report_in(whistle, arrival)
        except DomainError as error:
            log.info("management.arrival_not_taken", whistle=whistle.name, node=fact.node, error=str(error))
            return
        await store_whistles.update(tx.conn, after)
        stating.changed(tx, after, "report_in", message.organisation)
