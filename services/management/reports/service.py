"""The servicer of ReportService."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from libs import names, paging
from libs.access import current_caller
from libs.errors import Invalid, NotFound, Reason
from libs.ids import short_id
from quintet.management.v1 import reports_pb2 as pb
from quintet.management.v1.reports_pb2_grpc import ReportServiceServicer
from services.management.convert import time_of, time_pb, zone_of
from services.management.model_loop import voided_states
from services.management.reports import store_reports
from services.management.reports.counting import counted
from services.management.reports.document import document
from services.management.reports.html import html
from services.management.reports.model_report import PERIOD_MAX, REPORT_NAME, Kind, Period, Report, period_of
from services.management.reports.pdf import pdf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.management.model_loop import Loop
    from services.management.service_base import Context

GENERATE, READ = "management.reports.generate", "management.reports.read"
PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 500


class ReportServicer(ReportServiceServicer):
    """Makes, renders and lists the reports of one node."""

    def __init__(
        self,
        transactions: Transactions,
        loops: Callable[[], Iterable[Loop]],
        zones: Callable[[], ZoneTree],
        zone: ZoneInfo,
    ) -> None:
        """`loops` gives all loops that this node knows; `zone` is the time zone of the city."""
        self._transactions = transactions
        self._zones = zones
        self._zone = zone
        self._loops = loops

    async def GenerateReport(self, request: pb.GenerateReportRequest, _context: Context) -> pb.GenerateReportResponse:
        return await self._transactions.mutate(request, pb.GenerateReportResponse, partial(self._generate, request))

    async def _generate(self, request: pb.GenerateReportRequest, tx: Tx) -> pb.GenerateReportResponse:
        tree = self._zones()
        zone = tree.canonical(zone_of(request.parent))
        if not tree.covers(tree.root, zone):
            raise NotFound(Reason.ZONE_NOT_FOUND, f"{request.parent} is not known here", zone=zone)
        caller = current_caller()
        caller.require(GENERATE, zone=zone)
        kind = Kind(pb.ReportKind.Name(request.kind).removeprefix("REPORT_KIND_").lower())
        period = self._period(request, kind, tx.now)
        content = await counted(
            tx.conn, tree, zone, period, self._zone,
            organisation=request.organisation, event_type=request.type, voided=voided_states(self._loops()),
            searching=kind is not Kind.TOPICAL and not request.organisation,
        )  # fmt: skip
        report = Report(
            name=names.build(REPORT_NAME, zone=zone, report=short_id()),
            kind=kind,
            zone=zone,
            organisation=request.organisation,
            type=request.type,
            period=period,
            made_by=caller.subject,
            made_at=tx.now,
            content=content,
        )
        await store_reports.insert(tx.conn, report)
        tx.audit("management.reports.generate", report.name, kind=kind)
        return pb.GenerateReportResponse(report=_report_pb(report))

    def _period(self, request: pb.GenerateReportRequest, kind: Kind, now: datetime) -> Period:
        start, end = time_of(request, "period_from"), time_of(request, "period_to")
        if kind is not Kind.TOPICAL:
            if request.type or start or end:
                raise Invalid("kind", "type, periodFrom and periodTo are for topical reports")
            return period_of(kind, request.day, self._zone, now)
        if request.day or not request.type:
            raise Invalid("type", "is required for topical reports, which take periodFrom and periodTo and no day")
        if start is None or end is None or end > now or not start < end <= start + PERIOD_MAX:
            raise Invalid("periodTo", f"must lie after periodFrom, by {PERIOD_MAX.days} days at most, and not ahead")
        return Period(start, end)

    async def GetReport(self, request: pb.GetReportRequest, _context: Context) -> pb.GetReportResponse:
        report = await self._transactions.read(lambda conn: store_reports.get(conn, request.name))
        if report is None:
            raise NotFound(Reason.REPORT_NOT_FOUND, f"{request.name} does not exist", name=request.name)
        current_caller().require(READ, zone=report.zone)
        chinese = request.language != pb.REPORT_LANGUAGE_EN
        written = document(report, self._zone, chinese=chinese)
        as_pdf = request.format == pb.REPORT_FORMAT_PDF
        content = await asyncio.to_thread(pdf if as_pdf else html, written)
        media_type = "application/pdf" if as_pdf else "text/html; charset=utf-8"
        return pb.GetReportResponse(report=_report_pb(report), content=content, media_type=media_type)

    async def ListReports(self, request: pb.ListReportsRequest, _context: Context) -> pb.ListReportsResponse:
        tree = self._zones()
        zone = tree.canonical(zone_of(request.parent))
        current_caller().require(READ, zone=zone)
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        of = f"reports {zone}"
        after = paging.after(request.page_token, int, of=of)
        rows = await self._transactions.read(
            lambda conn: store_reports.page(conn, tree.codes(zone), after=after[0] if after else None, limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda report: (report.id,), of=of)
        return pb.ListReportsResponse(reports=[_report_pb(each) for each in page], next_page_token=token)


def _report_pb(report: Report) -> pb.Report:
    now = report.content.now
    return pb.Report(
        name=report.name,
        kind=pb.ReportKind.Value(f"REPORT_KIND_{report.kind.upper()}"),
        zone=report.zone,
        organisation=report.organisation,
        type=report.type,
        period_from=time_pb(report.period.start),
        period_to=time_pb(report.period.end),
        made_by=report.made_by,
        made_at=time_pb(report.made_at),
        opened=now.opened,
        closed=now.closed,
        waiting=now.waiting,
        late=now.late,
    )
