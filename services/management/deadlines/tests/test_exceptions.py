"""The ledger over a real channel: who may ask and decide, what it does, and what is told of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Forbidden, Invalid, NotFound, Reason, WrongState
from quintet.common.v1 import common_pb2
from quintet.delivery.v1 import delivery_pb2
from quintet.delivery.v1.facts_pb2 import RequestFiled, RequestReopened
from quintet.management.v1 import exceptions_pb2 as pb
from quintet.management.v1 import management_pb2
from services.management.convert import time_of, time_pb
from services.management.deadlines.tests.calendars import shipped
from services.management.deadlines.tests.test_deadlines import at, deadlines, opened, put_calendar, put_type
from services.management.tests.samples import WORKS
from services.management.tests.story import walk

if TYPE_CHECKING:
    from services.management.tests.conftest import MakeNode, Node

HANDLER, SUPERVISOR, LEADER = "people/handler.works", "people/supervisor", "people/leader"
EXTENSION, SUSPENSION = pb.EXCEPTION_KIND_EXTENSION, pb.EXCEPTION_KIND_SUSPENSION
FRIDAY = "2026-02-13 15:00"


async def dispatched(node: Node, **more: Any) -> management_pb2.Event:
    node.clock.set(at(FRIDAY))
    await put_calendar(node, shipped("sf"))
    await put_type(node, **({"reopen_days": 7} | more))
    event = await opened(node, at(FRIDAY))
    return await walk(node, event.name, "file", "dispatch")


async def ask(
    node: Node, event: str, kind: pb.ExceptionKind.ValueType, subject: str = HANDLER, **more: Any
) -> pb.EventException:
    request = pb.AskExceptionRequest(event=event, kind=kind, reason="waiting for parts", **more)
    entry: pb.EventException = (await node.call("AskException", request, subject)).exception
    return entry


async def decide(node: Node, name: str, *, approve: bool = True, subject: str = SUPERVISOR) -> pb.EventException:
    request = pb.DecideExceptionRequest(name=name, approve=approve, note="as asked")
    entry: pb.EventException = (await node.call("DecideException", request, subject)).exception
    return entry


async def listed(node: Node, subject: str = SUPERVISOR, **query: Any) -> list[pb.EventException]:
    request = pb.ListExceptionsRequest(parent="zones/us-ca-sf", **query)
    return list((await node.call("ListExceptions", request, subject)).exceptions)


async def got(node: Node, name: str) -> management_pb2.Event:
    event: management_pb2.Event = (
        await node.call("GetEvent", management_pb2.GetEventRequest(name=name), SUPERVISOR)
    ).event
    return event


async def test_an_extension_that_is_approved_moves_both_clocks_and_says_who_approved(city: Node) -> None:
    event = await dispatched(city)
    entry = await ask(city, event.name, EXTENSION, minutes=240)
    assert (entry.state, entry.asked_by, entry.organisation) == (pb.EXCEPTION_STATE_ASKED, HANDLER, WORKS)
    assert (await got(city, event.name)).due_at == event.due_at
    approved = await decide(city, entry.name)
    after = await got(city, event.name)
    assert time_of(after, "due_at") == at("2026-02-18 13:00")
    assert (after.first_due_at, after.revision) == (event.due_at, event.revision + 1)
    assert (approved.due_before, approved.due_after) == (event.due_at, after.due_at)
    assert (approved.step_due_before, approved.step_due_after) == (event.step_due_at, after.step_due_at)
    assert approved.explanation.text.en == (
        "The deadline moved from Wednesday 18 February 2026 09:00 to Wednesday 18 February 2026 13:00: an extension of "
        "4 h was approved."
    )
    assert approved.explanation.text.zh == (
        "截止时间由2026年2月18日（星期三）09:00改为2026年2月18日（星期三）13:00：已批准延期4小时。"
    )
    told = await deadlines(city, event.name)
    assert "; extended by 4 h (approved by people/supervisor)." in told.business.explanation.text.en
    assert "；延期4小时（people/supervisor 批准）。" in told.business.explanation.text.zh
    assert "extended" in told.step.explanation.text.en
    assert [change.name for change in told.changes] == [entry.name]
    assert (await city.stated_types())[-3:] == ["ExceptionChanged", "EventAdvanced", "ExceptionChanged"]


async def test_who_asked_cannot_decide_and_nobody_decides_twice(city: Node) -> None:
    event = await dispatched(city)
    own = await ask(city, event.name, EXTENSION, SUPERVISOR, minutes=60)
    with pytest.raises(Forbidden) as caught:
        await decide(city, own.name)
    assert caught.value.reason == Reason.APPROVAL_BY_SAME
    with pytest.raises(Forbidden):
        await decide(city, own.name, subject=HANDLER)
    with pytest.raises(WrongState) as pending:
        await ask(city, event.name, EXTENSION, minutes=30)
    assert pending.value.reason == Reason.EXCEPTION_PENDING
    refused = await decide(city, own.name, approve=False, subject=LEADER)
    assert (refused.state, refused.decided_by, refused.note) == (pb.EXCEPTION_STATE_REFUSED, LEADER, "as asked")
    with pytest.raises(WrongState):
        await decide(city, own.name, subject=LEADER)
    second = await ask(city, event.name, EXTENSION, minutes=30)
    request = pb.DecideExceptionRequest(name=second.name, approve=False)
    with pytest.raises(Invalid):
        await city.call("DecideException", request, SUPERVISOR)
    with pytest.raises(Forbidden):
        await city.call("WithdrawException", pb.WithdrawExceptionRequest(name=second.name), SUPERVISOR)
    withdrawn = await city.call("WithdrawException", pb.WithdrawExceptionRequest(name=second.name), HANDLER)
    assert withdrawn.exception.state == pb.EXCEPTION_STATE_WITHDRAWN
    assert (await got(city, event.name)).due_at == event.due_at
    with pytest.raises(NotFound):
        await decide(city, f"{event.name}/exceptions/none")


async def test_a_handler_asks_for_what_the_own_organisation_has(city: Node) -> None:
    event = await dispatched(city)
    with pytest.raises(Forbidden):
        await ask(city, event.name, EXTENSION, "people/handler.parks", minutes=60)
    entry = await ask(city, event.name, EXTENSION, minutes=60)
    assert [each.name for each in await listed(city, HANDLER)] == [entry.name]
    assert await listed(city, "people/handler.parks") == []


@pytest.mark.parametrize(
    ("kind", "more", "field"),
    [
        (EXTENSION, {}, "minutes"),
        (SUSPENSION, {}, "until"),
        (SUSPENSION, {"until": time_pb(at("2026-02-13 14:00"))}, "until"),
        (SUSPENSION, {"until": time_pb(at("2027-03-13 14:00"))}, "until"),
        (pb.EXCEPTION_KIND_ESCALATION, {}, "role"),
        (pb.EXCEPTION_KIND_SUPERVISION, {"minutes": 5}, "minutes"),
        (pb.EXCEPTION_KIND_CALENDAR, {}, "kind"),
        (pb.EXCEPTION_KIND_RESUMPTION, {}, "kind"),
        (EXTENSION, {"minutes": 5, "decide_by": time_pb(at("2026-02-13 14:00"))}, "decideBy"),
    ],
)
async def test_a_request_has_what_its_kind_needs_and_nothing_else(
    city: Node, kind: pb.ExceptionKind.ValueType, more: dict[str, Any], field: str
) -> None:
    event = await dispatched(city)
    with pytest.raises(Invalid) as caught:
        await ask(city, event.name, kind, **more)
    assert caught.value.violations[0][0] == field


async def test_a_suspension_pauses_the_clocks_and_refuses_every_action(city: Node) -> None:
    event = await dispatched(city)
    entry = await ask(city, event.name, SUSPENSION, until=time_pb(at("2026-02-20 12:00")))
    await decide(city, entry.name)
    suspended = await got(city, event.name)
    assert time_of(suspended, "due_at") == at("2026-02-23 15:00")  # five hours on Friday afternoon, seven on Monday
    assert time_of(suspended, "suspended_until") == at("2026-02-20 12:00")
    with pytest.raises(WrongState) as caught:
        await walk(city, event.name, "dispose")
    assert (caught.value.reason, caught.value.metadata["suspension"]) == (Reason.EVENT_SUSPENDED, entry.name)
    clock = (await deadlines(city, event.name)).business
    assert (clock.counted_min, "; paused once, " in clock.explanation.text.en) == (0, True)
    city.clock.set(at("2026-02-17 10:00"))
    request = pb.EndSuspensionRequest(event=event.name, reason="the parts came")
    resumed = (await city.call("EndSuspension", request, HANDLER)).exception
    assert (resumed.kind, resumed.state) == (pb.EXCEPTION_KIND_RESUMPTION, pb.EXCEPTION_STATE_RECORDED)
    after = await got(city, event.name)
    assert time_of(after, "due_at") == at("2026-02-18 13:00")  # what Friday and Tuesday morning lost is given back
    assert not after.HasField("suspended_until")
    states = {each.kind: each.state for each in await listed(city, event=event.name)}
    assert states[SUSPENSION] == pb.EXCEPTION_STATE_ENDED
    with pytest.raises(WrongState):
        await city.call("EndSuspension", request, HANDLER)
    assert (await walk(city, event.name, "dispose")).status == "disposed"


async def test_a_suspension_ends_by_itself(city: Node) -> None:
    event = await dispatched(city)
    entry = await ask(city, event.name, SUSPENSION, until=time_pb(at("2026-02-17 10:00")))
    await decide(city, entry.name)
    city.clock.set(at("2026-02-17 10:00"))
    assert (await walk(city, event.name, "dispose")).status == "disposed"


async def test_void_needs_an_approval_where_the_asker_may_not_void_at_once(city: Node) -> None:
    event = await dispatched(city)
    entry = await ask(city, event.name, pb.EXCEPTION_KIND_VOID)
    await decide(city, entry.name)
    voided = await got(city, event.name)
    assert (voided.status, voided.due_at, voided.answer) == ("voided", event.due_at, "waiting for parts")
    with pytest.raises(WrongState):
        await ask(city, event.name, EXTENSION, minutes=60)


async def test_a_reopened_event_comes_back_to_who_handled_it(city: Node) -> None:
    event = await dispatched(city)
    with pytest.raises(WrongState):
        await ask(city, event.name, pb.EXCEPTION_KIND_REOPEN)
    city.clock.advance(timedelta(minutes=60))
    closed = await walk(city, event.name, "dispose", "feed_back", "verify")
    assert time_of(closed, "reopen_until") == at("2026-02-20 16:00")
    at_once = management_pb2.AdvanceEventRequest(name=event.name, action="reopen", reason="now")
    with pytest.raises(WrongState):
        await city.call("AdvanceEvent", at_once, SUPERVISOR)
    city.clock.set(at("2026-02-20 10:00"))
    entry = await ask(city, event.name, pb.EXCEPTION_KIND_REOPEN)
    approved = await decide(city, entry.name)
    after = await got(city, event.name)
    assert (after.status, after.organisation, after.reopens) == ("dispatched", WORKS, 1)
    assert not after.HasField("closed_at")
    assert not after.HasField("reopen_until")
    assert time_of(after, "due_at") == at("2026-02-23 12:00")  # eleven hours are left: seven today, four on Monday
    assert time_of(after, "step_due_at") == at("2026-02-20 14:00")
    assert "while it was closed does not count" in approved.explanation.text.en
    await walk(city, event.name, "dispose", "feed_back", "verify", "evaluate")
    late = await ask(city, event.name, pb.EXCEPTION_KIND_REOPEN)
    city.clock.advance(timedelta(hours=47, days=0))
    await decide(city, late.name)
    assert (await got(city, event.name)).reopens == 2


async def closed_for(node: Node, request: str) -> management_pb2.Event:
    """An event that stands for a citizen's request, disposed of and closed."""
    node.clock.set(at(FRIDAY))
    await put_type(node, reopen_days=7)
    place = common_pb2.Place(address="1 Dark Street")
    filed = delivery_pb2.Request(
        name=request, zone="us-ca-sf-d10", type="eventTypes/lamp", description="Dark", place=place
    )
    await node.hear(RequestFiled(request=filed))
    listing = management_pb2.ListEventsRequest(parent="zones/us-ca-sf", request=request)
    (event,) = (await node.call("ListEvents", listing, SUPERVISOR)).events
    return await walk(node, event.name, "file", "dispatch", "dispose", "feed_back", "verify")


async def test_a_citizen_reopens_and_it_reaches_the_handler(city: Node) -> None:
    request = "zones/us-ca-sf-d10/requests/r1"
    event = await closed_for(city, request)
    city.clock.set(at("2026-02-20 16:00"))
    said = RequestReopened(
        request=request, event=event.name, reason="still dark", asked_at=time_pb(at("2026-02-20 14:59"))
    )
    await city.hear(said)
    after = await got(city, event.name)
    assert (after.status, after.organisation, after.reopens) == ("dispatched", WORKS, 1)
    (entry,) = await listed(city, HANDLER)
    assert (entry.kind, entry.state) == (pb.EXCEPTION_KIND_REOPEN, pb.EXCEPTION_STATE_RECORDED)
    assert (entry.asked_by, entry.reason) == (request, "still dark")
    await city.hear(said)  # another reporter, or the same fact again
    assert (await got(city, event.name)).reopens == 1
    assert len(await listed(city)) == 1


async def test_a_reopening_of_what_does_not_stand_for_the_request_is_ignored(city: Node) -> None:
    event = await closed_for(city, "zones/us-ca-sf-d10/requests/r1")
    for name, request in ((event.name, "zones/us-ca-sf-d10/requests/r2"), ("zones/x/events/y", "zones/x/requests/z")):
        await city.hear(RequestReopened(request=request, event=name, reason="mine"))
    assert (await got(city, event.name)).status == "closed"


async def test_outside_the_window_reopening_is_refused_with_its_end(city: Node) -> None:
    event = await dispatched(city)
    await walk(city, event.name, "dispose", "feed_back", "verify")
    city.clock.advance(timedelta(days=7, seconds=1))
    with pytest.raises(WrongState) as caught:
        await ask(city, event.name, pb.EXCEPTION_KIND_REOPEN)
    assert caught.value.reason == Reason.REOPEN_WINDOW_OVER
    assert caught.value.metadata["ended"] == at("2026-02-20 15:00").isoformat()


async def test_the_ledger_is_listed_page_by_page(city: Node) -> None:
    event = await dispatched(city)
    names = []
    for kind in (pb.EXCEPTION_KIND_SUPERVISION, pb.EXCEPTION_KIND_ESCALATION, EXTENSION):
        more: dict[str, Any] = {"role": "leader"} if kind == pb.EXCEPTION_KIND_ESCALATION else {}
        more |= {"minutes": 5} if kind == EXTENSION else {}
        names.append((await ask(city, event.name, kind, **more)).name)
        city.clock.advance(timedelta(seconds=1))
    await decide(city, names[1])
    found: list[str] = []
    token = ""
    while True:
        request = pb.ListExceptionsRequest(parent="zones/us-ca-sf", page_size=1, page_token=token)
        page = await city.call("ListExceptions", request, SUPERVISOR)
        found += [entry.name for entry in page.exceptions]
        token = page.next_page_token
        if not token:
            break
    assert found == names[::-1]
    asked = await listed(city, state=pb.EXCEPTION_STATE_ASKED)
    assert [entry.name for entry in asked] == [names[2], names[0]]
    assert [entry.name for entry in await listed(city, kind=pb.EXCEPTION_KIND_ESCALATION)] == [names[1]]
    assert await listed(city, event="zones/us-ca-sf/events/none") == []


async def test_the_tier_above_sees_the_ledger_and_what_it_did(make_node: MakeNode) -> None:
    child, city = await make_node("sf-d10", root="us-ca-sf-d10"), await make_node("sf", "us-ca-sf-d10")
    child.clock.set(at(FRIDAY))
    route = management_pb2.Route(zone="us-ca-sf-d10", organisation=WORKS)
    await put_type(child, reopen_days=3, routes=[route])
    request = management_pb2.OpenEventRequest(parent="zones/us-ca-sf-d10", type="eventTypes/lamp", description="Dark")
    name = (await child.call("OpenEvent", request, "people/duty-officer")).event.name
    await walk(child, name, "file", "dispatch")
    entry = await ask(child, name, EXTENSION, minutes=60)
    await decide(child, entry.name)
    suspension = await ask(child, name, SUSPENSION, until=time_pb(child.clock.now() + timedelta(days=2)))
    await decide(child, suspension.name)
    await child.report_to(city)
    ledger = await listed(city)
    assert {each.name for each in ledger} == {entry.name, suspension.name}
    assert ledger == [each for each in (await listed_in(child)) if each.event == name]
    above, own = await got(city, name), await got(child, name)
    assert (above.due_at, above.suspended_until, above.first_due_at) == (
        own.due_at, own.suspended_until, own.first_due_at,
    )  # fmt: skip
    with pytest.raises(WrongState) as caught:
        await ask(city, name, pb.EXCEPTION_KIND_SUPERVISION, SUPERVISOR)
    assert caught.value.reason == Reason.NOT_AUTHORITATIVE
    closing = pb.EndSuspensionRequest(event=name, reason="enough")
    await child.call("EndSuspension", closing, HANDLER)
    await walk(child, name, "dispose", "feed_back", "verify")
    await child.report_to(city)
    assert (await got(city, name)).reopen_until == (await got(child, name)).reopen_until


async def listed_in(node: Node) -> list[pb.EventException]:
    request = pb.ListExceptionsRequest(parent="zones/us-ca-sf-d10")
    return list((await node.call("ListExceptions", request, SUPERVISOR)).exceptions)
