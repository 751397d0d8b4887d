"""Hand-overs at a node: who answers for the event, what stands in its steps, and who is told."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Forbidden, Invalid, Reason, WrongState
from quintet.federation.v1 import directive_pb2
from quintet.federation.v1.facts_pb2 import DirectiveChanged
from quintet.management.v1 import handovers_pb2 as pb
from quintet.management.v1 import management_pb2, worklists_pb2
from services.management.deadlines.book import Book
from services.management.handover.keeping import HandoverTask
from services.management.handover.trail import Trail
from services.management.tests.conftest import received
from services.management.tests.samples import PARKS, SEWERS, WORKS
from services.management.tests.story import events, filed, task, walk

if TYPE_CHECKING:
    from services.management.tests.conftest import MakeNode, Node

WORKER, SEWER_MAN, GARDENER = "people/handler.works", "people/handler.ops", "people/handler.parks"
ZONE = "zones/us-ca-sf-d6"


async def dispatched(node: Node, number: int = 1) -> management_pb2.Event:
    await node.hear(filed(number, zone="us-ca-sf-d6", place=None))
    event = (await events(node, "us-ca-sf-d6"))[-1]
    return await walk(node, event.name, "file", "dispatch")


async def offer(node: Node, event: str, to: str = SEWERS, by: str = WORKER, **more: Any) -> pb.Handover:
    request = pb.OfferHandoverRequest(
        event=event, organisation=to, reason="the drain is theirs", boundary="behind the grating", **more
    )
    found: pb.Handover = (await node.call("OfferHandover", request, by)).handover
    return found


async def refused(node: Node, event: str) -> pb.Handover:
    found = await offer(node, event)
    request = pb.RefuseHandoverRequest(name=found.name, reason="it is the road")
    answer: pb.Handover = (await node.call("RefuseHandover", request, SEWER_MAN)).handover
    return answer


async def disputed(node: Node, event: str) -> pb.Handover:
    found = await refused(node, event)
    request = pb.DisputeHandoverRequest(name=found.name, reason="it is behind the grating")
    answer: pb.Handover = (await node.call("DisputeHandover", request, WORKER)).handover
    return answer


async def turn(node: Node) -> None:
    await HandoverTask(node.transactions, Trail(Book())).turn()


async def got(node: Node, name: str) -> management_pb2.Event:
    request = management_pb2.GetEventRequest(name=name)
    event: management_pb2.Event = (await node.call("GetEvent", request, "people/dispatcher")).event
    return event


async def actions(node: Node, name: str) -> list[str]:
    request = management_pb2.ListEventStepsRequest(name=name)
    return [step.action for step in (await node.call("ListEventSteps", request, "people/dispatcher")).steps]


async def counts(node: Node, subject: str) -> dict[int, tuple[int, int]]:
    answer = await node.call("CountHandovers", pb.CountHandoversRequest(parent=ZONE), subject)
    return {count.inbox: (count.total, count.overdue) for count in answer.counts if count.total}


async def inbox(node: Node, which: pb.HandoverInbox.ValueType, subject: str) -> list[str]:
    request = pb.ListHandoversRequest(parent=ZONE, inbox=which)
    return [found.name for found in (await node.call("ListHandovers", request, subject)).handovers]


async def test_until_it_is_accepted_the_offering_organisation_answers_for_the_event(city: Node) -> None:
    event = await dispatched(city)
    found = await offer(city, event.name)
    assert (found.state, found.from_organisation, found.to_organisation) == (pb.HANDOVER_STATE_OFFERED, WORKS, SEWERS)
    assert (await got(city, event.name)).organisation == WORKS
    assert await counts(city, SEWER_MAN) == {pb.HANDOVER_INBOX_TO_ANSWER: (1, 0)}
    assert await counts(city, WORKER) == {pb.HANDOVER_INBOX_OFFERED: (1, 0)}
    assert await inbox(city, pb.HANDOVER_INBOX_TO_ANSWER, SEWER_MAN) == [found.name]
    # Who is asked sees the event, and nobody else gets to answer.
    shown = await city.call("GetHandover", pb.GetHandoverRequest(name=found.name), SEWER_MAN)
    assert (shown.event.name, shown.handover) == (event.name, found)
    for subject in (WORKER, GARDENER):
        with pytest.raises(Forbidden):
            await city.call("AcceptHandover", pb.AcceptHandoverRequest(name=found.name), subject)
    accepted = (await city.call("AcceptHandover", pb.AcceptHandoverRequest(name=found.name), SEWER_MAN)).handover
    assert accepted.state == pb.HANDOVER_STATE_ACCEPTED
    after = await got(city, event.name)
    assert (after.organisation, after.status, after.due_at) == (SEWERS, "dispatched", event.due_at)
    assert await actions(city, event.name) == ["open", "file", "dispatch", "offer_handover", "accept_handover"]
    assert "已接受移交" in accepted.explanation.text.zh
    assert "answers for it from now on" in accepted.explanation.text.en
    assert await counts(city, SEWER_MAN) == {}
    with pytest.raises(Forbidden):
        await walk(city, event.name, "dispose")  # by the worker, whose it was
    with pytest.raises(WrongState):
        await city.call("AcceptHandover", pb.AcceptHandoverRequest(name=found.name), SEWER_MAN)
    kinds = [fact.type.rpartition(".")[2] for fact, _ in await city.stated()][-4:]
    assert kinds == ["EventAdvanced", "HandoverChanged", "EventAdvanced", "HandoverChanged"]


async def test_one_hand_over_waits_at_a_time_and_can_be_taken_back(city: Node) -> None:
    event = await dispatched(city)
    found = await offer(city, event.name)
    with pytest.raises(WrongState) as caught:
        await offer(city, event.name, PARKS)
    assert caught.value.reason == Reason.HANDOVER_OPEN
    with pytest.raises(Invalid, match="another than"):
        await offer(city, event.name, WORKS)
    await city.call("WithdrawHandover", pb.WithdrawHandoverRequest(name=found.name), WORKER)
    assert (await offer(city, event.name, PARKS)).to_organisation == PARKS
    trail = pb.ListHandoversRequest(parent=ZONE, event=event.name, page_size=1)
    first = await city.call("ListHandovers", trail, "people/dispatcher")
    trail.page_token = first.next_page_token
    second = await city.call("ListHandovers", trail, "people/dispatcher")
    assert [each.to_organisation for page in (first, second) for each in page.handovers] == [PARKS, SEWERS]
    assert not second.next_page_token


async def test_an_offer_that_nobody_answers_lapses(city: Node) -> None:
    event = await dispatched(city)
    found = await offer(city, event.name, answer_min=60)
    await turn(city)
    assert await counts(city, SEWER_MAN) == {pb.HANDOVER_INBOX_TO_ANSWER: (1, 0)}
    city.clock.advance(timedelta(hours=1))
    with pytest.raises(WrongState, match="lapsed"):
        await city.call("AcceptHandover", pb.AcceptHandoverRequest(name=found.name), SEWER_MAN)
    await turn(city)
    assert (await got(city, event.name)).organisation == WORKS
    (listed,) = (await city.call("ListHandovers", pb.ListHandoversRequest(parent=ZONE), WORKER)).handovers
    assert listed.state == pb.HANDOVER_STATE_LAPSED
    assert "未在" in listed.explanation.text.zh
    assert "did not answer" in listed.explanation.text.en
    assert await counts(city, WORKER) == {pb.HANDOVER_INBOX_OFFERED: (1, 0)}
    assert await counts(city, SEWER_MAN) == {}


async def test_a_dispute_is_decided_above_and_the_decision_binds(city: Node) -> None:
    event = await dispatched(city)
    found = await disputed(city, event.name)
    assert (found.decide_role, found.decide_tier) == ("supervisor", management_pb2.ESCALATION_TIER_ZONE)
    assert await inbox(city, pb.HANDOVER_INBOX_TO_DECIDE, "people/supervisor") == [found.name]
    third = pb.DecideHandoverRequest(name=found.name, organisation=PARKS, reason="x")
    with pytest.raises(Invalid, match="organisation"):
        await city.call("DecideHandover", third, "people/supervisor")
    with pytest.raises(Forbidden):
        await city.call("DecideHandover", third, "people/dispatcher")
    request = pb.DecideHandoverRequest(name=found.name, organisation=SEWERS, reason="behind the grating is theirs")
    decided = (await city.call("DecideHandover", request, "people/supervisor")).handover
    assert (decided.state, decided.decided_by) == (pb.HANDOVER_STATE_ORDERED, "people/supervisor")
    assert (await got(city, event.name)).organisation == SEWERS
    with pytest.raises(WrongState) as caught:
        await offer(city, event.name, WORKS, by=SEWER_MAN)
    assert caught.value.reason == Reason.HANDOVER_DECIDED
    assert (await offer(city, event.name, PARKS, by=SEWER_MAN)).to_organisation == PARKS


async def test_an_undecided_dispute_climbs_to_the_leader_and_to_the_tier_above(city: Node) -> None:
    event = await dispatched(city)
    found = await disputed(city, event.name)
    climbed = []
    for _ in range(4):
        city.clock.advance(timedelta(hours=9))
        await turn(city)
        (found,) = (await city.call("ListHandovers", pb.ListHandoversRequest(parent=ZONE), WORKER)).handovers
        climbed.append((found.decide_role, found.decide_tier, found.HasField("decide_due_at")))
    zone, above = management_pb2.ESCALATION_TIER_ZONE, management_pb2.ESCALATION_TIER_ABOVE
    assert climbed == [("leader", zone, True), ("leader", above, False), *[("leader", above, False)] * 2]
    assert (await actions(city, event.name)).count("escalate_handover") == 2
    assert "升级至上级领导" in found.explanation.text.zh
    assert "it goes to the leader of the tier above" in found.explanation.text.en
    assert (await got(city, event.name)).organisation == WORKS


async def test_the_tier_above_sees_it_and_decides_by_a_directive(make_node: MakeNode) -> None:
    child = await make_node("sf-d6", root="us-ca-sf-d6")
    city = await make_node("sf", "us-ca-sf-d6")
    event = await dispatched(child)
    found = await disputed(child, event.name)
    await child.report_to(city)
    listed = (
        await city.call("ListHandovers", pb.ListHandoversRequest(parent="zones/us-ca-sf"), "people/leader")
    ).handovers
    assert [(each.name, each.node, each.state, each.decide_role) for each in listed] == [
        (found.name, "sf-d6", pb.HANDOVER_STATE_DISPUTED, "supervisor")
    ]
    here = pb.DecideHandoverRequest(name=found.name, organisation=SEWERS, reason="x")
    with pytest.raises(WrongState) as caught:
        await city.call("DecideHandover", here, "people/leader")
    assert caught.value.reason == Reason.NOT_AUTHORITATIVE
    directive = directive_pb2.Directive(
        name="directives/1", from_node="sf", to_node="sf-d6", zone="us-ca-sf-d6", organisation=PARKS, title="Decide",
        text="The drain is the sewer's", subject=found.name, issued_by="people/leader.sf",
        state=directive_pb2.DIRECTIVE_STATE_DELIVERED,
    )  # fmt: skip
    await child.hear(DirectiveChanged(directive=directive))
    assert (await got(child, event.name)).organisation == WORKS  # a third organisation cannot be named
    directive.organisation = SEWERS
    for _ in range(2):
        await child.hear(DirectiveChanged(directive=directive))
    assert (await got(child, event.name)).organisation == SEWERS
    await child.report_to(city)
    (told,) = (
        await city.call("ListHandovers", pb.ListHandoversRequest(parent="zones/us-ca-sf"), "people/leader")
    ).handovers
    assert (told.state, told.decided_by) == (pb.HANDOVER_STATE_ORDERED, "people/leader.sf")
    assert "上级节点 sf 以指令 directives/1" in told.explanation.text.zh
    assert "the node sf, by directives/1" in told.explanation.text.en
    assert (await got(city, event.name)).organisation == SEWERS


async def test_what_other_nodes_say_of_hand_overs_comes_in_any_order(make_node: MakeNode) -> None:
    child = await make_node("sf-d6", root="us-ca-sf-d6")
    city = await make_node("sf", "us-ca-sf-d6")
    event = await dispatched(child)
    await disputed(child, event.name)
    for fact, _ in reversed(await child.stated()):
        await city.take_in(received(fact))
    request = pb.ListHandoversRequest(parent="zones/us-ca-sf")
    (told,) = (await city.call("ListHandovers", request, "people/leader")).handovers
    assert told.state == pb.HANDOVER_STATE_DISPUTED
    assert await counts(city, "people/leader") == {}  # not for this node to decide


async def test_a_hand_over_ends_with_what_takes_its_event_away(city: Node) -> None:
    event = await dispatched(city)
    found = await offer(city, event.name)
    back = management_pb2.AdvanceEventRequest(name=event.name, action="return", reason="not ours")
    await city.call("AdvanceEvent", back, WORKER)
    assert await counts(city, SEWER_MAN) == {}
    with pytest.raises(WrongState):
        await city.call("AcceptHandover", pb.AcceptHandoverRequest(name=found.name), SEWER_MAN)
    await turn(city)
    (listed,) = (await city.call("ListHandovers", pb.ListHandoversRequest(parent=ZONE), "people/dispatcher")).handovers
    assert listed.state == pb.HANDOVER_STATE_SUPERSEDED


async def test_who_leads_a_joint_disposal_keeps_the_event_until_the_shares_are_done(city: Node) -> None:
    event = await dispatched(city)
    found = await offer(city, event.name)
    drafts = [management_pb2.SubOrderDraft(organisation=each, instruction="go") for each in (WORKS, PARKS)]
    joint = management_pb2.StartJointDisposalRequest(name=event.name, lead=WORKS, sub_orders=drafts, reason="both")
    await city.call("StartJointDisposal", joint, "people/dispatcher")
    with pytest.raises(WrongState) as caught:
        await city.call("AcceptHandover", pb.AcceptHandoverRequest(name=found.name), SEWER_MAN)
    assert caught.value.reason == Reason.SUB_ORDER_OPEN
    for number, organisation in (("1", WORKS), ("2", PARKS)):
        await city.hear(task(event.name, number, organisation))
    await city.call("AcceptHandover", pb.AcceptHandoverRequest(name=found.name), SEWER_MAN)
    assert (await got(city, event.name)).organisation == SEWERS


async def test_who_had_taken_the_event_has_it_no_more_when_it_is_handed_over(city: Node) -> None:
    event = await dispatched(city)
    await city.call("ClaimEvent", worklists_pb2.ClaimEventRequest(name=event.name), WORKER)
    found = await offer(city, event.name)
    assert (await got(city, event.name)).assignee == WORKER
    await city.call("AcceptHandover", pb.AcceptHandoverRequest(name=found.name), SEWER_MAN)
    assert not (await got(city, event.name)).assignee
