"""What collaboration is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from libs.host import Part, Wired
from libs.inbox import in_turn
from libs.purge import Purger
from quintet.collaboration.v1 import collaboration_pb2, notices_pb2
from quintet.collaboration.v1.collaboration_pb2_grpc import add_CollaborationServiceServicer_to_server
from quintet.collaboration.v1.notices_pb2_grpc import add_NoticeServiceServicer_to_server
from services.collaboration.facts import handlers
from services.collaboration.notices.facts import NoticeHandlers
from services.collaboration.notices.service import NoticeServicer
from services.collaboration.notices.store import KEPT
from services.collaboration.service import CollaborationServicer

if TYPE_CHECKING:
    from libs.host import Host

MIGRATIONS = Path(__file__).parent / "migrations"
NOTICES = notices_pb2.DESCRIPTOR.services_by_name["NoticeService"]
SERVICE = collaboration_pb2.DESCRIPTOR.services_by_name["CollaborationService"]


async def build(host: Host) -> Wired:
    """Wire the service."""
    servicer = CollaborationServicer(host.transactions, host.zones.tree, node=host.node, zone=host.zone)
    notices = NoticeServicer(host.transactions, host.zones.tree, node=host.node, zone=host.zone)
    told = NoticeHandlers(host.node, host.zones.tree, ZoneInfo(host.config.node.timezone))
    return Wired(
        servicers=[
            (add_CollaborationServiceServicer_to_server, servicer, SERVICE),
            (add_NoticeServiceServicer_to_server, notices, NOTICES),
        ],
        handlers=in_turn(handlers(), told.handlers()),
        tasks={"old-notices": Purger(host.transactions, (KEPT,)).run},
    )


PART = Part("collaboration", MIGRATIONS, build)
