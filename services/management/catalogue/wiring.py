"""What the catalogue is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.management.v1 import catalogue_pb2, loops_pb2
from quintet.management.v1.catalogue_pb2_grpc import add_ComponentTypeServiceServicer_to_server
from quintet.management.v1.loops_pb2_grpc import add_LoopServiceServicer_to_server
from services.management.catalogue.book import LoopWatch
from services.management.catalogue.service_components import ComponentTypeServicer
from services.management.catalogue.service_loops import LoopServicer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from libs.host import Host, Servicer
    from libs.supervisor import Work
    from services.management.catalogue.book import LoopBook

COMPONENTS = catalogue_pb2.DESCRIPTOR.services_by_name["ComponentTypeService"]
LOOPS = loops_pb2.DESCRIPTOR.services_by_name["LoopService"]


def servicers(host: Host, loops: LoopBook) -> list[Servicer]:
    components = ComponentTypeServicer(host.transactions, host.zones.tree)
    return [
        (add_LoopServiceServicer_to_server, LoopServicer(host.transactions, host.zones.tree, loops), LOOPS),
        (add_ComponentTypeServiceServicer_to_server, components, COMPONENTS),
    ]


def tasks(host: Host, loops: LoopBook) -> Mapping[str, Work]:
    return {"loops": LoopWatch(host.transactions, loops).run}
