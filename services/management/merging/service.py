"""The servicer of MergeService."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import Invalid, NotFound, Reason
from quintet.management.v1 import management_pb2
from quintet.management.v1 import merging_pb2 as pb
from quintet.management.v1.merging_pb2_grpc import MergeServiceServicer
from services.management import convert, store_events, store_joint, store_types
from services.management.intake import find
from services.management.merging import store_reports, store_suggestions
from services.management.merging.convert_merging import duplicate_pb, quality_pb, report_pb, state_of, suggestion_pb
from services.management.merging.model_suggestion import State, decided, total
from services.management.merging.moving import Mover
from services.management.model import ReportKind
from services.management.model_loop import said_time
from services.management.model_merge import Judged, can_match
from services.management.model_report import Report
from services.management.service_base import READ, Context, Methods, check_etag, missing

if TYPE_CHECKING:
    from libs.access import Caller
    from libs.db import Connection
    from libs.tx import Tx
    from services.management.merging.model_moving import Merged, Standing
    from services.management.merging.model_suggestion import Quality, Suggestion
    from services.management.model import Event

MERGE = "management.events.merge"
OPEN = "management.events.open"
COUNT = "management.counters.read"
PAGE_SIZE = 50
PAGE_SIZE_MAX = 500
PERIOD_DEFAULT = timedelta(days=30)
PERIOD_MAX = timedelta(days=366)
# A number of the database has 64 bits.
_DIGITS_MAX = 18


class MergeServicer(Methods, MergeServiceServicer):
    """Merging and splitting by hand, and what was suggested."""

    @property
    def _mover(self) -> Mover:
        return Mover(self._transactions.node, self._loops, self._zones, self._book, self._intake)

    async def FindDuplicates(self, request: pb.FindDuplicatesRequest, _context: Context) -> pb.FindDuplicatesResponse:
        zone = self._zones().canonical(convert.zone_of(request.parent))
        current_caller().require(OPEN, zone=zone)
        now = self._transactions.clock.now()
        report = Report(
            kind=ReportKind.OFFICER,
            source="",
            zone=zone,
            type=request.type,
            description=request.description,
            place=convert.place_of(request.place),
            occurred_at=said_time(convert.time_of(request, "occurred_at"), now),
            component=convert.component_of(request.component),
        )
        found = await self._transactions.read(partial(self._find, report))
        return pb.FindDuplicatesResponse(
            merged=[duplicate_pb(match) for match in found.matches],
            suggested=[duplicate_pb(match) for match in found.suggestions],
        )

    async def _find(self, report: Report, conn: Connection) -> Judged:
        event_type = await store_types.get_type(conn, report.type)
        if event_type is None:
            raise NotFound(Reason.EVENT_TYPE_NOT_FOUND, f"{report.type} does not exist", name=report.type)
        if not can_match(event_type.merge, report.place, report.component):
            return Judged([], [])
        return await find(conn, self._transactions.node, event_type, report)

    async def ListMergeSuggestions(
        self, request: pb.ListMergeSuggestionsRequest, _context: Context
    ) -> pb.ListMergeSuggestionsResponse:
        zone = convert.zone_of(request.parent)
        query = store_suggestions.Query(self._zones().codes(zone), request.event, state_of(request.state) or "")
        of = f"merge suggestions {zone} {query.event} {query.state}"
        size = paging.size(request.page_size, default=PAGE_SIZE, most=PAGE_SIZE_MAX)
        after = paging.after(request.page_token, datetime, int, of=of)
        visible = current_caller().visibility(READ)
        rows = await self._transactions.read(
            lambda conn: store_suggestions.list_suggestions(conn, query, visible, after=after, limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda found: (found.suggested_at, found.id), of=of)
        return pb.ListMergeSuggestionsResponse(
            suggestions=[suggestion_pb(found) for found in page], next_page_token=token
        )

    async def AcceptMergeSuggestion(
        self, request: pb.AcceptMergeSuggestionRequest, _context: Context
    ) -> pb.AcceptMergeSuggestionResponse:
        return await self._transactions.mutate(
            request, pb.AcceptMergeSuggestionResponse, partial(self._accept, request)
        )

    async def _accept(self, request: pb.AcceptMergeSuggestionRequest, tx: Tx) -> pb.AcceptMergeSuggestionResponse:
        suggestion = await self._suggestion(tx, request.name)
        event, into, caller = await self._lock_both(tx, suggestion.event, suggestion.same_as)
        # Only now is it certain that both are open.
        suggestion = await self._suggestion(tx, request.name)
        explained = suggestion.explanation
        reason = request.reason or f"{explained.zh}\n{explained.en}"
        accepted = decided(suggestion, State.ACCEPTED, actor=caller.subject, reason=request.reason, now=tx.now)
        await store_suggestions.decide(tx.conn, accepted)
        done = await self._mover.merge(tx, event, into, reason=reason, actor=caller.subject)
        return pb.AcceptMergeSuggestionResponse(suggestion=suggestion_pb(accepted), event=await _told(tx, done.into))

    async def DismissMergeSuggestion(
        self, request: pb.DismissMergeSuggestionRequest, _context: Context
    ) -> pb.DismissMergeSuggestionResponse:
        return await self._transactions.mutate(
            request, pb.DismissMergeSuggestionResponse, partial(self._dismiss, request)
        )

    async def _dismiss(self, request: pb.DismissMergeSuggestionRequest, tx: Tx) -> pb.DismissMergeSuggestionResponse:
        suggestion = await self._suggestion(tx, request.name)
        _, caller = await self._lock_own(tx, suggestion.event, MERGE)
        suggestion = await self._suggestion(tx, request.name)
        dismissed = decided(suggestion, State.DISMISSED, actor=caller.subject, reason=request.reason, now=tx.now)
        await store_suggestions.decide(tx.conn, dismissed)
        tx.audit("management.merge_suggestions.dismiss", dismissed.name, same_as=dismissed.same_as)
        return pb.DismissMergeSuggestionResponse(suggestion=suggestion_pb(dismissed))

    async def MergeEvents(self, request: pb.MergeEventsRequest, _context: Context) -> pb.MergeEventsResponse:
        return await self._transactions.mutate(request, pb.MergeEventsResponse, partial(self._merge, request))

    async def _merge(self, request: pb.MergeEventsRequest, tx: Tx) -> pb.MergeEventsResponse:
        event, into, caller = await self._lock_both(tx, request.name, request.into)
        check_etag(event, request.etag)
        done: Merged = await self._mover.merge(tx, event, into, reason=request.reason, actor=caller.subject)
        return pb.MergeEventsResponse(event=await _told(tx, done.into), merged=await _told(tx, done.event))

    async def SplitReport(self, request: pb.SplitReportRequest, _context: Context) -> pb.SplitReportResponse:
        return await self._transactions.mutate(request, pb.SplitReportResponse, partial(self._split, request))

    async def _split(self, request: pb.SplitReportRequest, tx: Tx) -> pb.SplitReportResponse:
        name, _, revision = request.name.rpartition("/reports/")
        event, caller = await self._lock_own(tx, name, MERGE)
        report = await store_reports.get(tx.conn, event, _number(revision))
        if report is None:
            raise NotFound(Reason.REPORT_NOT_FOUND, f"{request.name} does not exist", name=request.name)
        opened, left = await self._mover.split(tx, event, report, reason=request.reason, actor=caller.subject)
        return pb.SplitReportResponse(event=await _told(tx, opened), split_from=await _told(tx, left))

    async def ListEventReports(
        self, request: pb.ListEventReportsRequest, _context: Context
    ) -> pb.ListEventReportsResponse:
        size = paging.size(request.page_size)
        of = f"reports {request.parent}"
        after = paging.after(request.page_token, int, of=of)

        async def read(conn: Connection) -> tuple[Event, list[Standing]]:
            found = await store_events.get(conn, request.parent)
            if found is None:
                raise missing(request.parent)
            rows = await store_reports.reports(conn, found[0], after=after[0] if after else 0, limit=size + 1)
            return found[0], rows

        event, rows = await self._transactions.read(read)
        current_caller().require(READ, zone=event.zone, organisation=event.handlers)
        self._check_ours(event)
        page, token = paging.page(rows, size, lambda report: (report.revision,), of=of)
        return pb.ListEventReportsResponse(
            reports=[report_pb(event.name, each) for each in page], next_page_token=token
        )

    async def GetMergeQuality(
        self, request: pb.GetMergeQualityRequest, _context: Context
    ) -> pb.GetMergeQualityResponse:
        tree = self._zones()
        zone = tree.canonical(convert.zone_of(request.parent))
        current_caller().require(COUNT, zone=zone)
        until = convert.time_of(request, "until") or self._transactions.clock.now()
        since = convert.time_of(request, "since") or until - PERIOD_DEFAULT
        if not timedelta() < until - since <= PERIOD_MAX:
            raise Invalid("since", f"must be before until, by at most {PERIOD_MAX.days} days")

        async def read(conn: Connection) -> list[Quality]:
            return await store_suggestions.quality(conn, self._transactions.node, tree.codes(zone), since, until)

        found = await self._transactions.look(read)
        return pb.GetMergeQualityResponse(types=[quality_pb(each) for each in found], total=quality_pb(total(found)))

    async def _suggestion(self, tx: Tx, name: str) -> Suggestion:
        event, _, number = name.rpartition("/mergeSuggestions/")
        found = await store_suggestions.get(tx.conn, event, _number(number))
        if found is None:
            raise NotFound(Reason.MERGE_SUGGESTION_NOT_FOUND, f"{name} does not exist", name=name)
        return found

    async def _lock_both(self, tx: Tx, name: str, into: str) -> tuple[Event, Event, Caller]:
        """Lock two events of this node that the caller may merge, always in the same order. Raises like `_lock_own`."""
        locked = {each: await self._lock_own(tx, each, MERGE) for each in sorted({name, into})}
        (event, caller), (other, _) = locked[name], locked[into]
        return event, other, caller


def _number(text: str) -> int:
    """Return the number that a resource name ends with; 0, which nothing has, for what is no number of ours."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else 0


async def _told(tx: Tx, event: Event) -> management_pb2.Event:
    requests = await store_events.requests_of(tx.conn, event.id)
    shares = await store_joint.list_sub_orders(tx.conn, event.id) if event.shares else []
    return convert.event_pb(event, requests, shares)
