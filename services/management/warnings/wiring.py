"""What the monitoring and warning centre is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from libs.errors import NotFound
from libs.host import Wired
from libs.inbox import in_turn
from quintet.identity.v1.directory_pb2 import GetPersonRequest
from quintet.identity.v1.directory_pb2_grpc import DirectoryServiceStub
from quintet.management.v1 import channels_pb2, indicators_pb2, visits_pb2, warnings_pb2
from quintet.management.v1.channels_pb2_grpc import add_WarningChannelServiceServicer_to_server
from quintet.management.v1.facts_pb2 import WebhookDeliveryDue
from quintet.management.v1.indicators_pb2_grpc import add_IndicatorServiceServicer_to_server
from quintet.management.v1.visits_pb2_grpc import add_VisitServiceServicer_to_server
from quintet.management.v1.warnings_pb2_grpc import add_WarningCentreServiceServicer_to_server
from quintet.perception.v1.facts_pb2 import WarningEnded, WarningRaised
from services.management.warnings.announcing import Announcer
from services.management.warnings.observing import Observer, observed
from services.management.warnings.sensing import SensorWarnings
from services.management.warnings.service_centre import WarningCentreServicer
from services.management.warnings.service_channels import WarningChannelServicer
from services.management.warnings.service_indicators import IndicatorServicer
from services.management.warnings.service_visits import VisitServicer
from services.management.warnings.watching import Watcher
from services.management.warnings.webhooks import Signature, WebhookLetters, WebhookSender

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from google.protobuf.message import Message

    from libs.host import Host
    from libs.inbox import Handler
    from libs.tx import Tx
    from quintet.fact.v1.fact_pb2 import Fact
    from services.management.warnings.service_centre import Posts

    M = TypeVar("M", bound=Message)

INDICATORS = indicators_pb2.DESCRIPTOR.services_by_name["IndicatorService"]
CENTRE = warnings_pb2.DESCRIPTOR.services_by_name["WarningCentreService"]
VISITS = visits_pb2.DESCRIPTOR.services_by_name["VisitService"]
CHANNELS = channels_pb2.DESCRIPTOR.services_by_name["WarningChannelService"]


def with_warnings(wired: Wired, host: Host) -> Wired:
    """Return the part with the centre: its servicers and tasks, and its indicators, which read all facts."""
    transactions, zones = host.transactions, host.zones.tree
    private = host.config.webhooks.private
    signature = Signature(host.node_keys.present)
    announcer = Announcer(host.node, host.config.node.name, zones)
    centre = WarningCentreServicer(transactions, zones, announcer, _posts(host))
    channels = WarningChannelServicer(transactions, zones, signature.jwk, private=private)
    indicators = IndicatorServicer(transactions, zones)
    return Wired(
        servicers=[
            *wired.servicers,
            (add_IndicatorServiceServicer_to_server, indicators, INDICATORS),
            (add_WarningCentreServiceServicer_to_server, centre, CENTRE),
            (add_VisitServiceServicer_to_server, VisitServicer(transactions), VISITS),
            (add_WarningChannelServiceServicer_to_server, channels, CHANNELS),
        ],
        handlers=observed(in_turn(wired.handlers, _own(SensorWarnings(zones))), Observer(zones)),
        tasks={
            **wired.tasks,
            "warnings": Watcher(transactions, zones, announcer).run,
            "webhooks": WebhookSender(transactions, signature, private=private).run,
        },
    )


def _own(sensors: SensorWarnings) -> dict[type[Message], Handler]:
    """Return what the centre hears of itself."""
    heard = (
        _on(WarningRaised, sensors.raised),
        _on(WarningEnded, sensors.ended),
        _on(WebhookDeliveryDue, WebhookLetters().due),
    )
    return dict(heard)


def _on(kind: type[M], handle: Callable[[Tx, Fact, M], Awaitable[None]]) -> tuple[type[Message], Handler]:
    # The consumer parses the bytes of a fact as the type under which its handler stands.
    return kind, cast("Handler", handle)


def _posts(host: Host) -> Posts:
    directory = DirectoryServiceStub(host.channel_to("identity"))

    async def posts(person: str) -> Collection[tuple[str, str]]:
        try:
            answer = await directory.GetPerson(GetPersonRequest(name=person))
        except NotFound:
            return ()  # a service account has no posts of a person
        return [(post.role, post.zone) for post in answer.person.posts]

    return posts
