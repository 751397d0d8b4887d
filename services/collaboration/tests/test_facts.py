"""The directory follows identity, and a joint disposal gets its channel and tasks once."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from libs.access import Visibility
from libs.testing import MakeTransactions
from libs.tx import Transactions
from quintet.federation.v1.directive_pb2 import Directive, DirectiveState
from quintet.federation.v1.facts_pb2 import DirectiveChanged
from services.collaboration import directory_store, store
from services.collaboration.facts import handlers
from services.collaboration.model import Channel, Task, TaskState
from services.collaboration.store import Scope
from services.collaboration.tests.samples import (
    EVENT,
    HANDLER,
    MIGRATIONS,
    PARKS,
    POLICE,
    PUBLIC_WORKS,
    START,
    fact,
    joint_disposal,
    organisation_changed,
    person_changed,
)

Tell = Callable[..., Awaitable[None]]
EVERYTHING = Visibility(everything=True)


@pytest.fixture
async def collaboration(transactions: MakeTransactions) -> Transactions:
    return await transactions("collaboration", MIGRATIONS)


@pytest.fixture
def tell(collaboration: Transactions) -> Tell:
    """Hands facts to their handlers, each in a transaction of its own."""

    async def told(*messages: Any, **origin: Any) -> None:
        for message in messages:
            handle = handlers()[type(message)]
            await collaboration.run(lambda tx, h=handle, m=message: h(tx, fact(m, **origin), m))  # type: ignore[misc]

    return told


async def directory(of: Transactions) -> list[tuple[str, str, str, list[str]]]:
    """(organisation, node, English title, people) of each entry."""
    entries = await of.read(lambda conn: directory_store.list_entries(conn, EVERYTHING, None, None, 100))
    return [
        (entry.organisation.name, entry.node, entry.organisation.title.en, [holder.person for holder in entry.holders])
        for entry in entries
    ]


async def channels(of: Transactions) -> list[Channel]:
    return await of.read(lambda conn: store.list_channels(conn, Scope(EVERYTHING, ()), "", None, 100))


async def tasks(of: Transactions) -> list[Task]:
    found = await of.read(lambda conn: store.list_tasks(conn, Scope(EVERYTHING, ()), None, "", None, 100))
    return sorted(found, key=lambda task: task.sub_order)


async def stated(of: Transactions) -> list[str]:
    """The types of the facts in the outbox, in order."""
    rows = await of.read(lambda conn: conn.fetch("SELECT subject FROM outbox ORDER BY id"))
    return [row["subject"].rpartition(".")[2] for row in rows]


async def test_the_directory_follows_identity(collaboration: Transactions, tell: Tell) -> None:
    await tell(organisation_changed(), person_changed(HANDLER, PUBLIC_WORKS))
    assert await directory(collaboration) == [(PUBLIC_WORKS, "sf", "Public Works", [HANDLER])]
    await tell(organisation_changed(en="City Works"), person_changed(HANDLER, PARKS))
    assert await directory(collaboration) == [(PUBLIC_WORKS, "sf", "City Works", [])]


async def test_people_may_come_before_their_organisation_and_twice(collaboration: Transactions, tell: Tell) -> None:
    await tell(person_changed(HANDLER, PUBLIC_WORKS), person_changed(HANDLER, PUBLIC_WORKS), organisation_changed())
    await tell(organisation_changed())
    assert await directory(collaboration) == [(PUBLIC_WORKS, "sf", "Public Works", [HANDLER])]


async def test_nodes_may_use_the_same_names(collaboration: Transactions, tell: Tell) -> None:
    await tell(organisation_changed(), person_changed(HANDLER, PUBLIC_WORKS))
    await tell(organisation_changed(en="Works of D10"), node="sf-d10", received_from="sf-d10")
    assert await directory(collaboration) == [
        (PUBLIC_WORKS, "sf", "Public Works", [HANDLER]),
        (PUBLIC_WORKS, "sf-d10", "Works of D10", []),
    ]


async def test_residents_and_the_disabled_are_not_in_the_directory(collaboration: Transactions, tell: Tell) -> None:
    await tell(organisation_changed(), person_changed("people/resident.01", ""))
    await tell(person_changed(HANDLER, PUBLIC_WORKS), person_changed(HANDLER, PUBLIC_WORKS, disabled=True))
    assert await directory(collaboration) == [(PUBLIC_WORKS, "sf", "Public Works", [])]
    people = await collaboration.read(lambda conn: conn.fetchval("SELECT count(*) FROM people"))
    assert people == 0, "nothing is kept of whom nobody may look up"


async def test_a_joint_disposal_gets_a_channel_and_tasks(collaboration: Transactions, tell: Tell) -> None:
    await tell(joint_disposal(PUBLIC_WORKS, PARKS))
    [channel] = await channels(collaboration)
    assert (channel.title, channel.event, channel.organisations) == ("Fallen tree", EVENT, (PUBLIC_WORKS, PARKS))
    assert channel.created_by == "people/dispatcher.d10"
    found = await tasks(collaboration)
    assert [(task.organisation, task.instruction, task.sub_order) for task in found] == [
        (PUBLIC_WORKS, "Share 0", "s4-0"),
        (PARKS, "Share 1", "s4-1"),
    ]
    assert {(task.state, task.channel, task.event, task.due_at) for task in found} == {
        (TaskState.OPEN, channel.name, EVENT, START)
    }
    assert await stated(collaboration) == ["ChannelCreated", "TaskChanged", "TaskChanged"]


async def test_a_joint_disposal_that_comes_again_changes_nothing(collaboration: Transactions, tell: Tell) -> None:
    await tell(joint_disposal(PUBLIC_WORKS, PARKS))
    before = await channels(collaboration), await tasks(collaboration), await stated(collaboration)
    await tell(joint_disposal(PUBLIC_WORKS, PARKS))
    assert (await channels(collaboration), await tasks(collaboration), await stated(collaboration)) == before


async def test_a_second_disposal_of_the_event_joins_the_channel(collaboration: Transactions, tell: Tell) -> None:
    await tell(joint_disposal(PUBLIC_WORKS, PARKS), joint_disposal(PUBLIC_WORKS, POLICE, revision=9))
    [channel] = await channels(collaboration)
    assert channel.organisations == (PUBLIC_WORKS, PARKS, POLICE)
    assert [task.sub_order for task in await tasks(collaboration)] == ["s4-0", "s4-1", "s9-0", "s9-1"]


async def test_disposals_of_other_nodes_are_their_own_affair(collaboration: Transactions, tell: Tell) -> None:
    await tell(joint_disposal(PUBLIC_WORKS, PARKS), node="sf-d10", received_from="sf-d10")
    assert (await channels(collaboration), await tasks(collaboration)) == ([], [])


def directive(state: str = "DELIVERED", **fields: Any) -> DirectiveChanged:
    given = {"to_node": "sf", "organisation": PARKS, "zone": "us-ca-sf-d10", "title": "Clear the drains"} | fields
    made = Directive(name="directives/d1", text="Before the rain", **given)
    made.state = DirectiveState.Value(f"DIRECTIVE_STATE_{state}")
    made.expires_at.FromDatetime(START)
    return DirectiveChanged(directive=made)


async def test_a_directive_becomes_one_task_of_the_organisation_it_is_for(
    collaboration: Transactions, tell: Tell
) -> None:
    await tell(directive(), directive())
    (task,) = await tasks(collaboration)
    assert (task.title, task.instruction, task.organisation) == ("Clear the drains", "Before the rain", PARKS)
    assert (task.due_at, task.state, task.directive) == (START, TaskState.OPEN, "directives/d1")
    assert await stated(collaboration) == ["TaskChanged"]
    await tell(directive("CANCELLED", reason="no rain"), directive("CANCELLED", reason="no rain"))
    (task,) = await tasks(collaboration)
    assert (task.state, task.note, task.revision) == (TaskState.CANCELLED, "no rain", 2)


async def test_directives_for_others_or_too_late_become_no_task(collaboration: Transactions, tell: Tell) -> None:
    await tell(directive(to_node="sf-d10"), directive(organisation=""), directive("EXPIRED"), directive("SENT"))
    await tell(directive(), received_from="sf-d10")
    assert await tasks(collaboration) == []
