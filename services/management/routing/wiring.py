"""What suggestions are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.management.v1 import routing_pb2
from quintet.management.v1.routing_pb2_grpc import add_RoutingServiceServicer_to_server
from services.management.routing.service import RoutingServicer

if TYPE_CHECKING:
    from libs.host import Servicer
    from services.management.worklists.service_base import Means

ROUTING = routing_pb2.DESCRIPTOR.services_by_name["RoutingService"]


def servicers(means: Means) -> list[Servicer]:
    servicer = RoutingServicer(means.transactions, means.loops, means.zones, means.intake, means.book)
    return [(add_RoutingServiceServicer_to_server, servicer, ROUTING)]
