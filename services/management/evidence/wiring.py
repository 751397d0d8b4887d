"""What evidence is made of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from libs.config import EVIDENCE_KEYS
from quintet.federation.v1.federation_pb2_grpc import FederationServiceStub
from quintet.management.v1 import evidence_pb2
from quintet.management.v1.evidence_pb2_grpc import add_EvidenceServiceServicer_to_server
from services.management.evidence.elsewhere import Elsewhere
from services.management.evidence.files import Folder
from services.management.evidence.keeping import UploadKeeper
from services.management.evidence.service_evidence import EvidenceServicer
from services.management.evidence.watch import StoreWatch

if TYPE_CHECKING:
    from libs.config import NodeConfig
    from libs.host import Host, Wired
    from services.management.evidence.objects import Objects

EVIDENCE = evidence_pb2.DESCRIPTOR.services_by_name["EvidenceService"]


def with_evidence(wired: Wired, host: Host) -> Wired:
    """Return the part with the service and the tasks of evidence. Raises what `open_objects` does."""
    objects = open_objects(host.config)
    elsewhere = Elsewhere(FederationServiceStub(host.channel_to("federation")))
    servicer = EvidenceServicer(host.transactions, objects, elsewhere)
    return replace(
        wired,
        servicers=[*wired.servicers, (add_EvidenceServiceServicer_to_server, servicer, EVIDENCE)],
        tasks={
            **wired.tasks,
            "uploads": UploadKeeper(host.transactions, objects).run,
            "evidence_store": StoreWatch(objects).run,
        },
    )


def open_objects(config: NodeConfig) -> Objects:
    """Open what node.toml says. A store that is away is no error: management does much without one.

    Raises FileNotFoundError when the keys of a bucket or its file of certificates lack, ValueError when that holds no
    certificate.
    """
    section = config.evidence.bucket
    if section is None:
        return Folder(config.evidence.folder)
    # Whoever has a folder need not load what a bucket takes.
    from services.management.evidence.bucket import Bucket

    def keys() -> tuple[str, str]:
        access, secret = (config.secrets.read(name) for name in EVIDENCE_KEYS)
        return access, secret

    try:
        return Bucket(section, keys)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"[evidence] of {config.path}: there is no {error.filename}") from error
