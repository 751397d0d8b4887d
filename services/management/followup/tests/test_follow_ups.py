"""A follow-up from the closing of its event to the answer, and what "not solved" does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format

from libs.errors import Forbidden, Invalid, NotFound, WrongState
from quintet.delivery.v1.facts_pb2 import FollowUpAnswered, RequestReopened, RequestsClosed
from quintet.management.v1 import facts_pb2, management_pb2
from quintet.management.v1 import follow_ups_pb2 as pb
from services.management.followup import keeping
from services.management.followup.model import CLAIM_HOURS, KEPT_DAYS, MADE_WITHIN_DAYS, commitment, number
from services.management.tests.conftest import received
from services.management.tests.samples import CHILD, GRAFFITI, WORKS
from services.management.tests.story import events, filed, walk

if TYPE_CHECKING:
    from services.management.tests.conftest import MakeNode, Node

ADMIN, CALLER, OTHER, SUPERVISOR = "people/admin", "people/duty-officer", "people/verifier", "people/supervisor"
CREW = "people/handler.works"
D10 = "us-ca-sf-d10"
REOPENABLE = replace(GRAFFITI, reopen_days=7)
ALL_THE_WAY = ("file", "dispatch", "dispose", "feed_back", "verify")


async def put(node: Node, subject: str = ADMIN, **changes: Any) -> pb.PutFollowUpPolicyResponse:
    values = {
        "name": "followUpPolicies/all",
        "title": {"zh": "全部回访", "en": "All are asked"},
        "share": 1,
        "form": True,
        "tries": 2,
        "retryHours": 24,
    }
    request = pb.PutFollowUpPolicyRequest(policy=json_format.ParseDict(values | changes, pb.FollowUpPolicy()))
    answer: pb.PutFollowUpPolicyResponse = await node.call("PutFollowUpPolicy", request, subject)
    return answer


async def closed(node: Node, number_: int = 1) -> management_pb2.Event:
    """Walk the event of a new request to its end, and say so as delivery does."""
    await node.put(REOPENABLE)
    await node.hear(filed(number_, place=None), zone=D10)
    request = f"zones/{D10}/requests/r{number_}"
    event = next(each for each in await events(node) if request in each.requests)
    for action in ALL_THE_WAY:
        more = {"answer": "It is clean."} if action == "feed_back" else {}
        event = await walk(node, event.name, action, **more)
    await tell_closed(node, event, request)
    return event


async def tell_closed(node: Node, event: management_pb2.Event, *requests: str) -> None:
    message = RequestsClosed(
        event=event.name, event_revision=event.revision, organisation=event.organisation, type=event.type,
        zone=event.zone, requests=requests,
    )  # fmt: skip
    await node.hear(message, zone=event.zone)


async def listed(node: Node, subject: str = CALLER, **more: Any) -> list[pb.FollowUp]:
    request = pb.ListFollowUpsRequest(parent="zones/us-ca-sf", **more)
    return list((await node.call("ListFollowUps", request, subject)).follow_ups)


async def record(node: Node, name: str, outcome: str, subject: str = CALLER, **more: Any) -> pb.FollowUp:
    request = pb.RecordFollowUpRequest(
        name=name, outcome=pb.FollowUpOutcome.Value(f"FOLLOW_UP_OUTCOME_{outcome}"), **more
    )  # fmt: skip
    answer: pb.RecordFollowUpResponse = await node.call("RecordFollowUp", request, subject)
    return answer.follow_up


async def take_in_own(node: Node, *kinds: str) -> None:
    """Let a node hear what it stated itself, as the bus brings it."""
    for fact, _ in await node.stated():
        if fact.type.rpartition(".")[2] in kinds:
            await node.take_in(fact)


async def test_a_reporter_who_is_satisfied_is_counted(city: Node) -> None:
    await put(city)
    event = await closed(city)
    (call,) = await listed(city, due=True)
    assert (call.event, call.organisation, call.request) == (event.name, WORKS, f"zones/{D10}/requests/r1")
    assert "抽样比例 1" in call.explanation.text.zh
    assert "is below the share 1" in call.explanation.text.en
    asked = [message for fact, message in await city.stated() if isinstance(message, facts_pb2.FollowUpsAsked)]
    assert [(ask.follow_up, ask.request) for ask in asked[0].asks] == [(call.name, call.request)]

    claimed = (await city.call("ClaimFollowUp", pb.ClaimFollowUpRequest(name=call.name), CALLER)).follow_up
    assert claimed.caller == CALLER
    assert [each.name for each in await listed(city, mine=True)] == [call.name]
    with pytest.raises(WrongState):
        await record(city, call.name, "SOLVED", OTHER)
    after = await record(city, call.name, "SOLVED", satisfaction=4, note="thanks; call me on 13812345678 next time")
    assert (after.state, after.satisfaction) == (pb.FOLLOW_UP_STATE_SOLVED, 4)
    assert after.note == "thanks; call me on [电话 phone] next time"
    (fact, said) = (await city.stated())[-1]
    assert (fact.key, said.state, said.satisfaction, said.reason) == (event.name, pb.FOLLOW_UP_STATE_SOLVED, 4, "")
    await take_in_own(city, "FollowUpFinished")
    assert (await events(city))[0].status == "closed"
    with pytest.raises(WrongState):
        await record(city, call.name, "SOLVED")
    assert not await listed(city)

    (count,) = (await city.call("CountFollowUps", pb.CountFollowUpsRequest(parent=f"zones/{D10}"), SUPERVISOR)).counts
    assert (count.period, count.organisation) == ("2026-01", WORKS)
    assert (count.drawn, count.reached, count.solved, count.not_solved) == (1, 1, 1, 0)
    assert (count.rated, count.satisfaction) == (1, 4.0)


async def test_not_solved_reaches_the_handler_once(city: Node) -> None:
    await put(city)
    event = await closed(city)
    (call,) = await listed(city)
    with pytest.raises(Invalid):
        await record(city, call.name, "NOT_SOLVED")
    await record(city, call.name, "NOT_SOLVED", satisfaction=1, note="the paint is still there")
    for _ in range(2):  # facts may come twice
        await take_in_own(city, "FollowUpFinished")
    (reopened,) = await events(city)
    assert (reopened.status, reopened.organisation, reopened.reopens) == ("dispatched", WORKS, 1)
    entries = [
        message.exception for _, message in await city.stated() if isinstance(message, facts_pb2.ExceptionChanged)
    ]
    assert [(entry.asked_by, entry.reason) for entry in entries] == [(call.name, "the paint is still there")]

    await take_in_own(city, "EventAdvanced")
    (found,) = await listed(city, state=pb.FOLLOW_UP_STATE_NOT_SOLVED)
    assert found.reopened
    # Closed again, the reporter is asked again, whatever the draw.
    await put(city, share=0)
    for action in ("dispose", "feed_back", "verify"):
        event = await walk(city, event.name, action, **({"answer": "Now it is."} if action == "feed_back" else {}))
    await tell_closed(city, event, call.request)
    (again,) = await listed(city)
    assert "not solved before" in again.explanation.text.en
    (count,) = (await city.call("CountFollowUps", pb.CountFollowUpsRequest(parent=f"zones/{D10}"), SUPERVISOR)).counts
    assert (count.drawn, count.open, count.not_solved, count.reopened) == (2, 1, 1, 1)


async def test_after_the_window_it_is_counted_and_stays_closed(city: Node) -> None:
    await put(city)
    await closed(city)
    (call,) = await listed(city)
    city.clock.advance(timedelta(days=8))
    await record(city, call.name, "NOT_SOLVED", note="it came back")
    await take_in_own(city, "FollowUpFinished")
    assert (await events(city))[0].status == "closed"


async def test_a_reopening_by_others_withdraws_the_call(city: Node) -> None:
    await put(city)
    event = await closed(city)
    (call,) = await listed(city)
    await city.hear(RequestReopened(request=call.request, event=event.name, reason="still there"), zone=D10)
    await take_in_own(city, "EventAdvanced")
    (found,) = await listed(city, state=pb.FOLLOW_UP_STATE_WITHDRAWN)
    assert found.name == call.name
    with pytest.raises(WrongState):
        await record(city, call.name, "SOLVED")


async def test_the_form_answers_before_anybody_calls(city: Node) -> None:
    await put(city, formHours=48)
    event = await closed(city)
    assert not await listed(city, due=True)
    (call,) = await listed(city)
    answer = FollowUpAnswered(
        follow_up=call.name, request=call.request, satisfaction=2, comment="still there; 010-62345678"
    )  # fmt: skip
    for _ in range(2):
        await city.hear(answer, zone=D10)
    (found,) = await listed(city, state=pb.FOLLOW_UP_STATE_NOT_SOLVED)
    assert (found.way, found.finished_by, found.note) == (pb.FOLLOW_UP_WAY_FORM, "", "still there; [电话 phone]")
    await take_in_own(city, "FollowUpFinished")
    assert (await events(city))[0].name == event.name
    assert (await events(city))[0].status == "dispatched"


async def test_who_cannot_be_reached_is_tried_as_often_as_the_policy_says(city: Node) -> None:
    await put(city)
    await closed(city)
    (call,) = await listed(city)
    after = await record(city, call.name, "NOT_REACHED")
    assert (after.state, after.tries) == (pb.FOLLOW_UP_STATE_OPEN, 1)
    assert not await listed(city, due=True)
    city.clock.advance(timedelta(hours=24))
    assert [each.name for each in await listed(city, due=True)] == [call.name]
    after = await record(city, call.name, "NOT_REACHED")
    assert after.state == pb.FOLLOW_UP_STATE_NOT_REACHED
    (count,) = (await city.call("CountFollowUps", pb.CountFollowUpsRequest(parent=f"zones/{D10}"), SUPERVISOR)).counts
    assert (count.drawn, count.reached, count.not_reached) == (1, 0, 1)


async def test_a_call_that_is_left_lying_goes_back_to_the_list(city: Node) -> None:
    await put(city)
    await closed(city)
    (call,) = await listed(city)
    mine = (await city.call("ClaimFollowUp", pb.ClaimFollowUpRequest(name=call.name), CALLER)).follow_up
    assert mine.claim_ends_at.ToDatetime(UTC) == city.clock.now() + timedelta(hours=CLAIM_HOURS)
    with pytest.raises(WrongState):
        await city.call("ClaimFollowUp", pb.ClaimFollowUpRequest(name=call.name), OTHER)
    city.clock.advance(timedelta(hours=CLAIM_HOURS))
    assert await listed(city, mine=True) == []
    (free,) = await listed(city)
    got = (await city.call("GetFollowUp", pb.GetFollowUpRequest(name=call.name), CALLER)).follow_up
    assert [(each.caller, each.HasField("claim_ends_at")) for each in (free, got)] == [("", False)] * 2
    theirs = (await city.call("ClaimFollowUp", pb.ClaimFollowUpRequest(name=call.name), OTHER)).follow_up
    assert theirs.caller == OTHER
    with pytest.raises(WrongState) as refused:
        await record(city, call.name, "SOLVED")
    assert refused.value.reason == "ALREADY_ASSIGNED"
    city.clock.advance(timedelta(hours=CLAIM_HOURS))
    assert (await record(city, call.name, "SOLVED")).finished_by == CALLER  # nobody has it: what was said is not lost


async def test_a_call_that_nobody_makes_ends_and_says_nothing_of_satisfaction(
    city: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "END_BATCH_ROWS", 2)
    await put(city, formHours=24)
    event = await closed(city)
    await tell_closed(city, event, *(f"zones/{D10}/requests/r{place}" for place in range(2, 6)))
    calls = [each.name for each in await listed(city)]
    made, tried, held, *left = calls
    keeper = keeping.FollowUpKeeper(city.transactions)
    city.clock.advance(timedelta(days=1))  # from here on a person should call
    await record(city, made, "SOLVED", satisfaction=5)
    city.clock.advance(timedelta(days=MADE_WITHIN_DAYS))
    assert await keeper.end_unmade() == 0
    await record(city, tried, "NOT_REACHED")  # which is another day to call on
    await city.call("ClaimFollowUp", pb.ClaimFollowUpRequest(name=held), CALLER)
    city.clock.advance(timedelta(seconds=1))
    assert await keeper.end_unmade() == len(left)

    ended = await listed(city, state=pb.FOLLOW_UP_STATE_NOT_MADE)
    assert {each.name for each in ended} == set(left)
    for each in ended:
        assert each.finished_at.ToDatetime(UTC) == city.clock.now()
        assert (each.satisfaction, each.way, each.finished_by) == (0, pb.FOLLOW_UP_WAY_UNSPECIFIED, "")
    finished = [said for _, said in await city.stated() if isinstance(said, facts_pb2.FollowUpFinished)]
    told = [said for said in finished if said.state == pb.FOLLOW_UP_STATE_NOT_MADE]
    assert {said.follow_up for said in told} == set(left)
    assert not any(said.satisfaction or said.reason for said in told)
    await take_in_own(city, "FollowUpFinished")
    assert (await events(city))[0].status == "closed"
    with pytest.raises(WrongState):
        await record(city, left[0], "SOLVED")
    ask = pb.CountFollowUpsRequest(parent=f"zones/{D10}", first_period="2026-01", last_period="2026-01")
    (count,) = (await city.call("CountFollowUps", ask, SUPERVISOR)).counts
    assert (count.drawn, count.open, count.reached, count.solved, count.not_made) == (5, 2, 1, 1, len(left))
    assert (count.rated, count.satisfaction) == (1, 5.0)

    # What somebody had in hand ends when they let it lie, too; the counts outlive the calls.
    city.clock.advance(timedelta(days=MADE_WITHIN_DAYS + 1, seconds=1))
    assert await keeper.end_unmade() == 2
    city.clock.advance(timedelta(days=KEPT_DAYS, seconds=1))
    assert await keeper.forget() == len(calls)
    (count,) = (await city.call("CountFollowUps", ask, SUPERVISOR)).counts
    assert (count.drawn, count.open, count.reached, count.not_made, count.not_reached) == (5, 0, 1, 4, 0)


async def test_the_tier_above_counts_what_nobody_asked(make_node: MakeNode) -> None:
    city, district = await make_node("sf", D10), await make_node(CHILD, root=D10)
    await put(district)
    await tell_closed(district, await closed(district))
    (call,) = await listed(district, "people/verifier")
    district.clock.advance(timedelta(days=MADE_WITHIN_DAYS, seconds=1))
    assert await keeping.FollowUpKeeper(district.transactions).end_unmade() == 1
    await district.report_to(city)
    (seen,) = await listed(city, state=pb.FOLLOW_UP_STATE_NOT_MADE)
    assert (seen.name, seen.node) == (call.name, CHILD)
    # What another node asks is ended by that node.
    assert await keeping.FollowUpKeeper(city.transactions).end_unmade() == 0


async def test_what_was_said_is_forgotten_and_its_counts_stay(city: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch by batch; what is still to be asked stays until it is over."""
    monkeypatch.setattr(keeping, "FORGET_BATCH_ROWS", 2)
    await put(city)
    event = await closed(city)
    await tell_closed(city, event, *(f"zones/{D10}/requests/r{place}" for place in range(2, 6)))
    calls = await listed(city)
    for satisfaction, call in zip((5, 2, 0), calls[:3], strict=True):
        await record(city, call.name, "SOLVED", satisfaction=satisfaction)
    await record(city, calls[3].name, "NOT_SOLVED", satisfaction=1, note="it is still there")
    ask = pb.CountFollowUpsRequest(parent=f"zones/{D10}", first_period="2026-01", last_period="2026-01")
    before = (await city.call("CountFollowUps", ask, SUPERVISOR)).counts
    assert [(one.drawn, one.solved, one.not_solved, one.rated, one.open) for one in before] == [(5, 3, 1, 3, 1)]

    keeper = keeping.FollowUpKeeper(city.transactions)
    city.clock.advance(timedelta(days=KEPT_DAYS))
    assert await keeper.forget() == 0
    city.clock.advance(timedelta(seconds=1))
    assert await keeper.forget() == 4
    assert (await city.call("CountFollowUps", ask, SUPERVISOR)).counts == before
    with pytest.raises(NotFound):
        await city.call("GetFollowUp", pb.GetFollowUpRequest(name=calls[3].name), CALLER)
    # The last one goes its own way, and is added to the same counts.
    await record(city, calls[4].name, "SOLVED", satisfaction=4)
    city.clock.advance(timedelta(days=KEPT_DAYS, seconds=1))
    assert await keeper.forget() == 1
    (after,) = (await city.call("CountFollowUps", ask, SUPERVISOR)).counts
    assert (after.solved, after.open, after.rated, after.satisfaction) == (4, 0, 4, 3.0)


async def test_the_seed_is_shown_once_the_month_is_over(city: Node) -> None:
    await put(city, share=0.5)
    event = await closed(city)
    requests = [f"zones/{D10}/requests/x{place}" for place in range(20)]
    await tell_closed(city, event, *requests)
    (present,) = (await city.call("ListFollowUpPeriods", pb.ListFollowUpPeriodsRequest(), "")).periods
    assert (present.period, present.seed) == ("2026-01", "")
    city.clock.advance(timedelta(days=40))
    (over,) = (await city.call("ListFollowUpPeriods", pb.ListFollowUpPeriodsRequest(), "")).periods
    assert commitment(over.seed) == present.commitment == over.commitment
    # With it anybody can draw again, and finds the same.
    drawn = await listed(city)
    left_out = await listed(city, state=pb.FOLLOW_UP_STATE_NOT_DRAWN)
    assert len(drawn) + len(left_out) == 21
    assert all(each.draw == number(over.seed, each.request) < 0.5 for each in drawn)
    assert all(each.draw == number(over.seed, each.request) >= 0.5 for each in left_out)


async def test_the_same_closing_told_twice_draws_once(city: Node) -> None:
    await put(city)
    event = await closed(city)
    await tell_closed(city, event, f"zones/{D10}/requests/r1")
    assert len(await listed(city)) == 1


async def test_what_came_of_a_call_reaches_the_tier_that_handles_the_event_and_those_above(make_node: MakeNode) -> None:
    city, district = await make_node("sf", D10), await make_node(CHILD, root=D10)
    await put(city)
    await district.put(REOPENABLE)
    await district.take_in(received(city.fact(filed(1, place=None), zone=D10)))
    (event,) = await events(district)
    for action in ALL_THE_WAY:
        event = await walk(district, event.name, action, **({"answer": "Clean."} if action == "feed_back" else {}))
    await district.report_to(city)
    await tell_closed(city, event, f"zones/{D10}/requests/r1")
    (call,) = await listed(city)
    assert call.node == "sf"
    await record(city, call.name, "NOT_SOLVED", satisfaction=2, note="it is still there")

    (fact,) = [fact for fact, _ in await city.stated() if fact.type.endswith("FollowUpFinished")]
    assert fact.zone == D10
    await district.take_in(received(fact))
    (reopened,) = await events(district)
    assert (reopened.status, reopened.reopens) == ("dispatched", 1)
    request = pb.CountFollowUpsRequest(parent=f"zones/{D10}")
    (count,) = (await district.call("CountFollowUps", request, "people/verifier")).counts
    assert (count.drawn, count.not_solved, count.satisfaction) == (1, 1, 2.0)
    with pytest.raises(WrongState):
        await record(district, call.name, "SOLVED")
    await district.report_to(city)
    (found,) = await listed(city, state=pb.FOLLOW_UP_STATE_NOT_SOLVED)
    assert found.reopened
    # A node speaks of its own calls only.
    fact.id, fact.node = "x", "sf-d6"
    with pytest.raises(Invalid):
        await district.take_in(received(fact))


async def test_follow_ups_are_for_those_who_may(city: Node) -> None:
    with pytest.raises(Forbidden):
        await put(city, CALLER)
    with pytest.raises(Invalid) as refused:
        await put(city, title={"zh": "回访"}, zones=["cn-110000"], form=False, formHours=3)
    assert [field for field, _ in refused.value.violations] == [
        "policy.title.en",
        "policy.zones[0]",
        "policy.formHours",
    ]
    assert [(await put(city)).changed, (await put(city)).changed] == [True, False]
    await closed(city)
    (call,) = await listed(city)
    with pytest.raises(Forbidden):
        await record(city, call.name, "SOLVED", CREW)
    with pytest.raises(Forbidden):
        await listed(city, CREW)
    with pytest.raises(NotFound):
        await record(city, f"zones/{D10}/followUps/none", "SOLVED")
    claim = pb.ClaimFollowUpRequest(name=call.name)
    await city.call("ClaimFollowUp", claim, CALLER)
    release = pb.ReleaseFollowUpRequest(name=call.name)
    with pytest.raises(Forbidden):
        await city.call("ReleaseFollowUp", release, OTHER)
    assert not (await city.call("ReleaseFollowUp", release, CALLER)).follow_up.caller
    with pytest.raises(WrongState):
        await city.call("ReleaseFollowUp", release, CALLER)
