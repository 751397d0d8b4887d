"""What collaboration consumes: the directory from identity, joint disposals of management, directives of federation.

Facts of one key come in the order in which they were stated, so the directory takes the last one for true. Each handler
may run twice for a fact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from libs.ids import new_id
from quintet.collaboration.v1.facts_pb2 import ChannelCreated
from quintet.federation.v1.directive_pb2 import DirectiveState
from quintet.federation.v1.facts_pb2 import DirectiveChanged
from quintet.identity.v1.facts_pb2 import OrganisationChanged, PersonChanged
from quintet.management.v1.facts_pb2 import JointDisposalStarted
from services.collaboration import directory_store, messages, store
from services.collaboration.messages import text_of, time_of
from services.collaboration.model import Channel, Organisation, Post, Task, TaskState, zone_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

    from libs.inbox import Handler
    from libs.tx import Tx
    from quintet.fact.v1.fact_pb2 import Fact

TITLE_CHARS_MAX = 200
_TAKEN_BACK = frozenset({DirectiveState.DIRECTIVE_STATE_EXPIRED, DirectiveState.DIRECTIVE_STATE_CANCELLED})


def handlers() -> Mapping[type[Message], Handler]:
    return {
        OrganisationChanged: organisation_changed,
        PersonChanged: person_changed,
        JointDisposalStarted: joint_disposal_started,
        DirectiveChanged: directive_changed,
    }


async def organisation_changed(tx: Tx, fact: Fact, message: Message) -> None:
    """Keep the organisation, of this node or of a peer, in the directory."""
    organisation = cast(OrganisationChanged, message).organisation
    kept = Organisation(organisation.name, text_of(organisation.title), organisation.zone)
    await directory_store.put_organisation(tx.conn, fact.node, kept)


async def person_changed(tx: Tx, fact: Fact, message: Message) -> None:
    """Keep the posts that the person holds in organisations; residents, who hold none, are nobody's to look up."""
    person = cast(PersonChanged, message).person
    posts = [
        Post(post.organisation, post.zone, text_of(post.title), post.role.removeprefix("roles/"))
        for post in person.posts
        if post.organisation
    ]
    await directory_store.put_person(
        tx.conn, fact.node, person.name, person.display_name, [] if person.disabled else posts
    )


async def joint_disposal_started(tx: Tx, fact: Fact, message: Message) -> None:
    """Open a channel for the organisations and give each its task; only for events that this node handles itself."""
    if fact.received_from:
        return
    started = cast(JointDisposalStarted, message)
    members = dict.fromkeys([started.lead, *(order.organisation for order in started.sub_orders)])
    wanted = Channel(
        id=new_id(),
        title=started.title[:TITLE_CHARS_MAX],
        event=started.event,
        zone=zone_of(started.event, fact.zone),
        organisations=tuple(member for member in members if member),
        created_at=tx.now,
        created_by=started.started_by,
    )
    channel, opened = await store.add_joint_channel(tx.conn, wanted)
    if opened:
        created = ChannelCreated(channel=messages.channel_message(channel))
        tx.publish(created, zone=channel.zone, key=channel.name)
        tx.audit("collaboration.channels.create", channel.name, event=channel.event)
    for order in started.sub_orders:
        task = Task(
            id=new_id(),
            title=channel.title,
            instruction=order.instruction,
            channel=channel.name,
            event=channel.event,
            zone=channel.zone,
            sub_order=order.id,
            organisation=order.organisation,
            state=TaskState.OPEN,
            created_at=tx.now,
            due_at=time_of(started.due_at) if started.HasField("due_at") else None,
        )
        if await store.add_task(tx.conn, task):
            tx.publish(messages.task_changed(task, started.started_by), zone=task.zone, key=task.name)
            tx.audit("collaboration.tasks.create", task.name, event=task.event, sub_order=task.sub_order)


async def directive_changed(tx: Tx, fact: Fact, message: Message) -> None:
    """Give the organisation that a directive is for its task, due when it expires; take it back with the directive.

    The answer is given to the tier above by AnswerDirective: that a task is done says less than was asked.
    """
    directive = cast(DirectiveChanged, message).directive
    if fact.received_from or directive.to_node != fact.node or not directive.organisation:
        return
    if directive.state == DirectiveState.DIRECTIVE_STATE_DELIVERED:
        task = Task(
            id=new_id(),
            title=directive.title[:TITLE_CHARS_MAX],
            instruction=directive.text,
            channel="",
            event="",
            zone=directive.zone,
            sub_order="",
            organisation=directive.organisation,
            state=TaskState.OPEN,
            created_at=tx.now,
            due_at=time_of(directive.expires_at),
            directive=directive.name,
        )
        if await store.add_task(tx.conn, task):
            tx.publish(messages.task_changed(task, directive.issued_by), zone=task.zone, key=task.name)
            tx.audit("collaboration.tasks.create", task.name, directive=directive.name)
    elif directive.state in _TAKEN_BACK:
        await _cancel_task(tx, directive.name, directive.reason)


async def _cancel_task(tx: Tx, directive: str, reason: str) -> None:
    before = await store.task_of_directive(tx.conn, directive)
    if before is None or before.state in {TaskState.DONE, TaskState.CANCELLED}:
        return
    note = reason or "the directive has expired"
    after = replace(before, state=TaskState.CANCELLED, note=note, done_at=tx.now, revision=before.revision + 1)
    await store.update_task(tx.conn, after)
    tx.publish(messages.task_changed(after, "services/collaboration"), zone=after.zone, key=after.name)
    tx.audit("collaboration.tasks.cancel", after.name, directive=directive, note=note)
