"""The new home of an event goes on where the old one stood, by the same rules, and all follow."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from libs.errors import NotFound, Reason, WrongState
from quintet.delivery.v1.facts_pb2 import RequestReopened
from quintet.federation.v1.facts_pb2 import ZoneDelegated
from quintet.management.v1 import (
    exceptions_pb2,
    loops_pb2,
    management_pb2,
    merging_pb2,
)
from quintet.management.v1 import tiers_pb2 as pb
from services.management.convert import time_of, time_pb
from services.management.loop_yaml import load_loops
from services.management.model import Route
from services.management.tests.conftest import received
from services.management.tests.samples import FOLDER, GRAFFITI, NOISE, WORKS
from services.management.tests.story import OFFICER, counters, events, filed, walk
from services.management.tiers.tests.story import (
    DISTRICT,
    STREET,
    SUPERVISOR,
    agree,
    ask,
    dispatched,
    family,
    finish,
    got,
    shared,
    state,
    taken_over,
)

if TYPE_CHECKING:
    from services.management.tests.conftest import MakeNode, Node


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


async def test_it_goes_on_by_a_loop_that_the_new_home_does_not_have(make_node: MakeNode) -> None:
    both = await family(make_node)
    district, city = both
    text = (FOLDER / "loops" / "three-step.yaml").read_text().replace("loops/three-step", "loops/district")
    await district.call("PutLoop", loops_pb2.PutLoopRequest(definition=text), "people/admin.d10")
    own = replace(GRAFFITI, name="eventTypes/quick", loop="loops/district", routes=(Route(DISTRICT, WORKS),))
    await district.put(own)
    await district.hear(filed(event_type=own.name, zone=DISTRICT))
    (event,) = await events(district, DISTRICT)
    await both.talk()
    await taken_over(both, event.name)
    loop = load_loops(FOLDER / "loops")["loops/three-step"]
    action = next(each for each in loop.actions if event.status in each.sources and each.permission.endswith("dispose"))
    request = management_pb2.AdvanceEventRequest(name=event.name, action=action.action, reason="done", answer="Done")
    await city.call("AdvanceEvent", request, "people/handler.ops")
    await both.talk()
    await agree(both)
    listed = (await city.call("ListLoops", loops_pb2.ListLoopsRequest(), OFFICER)).loops
    assert "loops/district" not in [each.name for each in listed]
    assert (await got(district, event.name)).answer == "Done"


async def test_its_reports_stay_together(make_node: MakeNode) -> None:
    both = await family(make_node)
    event = await dispatched(both.district)
    await both.district.hear(filed(2))
    await both.talk()
    await taken_over(both, event)
    listed = merging_pb2.ListEventReportsRequest(parent=event)
    reports = (await both.city.call("ListEventReports", listed, OFFICER)).reports
    split = merging_pb2.SplitReportRequest(name=reports[1].name, reason="another thing")
    with pytest.raises(WrongState) as caught:
        await both.city.call("SplitReport", split, OFFICER)
    assert caught.value.reason == Reason.TAKEN_OVER


async def three(make_node: MakeNode) -> tuple[Node, Node, Node]:
    """A street, its district and the city."""
    street = await make_node("sf-d10-street", root=STREET)
    district = await make_node("sf-d10", STREET, root=DISTRICT)
    await district.hear(ZoneDelegated(zone=STREET, node="sf-d10-street"), zone=STREET)
    return street, district, await make_node("sf", DISTRICT)


async def pass_on(street: Node, district: Node, city: Node) -> None:
    """Let all hear all: each passes on what it heard from one side to the other, as it is."""
    ways = ((street, [[district, city]]), (district, [[street], [city]]), (city, [[district, street]]))
    before = -1
    while before != (now := sum([len(await node.stated()) for node, _ in ways])):
        before = now
        for sender, paths in ways:
            facts = await sender.stated()
            for fact, path in [(fact, path) for fact, _ in facts[sender._relayed :] for path in paths]:
                last = sender
                for node in path:
                    copy = received(fact)
                    copy.received_from = last.id
                    await node.take_in(copy)
                    last = node
            sender._relayed = len(facts)


@pytest.mark.parametrize("upper", [1, 2], ids=["the district takes it", "the city takes it"])
async def test_all_tiers_follow_wherever_it_went(make_node: MakeNode, upper: int) -> None:
    tiers = await three(make_node)
    street, taker = tiers[0], tiers[upper]
    await street.hear(filed(zone=STREET))
    (event,) = await events(street, STREET)
    await pass_on(*tiers)
    asked = await ask(taker, event.name)
    await pass_on(*tiers)
    assert (await state(taker, asked.name)).state == pb.TAKE_OVER_STATE_MOVED
    await walk(taker, event.name, "file")
    await pass_on(*tiers)
    seen = [shared(await got(node, event.name)) for node in tiers]
    assert (seen[0].node, seen[0].status) == (taker.id, "filed")
    assert seen[0] == seen[1] == seen[2]
    totals = [list((await counters(node, STREET)).zones) for node in tiers]
    assert totals[0] == totals[1] == totals[2]
    assert [(each.node, each.events) for each in totals[0]] == [(taker.id, 1)]
    if upper == 2:  # what the city took over is not the district's to take
        with pytest.raises(WrongState) as caught:
            await ask(tiers[1], event.name)
        assert caught.value.reason == Reason.NOT_BELOW
    else:  # and the city may take it from there
        assert (await ask(tiers[2], event.name)).from_node == "sf-d10"
        await pass_on(*tiers)
        assert {(await got(node, event.name)).node for node in tiers} == {"sf"}


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
