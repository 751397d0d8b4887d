"""The tables of management, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from libs.access import Visibility
from libs.errors import Stale
from services.management import store_counters, store_events, store_joint, store_lists, store_mirror, store_types
from services.management.catalogue.book import LoopBook
from services.management.counting import CounterFolder
from services.management.deadlines.book import Book
from services.management.intake import Intake, TakenIn
from services.management.model import Event, Flag, Place, ReportKind, Route, StepAction
from services.management.model_joint import Draft, start
from services.management.model_loop import Command, advance
from services.management.tests.samples import (
    CHILD,
    GRAFFITI,
    LOOPS,
    MIGRATIONS,
    NODE,
    NOISE,
    NOW,
    PARKS,
    SEVEN,
    SEWERS,
    TWIN_PEAKS,
    WORKS,
    YESTERDAY,
    north_of,
    report,
    tree,
)

if TYPE_CHECKING:
    from libs.db import Connection
    from libs.testing import MakeTransactions
    from libs.tx import Transactions, Tx
    from services.management.model_report import Report

EVERYTHING = Visibility(everything=True)
CITY = tree().codes("us-ca-sf")


@pytest_asyncio.fixture
async def transactions_(transactions: MakeTransactions) -> Transactions:
    made = await transactions("management", MIGRATIONS)

    async def put(tx: Tx) -> None:
        for event_type in (GRAFFITI, NOISE):
            await store_types.put_type(tx.conn, event_type, actor="people/admin", now=tx.now)

    await made.run(put)
    return made


async def take(transactions: Transactions, taken: Report) -> TakenIn:
    intake = Intake(NODE, LoopBook(LOOPS.values()), tree, Book())
    return await transactions.run(lambda tx: intake.take(tx, taken, actor="people/officer"))


async def step(transactions: Transactions, name: str, action: str, **more: Any) -> Event:
    async def work(tx: Tx) -> Event:
        event = await store_events.lock(tx.conn, name)
        assert event is not None
        after, taken = advance(SEVEN, event, Command(action, "people/officer", tx.now, **more))
        await store_events.update(tx.conn, after, taken)
        return after

    return await transactions.run(work)


async def read(transactions: Transactions, name: str) -> tuple[Event, list[str]]:
    found = await transactions.read(lambda conn: store_events.get(conn, name))
    assert found is not None
    return found


async def counted(transactions: Transactions) -> dict[tuple[str, str, str], tuple[int, int, int]]:
    rows = await transactions.read(lambda conn: store_counters.counts(conn, CITY))
    return {(r.zone, r.node, r.status): (r.events, r.requests, r.merged) for r in rows if r.events or r.requests}


async def test_a_type_gets_a_version_per_change(transactions_: Transactions) -> None:
    async def put(tx: Tx) -> tuple[int, bool]:
        found, changed = await store_types.put_type(tx.conn, wanted, actor="people/admin", now=tx.now)
        return found.version, changed

    wanted = GRAFFITI
    assert await transactions_.run(put) == (1, False)
    wanted = replace(GRAFFITI, routes=(Route("us-ca-sf", SEWERS),))
    assert await transactions_.run(put) == (2, True)
    assert await transactions_.run(put) == (2, False)
    found = await transactions_.read(lambda conn: store_types.get_type(conn, GRAFFITI.name))
    assert found == replace(wanted, version=2)
    listed = await transactions_.read(lambda conn: store_types.list_types(conn, after=GRAFFITI.name, limit=10))
    assert [t.name for t in listed] == [NOISE.name]


async def test_an_event_comes_back_as_it_was_stored(transactions_: Transactions) -> None:
    taken = await take(transactions_, report(flags=(Flag("ZONE_UNKNOWN", "place", "nothing said so"),)))
    event, requests = await read(transactions_, taken.event.name)
    assert event == taken.event
    assert requests == ["zones/us-ca-sf-d6/requests/r1"]
    assert event.deadlines.due_at == YESTERDAY + timedelta(hours=48)
    assert event.suggestion == WORKS
    assert event.flags == (Flag("ZONE_UNKNOWN", "place", "nothing said so"),)
    assert event.place == TWIN_PEAKS


async def test_a_walk_through_the_loop_is_kept(transactions_: Transactions) -> None:
    name = (await take(transactions_, report())).event.name
    for action in ("file", "dispatch", "dispose"):
        await step(transactions_, name, action)
    await step(transactions_, name, "feed_back", answer="Painted over")
    await step(transactions_, name, "verify")
    after = await step(transactions_, name, "evaluate")
    event, _ = await read(transactions_, name)
    assert event == after
    assert (event.status, event.revision, event.answer, event.organisation) == ("evaluated", 7, "Painted over", WORKS)
    steps = await transactions_.read(lambda conn: store_lists.list_steps(conn, event.id, after=0, limit=100))
    assert [(s.revision, s.from_status, s.to_status) for s in steps] == [
        (1, "", "collected"), (2, "collected", "filed"), (3, "filed", "dispatched"), (4, "dispatched", "disposed"),
        (5, "disposed", "fed_back"), (6, "fed_back", "closed"), (7, "closed", "evaluated"),
    ]  # fmt: skip
    assert [
        s.revision for s in await transactions_.read(lambda c: store_lists.list_steps(c, event.id, after=5, limit=1))
    ] == [6]


async def test_reports_of_one_thing_share_an_event(transactions_: Transactions) -> None:
    first = await take(transactions_, report(1))
    near = await take(transactions_, report(2, place=north_of(TWIN_PEAKS, 80)))
    same_address = await take(transactions_, report(3, place=Place(address="501 Twin Peaks Blvd. San Francisco CA")))
    far = await take(transactions_, report(4, place=north_of(TWIN_PEAKS, 130)))
    late = await take(transactions_, report(5, occurred_at=YESTERDAY - timedelta(hours=73)))
    other_type = await take(transactions_, report(6, type=NOISE.name))
    assert [t.merged for t in (first, near, same_address, far, late, other_type)] == [
        False, True, True, False, False, False,
    ]  # fmt: skip
    event, requests = await read(transactions_, first.event.name)
    assert requests == [f"zones/us-ca-sf-d6/requests/r{n}" for n in (1, 2, 3)]
    assert (event.reports, event.revision, event.status) == (3, 3, "collected")
    steps = await transactions_.read(lambda conn: store_lists.list_steps(conn, event.id, after=1, limit=10))
    assert [s.action for s in steps] == [StepAction.MERGE, StepAction.MERGE]
    assert steps[0].explanation is not None
    assert steps[0].explanation.inputs["distance_m"] == "80"


async def test_no_place_matches_nothing(transactions_: Transactions) -> None:
    nowhere = Place(address="Not associated with a specific address")
    taken = [await take(transactions_, report(n, place=nowhere)) for n in (1, 2)]
    assert [t.merged for t in taken] == [False, False]


async def test_a_closed_event_takes_no_reports(transactions_: Transactions) -> None:
    first = await take(transactions_, report(1))
    await step(transactions_, first.event.name, "void", reason="not ours")
    assert not (await take(transactions_, report(2))).merged


async def test_reports_at_the_same_moment_open_one_event(transactions_: Transactions) -> None:
    taken = await asyncio.gather(*(take(transactions_, report(n)) for n in range(1, 13)))
    assert sorted(t.merged for t in taken) == [False] + [True] * 11
    event, requests = await read(transactions_, taken[0].event.name)
    assert event.reports == 12
    assert len(set(requests)) == 12


async def test_the_name_of_an_event_is_its_own(transactions_: Transactions) -> None:
    taken = await take(transactions_, report(1))

    async def again(tx: Tx) -> None:
        first = replace(taken.event, revision=1)
        steps = await store_lists.list_steps(tx.conn, first.id, after=0, limit=1)
        await store_events.insert(tx.conn, first, steps[0], report(2))

    with pytest.raises(Stale):
        await transactions_.run(again)


async def recounted(conn: Connection) -> dict[tuple[str, str, str], int]:
    rows = await conn.fetch("SELECT zone, node, status, count(*) AS events FROM events GROUP BY 1, 2, 3")
    return {(row["zone"], row["node"], row["status"]): row["events"] for row in rows}


async def test_counters_equal_a_recount_before_and_after_folding(transactions_: Transactions) -> None:
    for number in range(1, 5):
        await take(transactions_, report(number))
    other = await take(transactions_, report(9, zone="us-ca-sf-d10", place=Place()))
    await take(transactions_, report(kind=ReportKind.OFFICER, source="", type=NOISE.name, zone="us-ca-sf"))
    await step(transactions_, other.event.name, "file")
    expected = {
        ("us-ca-sf-d6", NODE, "collected"): (1, 4, 3),
        ("us-ca-sf-d10", NODE, "filed"): (1, 0, 0),
        ("us-ca-sf-d10", NODE, "collected"): (0, 1, 0),
        ("us-ca-sf", NODE, "collected"): (1, 0, 0),
    }
    assert await counted(transactions_) == expected
    assert {key: n for key, (n, _, _) in expected.items() if n} == await transactions_.read(recounted)
    folded = await asyncio.gather(*(transactions_.run(lambda tx: store_counters.fold(tx.conn)) for _ in range(3)))
    assert sum(folded) == 8
    assert await counted(transactions_) == expected
    await step(transactions_, other.event.name, "dispatch")
    assert (await counted(transactions_))["us-ca-sf-d10", NODE, "dispatched"] == (1, 0, 0)
    assert await CounterFolder(transactions_).fold() == 2
    assert await CounterFolder(transactions_).fold() == 0


async def listed(transactions: Transactions, visible: Visibility = EVERYTHING, **query: Any) -> list[str]:
    found: list[str] = []
    after: tuple[datetime, int] | None = None
    wanted = store_lists.Query(CITY, **query)

    async def page(conn: Connection) -> list[Event]:
        return await store_lists.list_events(conn, wanted, visible, after=after, limit=2)

    while events := await transactions.read(page):
        found += [event.description for event in events]
        after = (events[-1].opened_at, events[-1].id)
    return found


async def test_lists_are_newest_first_and_narrowed(transactions_: Transactions) -> None:
    nowhere = Place()
    zones = ("us-ca-sf", "us-ca-sf-d6", "us-ca-sf-d10", "us-ca-sf-d6", "us-ca-sf-d10")
    events = [
        (await take(transactions_, report(n, zone=zone, place=nowhere, description=f"e{n}"))).event
        for n, zone in enumerate(zones, 1)
    ]
    await step(transactions_, events[1].name, "file")
    await step(transactions_, events[1].name, "dispatch", organisation=SEWERS)
    await step(transactions_, events[4].name, "file")
    await step(transactions_, events[4].name, "dispatch")
    assert await listed(transactions_) == ["e5", "e4", "e3", "e2", "e1"]
    assert await listed(transactions_, status="dispatched") == ["e5", "e2"]
    assert await listed(transactions_, organisation=SEWERS) == ["e2"]
    assert await listed(transactions_, type=NOISE.name) == []
    assert await listed(transactions_, request="zones/us-ca-sf-d6/requests/r3") == ["e3"]
    assert await listed(transactions_, node=CHILD) == []
    assert await listed(transactions_, Visibility(zones=("us-ca-sf-d6",))) == ["e4", "e2"]
    assert await listed(
        transactions_, Visibility(organisation_zones=((WORKS, "us-ca-sf-d10"), (SEWERS, "us-ca-sf")))
    ) == ["e5"]
    assert await listed(transactions_, Visibility(organisation_everywhere=(SEWERS,))) == ["e2"]
    assert await listed(transactions_, Visibility()) == []


async def test_who_has_a_share_sees_the_event(transactions_: Transactions) -> None:
    name = (await take(transactions_, report(description="joint"))).event.name
    await step(transactions_, name, "file")
    await step(transactions_, name, "dispatch")

    async def work(tx: Tx) -> None:
        event = await store_events.lock(tx.conn, name)
        assert event is not None
        drafts = [Draft(WORKS, "paint"), Draft(PARKS, "trees")]
        after, taken, shares = start(SEVEN, event, drafts, WORKS, reason="both", actor="people/x", now=tx.now)
        await store_joint.put_sub_orders(tx.conn, event.id, shares)
        await store_events.update(tx.conn, after, taken)

    await transactions_.run(work)
    assert await listed(transactions_, Visibility(organisation_everywhere=(PARKS,))) == ["joint"]
    event, _ = await read(transactions_, name)
    assert (event.shares, event.shares_open, event.handlers) == (2, 2, (WORKS, PARKS))
    shares = await transactions_.read(lambda conn: store_joint.list_sub_orders(conn, event.id))
    done = replace(shares[1], done_at=NOW, note="cut")
    await transactions_.run(lambda tx: store_joint.put_sub_orders(tx.conn, event.id, [done]))
    await transactions_.run(lambda tx: store_joint.put_sub_orders(tx.conn, event.id, [shares[1]]))
    assert (await transactions_.read(lambda conn: store_joint.list_sub_orders(conn, event.id)))[1] == done


async def test_a_thousand_requests_are_listed(transactions_: Transactions) -> None:
    name = (await take(transactions_, report())).event.name
    async with transactions_.pool.acquire() as conn:
        await conn.execute(
            """INSERT INTO event_reports (event_id, revision, kind, source, merged)
            SELECT e.id, n, 'request', 'zones/us-ca-sf/requests/m' || n, true
            FROM events e, generate_series(2, 1500) AS n WHERE e.name = $1""",
            name,
        )
    _, requests = await read(transactions_, name)
    assert len(requests) == 1000
    assert requests[:2] == ["zones/us-ca-sf-d6/requests/r1", "zones/us-ca-sf/requests/m2"]


async def test_unknown_events_are_none(transactions_: Transactions) -> None:
    assert await transactions_.read(lambda conn: store_events.get(conn, "zones/x/events/1")) is None
    assert await transactions_.read(lambda conn: store_mirror.node_of(conn, "zones/x/events/1")) is None
