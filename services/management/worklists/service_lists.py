"""Work lists and their counts."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import Invalid
from quintet.management.v1 import worklists_pb2 as pb
from services.management.worklists import store_changes, store_work
from services.management.worklists.convert_work import INBOXES, ORDERS, counts_pb
from services.management.worklists.service_base import WorkMethods, day_end

if TYPE_CHECKING:
    from libs.db import Connection
    from services.management.service_base import Context
    from services.management.worklists.store_work import Counts, Row

WORK_PAGE_SIZE = 50
WORK_PAGE_SIZE_MAX = 500


class ListMethods(WorkMethods):
    """Methods that read lists once."""

    async def ListWork(self, request: pb.ListWorkRequest, _context: Context) -> pb.ListWorkResponse:
        order = ORDERS[request.order]
        work = self._work(request.parent, request.inbox, request.filter, self._transactions.clock.now())
        narrowed = request.filter.SerializeToString(deterministic=True).hex()
        of = f"work {order} {request.parent} {request.inbox} {narrowed}"
        size = paging.size(request.page_size, default=WORK_PAGE_SIZE, most=WORK_PAGE_SIZE_MAX)
        after = paging.after(request.page_token, datetime, int, of=of)

        async def read(conn: Connection) -> tuple[list[Row], int]:
            rows = await store_work.list_work(conn, work, order, after=after, limit=size + 1)
            # Only who begins a list can go on from it to its changes: later pages are as of later moments.
            return rows, 0 if after else await store_changes.position(conn)

        rows, position = await self._transactions.read(read)
        page, token = paging.page(rows, size, lambda row: (row[0], row[1].id), of=of)
        items = self._items(current_caller(), (event for _, event in page), work.now)
        return pb.ListWorkResponse(items=items, next_page_token=token, watch_token=str(position or ""))

    async def CountWork(self, request: pb.CountWorkRequest, _context: Context) -> pb.CountWorkResponse:
        inboxes = list(request.inboxes) or list(INBOXES)
        if len(set(inboxes)) < len(inboxes):
            raise Invalid("inboxes", "must name each inbox once")
        now = self._transactions.clock.now()
        asked = [self._work(request.parent, inbox, request.filter, now) for inbox in inboxes]
        end = day_end(now, self._beside.timezone)

        async def read(conn: Connection) -> list[Counts]:
            return [await store_work.count_work(conn, work, end) for work in asked]

        counts = zip(inboxes, await self._transactions.read(read), strict=True)
        return pb.CountWorkResponse(counts=[counts_pb(inbox, each) for inbox, each in counts])
