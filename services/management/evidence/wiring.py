"""What evidence is made of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from quintet.management.v1 import evidence_pb2
from quintet.management.v1.evidence_pb2_grpc import add_EvidenceServiceServicer_to_server
from services.management.evidence.files import Folder
from services.management.evidence.keeping import UploadKeeper
from services.management.evidence.service_evidence import EvidenceServicer

if TYPE_CHECKING:
    from libs.host import Host, Wired

EVIDENCE = evidence_pb2.DESCRIPTOR.services_by_name["EvidenceService"]


def with_evidence(wired: Wired, host: Host) -> Wired:
    """Return the part with the service and the task of evidence."""
    files = Folder(host.config.evidence.folder)
    servicer = EvidenceServicer(host.transactions, files)
    return replace(
        wired,
        servicers=[*wired.servicers, (add_EvidenceServiceServicer_to_server, servicer, EVIDENCE)],
        tasks={**wired.tasks, "uploads": UploadKeeper(host.transactions, files).run},
    )
