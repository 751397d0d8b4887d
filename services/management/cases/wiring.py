"""What the case library is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.host import Wired
from quintet.management.v1 import cases_pb2
from quintet.management.v1.cases_pb2_grpc import add_CaseServiceServicer_to_server
from services.management.cases.service import CaseServicer

if TYPE_CHECKING:
    from libs.host import Host

SERVICE = cases_pb2.DESCRIPTOR.services_by_name["CaseService"]


def with_cases(wired: Wired, host: Host) -> Wired:
    """Return the part with the case library."""
    library = add_CaseServiceServicer_to_server, CaseServicer(host.transactions), SERVICE
    return Wired(servicers=[*wired.servicers, library], handlers=wired.handlers, tasks=wired.tasks)
