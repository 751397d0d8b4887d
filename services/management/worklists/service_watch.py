"""Streams of the changes of a list."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from libs.access import current_caller, renewed_caller
from quintet.management.v1 import worklists_pb2 as pb
from services.management import convert
from services.management.service_base import READ
from services.management.worklists.convert_work import counts_pb
from services.management.worklists.service_base import day_end
from services.management.worklists.service_lists import ListMethods
from services.management.worklists.watch import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import datetime

    from services.management.service_base import Context
    from services.management.worklists.feed import Follower
    from services.management.worklists.watch import Told

# How long a stream goes on after the caller's rights or token have ended.
RIGHTS_CHECK_S = 1.0
# Counting a long list takes longer than finding its changes.
COUNT_INTERVAL_S = 2.0
# Something is said at least this often, so that the token stays young and the counts follow the clock.
HEARTBEAT_S = 15.0
POSITION_MAX = 2**63 - 1

_ADDED, _CHANGED, _REMOVED = (
    pb.WORK_CHANGE_KIND_ADDED, pb.WORK_CHANGE_KIND_CHANGED, pb.WORK_CHANGE_KIND_REMOVED,
)  # fmt: skip


class WatchMethods(ListMethods):
    """Methods that go on telling."""

    async def WatchWork(
        self, request: pb.WatchWorkRequest, _context: Context
    ) -> AsyncGenerator[pb.WatchWorkResponse, None]:
        async with self._beside.feed.follow() as follower:
            watch = self._watch(request)
            begun = await watch.begin(min(int(request.watch_token or 0), POSITION_MAX))
            if begun.told is None:
                yield _again(pb.WORK_LIST_AGAIN_TOO_MANY_CHANGES if begun.too_many else pb.WORK_LIST_AGAIN_TOKEN_OLD)
                return
            yield self._response(request, begun.told, begun.position)
            async for response in self._follow(request, watch, follower, begun.position):
                yield response

    async def _follow(
        self, request: pb.WatchWorkRequest, watch: Watch, follower: Follower, position: int
    ) -> AsyncGenerator[pb.WatchWorkResponse, None]:
        clock = asyncio.get_running_loop().time
        said_at = counted_at = clock()
        is_stale = False  # the counts are
        while True:
            await follower.wait(RIGHTS_CHECK_S)
            await renewed_caller()
            now = self._transactions.clock.now()
            if not watch.is_of(self._work(request.parent, request.inbox, request.filter, now)):
                yield _again(pb.WORK_LIST_AGAIN_RIGHTS_CHANGED)
                return
            taken = follower.take()
            if taken.lost or watch.is_full:
                yield _again(pb.WORK_LIST_AGAIN_TOO_MANY_CHANGES)
                return
            is_due = clock() - said_at >= HEARTBEAT_S
            counts = is_due or (is_stale and clock() - counted_at >= COUNT_INTERVAL_S)
            told = await watch.look(taken.events, now, count=counts)
            position = max(position, taken.position)
            is_stale = told.is_news or (is_stale and not counts)
            counted_at = clock() if counts else counted_at
            if told.is_news or told.counts or is_due:
                said_at = clock()
                yield self._response(request, told, position)

    def _watch(self, request: pb.WatchWorkRequest) -> Watch:
        work = self._work(request.parent, request.inbox, request.filter, self._transactions.clock.now())
        zones = self._zones().codes(convert.zone_of(request.parent))
        visible = current_caller().visibility(READ)
        return Watch(self._transactions, work, zones, visible, self._day_end)

    def _day_end(self, now: datetime) -> datetime:
        return day_end(now, self._beside.timezone)

    def _response(self, request: pb.WatchWorkRequest, told: Told, position: int) -> pb.WatchWorkResponse:
        caller, now = current_caller(), self._transactions.clock.now()
        changes = [
            pb.WorkChange(kind=kind, name=item.event.name, item=item)
            for kind, events in ((_ADDED, told.added), (_CHANGED, told.changed))
            for item in self._items(caller, events, now)
        ]
        changes += [pb.WorkChange(kind=_REMOVED, name=name) for name in told.removed]
        counts = counts_pb(request.inbox, told.counts) if told.counts else None
        return pb.WatchWorkResponse(changes=changes, counts=counts, watch_token=str(position))


def _again(why: pb.WorkListAgain.ValueType) -> pb.WatchWorkResponse:
    return pb.WatchWorkResponse(list_again=why)
