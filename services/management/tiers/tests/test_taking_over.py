"""An upper node takes an event over: it moves as a whole, has one writer at any moment, and in the end all agree."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from libs.errors import Forbidden, Invalid, NotFound, Reason, WrongState
from quintet.delivery.v1.facts_pb2 import RequestReopened
from quintet.federation.v1 import directive_pb2
from quintet.federation.v1.facts_pb2 import DirectiveChanged, ZoneDelegated
from quintet.management.v1 import exceptions_pb2, facts_pb2, handovers_pb2, management_pb2, worklists_pb2
from quintet.management.v1 import tiers_pb2 as pb
from services.management.convert import time_of, time_pb
from services.management.tests.conftest import received
from services.management.tests.samples import GRAFFITI, NOISE, PARKS, SEWERS, WORKS
from services.management.tests.story import OFFICER, counters, events, filed, task, walk
from services.management.tiers.tests.story import (
    CITY_CREW,
    DISTRICT,
    SUPERVISOR,
    ask,
    dispatched,
    family,
    got,
    shared,
    state,
    steps,
)

if TYPE_CHECKING:
    from services.management.tests.conftest import MakeNode, Node
    from services.management.tiers.tests.story import Family


STREET = "us-ca-sf-d10-potrero-hill"


async def taken_over(both: Family, event: str) -> pb.TakeOver:
    asked = await ask(both.city, event)
    await both.talk()
    return await state(both.city, asked.name)


async def finish(node: Node, event: str) -> None:
    for action, actor in (("dispose", "people/handler.ops"), ("feed_back", "people/handler.ops")):
        request = management_pb2.AdvanceEventRequest(name=event, action=action)
        if action == "feed_back":
            request.answer = "已清除 Cleaned"
        await node.call("AdvanceEvent", request, actor)
    await walk(node, event, "verify")


async def agree(both: Family) -> None:
    district, city = both
    assert [shared(each) for each in await events(city, DISTRICT)] == [
        shared(each) for each in await events(district, DISTRICT)
    ]
    there, here = await counters(district), await counters(city)
    assert list(here.zones) == list(there.zones)
    assert here.total.by_status == there.total.by_status


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


async def test_the_clocks_go_on_where_they_stood(make_node: MakeNode) -> None:
    both = await family(make_node)
    district, city = both
    event = await dispatched(district)
    longer = exceptions_pb2.AskExceptionRequest(
        event=event, kind=exceptions_pb2.EXCEPTION_KIND_EXTENSION, minutes=120, reason="rain"
    )
    entry = (await district.call("AskException", longer, "people/dispatcher")).exception
    approve = exceptions_pb2.DecideExceptionRequest(name=entry.name, approve=True)
    await district.call("DecideException", approve, SUPERVISOR)
    waits = exceptions_pb2.AskExceptionRequest(
        event=event, kind=exceptions_pb2.EXCEPTION_KIND_SUSPENSION, reason="frost",
        until=time_pb(city.clock.now() + timedelta(days=2)),
    )  # fmt: skip
    asked = (await district.call("AskException", waits, "people/dispatcher")).exception
    await both.talk()
    due = time_of(await got(district, event), "due_at")
    assert due is not None
    await taken_over(both, event)
    assert time_of(await got(city, event), "due_at") == due
    # What waited for a decision is decided at the new home, and moves the deadline there and at the old one.
    approve.name = asked.name
    await city.call("DecideException", approve, "people/leader")
    await both.talk()
    for node in both:
        found = await got(node, event)
        assert time_of(found, "due_at") == due + timedelta(days=2)
        assert found.HasField("suspended_until")
    await agree(both)


async def test_it_keeps_the_rules_by_which_it_was_opened(make_node: MakeNode) -> None:
    both = await family(make_node)
    district, city = both
    own = replace(NOISE, name="eventTypes/district-only", deadline=GRAFFITI.deadline, reopen_days=7)
    await district.put(own)
    event = await dispatched(district, event_type=own.name)
    await both.talk()
    await taken_over(both, event)
    await finish(city, event)
    assert (await got(city, event)).HasField("reopen_until")
    types = (await city.call("ListEventTypes", management_pb2.ListEventTypesRequest(), "people/admin")).event_types
    assert own.name not in [each.name for each in types]
    request = management_pb2.OpenEventRequest(parent="zones/us-ca-sf", type=own.name, description="x")
    with pytest.raises(NotFound):
        await city.call("OpenEvent", request, OFFICER)
    await city.put(own)  # the city's own, from its first version on
    kinds = (await city.call("ListEventTypes", management_pb2.ListEventTypesRequest(), "people/admin")).event_types
    assert [each.version for each in kinds if each.name == own.name] == [1]


async def test_a_resident_who_is_not_satisfied_reaches_the_new_home(make_node: MakeNode) -> None:
    both = await family(make_node)
    district, city = both
    lasting = replace(NOISE, name="eventTypes/lasting", reopen_days=7)
    await district.put(lasting)
    event = await dispatched(district, event_type=lasting.name)
    await both.talk()
    await taken_over(both, event)
    await finish(city, event)
    await both.talk()
    again = RequestReopened(request=f"zones/{DISTRICT}/requests/r1", event=event, reason="still there")
    fact = await district.hear(again, zone=DISTRICT)
    await city.take_in(received(fact))
    await both.talk()
    for node in both:
        assert not (await got(node, event)).HasField("closed_at")
    await agree(both)


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


# -------------------------------------------------------------------------------------------------------- who may speak


async def test_facts_that_come_again_and_late_change_nothing(make_node: MakeNode) -> None:
    both = await family(make_node)
    district, city = both
    event = await dispatched(district)
    await both.talk()
    await taken_over(both, event)
    await finish(city, event)
    await both.talk()
    below, above = [[received(fact) for fact, _ in await node.stated()] for node in both]
    before = [(await events(node, DISTRICT), await counters(node), await steps(node, event)) for node in both]
    for fact in (*below, *reversed(below)):
        await city.take_in(fact)
    for fact in (*above, *reversed(above)):
        await district.take_in(fact)
    after = [(await events(node, DISTRICT), await counters(node), await steps(node, event)) for node in both]
    assert after == before
    assert len(await district.stated()) == len(below)
    assert len(await city.stated()) == len(above)


async def test_the_last_steps_may_come_behind_the_move(make_node: MakeNode) -> None:
    both = await family(make_node)
    district, city = both
    event = await dispatched(district)
    told = len(await district.stated())
    await both.talk()
    asked = await ask(city, event)
    await walk(district, event, "dispose")
    await city.report_to(district)
    facts = [fact for fact, _ in await district.stated()][told:]
    for fact in reversed(facts):
        await city.take_in(received(fact))
    district._relayed = told + len(facts)
    await both.talk()
    assert (await state(city, asked.name)).state == pb.TAKE_OVER_STATE_MOVED
    assert (await got(city, event)).status == "disposed"
    assert await steps(city, event) == await steps(district, event)
    await agree(both)


async def test_nobody_moves_an_event_to_who_did_not_ask(make_node: MakeNode) -> None:
    both = await family(make_node)
    event = await dispatched(both.district)
    await both.talk()
    there = await got(both.district, event)
    there.node, there.revision = "sf", there.revision + 1
    move = facts_pb2.EventMoved(event=there, from_node="sf-d10", to_node="sf", take_over=f"{event}/takeOvers/1")
    about = {"node": "sf-d10", "zone": DISTRICT, "received_from": "sf-d10"}
    with pytest.raises(Invalid, match="not asked for"):
        await both.city.hear(move, **about)
    asked = await ask(both.city, event)
    move.take_over, move.from_node = asked.name, "sf-d6"
    with pytest.raises(Invalid):
        await both.city.hear(move, **(about | {"node": "sf-d6"}))
    assert (await got(both.city, event)).node == "sf-d10"


async def test_a_node_below_takes_nothing_over(make_node: MakeNode) -> None:
    both = await family(make_node)
    event = await dispatched(both.district)
    asked = pb.TakeOver(
        name=f"{event}/takeOvers/1", event=event, zone=DISTRICT, from_node="sf-d10", to_node="sf-d10-street",
        organisation=PARKS, reason="x",
    )  # fmt: skip
    below = {"node": "sf-d10-street", "received_from": "sf-d10-street", "zone": DISTRICT}
    await both.district.hear(ZoneDelegated(zone=STREET, node="sf-d10-street"), zone=STREET)
    with pytest.raises(Invalid, match="not of the tier above"):
        await both.district.hear(facts_pb2.TakeOverAsked(take_over=asked), **below)
    assert (await got(both.district, event)).node == "sf-d10"


async def test_only_the_side_where_an_event_is_at_home_tells_of_it(make_node: MakeNode) -> None:
    both = await family(make_node)
    district = both.district
    event = await dispatched(district)
    await both.talk()
    await taken_over(both, event)
    false = facts_pb2.EventAdvanced(event=event, node="sf", zone=DISTRICT, revision=99, status="voided")
    await district.hear(ZoneDelegated(zone=STREET, node="sf-d10-street"), zone=STREET)
    with pytest.raises(Invalid, match="speaks of it by sf-d10-street"):
        await district.hear(false, node="sf", zone=DISTRICT, received_from="sf-d10-street")
    # Of what the city never took over it says nothing that is believed here.
    own = facts_pb2.EventAdvanced(event=f"zones/{DISTRICT}/events/1", node="sf", zone=DISTRICT, revision=2, status="x")
    await district.hear(own, node="sf", zone=DISTRICT, received_from="sf")
    assert [each.name for each in await events(district, DISTRICT)] == [event]
    assert (await got(district, event)).status == "dispatched"


async def test_a_directive_about_an_event_supervises_it(make_node: MakeNode) -> None:
    both = await family(make_node)
    event = await dispatched(both.district)
    directive = directive_pb2.Directive(
        name="directives/1", from_node="sf", to_node="sf-d10", zone=DISTRICT, title="请今日办结 Finish today",
        subject=event, issued_by="people/supervisor.sf", state=directive_pb2.DIRECTIVE_STATE_DELIVERED,
    )  # fmt: skip
    for _ in range(2):
        await both.district.hear(DirectiveChanged(directive=directive), zone=DISTRICT)
    await both.talk()
    for node in both:
        request = exceptions_pb2.ListExceptionsRequest(parent=f"zones/{DISTRICT}", event=event)
        (entry,) = (await node.call("ListExceptions", request, SUPERVISOR)).exceptions
        assert (entry.kind, entry.asked_by) == (exceptions_pb2.EXCEPTION_KIND_SUPERVISION, "people/supervisor.sf")
        assert "上级节点 sf 督办（directives/1）：请今日办结" in entry.reason
        assert "supervised by the upper node sf, directives/1" in entry.reason
