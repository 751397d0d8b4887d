"""What hand-overs are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from quintet.federation.v1.facts_pb2 import DirectiveChanged
from quintet.management.v1 import handovers_pb2
from quintet.management.v1.facts_pb2 import HandoverAcross, HandoverChanged
from quintet.management.v1.handovers_pb2_grpc import add_HandoverServiceServicer_to_server
from services.management.handover.facts import HandoverHandlers
from services.management.handover.keeping import HandoverTask
from services.management.handover.service import HandoverServicer
from services.management.handover.trail import Trail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

    from libs.host import Host, Servicer
    from libs.inbox import Handler
    from libs.supervisor import Work
    from services.management.facts_mirrored import MirrorHandlers
    from services.management.worklists.service_base import Means

HANDOVERS = handovers_pb2.DESCRIPTOR.services_by_name["HandoverService"]


class Handovers(NamedTuple):
    """The part's servicers, what they hear, and their background work."""

    servicers: list[Servicer]
    handlers: Mapping[type[Message], Handler]
    tasks: Mapping[str, Work]


def handovers(host: Host, means: Means, mirrored: MirrorHandlers) -> Handovers:
    """Wire the hand-overs of one node's events."""
    trail = Trail(means.book)
    servicer = HandoverServicer(means.transactions, means.loops, means.zones, means.intake, means.book)
    heard = HandoverHandlers(host.node, mirrored, trail)
    return Handovers(
        [(add_HandoverServiceServicer_to_server, servicer, HANDOVERS)],
        {
            # The consumer parses the bytes of a fact as the type under which its handler stands.
            HandoverChanged: cast("Handler", heard.handover_changed),
            HandoverAcross: cast("Handler", heard.handover_changed),
            DirectiveChanged: cast("Handler", heard.directive_changed),
        },
        {"handovers": HandoverTask(host.transactions, trail).run},
    )
