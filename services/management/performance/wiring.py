"""What scorecards are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from libs.host import Wired
from libs.inbox import in_turn
from quintet.delivery.v1.facts_pb2 import RequestRated
from quintet.management.v1 import scorecards_pb2
from quintet.management.v1.facts_pb2 import EventRated
from quintet.management.v1.scorecards_pb2_grpc import ScorecardServiceServicer, add_ScorecardServiceServicer_to_server
from services.management.performance.making import Maker
from services.management.performance.ratings import RatingHandlers
from services.management.performance.service_appeals import AppealMethods
from services.management.performance.service_cards import MakingMethods
from services.management.performance.service_scores import ReadingMethods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from libs.host import Host
    from libs.inbox import Handler
    from services.management.facts_mirrored import MirrorHandlers
    from services.management.model_loop import Loop

SERVICE = scorecards_pb2.DESCRIPTOR.services_by_name["ScorecardService"]


class ScorecardServicer(MakingMethods, ReadingMethods, AppealMethods, ScorecardServiceServicer):
    """The servicer of ScorecardService."""


def with_performance(wired: Wired, host: Host, loops: Callable[[], Iterable[Loop]], mirrored: MirrorHandlers) -> Wired:
    """Return the part with scorecards and the ratings that they count."""
    maker = Maker(host.node, loops, host.zones.tree, host.node_keys)
    servicer = ScorecardServicer(host.transactions, host.zones.tree, maker)
    ratings = RatingHandlers(host.node, mirrored)
    # The consumer parses the bytes of a fact as the type under which its handler stands.
    rated, told = cast("Handler", ratings.request_rated), cast("Handler", ratings.event_rated)
    return Wired(
        servicers=[*wired.servicers, (add_ScorecardServiceServicer_to_server, servicer, SERVICE)],
        handlers=in_turn(wired.handlers, {RequestRated: rated, EventRated: told}),
        tasks=wired.tasks,
    )
