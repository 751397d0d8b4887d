"""Ratings of requests become ratings of events: heard at the node that handles the event, told upwards."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import structlog

from quintet.management.v1 import facts_pb2
from services.management import store_events, store_mirror
from services.management.convert import time_of, time_pb, zone_of
from services.management.model import EVENT_NAME
from services.management.performance import store_ratings

if TYPE_CHECKING:
    from libs.tx import Tx
    from quintet.delivery.v1.facts_pb2 import RequestRated
    from quintet.fact.v1.fact_pb2 import Fact
    from services.management.facts_mirrored import MirrorHandlers

RATINGS = range(1, 6)

log = structlog.get_logger()


class RatingHandlers:
    """Keeps how reporters rated events, of this node and of those below it."""

    def __init__(self, node: str, mirrored: MirrorHandlers) -> None:
        self._node = node
        self._mirrored = mirrored

    async def request_rated(self, tx: Tx, fact: Fact, message: RequestRated) -> None:
        """Keep the rating of a request whose event this node handles, and state it. Others hear it from its node."""
        if await store_mirror.node_of(tx.conn, message.event) != self._node:
            return
        if await store_events.event_for(tx.conn, message.request) != message.event:
            log.warning("management.rating_of_another_event", request=message.request, about=message.event)
            return
        rated_at = min(fact.time.ToDatetime(tzinfo=UTC), tx.now)
        if message.rating not in RATINGS:
            log.warning("management.rating_not_understood", request=message.request, rating=message.rating)
            return
        if await store_ratings.put(tx.conn, message.event, message.request, message.rating, rated_at):
            zone = zone_of(message.event, EVENT_NAME, field="event")
            stated = facts_pb2.EventRated(
                event=message.event,
                request=message.request,
                rating=message.rating,
                rated_at=time_pb(rated_at),
                zone=zone,
                node=self._node,
            )
            tx.publish(stated, zone=zone, key=message.event)
            tx.audit("management.events.rate", message.event, rating=message.rating)

    async def event_rated(self, tx: Tx, fact: Fact, message: facts_pb2.EventRated) -> None:
        """Keep the rating of another node's event. Raises Invalid for one that speaks for somebody else."""
        if not self._mirrored.is_mirrored(fact, message.event, message.zone, message.node):
            return
        if message.rating in RATINGS and await self._mirrored.is_home(tx, fact, message.event, 0):
            rated_at = time_of(message, "rated_at") or fact.time.ToDatetime(tzinfo=UTC)
            await store_ratings.put(tx.conn, message.event, message.request, message.rating, rated_at)
