"""What reports are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from zoneinfo import ZoneInfo

from quintet.identity.v1.facts_pb2 import OrganisationChanged
from quintet.management.v1 import reports_pb2
from quintet.management.v1.reports_pb2_grpc import add_ReportServiceServicer_to_server
from services.management.reports.service import ReportServicer
from services.management.reports.titles import OrganisationTitles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from google.protobuf.message import Message

    from libs.host import Host, Servicer
    from libs.inbox import Handler
    from services.management.model_loop import Loop

SERVICE = reports_pb2.DESCRIPTOR.services_by_name["ReportService"]


def servicers(host: Host, loops: Callable[[], Iterable[Loop]]) -> list[Servicer]:
    """Return the servicer of the reports of one node's events."""
    zone = ZoneInfo(host.config.node.timezone)
    servicer = ReportServicer(host.transactions, loops, host.zones.tree, zone)
    return [(add_ReportServiceServicer_to_server, servicer, SERVICE)]


def handlers(host: Host) -> Mapping[type[Message], Handler]:
    """Return what reports hear: how organisations are called."""
    return {OrganisationChanged: cast("Handler", OrganisationTitles(host.node).organisation_changed)}
