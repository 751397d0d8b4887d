"""Reporters who are asked whether their closed request is solved, and what they answer."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Forbidden, Invalid, NotFound, WrongState
from quintet.delivery.v1 import delivery_pb2 as pb
from quintet.delivery.v1.facts_pb2 import FollowUpAnswered, RequestsClosed
from quintet.management.v1.facts_pb2 import FollowUpAsk, FollowUpFinished, FollowUpsAsked
from quintet.management.v1.follow_ups_pb2 import FOLLOW_UP_STATE_NOT_MADE
from services.delivery import keeping
from services.delivery.facts import handlers
from services.delivery.tests.conftest import NODE_ADMIN, OTHER, RESIDENT, delivery
from services.delivery.tests.samples import EVENT, PUBLIC_WORKS, START, advanced, fact, merged, opened, stamp
from services.delivery.tests.test_requests import file, get, tell

if TYPE_CHECKING:
    from quintet.management.v1.facts_pb2 import EventAdvanced
    from services.delivery.tests.conftest import Delivery

__all__ = ["delivery"]

FOLLOW_UP = "zones/us-ca-sf-d10/followUps/f1"


def step(revision: int, before: str, after: str, **more: Any) -> EventAdvanced:
    made = advanced(revision, after, PUBLIC_WORKS, **more)
    setattr(made.step, "from", before)  # a keyword in Python
    made.zone = "us-ca-sf-d10"
    return made


async def closed(delivery: Delivery) -> pb.Request:
    """File a request whose event is answered and closed."""
    filed = await file(delivery)
    await tell(
        delivery,
        opened(filed.name),
        step(2, "disposed", "fed_back", answer="The light is on again."),
        step(3, "fed_back", "closed"),
    )
    return filed


def ask(name: str) -> FollowUpsAsked:
    return FollowUpsAsked(event=EVENT, asks=[FollowUpAsk(follow_up=FOLLOW_UP, request=name)], asked_at=stamp(START))


async def answer(delivery: Delivery, name: str, subject: str = RESIDENT, **more: Any) -> pb.Request:
    values: dict[str, Any] = {"name": name, "solved": True, "satisfaction": 5}
    request = pb.AnswerFollowUpRequest(**(values | more))
    return (await delivery.requests(subject).AnswerFollowUp(request)).request


async def stated(delivery: Delivery, kind: type[Any]) -> list[Any]:
    return [message for _, message in await delivery.facts() if isinstance(message, kind)]


async def test_all_requests_of_an_answered_event_are_told_as_closed(delivery: Delivery) -> None:
    one, other = await file(delivery), await file(delivery)
    await tell(delivery, opened(one.name), merged(other.name, 2, "disposed", PUBLIC_WORKS))
    await tell(delivery, step(3, "disposed", "fed_back", answer="Done"), step(4, "fed_back", "closed"))
    await tell(delivery, step(5, "closed", "evaluated"))
    (message,) = await stated(delivery, RequestsClosed)
    assert (message.event, message.event_revision, message.organisation) == (EVENT, 4, PUBLIC_WORKS)
    assert (message.type, message.zone) == ("eventTypes/street-light", "us-ca-sf-d10")
    assert sorted(message.requests) == sorted([one.name, other.name])


async def test_what_was_voided_or_never_answered_is_not_told(delivery: Delivery) -> None:
    filed = await file(delivery)
    await tell(delivery, opened(filed.name), step(2, "filed", "closed"))
    assert not await stated(delivery, RequestsClosed)
    other = await file(delivery)
    away = advanced(2, "voided", PUBLIC_WORKS, reason="nothing there")
    away.event = f"{EVENT}2"
    await tell(delivery, opened(other.name, event=f"{EVENT}2"), away)
    assert not await stated(delivery, RequestsClosed)


async def test_who_is_asked_answers_once(delivery: Delivery) -> None:
    filed = await closed(delivery)
    with pytest.raises(WrongState):
        await answer(delivery, filed.name)
    assert not (await get(delivery, filed.name)).HasField("follow_up_asked_at")
    for _ in range(2):  # facts may come twice
        await tell(delivery, ask(filed.name))
    assert (await get(delivery, filed.name)).follow_up_asked_at == stamp(START)
    await answer(delivery, filed.name, satisfaction=4, comment="thank you")
    (message,) = await stated(delivery, FollowUpAnswered)
    assert (message.follow_up, message.request, message.solved) == (FOLLOW_UP, filed.name, True)
    assert (message.satisfaction, message.comment) == (4, "thank you")
    assert not (await get(delivery, filed.name)).HasField("follow_up_asked_at")
    with pytest.raises(WrongState):
        await answer(delivery, filed.name)
    assert (await delivery.audited())[-1] == (RESIDENT, "delivery.requests.answer_follow_up", filed.name)


async def test_what_is_not_solved_needs_words(delivery: Delivery) -> None:
    filed = await closed(delivery)
    await tell(delivery, ask(filed.name))
    with pytest.raises(Invalid) as refused:
        await answer(delivery, filed.name, solved=False, satisfaction=1)
    assert [field for field, _ in refused.value.violations] == ["comment"]
    await answer(delivery, filed.name, solved=False, satisfaction=1, comment="still dark")
    assert not (await stated(delivery, FollowUpAnswered))[0].solved


async def test_after_a_call_nobody_waits_for_the_form(delivery: Delivery) -> None:
    filed = await closed(delivery)
    await tell(delivery, ask(filed.name), FollowUpFinished(follow_up=FOLLOW_UP, request=filed.name))
    with pytest.raises(WrongState):
        await answer(delivery, filed.name)


async def test_nobody_waits_for_the_form_when_nobody_asked_in_time(delivery: Delivery) -> None:
    filed = await closed(delivery)
    ended = FollowUpFinished(follow_up=FOLLOW_UP, request=filed.name, state=FOLLOW_UP_STATE_NOT_MADE)
    await tell(delivery, ask(filed.name), ended)
    assert not (await get(delivery, filed.name)).HasField("follow_up_asked_at")


async def test_forms_are_forgotten_a_while_after_they_are_over(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "FORGET_BATCH_ROWS", 2)
    filed = await closed(delivery)
    asks = [FollowUpAsk(follow_up=f"{FOLLOW_UP}{place}", request=filed.name) for place in range(4)]
    await tell(delivery, FollowUpsAsked(event=EVENT, asks=asks, asked_at=stamp(START)))
    for each in asks[:3]:
        await tell(delivery, FollowUpFinished(follow_up=each.follow_up, request=filed.name))
    keeper = keeping.FormKeeper(delivery.transactions)
    delivery.clock.advance(timedelta(days=keeping.KEPT_DAYS))
    assert await keeper.forget() == 0
    delivery.clock.advance(timedelta(seconds=1))
    assert await keeper.forget() == 3
    assert await keeper.forget() == 0
    # The one that is still asked is answered, and kept as long from then on.
    await answer(delivery, filed.name)
    delivery.clock.advance(timedelta(days=keeping.KEPT_DAYS, seconds=1))
    assert await keeper.forget() == 1


async def test_another_nodes_asking_is_not_ours(delivery: Delivery) -> None:
    filed = await closed(delivery)
    message = ask(filed.name)
    received = fact(message, received_from="sf-d10")
    await delivery.transactions.run(lambda tx: handlers()[FollowUpsAsked](tx, received, message))
    assert not (await get(delivery, filed.name)).HasField("follow_up_asked_at")


async def test_only_the_reporter_answers(delivery: Delivery) -> None:
    filed = await closed(delivery)
    await tell(delivery, ask(filed.name))
    with pytest.raises(NotFound):
        await answer(delivery, filed.name, OTHER)
    with pytest.raises(Forbidden):
        await answer(delivery, filed.name, NODE_ADMIN)
