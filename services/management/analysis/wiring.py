"""What the analysis is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from quintet.management.v1 import analysis_pb2
from quintet.management.v1.analysis_pb2_grpc import add_AnalysisServiceServicer_to_server
from services.management.analysis.emerging import EmergingIssues, EmergingTask
from services.management.analysis.service import AnalysisServicer

if TYPE_CHECKING:
    from libs.host import Host, Servicer

SERVICE = analysis_pb2.DESCRIPTOR.services_by_name["AnalysisService"]


class Analysis(NamedTuple):
    """The part's servicers and its background work."""

    servicers: list[Servicer]
    emerging: EmergingTask


def analysis(host: Host) -> Analysis:
    """Wire the analysis of one node's events."""
    zone = ZoneInfo(host.config.node.timezone)
    emerging = EmergingIssues(host.transactions, host.zones.tree, zone)
    servicer = AnalysisServicer(host.transactions, host.zones.tree, emerging, zone)
    task = EmergingTask(host.transactions, emerging, host.zone)
    return Analysis([(add_AnalysisServiceServicer_to_server, servicer, SERVICE)], task)
