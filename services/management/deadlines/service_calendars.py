"""The servicer of CalendarService."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import NotFound, Reason
from quintet.management.v1 import calendars_pb2 as pb
from quintet.management.v1.calendars_pb2_grpc import CalendarServiceServicer
from services.management.deadlines import store_calendars
from services.management.deadlines.convert_calendars import calendar_of, calendar_pb
from services.management.deadlines.model_calendar import ALWAYS, ALWAYS_NAME, check

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.management.deadlines.book import Book
    from services.management.deadlines.model_calendar import Calendar
    from services.management.service_base import Context

_LIST = "calendars"


class CalendarServicer(CalendarServiceServicer):
    """Calendars of one node."""

    def __init__(self, transactions: Transactions, zones: Callable[[], ZoneTree], book: Book) -> None:
        self._transactions = transactions
        self._zones = zones
        self._book = book

    async def PutCalendar(self, request: pb.PutCalendarRequest, _context: Context) -> pb.PutCalendarResponse:
        return await self._transactions.mutate(request, pb.PutCalendarResponse, partial(self._put, request))

    async def _put(self, request: pb.PutCalendarRequest, tx: Tx) -> pb.PutCalendarResponse:
        wanted = calendar_of(request.calendar)
        check(wanted)
        # A calendar counts in the whole node, so whoever writes it needs the right in the whole node.
        caller = current_caller()
        caller.require("management.calendars.write", zone=self._zones().root)
        stored, changed = await store_calendars.put(tx.conn, wanted, actor=caller.subject, now=tx.now)
        if changed:
            tx.audit("management.calendars.put", stored.name, version=stored.version)
            tx.after_commit(self._book.drop_calendars)
        return pb.PutCalendarResponse(calendar=calendar_pb(stored), changed=changed)

    async def GetCalendar(self, request: pb.GetCalendarRequest, _context: Context) -> pb.GetCalendarResponse:
        async def read(conn: Connection) -> Calendar | None:
            if request.name == ALWAYS_NAME and not request.version:
                return ALWAYS
            return await store_calendars.get(conn, request.name, request.version)

        found = await self._transactions.read(read)
        if found is None:
            text = f"{request.name} does not exist" + (f" in version {request.version}" if request.version else "")
            raise NotFound(Reason.CALENDAR_NOT_FOUND, text, name=request.name)
        return pb.GetCalendarResponse(calendar=calendar_pb(found))

    async def ListCalendars(self, request: pb.ListCalendarsRequest, _context: Context) -> pb.ListCalendarsResponse:
        size = paging.size(request.page_size)
        token = paging.after(request.page_token, str, of=_LIST)
        rows = await self._transactions.read(
            lambda conn: store_calendars.list_all(conn, after=token[0] if token else "", limit=size + 1)
        )
        # The built-in one stands before all that the store knows: whoever has its key has seen it, and nothing else.
        rows = rows if token else [ALWAYS, *rows]
        page, next_token = paging.page(
            rows, size, lambda calendar: ("" if calendar is ALWAYS else calendar.name,), of=_LIST
        )
        return pb.ListCalendarsResponse(
            calendars=[calendar_pb(calendar) for calendar in page], next_page_token=next_token
        )
