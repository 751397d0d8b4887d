"""How perception is put together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from libs.host import Part, Wired
from quintet.perception.v1 import perception_pb2
from quintet.perception.v1.perception_pb2_grpc import add_PerceptionServiceServicer_to_server
from services.perception.ingest import Ingest
from services.perception.mqtt import DeviceConsumer
from services.perception.service import PerceptionServicer

if TYPE_CHECKING:
    from libs.host import Host


async def build(host: Host) -> Wired:
    ingest = Ingest(host.transactions, host.zones.tree, ZoneInfo(host.config.node.timezone))
    servicer = PerceptionServicer(host.transactions, host.zones.tree, ingest)
    service = perception_pb2.DESCRIPTOR.services_by_name["PerceptionService"]
    return Wired(
        servicers=[(add_PerceptionServiceServicer_to_server, servicer, service)],
        tasks={"devices": DeviceConsumer(host.transactions, host.bus, ingest).run},
    )


PART = Part("perception", Path(__file__).parent / "migrations", build)
