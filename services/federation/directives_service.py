"""FederationService, the half about directives: giving them, looking at them, acknowledging, answering, taking back."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from libs import names, paging
from libs.access import current_caller
from quintet.federation.v1 import directive_pb2 as pb
from services.federation import directives_store
from services.federation.directive_rules import time_of
from services.federation.directives import NAME
from services.federation.directives_store import Kept, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.federation.directives import Directives

SEND = "federation.directives.send"
READ = "federation.directives.read"
ANSWER = "federation.directives.answer"
LIST_DEFAULT = 50
LIST_MAX = 500


class DirectivesHandler:
    """What the methods about directives do."""

    def __init__(
        self, node: str, transactions: Transactions, directives: Directives, zones: Callable[[], ZoneTree]
    ) -> None:
        self._node = node
        self._transactions = transactions
        self._directives = directives
        self._zones = zones

    async def send(self, request: pb.SendDirectiveRequest) -> pb.SendDirectiveResponse:
        caller = current_caller()
        caller.require(SEND, zone=request.directive.zone)

        async def work(tx: Tx) -> pb.SendDirectiveResponse:
            directive = await self._directives.send(tx, request.directive, caller.subject)
            return pb.SendDirectiveResponse(directive=directive)

        return await self._transactions.mutate(request, pb.SendDirectiveResponse, work)

    async def get(self, request: pb.GetDirectiveRequest) -> pb.GetDirectiveResponse:
        kept = await self._transactions.read(lambda conn: directives_store.get(conn, request.name))
        _require(READ, kept)
        return pb.GetDirectiveResponse(directive=kept.directive)

    async def page(self, request: pb.ListDirectivesRequest) -> pb.ListDirectivesResponse:
        size = paging.size(request.page_size, default=LIST_DEFAULT, most=LIST_MAX)
        of = f"directives {request.state} {request.zone} {request.direction}"
        after = paging.after(request.page_token, datetime, str, of=of)
        wanted = Wanted(
            state=request.state,
            zones=self._zones().codes(request.zone) if request.zone else (),
            sender=self._node if request.direction == pb.DIRECTIVE_DIRECTION_SENT else "",
            receiver=self._node if request.direction == pb.DIRECTIVE_DIRECTION_RECEIVED else "",
        )
        visible = current_caller().visibility(READ)

        async def read(conn: Connection) -> list[Kept]:
            return await directives_store.page(conn, visible, wanted, after, size + 1)

        page, token = paging.page(await self._transactions.read(read), size, _keys, of=of)
        return pb.ListDirectivesResponse(directives=[kept.directive for kept in page], next_page_token=token)

    async def acknowledge(self, request: pb.AcknowledgeDirectiveRequest) -> pb.AcknowledgeDirectiveResponse:
        async def work(tx: Tx) -> pb.AcknowledgeDirectiveResponse:
            _require(ANSWER, await directives_store.get(tx.conn, request.name, lock=True))
            directive = await self._directives.acknowledge(tx, request.name, current_caller().subject)
            return pb.AcknowledgeDirectiveResponse(directive=directive)

        return await self._transactions.mutate(request, pb.AcknowledgeDirectiveResponse, work)

    async def answer(self, request: pb.AnswerDirectiveRequest) -> pb.AnswerDirectiveResponse:
        async def work(tx: Tx) -> pb.AnswerDirectiveResponse:
            _require(ANSWER, await directives_store.get(tx.conn, request.name, lock=True))
            person = current_caller().subject
            directive = await self._directives.answer(tx, request.name, request.answer, person)
            return pb.AnswerDirectiveResponse(directive=directive)

        return await self._transactions.mutate(request, pb.AnswerDirectiveResponse, work)

    async def cancel(self, request: pb.CancelDirectiveRequest) -> pb.CancelDirectiveResponse:
        async def work(tx: Tx) -> pb.CancelDirectiveResponse:
            _require(SEND, await directives_store.get(tx.conn, request.name, lock=True))
            directive = await self._directives.cancel(tx, request.name, request.reason)
            return pb.CancelDirectiveResponse(directive=directive)

        return await self._transactions.mutate(request, pb.CancelDirectiveResponse, work)


def _require(permission: str, kept: Kept) -> None:
    """Raise Forbidden unless the caller has the right over the zone, the organisation it is for, or gave it."""
    current_caller().require(
        permission, zone=kept.directive.zone, organisation=kept.organisation or (), owner=kept.issuer
    )


def _keys(kept: Kept) -> tuple[datetime, str]:
    return time_of(kept.directive.issued_at), names.parse(kept.directive.name, NAME)["directive"]
