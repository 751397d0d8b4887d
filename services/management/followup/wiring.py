"""What follow-up is made of."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, cast
from zoneinfo import ZoneInfo

from libs.host import Wired
from libs.inbox import in_turn
from quintet.delivery.v1.facts_pb2 import FollowUpAnswered, RequestsClosed
from quintet.management.v1 import follow_ups_pb2
from quintet.management.v1.facts_pb2 import EventAdvanced, FollowUpFinished
from quintet.management.v1.follow_ups_pb2_grpc import add_FollowUpServiceServicer_to_server
from services.management.followup.facts import FollowUps
from services.management.followup.keeping import FollowUpKeeper
from services.management.followup.service import FollowUpServicer

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from libs.host import Host
    from libs.inbox import Handler
    from libs.tx import Tx
    from quintet.fact.v1.fact_pb2 import Fact
    from services.management.deadlines.ledger import Ledger

SERVICE = follow_ups_pb2.DESCRIPTOR.services_by_name["FollowUpService"]
SEED_BYTES = 32


def with_follow_ups(wired: Wired, host: Host, ledger: Ledger) -> Wired:
    """Return the part with follow-up, which hears of events behind what the part does about them itself."""
    zones, timezone = host.zones.tree, ZoneInfo(host.config.node.timezone)
    servicer = FollowUpServicer(host.transactions, zones, timezone)
    follow_ups = FollowUps(host.node, zones, timezone, partial(secrets.token_hex, SEED_BYTES), ledger)

    async def advanced(tx: Tx, _fact: Fact, message: Message) -> None:
        await follow_ups.event_advanced(tx, cast("EventAdvanced", message))

    return Wired(
        servicers=[*wired.servicers, (add_FollowUpServiceServicer_to_server, servicer, SERVICE)],
        handlers=in_turn(
            wired.handlers,
            {
                EventAdvanced: advanced,
                # The consumer parses the bytes of a fact as the type under which its handler stands.
                RequestsClosed: cast("Handler", follow_ups.requests_closed),
                FollowUpAnswered: cast("Handler", follow_ups.answered),
                FollowUpFinished: cast("Handler", follow_ups.finished),
            },
        ),
        tasks={**wired.tasks, "follow_ups": FollowUpKeeper(host.transactions).run},
    )
