"""RequestService: requests are taken, followed and rated."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from libs import names, paging
from libs.access import current_caller
from libs.errors import Away, Forbidden, Invalid, Reason, Stale, WrongState
from libs.ids import new_id
from quintet.delivery.v1 import delivery_pb2 as pb
from quintet.delivery.v1.delivery_pb2_grpc import RequestServiceServicer
from services.delivery import deadlines_store, events_store, follow_ups_store, messages, model, store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from libs.access import Caller
    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from libs.zone_directory import ZoneDirectory
    from libs.zones import Resolution
    from services.delivery.event_types import EventTypes
    from services.delivery.model import Asked, Deadlines, Draft, Request, Step

READ = "delivery.requests.read"
RATE = "delivery.requests.rate"
REOPEN = "delivery.requests.reopen"
READ_CONTACTS = "delivery.contacts.read"

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 500
UPDATES_MAX = 500
# With a million requests a day already there, so many numbers in a row are taken once in 10^24 filings.
NUMBER_ATTEMPTS = 8

Context = Any


class RequestServicer(RequestServiceServicer):
    """Requests of one node. `timezone` is the node's, for the date in a number."""

    def __init__(
        self,
        transactions: Transactions,
        zones: ZoneDirectory,
        event_types: EventTypes,
        *,
        node: str,
        timezone: tzinfo,
    ) -> None:
        self._transactions = transactions
        self._zones = zones
        self._event_types = event_types
        self._node = node
        self._timezone = timezone

    async def FileRequest(self, request: pb.FileRequestRequest, _: Context) -> pb.FileRequestResponse:
        reporter = current_caller().subject
        try:
            await self._event_types.check(request.type)
        except (Invalid, Away):
            # What was taken once stays taken, also when its type has been retired since.
            before = await self._transactions.read(lambda conn: store.find(conn, reporter, request.external_id))
            if before is None:
                raise
        draft = messages.draft(request)

        async def file(tx: Tx) -> pb.FileRequestResponse:
            kept = await store.find(tx.conn, reporter, draft.external_id) or await self._add(tx, draft, reporter)
            return pb.FileRequestResponse(request=messages.request_message(kept, personal=True))

        return await self._transactions.mutate(request, pb.FileRequestResponse, file)

    async def GetRequest(self, request: pb.GetRequestRequest, _: Context) -> pb.GetRequestResponse:
        parts = names.parse(request.name, model.NAME)

        async def read(conn: Connection) -> tuple[Request | None, Sequence[Step], Deadlines, Asked | None]:
            found = await store.get(conn, parts["zone"], parts["request"])
            if found is None or not found.event:
                return found, model.steps_seen(found, []) if found else [], model.Deadlines(), None
            asked = await follow_ups_store.asked(conn, found.id)
            return found, await _seen(conn, found), await deadlines_store.of_event(conn, found.event), asked

        found, seen, deadlines, asked = await self._transactions.read(read)
        caller = current_caller()
        found = _visible(caller, READ, request.name, found)
        personal = found.reporter == caller.subject
        if not personal and caller.allows(READ_CONTACTS, found.zone, found.organisation):
            # Who looked at whose data is on record, so that the reporter can be told.
            await self._transactions.run(lambda tx: _record_look(tx, found))
            personal = True
        shown = messages.request_message(found, personal=personal, steps=seen, deadlines=deadlines, asked=asked)
        return pb.GetRequestResponse(request=shown)

    async def ListRequests(self, request: pb.ListRequestsRequest, _: Context) -> pb.ListRequestsResponse:
        caller = current_caller()
        visibility = caller.visibility(READ)
        narrow = store.Filter(
            messages.status_filter(request.status), request.flagged_only, request.number.strip().upper()
        )
        of = f"requests {narrow}"
        after = paging.after(request.page_token, datetime, str, of=of)
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        rows = await self._transactions.read(
            lambda conn: store.list_requests(conn, visibility, narrow, after, size + 1)
        )
        page, token = paging.page(rows, size, lambda row: (row.filed_at, row.id), of=of)
        # A list tells nobody but the reporters who they are; staff with the right to look ask for one request.
        shown = [messages.request_message(row, personal=row.reporter == caller.subject) for row in page]
        return pb.ListRequestsResponse(requests=shown, next_page_token=token)

    async def RateRequest(self, request: pb.RateRequestRequest, _: Context) -> pb.RateRequestResponse:
        parts = names.parse(request.name, model.NAME)
        caller = current_caller()

        async def rate(tx: Tx) -> pb.RateRequestResponse:
            found = await store.get(tx.conn, parts["zone"], parts["request"], lock=True)
            found = _visible(caller, RATE, request.name, found)
            if found.reporter != caller.subject:
                raise Forbidden(Reason.NOT_PERMITTED, "only its reporter rates a request", permission=RATE)
            model.check_ratable(found)
            await store.rate(tx.conn, found.id, request.rating, request.comment, tx.now)
            found = replace(found, rating=request.rating, rating_comment=request.comment)
            tx.publish(messages.rated(found), zone=found.zone, key=found.name)
            tx.audit(RATE, found.name, rating=request.rating)
            return pb.RateRequestResponse(request=messages.request_message(found, personal=True))

        return await self._transactions.mutate(request, pb.RateRequestResponse, rate)

    async def ReopenRequest(self, request: pb.ReopenRequestRequest, _: Context) -> pb.ReopenRequestResponse:
        parts = names.parse(request.name, model.NAME)
        caller = current_caller()

        async def reopen(tx: Tx) -> pb.ReopenRequestResponse:
            found = await store.get(tx.conn, parts["zone"], parts["request"], lock=True)
            found = _visible(caller, REOPEN, request.name, found)
            if found.reporter != caller.subject:
                raise Forbidden(Reason.NOT_PERMITTED, "only its reporter reopens a request", permission=REOPEN)
            deadlines = await deadlines_store.of_event(tx.conn, found.event)
            model.check_reopenable(found, deadlines, tx.now)
            tx.publish(messages.reopened(found, request.reason, tx.now), zone=found.zone, key=found.name)
            tx.audit(REOPEN, found.name, event=found.event)
            shown = messages.request_message(found, personal=True, deadlines=deadlines)
            return pb.ReopenRequestResponse(request=shown)

        return await self._transactions.mutate(request, pb.ReopenRequestResponse, reopen)

    async def AnswerFollowUp(self, request: pb.AnswerFollowUpRequest, _: Context) -> pb.AnswerFollowUpResponse:
        parts = names.parse(request.name, model.NAME)
        if not request.solved and not request.comment.strip():
            raise Invalid("comment", "is required when it is not solved")
        caller = current_caller()

        async def answer(tx: Tx) -> pb.AnswerFollowUpResponse:
            found = await store.get(tx.conn, parts["zone"], parts["request"], lock=True)
            found = _visible(caller, RATE, request.name, found)
            if found.reporter != caller.subject:
                raise Forbidden(Reason.NOT_PERMITTED, "only its reporter answers for a request", permission=RATE)
            asked = await follow_ups_store.asked(tx.conn, found.id)
            if asked is None:
                text = f"nobody asks whether {found.name} is solved"
                raise WrongState(Reason.WRONG_STATE, text, name=found.name, status=found.status)
            await follow_ups_store.end(tx.conn, asked.follow_up, tx.now)
            tx.publish(messages.answered(asked, request, tx.now), zone=found.zone, key=found.name)
            tx.audit("delivery.requests.answer_follow_up", found.name, solved=request.solved)
            return pb.AnswerFollowUpResponse(request=messages.request_message(found, personal=True))

        return await self._transactions.mutate(request, pb.AnswerFollowUpResponse, answer)

    async def _add(self, tx: Tx, draft: Draft, reporter: str) -> Request:
        """Keep a request that is new, or return the one that a concurrent call has just kept."""
        resolution = self._resolve(draft)
        reported_at = model.reported_at(draft.reported_at, tx.now)
        for _ in range(NUMBER_ATTEMPTS):
            day = tx.now.astimezone(self._timezone).date()
            request = model.Request(
                id=new_id(),
                number=model.number_of(self._node, day, secrets.choice),
                zone=resolution.zone,
                type=draft.type,
                description=draft.description,
                place=draft.place,
                channel=draft.channel,
                reporter=reporter,
                contact=draft.contact,
                external_id=draft.external_id,
                reported_at=reported_at,
                filed_at=tx.now,
                flags=model.flags_of(resolution),
                component=draft.component,
            )
            if await store.add(tx.conn, request):
                tx.publish(messages.filed(request), zone=request.zone, key=request.name)
                flags = messages.doubts(request.flags)
                tx.audit("delivery.requests.file", request.name, type=request.type, flags=flags)
                return request
            concurrent = await store.find(tx.conn, reporter, draft.external_id)
            if concurrent is not None:
                return concurrent
        raise Stale(Reason.CONFLICT, "no free request number was found; try again")

    def _resolve(self, draft: Draft) -> Resolution:
        if not self._zones.loaded.is_set():
            # The request would go to the node itself, wherever its place is.
            raise Away(Reason.DEPENDENCY_AWAY, "the zones are not known yet", dependency="identity")
        tree = self._zones.tree()
        place = draft.place
        if place is None:
            return model.whole_city(tree.root)
        return tree.resolve(
            zone_hint=place.zone_hint,
            neighbourhood=place.neighbourhood,
            address=place.address,
            latitude=place.latitude,
            longitude=place.longitude,
        )


def _visible(caller: Caller, permission: str, name: str, found: Request | None) -> Request:
    """Return the request. Raises the same NotFound when it is not there and when it is not for the caller."""
    missing = model.missing(name)
    if found is None:
        raise missing
    caller.require(permission, zone=found.zone, organisation=found.organisation, owner=found.reporter, hide=missing)
    return found


async def _seen(conn: Connection, request: Request) -> Sequence[Step]:
    """Return what the reporter of a request with an event sees of it."""
    if not request.linked_moves:
        steps = await events_store.steps(conn, request.event, request.linked_revision, UPDATES_MAX)
        return model.steps_seen(request, steps)
    stays = await events_store.stays(conn, request.id)
    found = {stay.event: await events_store.steps(conn, stay.event, stay.revision, UPDATES_MAX) for stay in stays}
    return model.moves_seen(request, stays, found)


async def _record_look(tx: Tx, request: Request) -> None:
    tx.audit(READ_CONTACTS, request.name)
