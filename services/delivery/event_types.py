"""Whether an event type may be reported: management's word, remembered for a short while."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from libs.errors import Away, Invalid, NotFound
from quintet.management.v1.management_pb2 import GetEventTypeRequest
from quintet.management.v1.management_pb2_grpc import ManagementServiceStub

if TYPE_CHECKING:
    import grpc

    from libs.clock import Clock

CACHE_LIFE_S = 60
# While management is away its last word counts for so long: a report that nobody takes is worse than an old answer.
CACHE_STALE_MAX_S = 3600
CACHED_TYPES_MAX = 1000


@dataclass(frozen=True, slots=True)
class _Known:
    retired: bool
    asked_at: datetime


class EventTypes:
    """Asks management. Types that are not known are asked for each time: they may have been added just now."""

    def __init__(self, management: grpc.aio.Channel, clock: Clock) -> None:
        self._management = ManagementServiceStub(management)
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def check(self, name: str) -> None:
        """Raise Invalid for a type that is not known or retired, and Away when management does not say."""
        known = self._known.get(name)
        if known is None or self._age(known) > timedelta(seconds=CACHE_LIFE_S):
            known = await self._ask(name, known)
        if known is None:
            raise Invalid("type", "is not a known event type")
        if known.retired:
            raise Invalid("type", "is retired and takes no new reports")

    async def _ask(self, name: str, before: _Known | None) -> _Known | None:
        try:
            response = await self._management.GetEventType(GetEventTypeRequest(name=name))
        except NotFound:
            self._known.pop(name, None)
            return None
        except Away:
            if before is not None and self._age(before) <= timedelta(seconds=CACHE_STALE_MAX_S):
                return before
            raise
        known = self._known[name] = _Known(response.event_type.retired, self._clock.now())
        self._known.move_to_end(name)
        while len(self._known) > CACHED_TYPES_MAX:
            self._known.popitem(last=False)
        return known

    def _age(self, known: _Known) -> timedelta:
        return self._clock.now() - known.asked_at
