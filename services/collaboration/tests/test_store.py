"""Channels, messages, tasks and the directory in a real PostgreSQL."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from libs.access import Visibility
from libs.testing import MakeTransactions
from libs.tx import Transactions, Tx
from services.collaboration import directory_store, store
from services.collaboration.directory_store import POSTS_PER_ORGANISATION_MAX
from services.collaboration.model import Channel, LocalText, Organisation, Post, Task, TaskState
from services.collaboration.store import Scope
from services.collaboration.tests.samples import (
    D10,
    HANDLER,
    MIGRATIONS,
    PARKS,
    POLICE,
    PUBLIC_WORKS,
    ROOT,
    START,
    channel,
    task,
)

EVERYTHING = Scope(Visibility(everything=True), ())
NOTHING = Scope(Visibility(), ())


@pytest.fixture
async def collaboration(transactions: MakeTransactions) -> Transactions:
    return await transactions("collaboration", MIGRATIONS)


async def add(of: Transactions, *things: Channel | Task) -> None:
    async def work(tx: Tx) -> None:
        for thing in things:
            if isinstance(thing, Channel):
                await store.add_channel(tx.conn, thing)
            else:
                await store.add_task(tx.conn, thing)

    await of.run(work)


async def test_a_channel_is_kept_as_it_was_opened(collaboration: Transactions) -> None:
    await add(collaboration, channel())
    assert await collaboration.read(lambda conn: store.get_channel(conn, "c1")) == channel()
    assert await collaboration.read(lambda conn: store.get_channel(conn, "c2")) is None


async def test_a_joint_disposal_has_one_channel_that_others_join(collaboration: Transactions) -> None:
    first = await collaboration.run(lambda tx: store.add_joint_channel(tx.conn, channel()))
    assert first == (channel(), True)
    more = channel("c2", organisations=(PUBLIC_WORKS, POLICE))
    again = await collaboration.run(lambda tx: store.add_joint_channel(tx.conn, more))
    assert again == (channel(organisations=(PUBLIC_WORKS, PARKS, POLICE)), False)
    await add(collaboration, channel("c3"))  # people may open more channels about the event


async def test_channels_are_listed_for_who_takes_part(collaboration: Transactions) -> None:
    await add(
        collaboration,
        channel("c1"),
        channel("c2", organisations=(POLICE,), created_at=START + timedelta(hours=1)),
        channel("c3", event="", zone=ROOT, organisations=(POLICE,), created_at=START + timedelta(hours=2)),
    )

    async def listed(scope: Scope, event: str = "") -> list[str]:
        rows = await collaboration.read(lambda conn: store.list_channels(conn, scope, event, None, 10))
        return [row.id for row in rows]

    assert await listed(EVERYTHING) == ["c3", "c2", "c1"], "newest first"
    assert await listed(EVERYTHING, channel().event) == ["c2", "c1"]
    assert await listed(NOTHING) == []
    assert await listed(Scope(Visibility(organisation_everywhere=(PARKS,)), [PARKS])) == ["c1"]
    assert await listed(Scope(Visibility(organisation_zones=((POLICE, D10),)), [POLICE])) == ["c3", "c2"]
    assert await listed(Scope(Visibility(organisation_zones=((POLICE, "us-ca-sf-d6"),)), [POLICE])) == ["c3"]
    assert await listed(Scope(Visibility(zones=(D10,)), ())) == ["c2", "c1"]


async def test_messages_are_numbered_without_gaps(collaboration: Transactions) -> None:
    await add(collaboration, channel())
    texts = [f"message {n}" for n in range(10)]
    await asyncio.gather(
        *(collaboration.run(lambda tx, t=text: store.add_message(tx.conn, "c1", HANDLER, t, tx.now)) for text in texts)  # type: ignore[misc]
    )
    first = await collaboration.read(lambda conn: store.list_messages(conn, "c1", 0, 4))
    rest = await collaboration.read(lambda conn: store.list_messages(conn, "c1", first[-1].sequence, 100))
    assert [message.sequence for message in [*first, *rest]] == list(range(1, 11))
    assert sorted(message.text for message in [*first, *rest]) == texts


async def test_a_sub_order_has_one_task(collaboration: Transactions) -> None:
    share = task(sub_order="s1")
    assert await collaboration.run(lambda tx: store.add_task(tx.conn, share))
    assert not await collaboration.run(lambda tx: store.add_task(tx.conn, replace(share, id="t2")))
    await add(collaboration, task("t3"), task("t4"))  # of other tasks an event may have many
    assert await collaboration.read(lambda conn: store.get_task(conn, "t1")) == share


async def test_a_task_changes(collaboration: Transactions) -> None:
    await add(collaboration, task())
    done = task(state=TaskState.DONE, assignee=HANDLER, note="Cleared", done_at=START, revision=2)
    await collaboration.run(lambda tx: store.update_task(tx.conn, done))
    assert await collaboration.read(lambda conn: store.get_task(conn, "t1")) == done


async def test_tasks_are_listed_for_who_takes_part(collaboration: Transactions) -> None:
    await add(
        collaboration,
        task("t1"),
        task("t2", organisation=PARKS, created_at=START + timedelta(hours=1)),
        task("t3", event="", zone=ROOT, state=TaskState.IN_PROGRESS, created_at=START + timedelta(hours=2)),
    )

    async def listed(scope: Scope, state: TaskState | None = None, event: str = "") -> list[str]:
        rows = await collaboration.read(lambda conn: store.list_tasks(conn, scope, state, event, None, 10))
        return [row.id for row in rows]

    assert await listed(EVERYTHING) == ["t3", "t2", "t1"]
    assert await listed(EVERYTHING, TaskState.IN_PROGRESS) == ["t3"]
    assert await listed(EVERYTHING, event=task().event) == ["t2", "t1"]
    assert await listed(NOTHING) == []
    assert await listed(Scope(Visibility(organisation_everywhere=(PARKS,)), [PARKS])) == ["t2"]
    assert await listed(Scope(Visibility(organisation_zones=((PUBLIC_WORKS, "us-ca-sf-d6"),)), [PUBLIC_WORKS])) == [
        "t3"
    ]
    after = (START + timedelta(hours=1), "t2")
    rows = await collaboration.read(lambda conn: store.list_tasks(conn, EVERYTHING, None, "", after, 10))
    assert [row.id for row in rows] == ["t1"]


async def test_the_directory(collaboration: Transactions) -> None:
    text = LocalText("市政", "Public Works")

    async def fill(tx: Tx) -> None:
        for node, name, zone in (
            ("sf", PUBLIC_WORKS, ROOT),
            ("beijing", PUBLIC_WORKS, "cn-110000"),
            ("sf", PARKS, D10),
        ):
            await directory_store.put_organisation(tx.conn, node, Organisation(name, text, zone))
        for n in range(POSTS_PER_ORGANISATION_MAX + 5):
            await directory_store.put_person(
                tx.conn, "sf", f"people/p{n:03}", "", [Post(PUBLIC_WORKS, ROOT, text, "handler")]
            )
        places = ((PARKS, D10), (PARKS, "us-ca-sf-d6"), (PUBLIC_WORKS, ROOT))
        posts = [Post(organisation, zone, text, "handler") for organisation, zone in places]
        await directory_store.put_person(tx.conn, "sf", HANDLER, "Handler 1", posts)

    await collaboration.run(fill)
    everything = Visibility(everything=True)
    entries = await collaboration.read(lambda conn: directory_store.list_entries(conn, everything, None, None, 10))
    found = [(entry.organisation.name, entry.node, len(entry.holders)) for entry in entries]
    assert found == [(PARKS, "sf", 2), (PUBLIC_WORKS, "beijing", 0), (PUBLIC_WORKS, "sf", POSTS_PER_ORGANISATION_MAX)]
    assert entries[0].holders[0].display_name == "Handler 1"
    after = (PUBLIC_WORKS, "beijing")
    entries = await collaboration.read(lambda conn: directory_store.list_entries(conn, everything, None, after, 10))
    assert [(entry.organisation.name, entry.node) for entry in entries] == [(PUBLIC_WORKS, "sf")]
    entries = await collaboration.read(lambda conn: directory_store.list_entries(conn, everything, [D10], None, 10))
    assert [entry.organisation.name for entry in entries] == [PARKS]
    own = Visibility(organisation_everywhere=(PARKS,))
    entries = await collaboration.read(lambda conn: directory_store.list_entries(conn, own, None, None, 10))
    assert [entry.organisation.name for entry in entries] == [PARKS]


async def test_who_is_known(collaboration: Transactions) -> None:
    text = LocalText()

    async def fill(tx: Tx) -> None:
        await directory_store.put_organisation(tx.conn, "sf", Organisation(PARKS, text, ROOT))
        await directory_store.put_person(tx.conn, "sf", HANDLER, "", [Post(PARKS, ROOT, text, "handler")])

    await collaboration.run(fill)
    assert await collaboration.read(lambda conn: directory_store.unknown(conn, [PARKS, POLICE])) == {POLICE}
    assert await collaboration.read(lambda conn: directory_store.holds_post(conn, "sf", HANDLER, PARKS))
    assert not await collaboration.read(lambda conn: directory_store.holds_post(conn, "sf-d10", HANDLER, PARKS))
    await collaboration.run(lambda tx: directory_store.put_person(tx.conn, "sf", HANDLER, "", []))
    assert not await collaboration.read(lambda conn: directory_store.holds_post(conn, "sf", HANDLER, PARKS))
