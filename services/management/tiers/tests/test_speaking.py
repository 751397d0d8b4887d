"""Who may speak of an event that moved: facts that come again, late, or from somebody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from libs.errors import Invalid
from quintet.federation.v1 import directive_pb2
from quintet.federation.v1.facts_pb2 import DirectiveChanged, ZoneDelegated
from quintet.management.v1 import (
    exceptions_pb2,
    facts_pb2,
)
from quintet.management.v1 import tiers_pb2 as pb
from services.management.tests.conftest import received
from services.management.tests.samples import PARKS
from services.management.tests.story import counters, events, walk
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
    state,
    steps,
    taken_over,
)

if TYPE_CHECKING:
    from services.management.tests.conftest import MakeNode


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
