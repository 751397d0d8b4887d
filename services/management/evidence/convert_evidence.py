"""Evidence as protos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.management.v1 import evidence_pb2 as pb
from services.management.convert import time_pb
from services.management.evidence.model_evidence import PART_BYTES_MAX

if TYPE_CHECKING:
    from services.management.evidence.model_evidence import Evidence, Upload


def evidence_pb(evidence: Evidence) -> pb.Evidence:
    return pb.Evidence(
        name=evidence.name,
        file_name=evidence.file_name,
        media_type=evidence.media_type,
        size_bytes=evidence.size_bytes,
        sha256=evidence.sha256,
        uploaded_by=evidence.uploaded_by,
        uploaded_at=time_pb(evidence.uploaded_at),
        step=evidence.step,
    )


def upload_pb(upload: Upload) -> pb.Upload:
    return pb.Upload(
        name=upload.name,
        size_bytes=upload.size_bytes,
        part_bytes=PART_BYTES_MAX,
        parts=upload.parts,
        ends_at=time_pb(upload.ends_at),
    )
