"""What delivery is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from libs.host import Part, Wired
from quintet.delivery.v1 import delivery_pb2
from quintet.delivery.v1.delivery_pb2_grpc import (
    add_RequestServiceServicer_to_server,
    add_ServiceItemServiceServicer_to_server,
)
from services.delivery.event_types import EventTypes
from services.delivery.facts import handlers
from services.delivery.issuer import Issuer, load_keys
from services.delivery.keeping import FormKeeper
from services.delivery.service import RequestServicer
from services.delivery.service_items import ServiceItemServicer

if TYPE_CHECKING:
    from libs.host import Host

MIGRATIONS = Path(__file__).parent / "migrations"
REQUESTS = delivery_pb2.DESCRIPTOR.services_by_name["RequestService"]
SERVICE_ITEMS = delivery_pb2.DESCRIPTOR.services_by_name["ServiceItemService"]


async def build(host: Host) -> Wired:
    """Wire the service, and make the key of its certificates on the first start."""
    event_types = EventTypes(host.channel_to("management"), host.clock)
    timezone = ZoneInfo(host.config.node.timezone)
    requests = RequestServicer(host.transactions, host.zones, event_types, node=host.node, timezone=timezone)
    issuer = Issuer(host.node, load_keys(host.config.secrets))
    items = ServiceItemServicer(host.transactions, issuer, host.clock, zone=host.zone)
    return Wired(
        servicers=[
            (add_RequestServiceServicer_to_server, requests, REQUESTS),
            (add_ServiceItemServiceServicer_to_server, items, SERVICE_ITEMS),
        ],
        handlers=handlers(),
        tasks={"follow_ups": FormKeeper(host.transactions).run},
    )


PART = Part("delivery", MIGRATIONS, build)
