"""Merging and splitting by hand, at a real node over a real channel."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.errors import Forbidden, Invalid, NotFound, Reason, Stale, WrongState
from quintet.management.v1 import exceptions_pb2, merging_pb2, worklists_pb2
from quintet.management.v1 import management_pb2 as pb
from services.management.convert import time_pb
from services.management.merging.tests.moves import (
    DISPATCHER,
    ZONE,
    check,
    event_of,
    file,
    merge,
    reports,
    split,
)
from services.management.tests.conftest import received
from services.management.tests.samples import NOW, SEWERS, WORKS
from services.management.tests.story import OFFICER, counters, events, walk

if TYPE_CHECKING:
    from services.management.tests.conftest import MakeNode, Node


async def get(node: Node, name: str) -> pb.Event:
    event: pb.Event = (await node.call("GetEvent", pb.GetEventRequest(name=name), OFFICER)).event
    return event


async def steps(node: Node, name: str) -> list[pb.EventStep]:
    return list((await node.call("ListEventSteps", pb.ListEventStepsRequest(name=name), OFFICER)).steps)


async def test_one_event_goes_into_another_with_all_its_reports(city: Node) -> None:
    into, event = await file(city, 1), await file(city, 2, 500)
    assert await file(city, 3, 510) == event, "merged without asking"
    await walk(city, event, "file")
    after = await merge(city, event, into)
    assert (after.name, after.reports) == (into, 3)
    assert list(after.requests) == [f"zones/{ZONE}/requests/r{number}" for number in (1, 2, 3)]
    ended = await get(city, event)
    assert (ended.status, ended.merged_into, ended.reports, list(ended.requests)) == ("merged", into, 0, [])
    assert ended.HasField("closed_at")
    assert not ended.HasField("step_due_at")
    last = (await steps(city, event))[-1]
    assert (last.action, last.actor, last.reason, last.to) == ("merge_into", DISPATCHER, "the same wall", "merged")
    assert into in last.explanation.text.en
    assert f"并入 {into}" in last.explanation.text.zh
    taken = (await steps(city, into))[1:]
    assert [(step.action, step.actor, step.explanation.inputs["event"]) for step in taken] == [
        ("merge", DISPATCHER, event)
    ] * 2
    await check(city, 3)


async def test_the_merged_event_is_nobodys_work_any_more(city: Node) -> None:
    into, event = await file(city, 1), await file(city, 2, 500)
    work = worklists_pb2.ListWorkRequest(parent="zones/us-ca-sf", inbox=worklists_pb2.WORK_INBOX_ROLE)
    await city.call("ClaimEvent", worklists_pb2.ClaimEventRequest(name=event), OFFICER)
    assert len((await city.call("ListWork", work, OFFICER)).items) == 2
    await merge(city, event, into)
    assert [item.event.name for item in (await city.call("ListWork", work, OFFICER)).items] == [into]
    rows = await city.rows("SELECT next_clock_at, assignee FROM events WHERE name = $1", event)
    assert [tuple(row) for row in rows] == [(None, "")]
    for action in ("file", "void"):
        with pytest.raises(WrongState):
            await walk(city, event, *(["file"] if action == "file" else []), "file")
    ask = exceptions_pb2.AskExceptionRequest(
        event=event, kind=exceptions_pb2.EXCEPTION_KIND_REOPEN, reason="it was another wall"
    )
    with pytest.raises(WrongState):
        await city.call("AskException", ask, OFFICER)


async def test_a_report_that_was_merged_wrongly_gets_an_event_of_its_own(city: Node) -> None:
    first = await file(city, 1)
    assert await file(city, 2, 50, "A red car is in the way") == first
    await walk(city, first, "file")
    (_, wrong) = await reports(city, first)
    assert (wrong.description, wrong.merged, wrong.source) == (
        "A red car is in the way",
        True,
        f"zones/{ZONE}/requests/r2",
    )
    done = await split(city, wrong.name)
    assert (done.event.status, done.event.split_from, done.event.reports) == ("collected", first, 1)
    assert (done.event.description, list(done.event.requests)) == (wrong.description, [wrong.source])
    assert done.event.place.point == wrong.place.point
    assert done.event.occurred_at == wrong.occurred_at
    assert done.event.due_at == done.split_from.due_at, "it counts from when it was reported, not from now"
    assert (done.split_from.reports, done.split_from.status) == (1, "filed")
    (opened,) = await steps(city, done.event.name)
    assert (opened.action, opened.actor, opened.reason) == ("open", DISPATCHER, "another wall")
    assert first in opened.explanation.text.en
    assert "50 m apart" in opened.explanation.text.en
    assert "相距 50 米" in opened.explanation.text.zh
    left = (await steps(city, first))[-1]
    assert (left.action, left.to, left.explanation.inputs["opened"]) == ("split", "filed", done.event.name)
    await check(city, 2)
    # What comes now may be of either; a report that is filed again is still known.
    assert await file(city, 2, 50) == done.event.name


async def test_what_was_merged_by_hand_can_be_undone(city: Node) -> None:
    into, event = await file(city, 1), await file(city, 2, 500)
    await merge(city, event, into)
    (_, moved) = await reports(city, into)
    assert (moved.merged, moved.moves) == (True, 1)
    done = await split(city, moved.name)
    assert (await reports(city, done.event.name))[0].moves == 2
    assert await event_of(city, 2) == done.event.name
    await check(city, 2)


async def test_officers_own_reports_move_too(city: Node) -> None:
    request = pb.OpenEventRequest(parent="zones/us-ca-sf-d6", type="eventTypes/graffiti", description="Tags")
    name = (await city.call("OpenEvent", request, OFFICER)).event.name
    into = await file(city, 1)
    assert (await merge(city, name, into)).reports == 2
    (_, own) = await reports(city, into)
    assert (own.kind, own.description) == ("officer", "Tags")
    done = await split(city, own.name)
    assert (done.event.zone, list(done.event.requests)) == ("us-ca-sf-d6", [])
    await check(city, 1)


async def test_what_is_refused(city: Node) -> None:
    into, event = await file(city, 1), await file(city, 2, 500)
    with pytest.raises(Invalid, match="another event"):
        await merge(city, event, event)
    with pytest.raises(NotFound):
        await merge(city, event, "zones/us-ca-sf-d10/events/none")
    with pytest.raises(Stale):
        await merge(city, event, into, etag=7)
    request = merging_pb2.MergeEventsRequest(name=event, into=into, reason="x")
    with pytest.raises(Forbidden):
        await city.call("MergeEvents", request, "people/verifier")
    (first,) = await reports(city, event)
    with pytest.raises(WrongState, match="opened for this report"):
        await split(city, first.name)
    for number in ("7", "x", "9" * 40):
        with pytest.raises(NotFound) as caught:
            await split(city, f"{event}/reports/{number}")
        assert caught.value.reason == Reason.REPORT_NOT_FOUND
    await merge(city, event, into)
    for pair in ((event, into), (into, event)):
        with pytest.raises(WrongState, match="only open events"):
            await merge(city, *pair)


async def test_what_others_still_work_on_or_wait_for_is_not_merged(city: Node) -> None:
    into, shared, waiting = await file(city, 1), await file(city, 2, 500), await file(city, 3, 1000)
    await walk(city, shared, "file", "dispatch")
    drafts = [pb.SubOrderDraft(organisation=each, instruction="go") for each in (WORKS, SEWERS)]
    joint = pb.StartJointDisposalRequest(name=shared, lead=WORKS, sub_orders=drafts, reason="both")
    await city.call("StartJointDisposal", joint, DISPATCHER)
    with pytest.raises(WrongState) as caught:
        await merge(city, shared, into)
    assert caught.value.reason == Reason.SUB_ORDER_OPEN
    assert (await merge(city, into, shared)).reports == 2, "the other way round nothing is lost"
    ask = exceptions_pb2.AskExceptionRequest(
        event=waiting,
        kind=exceptions_pb2.EXCEPTION_KIND_SUSPENSION,
        until=time_pb(NOW.replace(month=3)),
        reason="winter",
    )
    asked = (await city.call("AskException", ask, OFFICER)).exception
    decide = exceptions_pb2.DecideExceptionRequest(name=asked.name, approve=True)
    await city.call("DecideException", decide, "people/supervisor")
    with pytest.raises(WrongState) as caught:
        await merge(city, waiting, shared)
    assert caught.value.reason == Reason.EVENT_SUSPENDED


async def test_the_facts_say_where_every_request_stands(city: Node) -> None:
    into, event = await file(city, 1), await file(city, 2, 500)
    await merge(city, event, into)
    (_, moved) = await reports(city, into)
    opened = (await split(city, moved.name)).event.name
    told = [(fact, message) for fact, message in await city.stated() if fact.type.endswith(("Merged", "Advanced"))]
    (came, merged), (went, ended), (_, left) = told
    assert (came.key, merged.request, merged.moves, merged.from_event) == (into, moved.source, 1, event)
    assert (went.key, ended.status, ended.merged_into, ended.reports) == (event, "merged", into, 0)
    assert merged.from_revision == ended.revision
    assert (left.event, left.reports, left.step.action) == (into, 1, "split")
    _, last = (await city.stated())[-1]
    assert (last.event.name, last.request, last.moves, last.from_event) == (opened, moved.source, 2, into)
    assert last.from_revision == left.revision
    audit = [row["action"] for row in await city.rows("SELECT action FROM audit_entries ORDER BY id")][-4:]
    assert audit == [f"management.events.{each}" for each in ("merge", "merge_into", "split", "open")]


MOVES = st.lists(
    st.tuples(st.sampled_from(["file", "merge", "split", "walk"]), st.integers(0, 30), st.integers(0, 30)),
    min_size=4,
    max_size=14,
)
CLEAN = "TRUNCATE events, event_changes, counters, counter_deltas, outbox, merge_suggestions CASCADE"


async def do(node: Node, moves: list[tuple[str, int, int]]) -> int:
    """Do what is possible of some moves; return how many requests were filed."""
    filed = 0
    for what, one, other in moves:
        open_ = [event for event in await events(node) if not event.HasField("closed_at")]
        if what == "file" or not open_:
            filed += 1
            zone = ZONE if other % 2 else "us-ca-sf-d10-potrero-hill"
            await file(node, filed, metres=(one % 4) * 150.0, zone=zone)
            continue
        event = open_[one % len(open_)]
        if what == "merge":
            into = open_[other % len(open_)]
            if event.name != into.name:
                await merge(node, event.name, into.name)
        elif what == "split":
            merged = [report for report in await reports(node, event.name) if report.merged]
            if merged:
                await split(node, merged[other % len(merged)].name)
        elif event.status == "collected":
            await walk(node, event.name, "file")
    return filed


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=MOVES, seed=st.integers(0, 1000))
async def test_whatever_is_moved_every_report_stands_in_one_event_here_and_above(
    make_node: MakeNode, moves: list[tuple[str, int, int]], seed: int
) -> None:
    child, city = await _family(make_node)
    for node in (child, city):
        await node.transactions.run(lambda tx: tx.conn.execute(CLEAN))
    requests = await do(child, moves)
    await check(child, requests)
    facts = [received(fact) for fact, _ in await child.stated()]
    random.Random(seed).shuffle(facts)
    for fact in (*facts, *facts[:5]):
        await city.take_in(fact)
    there = {event.name: event for event in await events(child, ZONE)}
    here = {event.name: event for event in await events(city)}
    assert {name: _seen(event) for name, event in here.items()} == {name: _seen(event) for name, event in there.items()}
    assert (await counters(city)).zones == (await counters(child)).zones
    if here:
        with pytest.raises(WrongState, match="handled by node sf-d10"):
            await reports(city, min(here))


_families: dict[Any, tuple[Node, Node]] = {}


async def _family(make_node: MakeNode) -> tuple[Node, Node]:
    """One district and one city for all examples of a test: they take longer to make than to use."""
    if make_node not in _families:
        child = await make_node("sf-d10", root=ZONE)
        _families[make_node] = child, await make_node("sf", ZONE)
    return _families[make_node]


def _seen(event: pb.Event) -> tuple[object, ...]:
    closed = event.HasField("closed_at")
    requests = sorted(event.requests)
    return event.status, event.revision, event.reports, requests, event.merged_into, event.split_from, closed
