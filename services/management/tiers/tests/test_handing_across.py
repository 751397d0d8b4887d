"""An event is handed over to an organisation of another tier, upwards and back: with its acceptance it moves there."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Invalid, Reason, WrongState
from quintet.federation.v1.facts_pb2 import ZoneDelegated
from quintet.management.v1 import facts_pb2
from quintet.management.v1 import handovers_pb2 as pb
from quintet.management.v1.management_pb2 import AdvanceEventRequest
from services.management.tests.samples import SEWERS, WORKS
from services.management.tests.story import counters
from services.management.tiers.tests.story import (
    CITY_CREW,
    DISTRICT,
    STREET,
    SUPERVISOR,
    agree,
    dispatched,
    family,
    finish,
    got,
    steps,
)

if TYPE_CHECKING:
    from services.management.tests.conftest import MakeNode, Node
    from services.management.tiers.tests.story import Family
ROAD_MAN, SEWER_MAN = "people/handler.works", "people/handler.ops"


async def offer(node: Node, event: str, to: str, actor: str, organisation: str = CITY_CREW) -> pb.Handover:
    request = pb.OfferHandoverRequest(
        event=event,
        organisation=organisation,
        reason="主管道属市级 The main is the city's",
        boundary="the main",
        node=to,
    )
    found: pb.Handover = (await node.call("OfferHandover", request, actor)).handover
    return found


async def trail(node: Node, event: str) -> list[pb.Handover]:
    request = pb.ListHandoversRequest(parent=f"zones/{DISTRICT}", event=event)
    return list((await node.call("ListHandovers", request, SUPERVISOR)).handovers)


async def to_answer(node: Node, actor: str) -> list[str]:
    request = pb.ListHandoversRequest(parent="zones/us-ca-sf", inbox=pb.HANDOVER_INBOX_TO_ANSWER)
    return [each.name for each in (await node.call("ListHandovers", request, actor)).handovers]


async def offered_up(make_node: MakeNode) -> tuple[Family, str, pb.Handover]:
    """A district's event that is offered to the city's crew."""
    both = await family(make_node)
    event = await dispatched(both.district)
    handover = await offer(both.district, event, "sf", ROAD_MAN)
    await both.talk()
    return both, event, handover


async def accepted_above(both: Family, handover: pb.Handover) -> None:
    await both.city.call("AcceptHandover", pb.AcceptHandoverRequest(name=handover.name, note="ours"), SEWER_MAN)
    await both.talk()


async def turn(node: Node) -> None:
    """Let the background task about hand-overs take a turn."""
    run: Any = node.wired.tasks["handovers"]
    await run.__self__.turn()


async def test_the_citys_crew_accepts_and_the_event_moves_up(make_node: MakeNode) -> None:
    both, event, handover = await offered_up(make_node)
    district, city = both
    due = (await got(district, event)).due_at
    assert await to_answer(city, SEWER_MAN) == [handover.name]
    assert await to_answer(district, SEWER_MAN) == []
    await accepted_above(both, handover)
    for node in both:
        found = await got(node, event)
        assert (found.node, found.organisation, found.due_at) == ("sf", SEWERS, due)
        assert [each.state for each in await trail(node, event)] == [pb.HANDOVER_STATE_ACCEPTED]
    assert [action for _, action, _ in await steps(district, event)][-4:] == [
        "offer_handover", "accept_handover", "move", "take_up",
    ]  # fmt: skip
    assert await to_answer(city, SEWER_MAN) == []
    await finish(city, event)
    await both.talk()
    await agree(both)


async def test_the_city_hands_it_back_down(make_node: MakeNode) -> None:
    both, event, handover = await offered_up(make_node)
    district, city = both
    await accepted_above(both, handover)
    back = await offer(city, event, "sf-d10", SEWER_MAN, WORKS)
    await both.talk()
    assert await to_answer(district, ROAD_MAN) == [back.name]
    await district.call("AcceptHandover", pb.AcceptHandoverRequest(name=back.name), ROAD_MAN)
    await both.talk()
    for node in both:
        assert ((await got(node, event)).node, (await got(node, event)).organisation) == ("sf-d10", WORKS)
    await district.call("AdvanceEvent", AdvanceEventRequest(name=event, action="dispose"), ROAD_MAN)
    feedback = AdvanceEventRequest(name=event, action="feed_back", answer="已修复 Mended")
    await district.call("AdvanceEvent", feedback, ROAD_MAN)
    await both.talk()
    await agree(both)
    assert [(each.node, each.events) for each in (await counters(city)).zones] == [("sf-d10", 1)]


async def test_a_refusal_leaves_it_where_it_is(make_node: MakeNode) -> None:
    both, event, handover = await offered_up(make_node)
    district, city = both
    with pytest.raises(WrongState) as caught:
        await district.call("AcceptHandover", pb.AcceptHandoverRequest(name=handover.name), SEWER_MAN)
    assert (caught.value.reason, caught.value.metadata["node"]) == (Reason.NOT_AUTHORITATIVE, "sf")
    refuse = pb.RefuseHandoverRequest(name=handover.name, reason="不属市级 not the city's")
    await city.call("RefuseHandover", refuse, SEWER_MAN)
    await both.talk()
    for node in both:
        (told,) = await trail(node, event)
        assert (told.state, told.answer) == (pb.HANDOVER_STATE_REFUSED, "不属市级 not the city's")
        assert (await got(node, event)).node == "sf-d10"
    dispute = pb.DisputeHandoverRequest(name=handover.name, reason="it is")
    with pytest.raises(WrongState, match="between tiers"):
        await district.call("DisputeHandover", dispute, ROAD_MAN)
    await agree(both)


async def test_an_acceptance_that_comes_too_late_changes_nothing(make_node: MakeNode) -> None:
    both, event, handover = await offered_up(make_node)
    district, city = both
    await city.call("AcceptHandover", pb.AcceptHandoverRequest(name=handover.name), SEWER_MAN)
    city.clock.advance(timedelta(hours=5))  # cut off
    await turn(district)
    await both.talk()
    for node in both:
        assert [each.state for each in await trail(node, event)] == [pb.HANDOVER_STATE_LAPSED]
        assert (await got(node, event)).node == "sf-d10"
    with pytest.raises(WrongState, match="cannot be answered"):
        await city.call("AcceptHandover", pb.AcceptHandoverRequest(name=handover.name), SEWER_MAN)


async def test_only_the_node_that_it_was_offered_to_answers(make_node: MakeNode) -> None:
    both, event, handover = await offered_up(make_node)
    answer = facts_pb2.HandoverAnswered(handover=handover.name, accepted=True, answered_by="people/x")
    await both.district.hear(ZoneDelegated(zone=STREET, node="sf-d10-street"), zone=STREET)
    for stated_by, heard_from in (("sf-d6", "sf"), ("sf", "sf-d10-street")):
        with pytest.raises(Invalid, match="to answer"):
            await both.district.hear(answer, node=stated_by, received_from=heard_from, zone=DISTRICT)
    assert (await got(both.district, event)).node == "sf-d10"
