"""The servicer of LoopService."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import Invalid, NotFound, Reason, WrongState
from quintet.management.v1 import loops_pb2 as pb
from quintet.management.v1.loops_pb2_grpc import LoopServiceServicer
from services.management.catalogue import store_loops
from services.management.catalogue.convert_loops import loop_pb
from services.management.loop_yaml import LoopError, parse_loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.management.catalogue.book import LoopBook
    from services.management.model_loop import Loop
    from services.management.service_base import Context

_LIST = "loops"


class LoopServicer(LoopServiceServicer):
    """Loops of one node."""

    def __init__(self, transactions: Transactions, zones: Callable[[], ZoneTree], loops: LoopBook) -> None:
        self._transactions = transactions
        self._zones = zones
        self._loops = loops

    async def PutLoop(self, request: pb.PutLoopRequest, _context: Context) -> pb.PutLoopResponse:
        try:
            wanted = parse_loop(request.definition, "definition")
        except LoopError as error:
            faults = [("definition", f"line {fault.line}: {fault.key}: {fault.rule}") for fault in error.faults]
            raise Invalid.many(faults) from error
        return await self._transactions.mutate(request, pb.PutLoopResponse, partial(self._put, request, wanted))

    async def _put(self, request: pb.PutLoopRequest, wanted: Loop, tx: Tx) -> pb.PutLoopResponse:
        # A loop counts in the whole node, so whoever writes it needs the right in the whole node.
        caller = current_caller()
        caller.require("management.loops.write", zone=self._zones().root)
        present = await store_loops.get(tx.conn, wanted.name)
        if present is not None and present.shipped:
            text = f"{wanted.name} comes with the software: give yours another name"
            raise WrongState(Reason.LOOP_SHIPPED, text, loop=wanted.name)
        stored = await store_loops.put(
            tx.conn, wanted.name, request.definition, shipped=False, actor=caller.subject, now=tx.now
        )
        if stored.changed:
            tx.audit("management.loops.put", stored.name, version=stored.version)
            tx.after_commit(partial(self._loops.keep, stored.loop))
        return pb.PutLoopResponse(loop=loop_pb(stored), changed=stored.changed)

    async def GetLoop(self, request: pb.GetLoopRequest, _context: Context) -> pb.GetLoopResponse:
        found = await self._transactions.look(lambda conn: store_loops.get(conn, request.name, request.version))
        if found is None:
            text = f"{request.name} does not exist" + (f" in version {request.version}" if request.version else "")
            raise NotFound(Reason.LOOP_NOT_FOUND, text, name=request.name)
        return pb.GetLoopResponse(loop=loop_pb(found), definition=found.definition)

    async def ListLoops(self, request: pb.ListLoopsRequest, _context: Context) -> pb.ListLoopsResponse:
        size = paging.size(request.page_size)
        after = paging.after(request.page_token, str, of=_LIST)
        rows = await self._transactions.look(
            lambda conn: store_loops.list_loops(conn, after=after[0] if after else "", limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda found: (found.name,), of=_LIST)
        return pb.ListLoopsResponse(loops=[loop_pb(found) for found in page], next_page_token=token)
