"""An upper node takes an event over, or is refused: it moves as a whole, and has one writer at any moment."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from libs.errors import Forbidden, NotFound, Reason, WrongState
from quintet.management.v1 import (
    handovers_pb2,
    management_pb2,
    worklists_pb2,
)
from quintet.management.v1 import tiers_pb2 as pb
from services.management.tests.samples import NOISE, PARKS, SEWERS, WORKS
from services.management.tests.story import OFFICER, counters, filed, task, walk
from services.management.tiers.tests.story import (
    CITY_CREW,
    DISTRICT,
    SUPERVISOR,
    agree,
    ask,
    dispatched,
    family,
    finish,
    got,
    state,
    steps,
    taken_over,
)

if TYPE_CHECKING:
    from services.management.tests.conftest import MakeNode


async def test_the_city_takes_over_and_finishes_what_the_district_began(make_node: MakeNode) -> None:
    both = await family(make_node)
    district, city = both
    event = await dispatched(district)
    await district.hear(filed(2))
    await both.talk()
    before = await got(city, event)
    asked = await ask(city, event)
    assert (asked.state, asked.from_node, asked.to_node) == (pb.TAKE_OVER_STATE_ASKED, "sf-d10", "sf")
    await both.talk()
    for node in both:
        told = await state(node, asked.name)
        assert (told.state, told.revision) == (pb.TAKE_OVER_STATE_MOVED, before.revision + 1)
        found = await got(node, event)
        assert (found.node, found.organisation, found.status) == ("sf", CITY_CREW, "dispatched")
        assert (found.due_at, found.reports, found.requests) == (before.due_at, 2, before.requests)
    await agree(both)
    await finish(city, event)
    await both.talk()
    await agree(both)
    assert (await got(district, event)).answer == "已清除 Cleaned"
    assert await steps(district, event) == await steps(city, event)
    assert [action for _, action, _ in await steps(city, event)] == [
        "open", "file", "dispatch", "merge", "take_over", "take_up", "dispose", "feed_back", "verify",
    ]  # fmt: skip
    total = (await counters(city)).total
    assert (total.events, total.requests, total.merged, dict(total.by_status)) == (1, 2, 1, {"closed": 1})
    assert [(each.node, each.events, each.requests) for each in (await counters(city)).zones] == [("sf", 1, 2)]


async def test_the_old_home_refuses_changes_and_says_who_has_it(make_node: MakeNode) -> None:
    both = await family(make_node)
    event = await dispatched(both.district)
    await both.talk()
    await taken_over(both, event)
    with pytest.raises(WrongState, match="handled by node sf") as caught:
        await walk(both.district, event, "evaluate")
    assert (caught.value.reason, caught.value.metadata["node"]) == (Reason.NOT_AUTHORITATIVE, "sf")
    request = worklists_pb2.ListWorkRequest(parent="zones/us-ca-sf", inbox=worklists_pb2.WORK_INBOX_ROLE)
    mine = (await both.city.call("ListWork", request, "people/handler.ops")).items
    assert [(item.event.name, list(item.actions)) for item in mine] == [(event, ["dispose", "return"])]


async def test_the_way_is_explained_in_both_languages(make_node: MakeNode) -> None:
    both = await family(make_node)
    event = await dispatched(both.district)
    await both.talk()
    await taken_over(both, event)
    request = management_pb2.ListEventStepsRequest(name=event)
    away, there = (await both.district.call("ListEventSteps", request, OFFICER)).steps[-2:]
    assert (away.actor, away.reason) == (SUPERVISOR, "区里力量不足 too big for the district")
    assert "上级节点 sf 提级办理" in away.explanation.text.zh
    assert "the upper node sf takes it over" in away.explanation.text.en
    assert "接自 sf-d10" in there.explanation.text.zh
    assert "has it from sf-d10" in there.explanation.text.en


async def test_what_stands_open_ends_with_the_move(make_node: MakeNode) -> None:
    both = await family(make_node)
    district = both.district
    event = await dispatched(district)
    worker = "people/handler.works"
    await district.call("ClaimEvent", worklists_pb2.ClaimEventRequest(name=event), worker)
    offer = handovers_pb2.OfferHandoverRequest(event=event, organisation=PARKS, reason="theirs", boundary="the lawn")
    handover = (await district.call("OfferHandover", offer, worker)).handover
    await both.talk()
    await taken_over(both, event)
    listed = handovers_pb2.ListHandoversRequest(parent=f"zones/{DISTRICT}", event=event)
    for node in both:
        (found,) = (await node.call("ListHandovers", listed, SUPERVISOR)).handovers
        assert (found.name, found.state) == (handover.name, handovers_pb2.HANDOVER_STATE_SUPERSEDED)
        assert not (await got(node, event)).assignee


# ------------------------------------------------------------------------------------------------------------- refusals


async def test_the_home_refuses_with_a_reason(make_node: MakeNode) -> None:
    both = await family(make_node)
    district, city = both
    joint, closed = await dispatched(district), await dispatched(district, 2, event_type=NOISE.name, place=None)
    await both.talk()
    drafts = [management_pb2.SubOrderDraft(organisation=each, instruction="go") for each in (WORKS, SEWERS)]
    start = management_pb2.StartJointDisposalRequest(name=joint, lead=WORKS, sub_orders=drafts, reason="both")
    await district.call("StartJointDisposal", start, "people/dispatcher")
    for action in ("dispose", "feed_back", "verify"):
        await walk(district, closed, action)
    wanted = {
        joint: (Reason.SUB_ORDER_OPEN, "2 个子任务", "2 sub-orders"),
        closed: (Reason.WRONG_STATE, "事件已结束", "has ended"),
    }
    asked = {event: await ask(city, event) for event in wanted}
    await both.talk()
    for event, (reason, zh, en) in wanted.items():
        for node in both:
            told = await state(node, asked[event].name)
            assert (told.state, told.refusal) == (pb.TAKE_OVER_STATE_REFUSED, reason)
            assert zh in told.refusal_text.zh
            assert en in told.refusal_text.en
        assert (await got(city, event)).node == "sf-d10"
    for number, organisation in (("1", WORKS), ("2", SEWERS)):
        await district.hear(task(joint, number, organisation))
    assert (await taken_over(both, joint)).state == pb.TAKE_OVER_STATE_MOVED
    await agree(both)


async def test_what_cannot_be_asked_for(make_node: MakeNode) -> None:
    both = await family(make_node)
    district, city = both
    event = await dispatched(district)
    await both.talk()
    request = pb.TakeOverEventRequest(event=event, organisation=CITY_CREW, reason="x")
    with pytest.raises(Forbidden):
        await city.call("TakeOverEvent", request, OFFICER)
    await ask(city, event)
    with pytest.raises(WrongState) as caught:
        await ask(city, event)
    assert caught.value.reason == Reason.TAKE_OVER_OPEN
    await both.talk()
    for node, reason in ((city, Reason.WRONG_STATE), (district, Reason.NOT_BELOW)):
        with pytest.raises(WrongState) as caught:
            await ask(node, event)
        assert caught.value.reason == reason
    with pytest.raises(NotFound):
        await ask(city, f"zones/{DISTRICT}/events/none")
    before = await dispatched(district, 2, event_type=NOISE.name, place=None)
    district._relayed = len(await district.stated())  # the city was not told of it
    await walk(district, before, "dispose")
    await both.talk()
    with pytest.raises(WrongState) as caught:
        await ask(city, before)
    assert caught.value.reason == Reason.HISTORY_MISSING


async def test_an_asking_that_comes_too_late_has_lapsed_at_both(make_node: MakeNode) -> None:
    both = await family(make_node)
    district, city = both
    event = await dispatched(district)
    await both.talk()
    asked = await ask(city, event, wait_min=30)
    city.clock.advance(timedelta(minutes=30))
    assert (await state(city, asked.name)).state == pb.TAKE_OVER_STATE_LAPSED
    request = pb.ListTakeOversRequest(parent="zones/us-ca-sf", state=pb.TAKE_OVER_STATE_LAPSED)
    assert [each.name for each in (await city.call("ListTakeOvers", request, SUPERVISOR)).take_overs] == [asked.name]
    again = await ask(city, event)
    await both.talk()
    first = await state(district, asked.name)
    assert (first.state, first.refusal) == (pb.TAKE_OVER_STATE_REFUSED, Reason.TAKE_OVER_LAPSED)
    assert (await state(city, again.name)).state == pb.TAKE_OVER_STATE_MOVED
    assert (await got(district, event)).node == "sf"


async def test_an_answer_on_its_way_still_counts_when_time_is_over(make_node: MakeNode) -> None:
    both = await family(make_node)
    event = await dispatched(both.district)
    await both.talk()
    asked = await ask(both.city, event, wait_min=30)
    await both.city.report_to(both.district)
    both.city.clock.advance(timedelta(hours=1))  # cut off
    assert (await state(both.city, asked.name)).state == pb.TAKE_OVER_STATE_LAPSED
    with pytest.raises(WrongState):
        await walk(both.district, event, "evaluate")
    with pytest.raises(WrongState):
        await walk(both.city, event, "evaluate")
    await both.talk()
    assert (await state(both.city, asked.name)).state == pb.TAKE_OVER_STATE_MOVED
    await finish(both.city, event)
    await both.talk()
    await agree(both)
