"""What work lists are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from zoneinfo import ZoneInfo

from quintet.identity.v1.facts_pb2 import PersonChanged
from quintet.identity.v1.identity_pb2_grpc import IdentityServiceStub
from quintet.management.v1 import worklists_pb2
from quintet.management.v1.worklists_pb2_grpc import add_WorkListServiceServicer_to_server
from services.management.worklists.keeping import ChangeKeeper
from services.management.worklists.leaving import Leavers
from services.management.worklists.people import People
from services.management.worklists.service import WorkListServicer
from services.management.worklists.service_base import Beside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

    from libs.host import Host, Servicer
    from libs.inbox import Handler
    from libs.supervisor import Work
    from services.management.service_events import EventMethods
    from services.management.worklists.feed import Feed
    from services.management.worklists.service_base import Means

WORK_LISTS = worklists_pb2.DESCRIPTOR.services_by_name["WorkListService"]


def servicers(host: Host, means: Means, events: EventMethods, feed: Feed) -> list[Servicer]:
    people = People(IdentityServiceStub(host.channel_to("identity")), host.zones.tree)
    servicer = WorkListServicer(means, Beside(events, people, feed, ZoneInfo(host.config.node.timezone)))
    return [(add_WorkListServiceServicer_to_server, servicer, WORK_LISTS)]


def handlers(host: Host) -> Mapping[type[Message], Handler]:
    return {PersonChanged: cast("Handler", Leavers(host.node, host.zones.tree).person_changed)}


def tasks(host: Host, feed: Feed) -> Mapping[str, Work]:
    return {"changes": feed.run, "changes_kept": ChangeKeeper(host.transactions).run}
