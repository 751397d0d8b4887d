"""What collaboration is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from libs.host import Part, Wired
from quintet.collaboration.v1 import collaboration_pb2
from quintet.collaboration.v1.collaboration_pb2_grpc import add_CollaborationServiceServicer_to_server
from services.collaboration.facts import handlers
from services.collaboration.service import CollaborationServicer

if TYPE_CHECKING:
    from libs.host import Host

MIGRATIONS = Path(__file__).parent / "migrations"
SERVICE = collaboration_pb2.DESCRIPTOR.services_by_name["CollaborationService"]


async def build(host: Host) -> Wired:
    """Wire the service."""
    servicer = CollaborationServicer(host.transactions, host.zones.tree, node=host.node, zone=host.zone)
    return Wired(
        servicers=[(add_CollaborationServiceServicer_to_server, servicer, SERVICE)],
        handlers=handlers(),
    )


PART = Part("collaboration", MIGRATIONS, build)
