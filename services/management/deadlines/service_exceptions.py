"""The servicer of ExceptionService."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import NotFound, Reason
from quintet.management.v1 import exceptions_pb2 as pb
from quintet.management.v1.exceptions_pb2_grpc import ExceptionServiceServicer
from services.management.convert import zone_of
from services.management.deadlines import store_exceptions
from services.management.deadlines.convert_exceptions import entry_pb, kind_of, state_of, wanted_of
from services.management.deadlines.ledger import Ledger, new_name
from services.management.deadlines.model_exceptions import approve, ask, refuse, withdraw
from services.management.service_base import READ, Context, Methods

if TYPE_CHECKING:
    from libs.access import Caller
    from libs.tx import Tx
    from services.management.deadlines.model_exceptions import Entry
    from services.management.model import Event

ASK = "management.exceptions.ask"
DECIDE = "management.exceptions.decide"
PAGE_SIZE = 50
PAGE_SIZE_MAX = 500


class ExceptionServicer(Methods, ExceptionServiceServicer):
    """The ledger of exceptions of one node."""

    @property
    def _ledger(self) -> Ledger:
        return Ledger(self._loops, self._book)

    async def AskException(self, request: pb.AskExceptionRequest, _context: Context) -> pb.AskExceptionResponse:
        return await self._transactions.mutate(request, pb.AskExceptionResponse, partial(self._ask, request))

    async def _ask(self, request: pb.AskExceptionRequest, tx: Tx) -> pb.AskExceptionResponse:
        event, caller = await self._lock_own(tx, request.event, ASK)
        rules = await self._ledger.rules(tx, event)
        entry = ask(event, rules, wanted_of(request), name=new_name(event), actor=caller.subject, now=tx.now)
        await self._ledger.add(tx, event, entry)
        return pb.AskExceptionResponse(exception=entry_pb(entry))

    async def DecideException(
        self, request: pb.DecideExceptionRequest, _context: Context
    ) -> pb.DecideExceptionResponse:
        return await self._transactions.mutate(request, pb.DecideExceptionResponse, partial(self._decide, request))

    async def _decide(self, request: pb.DecideExceptionRequest, tx: Tx) -> pb.DecideExceptionResponse:
        event, entry, caller = await self._lock_entry(tx, request.name, DECIDE)
        if not request.approve:
            refused = refuse(entry, note=request.note, actor=caller.subject, now=tx.now)
            await self._ledger.settle(tx, event, refused)
            return pb.DecideExceptionResponse(exception=entry_pb(refused))
        rules = await self._ledger.rules(tx, event)
        effect = approve(event, rules, entry, note=request.note, actor=caller.subject, now=tx.now)
        approved = await self._ledger.take_effect(tx, effect, rules, new=False)
        return pb.DecideExceptionResponse(exception=entry_pb(approved))

    async def WithdrawException(
        self, request: pb.WithdrawExceptionRequest, _context: Context
    ) -> pb.WithdrawExceptionResponse:
        return await self._transactions.mutate(request, pb.WithdrawExceptionResponse, partial(self._withdraw, request))

    async def _withdraw(self, request: pb.WithdrawExceptionRequest, tx: Tx) -> pb.WithdrawExceptionResponse:
        event, entry, caller = await self._lock_entry(tx, request.name, ASK)
        withdrawn = withdraw(entry, actor=caller.subject, now=tx.now)
        await self._ledger.settle(tx, event, withdrawn)
        return pb.WithdrawExceptionResponse(exception=entry_pb(withdrawn))

    async def EndSuspension(self, request: pb.EndSuspensionRequest, _context: Context) -> pb.EndSuspensionResponse:
        return await self._transactions.mutate(request, pb.EndSuspensionResponse, partial(self._end, request))

    async def _end(self, request: pb.EndSuspensionRequest, tx: Tx) -> pb.EndSuspensionResponse:
        event, caller = await self._lock_own(tx, request.event, ASK)
        entry = await self._ledger.resume(tx, event, request.reason, actor=caller.subject)
        return pb.EndSuspensionResponse(exception=entry_pb(entry))

    async def ListExceptions(self, request: pb.ListExceptionsRequest, _context: Context) -> pb.ListExceptionsResponse:
        zone = zone_of(request.parent)
        query = store_exceptions.Query(
            zones=self._zones().codes(zone),
            event=request.event,
            state=state_of(request.state) or "",
            kind=kind_of(request.kind) or "",
        )
        of = f"exceptions {zone} {query.event} {query.state} {query.kind}"
        size = paging.size(request.page_size, default=PAGE_SIZE, most=PAGE_SIZE_MAX)
        after = paging.after(request.page_token, datetime, int, of=of)
        visible = current_caller().visibility(READ)
        rows = await self._transactions.read(
            lambda conn: store_exceptions.list_entries(conn, query, visible, after=after, limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda row: (row[1].asked_at, row[0]), of=of)
        return pb.ListExceptionsResponse(exceptions=[entry_pb(entry) for _, entry in page], next_page_token=token)

    async def _lock_entry(self, tx: Tx, name: str, permission: str) -> tuple[Event, Entry, Caller]:
        """Return an entry and its event, locked, and the caller who may touch them. Raises like `_lock_own`."""
        event, caller = await self._lock_own(tx, name.rpartition("/exceptions/")[0], permission)
        entry = await store_exceptions.get(tx.conn, name)
        if entry is None:
            raise NotFound(Reason.EXCEPTION_NOT_FOUND, f"{name} does not exist", name=name)
        return event, entry, caller
