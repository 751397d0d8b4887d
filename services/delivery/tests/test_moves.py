"""A request whose report is moved from event to event by hand keeps its number, its story and gets the answer."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from quintet.management.v1.facts_pb2 import EventAdvanced, EventOpened, ReportMerged
from quintet.management.v1.management_pb2 import Event, EventStep
from services.delivery import events_store, model, store, texts
from services.delivery.facts import handlers
from services.delivery.model import Request, Status
from services.delivery.tests.samples import EVENT, MIGRATIONS, PUBLIC_WORKS, START, fact, merged, opened, request, stamp

if TYPE_CHECKING:
    from libs.testing import MakeTransactions
    from libs.tx import Transactions

NAME = "zones/us-ca-sf-d10/requests/r1"
OTHER = "zones/us-ca-sf-d10/events/e2"
OWN = "zones/us-ca-sf-d10/events/e3"


def advanced(event: str, revision: int, before: str, after: str, **more: Any) -> EventAdvanced:
    step = EventStep(revision=revision, to=after, occurred_at=stamp(START))
    setattr(step, "from", before)
    return EventAdvanced(event=event, step=step, revision=revision, status=after, organisation=PUBLIC_WORKS, **more)


# It was opened for an event of its own, merged by hand into another, and split off again.
STORY: list[Any] = [
    opened(NAME, event=OTHER),
    advanced(OTHER, 2, "collected", "filed"),
    opened("", event=EVENT),
    advanced(EVENT, 2, "collected", "dispatched"),
    ReportMerged(
        event=EVENT, request=NAME, status="dispatched", revision=3, moves=1, from_event=OTHER, from_revision=3
    ),
    advanced(OTHER, 3, "filed", "merged", merged_into=EVENT),
    advanced(EVENT, 4, "dispatched", "disposed"),
    advanced(EVENT, 5, "disposed", "disposed"),
    EventOpened(
        event=Event(name=OWN, status="collected", revision=1, due_at=stamp(START), split_from=EVENT),
        request=NAME,
        moves=2,
        from_event=EVENT,
        from_revision=5,
    ),
    advanced(EVENT, 6, "disposed", "fed_back", answer="The other one is done"),
    advanced(OWN, 2, "collected", "fed_back", answer="Done, too"),
]


@pytest.fixture
async def delivery(transactions: MakeTransactions) -> Transactions:
    made = await transactions("delivery", MIGRATIONS)
    await made.run(lambda tx: store.add(tx.conn, request("r1")))
    return made


async def tell(delivery: Transactions, *messages: Any) -> None:
    for message in messages:
        handle = handlers()[type(message)]
        await delivery.run(lambda tx, h=handle, m=message: h(tx, fact(m), m))  # type: ignore[misc]


async def get(delivery: Transactions) -> Request:
    found = await delivery.read(lambda conn: store.get(conn, "us-ca-sf-d10", "r1"))
    assert found is not None
    return found


async def seen(delivery: Transactions) -> list[tuple[str, str, str]]:
    """(status of the event, note, reason) of each step that the reporter sees."""
    found = await get(delivery)
    stays = await delivery.read(lambda conn: events_store.stays(conn, found.id))
    steps = {
        stay.event: await delivery.read(lambda conn, s=stay: events_store.steps(conn, s.event, s.revision, 100))  # type: ignore[misc]
        for stay in stays
    }
    return [(step.event_status, step.note, step.reason_en) for step in model.moves_seen(found, stays, steps)]


async def test_the_reporter_follows_the_report(delivery: Transactions) -> None:
    await tell(delivery, *STORY[:6])
    found = await get(delivery)
    assert (found.event, found.merged, found.status, found.event_status) == (
        EVENT,
        True,
        Status.IN_PROGRESS,
        "dispatched",
    )
    assert found.number == request("r1").number
    assert await seen(delivery) == [
        ("", "", ""),
        ("collected", "", ""),
        ("filed", "", ""),
        ("dispatched", "", texts.MERGED[1]),
    ], "what the event that it left went through belongs to it, that it ended does not"
    await tell(delivery, *STORY[6:])
    found = await get(delivery)
    assert (found.event, found.merged, found.status, found.answer) == (OWN, False, Status.ANSWERED, "Done, too")
    assert (await seen(delivery))[3:] == [
        ("dispatched", "", texts.MERGED[1]),
        ("disposed", "", ""),
        ("collected", "", texts.SPLIT[1]),
        ("fed_back", "Done, too", ""),
    ]


@pytest.mark.parametrize("order", list(itertools.permutations((0, 4, 8))))
async def test_the_order_in_which_it_hears_of_moves_does_not_matter(
    delivery: Transactions, order: tuple[int, int, int]
) -> None:
    rest = [message for place, message in enumerate(STORY) if place not in order]
    await tell(delivery, *(STORY[place] for place in order), *reversed(rest))
    first = await get(delivery), await seen(delivery)
    assert (first[0].event, first[0].answer, first[0].merged, first[0].linked_moves) == (OWN, "Done, too", False, 2)
    assert [status for status, _, _ in first[1]] == [
        "", "collected", "filed", "dispatched", "disposed", "collected", "fed_back",
    ]  # fmt: skip
    await tell(delivery, *STORY, *reversed(STORY))
    assert (await get(delivery), await seen(delivery)) == first


async def test_a_move_that_was_not_heard_of_leaves_a_gap_and_no_lie(delivery: Transactions) -> None:
    await tell(delivery, STORY[0], STORY[1], STORY[8], STORY[10])
    assert [status for status, _, _ in await seen(delivery)] == ["", "collected", "collected", "fed_back"]


async def test_nobody_moves_a_request_without_having_moved_it(delivery: Transactions) -> None:
    await tell(delivery, opened(NAME, event=OTHER), merged(NAME, 4, "dispatched"))
    assert (await get(delivery)).event == OTHER
