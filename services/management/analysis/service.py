"""The servicer of AnalysisService."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import Invalid
from quintet.management.v1 import analysis_pb2 as pb
from quintet.management.v1.analysis_pb2_grpc import AnalysisServiceServicer
from services.management import convert
from services.management.analysis import places, store_counts
from services.management.analysis.emerging import Question, hour_of
from services.management.analysis.load import SHIFT_STARTS_H, load
from services.management.analysis.model_hotspots import CELL_M, Bounds
from services.management.analysis.model_repeats import RADIUS_M, WITHIN_DAYS
from services.management.analysis.model_rise import EVENTS_MIN, FALSE_DISCOVERY_RATE, WEEK_H, Window
from services.management.service_base import READ

if TYPE_CHECKING:
    from collections.abc import Callable
    from zoneinfo import ZoneInfo

    from libs.tx import Transactions
    from libs.zones import ZoneTree
    from services.management.analysis.emerging import EmergingIssues
    from services.management.service_base import Context

EVENTS_PAGE_SIZE = 50
EVENTS_PAGE_SIZE_MAX = 500
REPEATS_PERIOD = timedelta(days=90)
HOT_SPOTS_PERIOD = timedelta(days=28)
PERIOD_MAX = timedelta(days=366)
CELL_M_MIN = 100.0


class AnalysisServicer(AnalysisServiceServicer):
    """Answers questions about many events of one node."""

    def __init__(
        self, transactions: Transactions, zones: Callable[[], ZoneTree], emerging: EmergingIssues, zone: ZoneInfo
    ) -> None:
        """`zone` is the time zone of the city."""
        self._zone = zone
        self._transactions = transactions
        self._zones = zones
        self._emerging = emerging

    async def ListEmergingIssues(
        self, request: pb.ListEmergingIssuesRequest, _context: Context
    ) -> pb.ListEmergingIssuesResponse:
        now = self._transactions.clock.now()
        end = convert.time_of(request, "window_end") or hour_of(now)
        if end > now:
            raise Invalid("windowEnd", "must not lie in the future")
        question = Question(
            zone=self._zones().canonical(convert.zone_of(request.parent)),
            end=end,
            hours=request.window_h or WEEK_H,
            rate=request.false_discovery_rate or FALSE_DISCOVERY_RATE,
            events_min=request.events_min or EVENTS_MIN,
        )
        found = await self._emerging.find(question)
        return pb.ListEmergingIssuesResponse(
            issues=found.issues,
            window_start=convert.time_pb(found.window.start),
            window_end=convert.time_pb(found.window.end),
            step_weeks=-(-question.hours // WEEK_H),
            baseline_windows=found.findings.baseline_windows,
            tested=found.findings.tested,
            false_discovery_rate=question.rate,
        )

    async def ListRepeats(self, request: pb.ListRepeatsRequest, _context: Context) -> pb.ListRepeatsResponse:
        area = self._area(request, REPEATS_PERIOD)
        days, radius_m = request.within_days or WITHIN_DAYS, request.radius_m or RADIUS_M
        return await places.repeats(self._transactions, area, days=days, radius_m=radius_m)

    async def ListHotSpots(self, request: pb.ListHotSpotsRequest, _context: Context) -> pb.ListHotSpotsResponse:
        area = self._area(request, HOT_SPOTS_PERIOD)
        cell_m, rate = request.cell_m or CELL_M, request.false_discovery_rate or FALSE_DISCOVERY_RATE
        if cell_m < CELL_M_MIN:
            raise Invalid("cellM", f"must be at least {CELL_M_MIN}")
        periods = request.periods or 1
        return await places.hot_spots(self._transactions, area, periods=periods, cell_m=cell_m, rate=rate)

    async def ForecastLoad(self, request: pb.ForecastLoadRequest, _context: Context) -> pb.ForecastLoadResponse:
        starts_h = tuple(request.shift_starts_h) or SHIFT_STARTS_H
        if list(starts_h) != sorted(set(starts_h)):
            raise Invalid("shiftStartsH", "must rise")
        tree = self._zones()
        zone = tree.canonical(convert.zone_of(request.parent))
        now = self._transactions.clock.now()
        area = places.Area(zone, tree.codes(zone), Window(now, now), request.type)
        return await load(self._transactions, area, starts_h, self._zone)

    def _area(self, request: pb.ListRepeatsRequest | pb.ListHotSpotsRequest, period: timedelta) -> places.Area:
        """Return what a request asks about; its time ends now and is as long as `period` unless it says otherwise."""
        end = convert.time_of(request, "occurred_to") or self._transactions.clock.now()
        start = convert.time_of(request, "occurred_from") or end - period
        if not timedelta(0) < end - start <= PERIOD_MAX:
            raise Invalid("occurredTo", f"must lie after occurredFrom, by {PERIOD_MAX.days} days at most")
        tree = self._zones()
        zone = tree.canonical(convert.zone_of(request.parent))
        return places.Area(zone, tree.codes(zone), Window(start, end), request.type)

    async def ListSelectedEvents(
        self, request: pb.ListSelectedEventsRequest, _context: Context
    ) -> pb.ListSelectedEventsResponse:
        asked = request.selection
        start, end = convert.time_of(asked, "occurred_from"), convert.time_of(asked, "occurred_to")
        if start is None or end is None or start > end:
            raise Invalid("selection.occurredTo", "must not lie before occurredFrom")
        zones = self._zones().codes(convert.zone_of(asked.parent, field="selection.parent"))
        edges = asked.bounds
        bounds = Bounds(edges.south, edges.west, edges.north, edges.east) if asked.HasField("bounds") else None
        selection = store_counts.Selection(zones, Window(start, end), asked.type, asked.organisation, bounds)
        of = f"selected {asked.parent} {start} {end} {asked.type} {asked.organisation} {bounds}"
        size = paging.size(request.page_size, default=EVENTS_PAGE_SIZE, most=EVENTS_PAGE_SIZE_MAX)
        after = paging.after(request.page_token, datetime, int, of=of)
        visible = current_caller().visibility(READ)
        rows = await self._transactions.read(
            lambda conn: store_counts.select(conn, selection, visible, after=after, limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda event: (event.occurred_at, event.id), of=of)
        return pb.ListSelectedEventsResponse(events=[convert.event_pb(event) for event in page], next_page_token=token)
