"""What contingency plans are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from libs.host import Wired
from libs.inbox import in_turn
from quintet.federation.v1.facts_pb2 import DirectiveChanged, DirectiveEscalated, DirectiveNotGiven
from quintet.management.v1 import plans_pb2
from quintet.management.v1.facts_pb2 import PublicWarningPublished
from quintet.management.v1.plans_pb2_grpc import add_PlanServiceServicer_to_server
from services.management.plans.activating import WarningPlans
from services.management.plans.directed import Directed
from services.management.plans.service_plans import PlanServicer

if TYPE_CHECKING:
    from libs.host import Host
    from libs.inbox import Handler

PLANS = plans_pb2.DESCRIPTOR.services_by_name["PlanService"]


def with_plans(wired: Wired, host: Host) -> Wired:
    """Return the part with plans, which hear of the warnings that are published."""
    servicer = PlanServicer(host.transactions, host.zones.tree)
    across = Directed(host.node, host.zones.tree)
    # The consumer parses the bytes of a fact as the type under which its handler stands.
    published = cast("Handler", WarningPlans(host.zones.tree).published)
    return Wired(
        servicers=[*wired.servicers, (add_PlanServiceServicer_to_server, servicer, PLANS)],
        handlers=in_turn(
            wired.handlers,
            {
                PublicWarningPublished: published,
                DirectiveChanged: cast("Handler", across.changed),
                DirectiveEscalated: cast("Handler", across.escalated),
                DirectiveNotGiven: cast("Handler", across.not_given),
            },
        ),
        tasks=wired.tasks,
    )
