"""What whistles are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from quintet.management.v1 import whistles_pb2
from quintet.management.v1.facts_pb2 import WhistleChanged, WhistleReportedIn
from quintet.management.v1.whistles_pb2_grpc import add_WhistleServiceServicer_to_server
from services.management.whistles.calling import WhistleTask
from services.management.whistles.facts import WhistleHandlers
from services.management.whistles.service import WhistleServicer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

    from libs.host import Host, Servicer
    from libs.inbox import Handler
    from libs.supervisor import Work
    from services.management.worklists.service_base import Means

WHISTLES = whistles_pb2.DESCRIPTOR.services_by_name["WhistleService"]


class Whistles(NamedTuple):
    """The part's servicers, what they hear, and their background work."""

    servicers: list[Servicer]
    handlers: Mapping[type[Message], Handler]
    tasks: Mapping[str, Work]


def whistles(host: Host, means: Means) -> Whistles:
    """Wire the whistles of one node."""
    servicer = WhistleServicer(means.transactions, means.loops, means.zones, means.intake, means.book)
    heard = WhistleHandlers(host.node)
    return Whistles(
        [(add_WhistleServiceServicer_to_server, servicer, WHISTLES)],
        {
            # The consumer parses the bytes of a fact as the type under which its handler stands.
            WhistleChanged: cast("Handler", heard.whistle_changed),
            WhistleReportedIn: cast("Handler", heard.reported_in),
        },
        {"whistles": WhistleTask(host.transactions).run},
    )
