"""Channels, tasks, callers and facts for the tests of collaboration."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from libs.access import Caller, Grant, Grants, Kind, Scope
from libs.ids import new_id
from libs.zones import ZoneRecord, ZoneTree
from quintet.common.v1.common_pb2 import LocalText
from quintet.fact.v1.fact_pb2 import Fact
from quintet.identity.v1.directory_pb2 import Organisation, Person, Post
from quintet.identity.v1.facts_pb2 import OrganisationChanged, PersonChanged
from quintet.management.v1.facts_pb2 import JointDisposalStarted
from quintet.management.v1.management_pb2 import SubOrder
from services.collaboration.model import Channel, Task, TaskState

MIGRATIONS = Path(__file__).parents[1] / "migrations"
START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
PUBLIC_WORKS = "organisations/public-works"
PARKS = "organisations/parks"
POLICE = "organisations/police"
HANDLER = "people/handler.public-works"
EVENT = "zones/us-ca-sf-d10/events/e1"
D10 = "us-ca-sf-d10"
ROOT = "us-ca-sf"

TREE = ZoneTree(
    [ZoneRecord(ROOT), ZoneRecord("us-ca-sf-d6", parent=ROOT), ZoneRecord(D10, parent=ROOT)],
    root=ROOT,
)


def caller(subject: str, *grants: Grant, organisations: tuple[str, ...] = ()) -> Caller:
    return Caller(subject, Kind.PERSON, Grants(subject, grants, lambda: TREE, organisations=organisations))


def member(permission: str, organisation: str, zone: str = ROOT) -> Caller:
    """Somebody who holds the permission for the sake of their organisation."""
    held = Grant(permission, Scope.ORGANISATION, zone, organisation)
    return caller(HANDLER, held, organisations=(organisation,))


def channel(channel_id: str = "c1", **changed: Any) -> Channel:
    made = Channel(channel_id, "Fallen tree", EVENT, D10, (PUBLIC_WORKS, PARKS), START, HANDLER)
    return replace(made, **changed)


def task(task_id: str = "t1", **changed: Any) -> Task:
    made = Task(
        id=task_id,
        title="Fallen tree",
        instruction="Clear the street",
        channel="channels/c1",
        event=EVENT,
        zone=D10,
        sub_order="",
        organisation=PUBLIC_WORKS,
        state=TaskState.OPEN,
        created_at=START,
    )
    return replace(made, **changed)


def stamp(time: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(time)
    return made


def fact(message: Any, *, node: str = "sf", received_from: str = "") -> Fact:
    """A fact as it comes from the bus."""
    return Fact(
        id=new_id(),
        type=message.DESCRIPTOR.full_name,
        node=node,
        zone=D10,
        key="any",
        time=stamp(START),
        data=message.SerializeToString(),
        received_from=received_from,
    )


def organisation_changed(name: str = PUBLIC_WORKS, en: str = "Public Works", zone: str = ROOT) -> OrganisationChanged:
    return OrganisationChanged(organisation=Organisation(name=name, title=LocalText(en=en, zh="市政"), zone=zone))


def person_changed(
    name: str = HANDLER,
    *organisations: str,
    disabled: bool = False,
    display_name: str = "Handler 1",
    role: str = "handler",
    zone: str = ROOT,
) -> PersonChanged:
    title = LocalText(en="Handler", zh="处置人员")
    posts = [
        Post(role=f"roles/{role}", zone=zone, organisation=organisation, title=title) for organisation in organisations
    ]
    return PersonChanged(person=Person(name=name, display_name=display_name, posts=posts, disabled=disabled))


def joint_disposal(*organisations: str, event: str = EVENT, revision: int = 4) -> JointDisposalStarted:
    orders = [
        SubOrder(id=f"s{revision}-{n}", organisation=organisation, instruction=f"Share {n}", lead=n == 0)
        for n, organisation in enumerate(organisations)
    ]
    return JointDisposalStarted(
        event=event,
        title="Fallen tree",
        lead=organisations[0],
        sub_orders=orders,
        due_at=stamp(START),
        revision=revision,
        started_by="people/dispatcher.d10",
    )
