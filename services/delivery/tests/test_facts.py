"""What management says of events reaches the requests, whatever comes twice or out of order."""

import itertools
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from libs.testing import MakeTransactions
from libs.tx import Transactions
from services.delivery import events_store, model, store
from services.delivery.facts import handlers
from services.delivery.model import Request, Status
from services.delivery.tests.samples import (
    EVENT,
    MIGRATIONS,
    PUBLIC_WORKS,
    START,
    advanced,
    fact,
    merged,
    opened,
    request,
)

FIRST = "zones/us-ca-sf-d10/requests/r1"
SECOND = "zones/us-ca-sf-d10/requests/r2"
PARKS = "organisations/parks"

Tell = Callable[..., Awaitable[None]]


@pytest.fixture
async def delivery(transactions: MakeTransactions) -> Transactions:
    made = await transactions("delivery", MIGRATIONS)
    for request_id in ("r1", "r2"):
        await made.run(lambda tx, request_id=request_id: store.add(tx.conn, request(request_id)))  # type: ignore[misc]
    return made


@pytest.fixture
def tell(delivery: Transactions) -> Tell:
    """Hands facts to their handlers, each in a transaction of its own."""

    async def told(*messages: Any, received_from: str = "") -> None:
        for message in messages:
            handle = handlers()[type(message)]
            await delivery.run(lambda tx, h=handle, m=message: h(tx, fact(m, received_from=received_from), m))  # type: ignore[misc]

    return told


async def get(delivery: Transactions, request_id: str) -> Request:
    found = await delivery.read(lambda conn: store.get(conn, "us-ca-sf-d10", request_id))
    assert found is not None
    return found


async def seen(delivery: Transactions, request_id: str) -> list[tuple[str, str, str]]:
    """(status, organisation, note) of each step that the reporter sees."""
    found = await get(delivery, request_id)
    steps = await delivery.read(lambda conn: events_store.steps(conn, found.event, found.linked_revision, 100))
    return [(step.status, step.organisation, step.note) for step in model.steps_seen(found, steps)]


async def test_the_life_of_a_request(delivery: Transactions, tell: Tell) -> None:
    await tell(opened(FIRST))
    accepted = await get(delivery, "r1")
    assert (accepted.status, accepted.event, accepted.merged) == (Status.ACCEPTED, EVENT, False)
    assert accepted.due_at == START + timedelta(hours=24)
    await tell(advanced(2, "filed"), advanced(3, "dispatched", PUBLIC_WORKS, reason="by type and place"))
    working = await get(delivery, "r1")
    assert (working.status, working.organisation, working.event_status) == (
        Status.IN_PROGRESS,
        PUBLIC_WORKS,
        "dispatched",
    )
    await tell(advanced(4, "disposed", PUBLIC_WORKS), advanced(5, "fed_back", PUBLIC_WORKS, answer="Replaced"))
    answered = await get(delivery, "r1")
    assert (answered.status, answered.answer, answered.event_revision) == (Status.ANSWERED, "Replaced", 5)
    await tell(advanced(6, "closed", PUBLIC_WORKS))
    closed = await get(delivery, "r1")
    assert (closed.status, closed.answer) == (Status.CLOSED, "Replaced"), "the answer stays"
    assert await seen(delivery, "r1") == [
        ("received", "", ""),
        ("accepted", "", ""),
        ("accepted", "", ""),
        ("in_progress", PUBLIC_WORKS, ""),
        ("in_progress", PUBLIC_WORKS, ""),
        ("answered", PUBLIC_WORKS, "Replaced"),
        ("closed", PUBLIC_WORKS, ""),
    ]
    assert (await get(delivery, "r2")).status is Status.RECEIVED, "nobody spoke of the other"


async def test_a_merged_request_shares_the_fate_from_then_on(delivery: Transactions, tell: Tell) -> None:
    await tell(opened(FIRST), advanced(2, "filed"), advanced(3, "dispatched", PUBLIC_WORKS))
    await tell(merged(SECOND, 4, "dispatched", PUBLIC_WORKS))
    joined = await get(delivery, "r2")
    assert (joined.status, joined.event, joined.merged, joined.organisation) == (
        Status.IN_PROGRESS,
        EVENT,
        True,
        PUBLIC_WORKS,
    )
    assert (await get(delivery, "r1")).event_revision == 3, "the first reporter's status comes from the dispatch"
    await tell(advanced(5, "fed_back", PUBLIC_WORKS, answer="Replaced"))
    for request_id in ("r1", "r2"):
        found = await get(delivery, request_id)
        assert (found.status, found.answer, found.event_revision) == (Status.ANSWERED, "Replaced", 5)
    assert await seen(delivery, "r2") == [
        ("received", "", ""),
        ("in_progress", PUBLIC_WORKS, ""),
        ("answered", PUBLIC_WORKS, "Replaced"),
    ]


async def test_void_tells_the_reporter_why(delivery: Transactions, tell: Tell) -> None:
    await tell(opened(FIRST), advanced(2, "voided", reason="not a matter of the city"))
    rejected = await get(delivery, "r1")
    assert (rejected.status, rejected.answer) == (Status.REJECTED, "not a matter of the city")


async def test_rework_takes_back_the_status_and_a_new_answer_replaces_the_old(
    delivery: Transactions, tell: Tell
) -> None:
    await tell(opened(FIRST), advanced(5, "fed_back", PUBLIC_WORKS, answer="Replaced"))
    await tell(advanced(6, "dispatched", PUBLIC_WORKS, reason="still dark"))
    assert (await get(delivery, "r1")).status is Status.IN_PROGRESS
    await tell(advanced(8, "fed_back", PUBLIC_WORKS, answer="Replaced again"))
    assert (await get(delivery, "r1")).answer == "Replaced again"


async def test_a_step_before_the_link_counts(delivery: Transactions, tell: Tell) -> None:
    await tell(advanced(3, "dispatched", PUBLIC_WORKS), merged(SECOND, 2, "filed"))
    found = await get(delivery, "r2")
    assert (found.status, found.organisation, found.event_revision) == (Status.IN_PROGRESS, PUBLIC_WORKS, 3)
    assert await seen(delivery, "r2") == [
        ("received", "", ""),
        ("accepted", "", ""),
        ("in_progress", PUBLIC_WORKS, ""),
    ]


async def test_an_answer_that_comes_behind_a_later_merge_is_not_lost(delivery: Transactions, tell: Tell) -> None:
    await tell(opened(FIRST), merged(SECOND, 7, "fed_back", PUBLIC_WORKS))
    await tell(advanced(6, "fed_back", PUBLIC_WORKS, answer="Replaced"))
    for request_id in ("r1", "r2"):
        found = await get(delivery, request_id)
        assert (found.status, found.answer) == (Status.ANSWERED, "Replaced")


STORY = [
    opened(FIRST),
    advanced(2, "filed"),
    advanced(3, "dispatched", PUBLIC_WORKS),
    merged(SECOND, 4, "dispatched", PUBLIC_WORKS, due_h=48),
    advanced(5, "dispatched", PARKS),
    advanced(6, "disposed", PARKS),
    advanced(7, "fed_back", PARKS, answer="Replaced"),
    advanced(8, "closed", PARKS),
]


async def state_of(delivery: Transactions) -> list[Any]:
    found = [await get(delivery, request_id) for request_id in ("r1", "r2")]
    # The revision shows which fact last made a difference; everything else is what somebody gets to see.
    return [
        (each.status, each.event, each.merged, each.event_status, each.organisation, each.due_at, each.answer)
        for each in found
    ] + [await seen(delivery, "r1"), await seen(delivery, "r2")]


TABLES = "requests, request_links, event_states, event_steps, follow_ups"


async def test_the_order_of_facts_does_not_matter(transactions: MakeTransactions) -> None:
    chance = random.Random(7)
    orders: list[list[int]] = [list(range(len(STORY))), list(reversed(range(len(STORY))))]
    orders += [chance.sample(range(len(STORY)), len(STORY)) for _ in range(6)]
    ends = []
    made = await transactions("delivery", MIGRATIONS)
    for order in orders:
        await made.run(lambda tx: tx.conn.execute(f"TRUNCATE {TABLES}"))
        for request_id in ("r1", "r2"):
            await made.run(lambda tx, request_id=request_id: store.add(tx.conn, request(request_id)))  # type: ignore[misc]
        for place in order:
            message = STORY[place]
            handle = handlers()[type(message)]
            await made.run(lambda tx, h=handle, m=message: h(tx, fact(m), m))  # type: ignore[misc]
        ends.append(await state_of(made))
    for order, end in zip(orders, ends, strict=True):
        assert end == ends[0], order


async def test_facts_that_come_again_change_nothing(delivery: Transactions, tell: Tell) -> None:
    await tell(*STORY)
    end = await state_of(delivery)
    for message in itertools.chain(STORY, reversed(STORY)):
        await tell(message)
        assert await state_of(delivery) == end


async def test_peers_speak_of_their_events_as_the_own_node_does(delivery: Transactions, tell: Tell) -> None:
    await tell(opened(FIRST), advanced(2, "filed"), received_from="sf-d10")
    assert (await get(delivery, "r1")).event_status == "filed"


async def test_facts_of_requests_that_are_kept_elsewhere_are_no_trouble(delivery: Transactions, tell: Tell) -> None:
    await tell(
        opened("zones/us-ca-sf-d10/requests/elsewhere"),
        opened("", event="zones/us-ca-sf-d10/events/e2"),
        opened("zones/us-ca-sf/requests/r1", event="zones/us-ca-sf-d10/events/e3"),
    )
    assert (await get(delivery, "r1")).status is Status.RECEIVED, "the zone is part of a request's name"


async def test_a_request_stays_with_the_first_event_that_took_it(delivery: Transactions, tell: Tell) -> None:
    await tell(opened(FIRST), opened(FIRST, event="zones/us-ca-sf-d6/events/e9"))
    assert (await get(delivery, "r1")).event == EVENT
