"""What the moving of events between the tiers is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from quintet.federation.v1.facts_pb2 import DirectiveChanged
from quintet.management.v1 import tiers_pb2
from quintet.management.v1.facts_pb2 import EventMoved, HandoverAnswered, TakeOverAsked, TakeOverRefused
from quintet.management.v1.tiers_pb2_grpc import add_TierServiceServicer_to_server
from services.management.handover.trail import Trail
from services.management.tiers.facts import TierHandlers
from services.management.tiers.moving import Moving
from services.management.tiers.service import TierServicer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

    from libs.host import Host, Servicer
    from libs.inbox import Handler
    from services.management.deadlines.ledger import Ledger
    from services.management.facts_mirrored import MirrorHandlers
    from services.management.worklists.service_base import Means

TIERS = tiers_pb2.DESCRIPTOR.services_by_name["TierService"]


class Tiers(NamedTuple):
    """The part's servicers, and what they hear."""

    servicers: list[Servicer]
    handlers: Mapping[type[Message], Handler]


def tiers(host: Host, means: Means, mirrored: MirrorHandlers, ledger: Ledger) -> Tiers:
    """Wire the moving of events from this node and to it."""
    servicer = TierServicer(means.transactions, means.loops, means.zones, means.intake, means.book)
    trail = Trail(means.book)
    moving = Moving(means.loops, means.book, ledger, trail)
    heard = TierHandlers(host.node, mirrored, moving, ledger, trail)
    return Tiers(
        [(add_TierServiceServicer_to_server, servicer, TIERS)],
        {
            # The consumer parses the bytes of a fact as the type under which its handler stands.
            TakeOverAsked: cast("Handler", heard.take_over_asked),
            TakeOverRefused: cast("Handler", heard.take_over_refused),
            EventMoved: cast("Handler", heard.event_moved),
            HandoverAnswered: cast("Handler", heard.handover_answered),
            DirectiveChanged: cast("Handler", heard.directive_changed),
        },
    )
