"""What reporters see of deadlines, and how they reopen what is not solved."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Forbidden, NotFound, Reason, WrongState
from quintet.common.v1 import common_pb2
from quintet.delivery.v1 import delivery_pb2 as pb
from quintet.management.v1 import exceptions_pb2
from quintet.management.v1.facts_pb2 import EventAdvanced, ExceptionChanged
from quintet.management.v1.management_pb2 import Deadlines
from services.delivery.tests.conftest import NODE_ADMIN, OTHER, RESIDENT, delivery
from services.delivery.tests.samples import EVENT, PUBLIC_WORKS, START, advanced, opened, stamp
from services.delivery.tests.test_requests import file, get, tell

if TYPE_CHECKING:
    from services.delivery.tests.conftest import Delivery

__all__ = ["delivery"]

DAY = timedelta(days=1)


def with_deadlines(fact: EventAdvanced, **deadlines: Any) -> EventAdvanced:
    fact.deadlines.CopyFrom(Deadlines(first_due_at=stamp(START + DAY), **deadlines))
    return fact


def extended(**changes: Any) -> ExceptionChanged:
    values: dict[str, Any] = {
        "name": f"{EVENT}/exceptions/x1",
        "event": EVENT,
        "kind": exceptions_pb2.EXCEPTION_KIND_EXTENSION,
        "state": exceptions_pb2.EXCEPTION_STATE_APPROVED,
        "reason": "the crew is ill",
        "decided_at": stamp(START),
        "due_before": stamp(START + DAY),
        "due_after": stamp(START + 2 * DAY),
        "revision": 3,
        "explanation": common_pb2.Explanation(text=common_pb2.LocalText(zh="已批准延期", en="it was extended")),
    }
    return ExceptionChanged(exception=exceptions_pb2.EventException(**(values | changes)))


async def closed(delivery: Delivery) -> pb.Request:
    """File a request whose event is closed and can be reopened for a week."""
    filed = await file(delivery)
    verified = with_deadlines(
        advanced(6, "closed", PUBLIC_WORKS), due_at=stamp(START + DAY), reopen_until=stamp(START + 7 * DAY)
    )
    await tell(delivery, opened(filed.name), verified)
    return filed


async def reopen(delivery: Delivery, name: str, subject: str = RESIDENT) -> pb.Request:
    request = pb.ReopenRequestRequest(name=name, reason="still dark")
    return (await delivery.requests(subject).ReopenRequest(request)).request


async def test_the_reporter_sees_the_first_deadline_the_new_one_and_why(delivery: Delivery) -> None:
    filed = await file(delivery)
    extend = with_deadlines(advanced(3, "dispatched", PUBLIC_WORKS), due_at=stamp(START + 2 * DAY))
    for _ in range(2):  # facts may come twice
        await tell(delivery, opened(filed.name), extend, extended())
    seen = await get(delivery, filed.name)
    assert (seen.due_at, seen.first_due_at) == (stamp(START + 2 * DAY), stamp(START + DAY))
    (change,) = seen.deadline_changes
    assert (change.due_before, change.due_after) == (stamp(START + DAY), stamp(START + 2 * DAY))
    assert (change.reason.zh, change.reason.en) == ("已批准延期", "it was extended")
    assert "ill" not in str(seen)


async def test_what_moved_no_deadline_is_not_shown(delivery: Delivery) -> None:
    filed = await file(delivery)
    asked = extended(state=exceptions_pb2.EXCEPTION_STATE_ASKED, explanation=None)
    await tell(delivery, opened(filed.name), asked)
    assert not (await get(delivery, filed.name)).deadline_changes


async def test_steps_between_departments_are_not_steps_of_the_request(delivery: Delivery) -> None:
    filed = await file(delivery)
    escalated = advanced(3, "dispatched", PUBLIC_WORKS)
    setattr(escalated.step, "from", "dispatched")  # a keyword in Python
    await tell(delivery, opened(filed.name), advanced(2, "dispatched", PUBLIC_WORKS), escalated)
    assert [update.event_status for update in (await get(delivery, filed.name)).updates] == [
        "", "collected", "dispatched",
    ]  # fmt: skip


async def test_a_late_fact_does_not_bring_an_old_suspension_back(delivery: Delivery) -> None:
    filed = await file(delivery)
    suspended = with_deadlines(advanced(3, "dispatched"), suspended_until=stamp(START + 3 * DAY))
    resumed = with_deadlines(advanced(4, "dispatched"))
    await tell(delivery, opened(filed.name), suspended)
    assert (await get(delivery, filed.name)).suspended_until == stamp(START + 3 * DAY)
    await tell(delivery, resumed, suspended)
    assert not (await get(delivery, filed.name)).HasField("suspended_until")


async def test_a_closed_request_is_reopened_by_its_reporter(delivery: Delivery) -> None:
    filed = await closed(delivery)
    assert (await get(delivery, filed.name)).reopen_until == stamp(START + 7 * DAY)
    await reopen(delivery, filed.name)
    envelope, message = (await delivery.facts())[-1]
    assert (envelope.key, envelope.zone) == (filed.name, filed.zone)
    assert (message.request, message.event, message.reason) == (filed.name, EVENT, "still dark")
    assert (await delivery.audited())[-1] == (RESIDENT, "delivery.requests.reopen", filed.name)


async def test_after_the_window_the_refusal_says_when_it_ended(delivery: Delivery) -> None:
    filed = await closed(delivery)
    delivery.clock.set(START + 7 * DAY + timedelta(seconds=1))
    with pytest.raises(WrongState) as caught:
        await reopen(delivery, filed.name)
    assert caught.value.reason == Reason.REOPEN_WINDOW_OVER
    assert caught.value.metadata["ended"] == (START + 7 * DAY).isoformat()


async def test_only_the_reporter_of_a_closed_request_reopens_it(delivery: Delivery) -> None:
    open_one = await file(delivery)
    with pytest.raises(WrongState) as caught:
        await reopen(delivery, open_one.name)
    assert caught.value.reason == Reason.WRONG_STATE
    with pytest.raises(NotFound):
        await reopen(delivery, open_one.name, OTHER)
    with pytest.raises(Forbidden):
        await reopen(delivery, open_one.name, NODE_ADMIN)
