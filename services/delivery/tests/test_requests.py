"""RequestService over a real channel: what residents and staff can do, and what they cannot."""

import asyncio
import re
from datetime import timedelta
from typing import Any

import pytest

from libs.errors import AlreadyExists, Away, Forbidden, Invalid, NotFound, Reason, Unauthenticated, WrongState
from libs.inbox import FactConsumer
from libs.testing import ConnectBus, eventually, running
from quintet.common.v1.common_pb2 import Component, Place, Point
from quintet.delivery.v1 import delivery_pb2 as pb
from services.delivery import event_types
from services.delivery.facts import handlers
from services.delivery.tests.conftest import (
    CITY,
    CLERK,
    D10,
    DUTY_OFFICER,
    HANDLER,
    NODE_ADMIN,
    OTHER,
    RESIDENT,
    Delivery,
)
from services.delivery.tests.samples import EVENT, PUBLIC_WORKS, START, advanced, fact, merged, opened, stamp

LIGHT = "eventTypes/street-light"


def filing(**fields: Any) -> pb.FileRequestRequest:
    given: dict[str, Any] = {
        "type": LIGHT,
        "description": "The light is out",
        "place": Place(address="100 Connecticut St", zone_hint="10", point=Point(latitude=37.76, longitude=-122.39)),
        "channel": pb.REQUEST_CHANNEL_WEB,
        "contact": "resident.01@example.org",
    }
    return pb.FileRequestRequest(**(given | fields))


async def file(delivery: Delivery, subject: str = RESIDENT, **fields: Any) -> pb.Request:
    return (await delivery.requests(subject).FileRequest(filing(**fields))).request


async def get(delivery: Delivery, name: str, subject: str = RESIDENT) -> pb.Request:
    return (await delivery.requests(subject).GetRequest(pb.GetRequestRequest(name=name))).request


async def listed(delivery: Delivery, subject: str, **narrow: Any) -> list[str]:
    response = await delivery.requests(subject).ListRequests(pb.ListRequestsRequest(**narrow))
    return [request.name for request in response.requests]


async def tell(delivery: Delivery, *messages: Any) -> None:
    for message in messages:
        handle = handlers()[type(message)]
        await delivery.transactions.run(lambda tx, h=handle, m=message: h(tx, fact(m), m))  # type: ignore[misc]


async def answered(delivery: Delivery, **fields: Any) -> pb.Request:
    """File a request whose event is fed back."""
    filed = await file(delivery, **fields)
    await tell(delivery, opened(filed.name), advanced(5, "fed_back", PUBLIC_WORKS, answer="Replaced"))
    return filed


# --------------------------------------------------------------------------------------------------------------- filing


async def test_a_request_is_filed_in_the_zone_of_its_place(delivery: Delivery) -> None:
    filed = await file(delivery)
    assert filed.name.startswith(f"zones/{D10}/requests/")
    assert filed.zone == D10
    assert re.fullmatch(r"SF-20260105-[0-9A-Z]{6}", filed.number), "08:00 UTC is midnight in San Francisco"
    assert (filed.status, filed.reporter, filed.contact) == (
        pb.REQUEST_STATUS_RECEIVED,
        RESIDENT,
        "resident.01@example.org",
    )
    assert (filed.filed_at, filed.reported_at) == (stamp(START), stamp(START))
    assert not filed.flags
    kept = await get(delivery, filed.name)
    assert [update.status for update in kept.updates] == [pb.REQUEST_STATUS_RECEIVED]
    kept.ClearField("updates")
    assert kept == filed


async def test_the_thing_that_a_reporter_names_goes_on_with_the_request(delivery: Delivery) -> None:
    post = Component(type="componentTypes/lamp-post", code="L-17")
    filed = await file(delivery, component=post)
    assert filed.component == post
    [(_, message)] = await delivery.facts()
    assert message.request.component == post
    with pytest.raises(Invalid, match=r"component\.type"):
        await file(delivery, component=Component(type="lamp post"))


async def test_the_day_of_a_number_is_the_nodes_own(delivery: Delivery) -> None:
    delivery.clock.set(START - timedelta(minutes=1))
    assert "-20260104-" in (await file(delivery)).number


async def test_filing_states_a_fact_and_leaves_an_audit_entry(delivery: Delivery) -> None:
    filed = await file(delivery)
    [(envelope, message)] = await delivery.facts()
    assert (envelope.zone, envelope.key, envelope.node) == (D10, filed.name, "sf")
    assert message.request.name == filed.name
    assert message.request.description == filed.description
    assert message.request.contact == "", "how to reach somebody does not go on the bus"
    assert await delivery.audited() == [(RESIDENT, "delivery.requests.file", filed.name)]


@pytest.mark.parametrize(
    ("place", "zone", "flags"),
    [
        (Place(zone_hint="10", point=Point(latitude=0, longitude=0)), D10, {"COORDINATES_ZERO"}),
        (Place(zone_hint="10"), D10, {"COORDINATES_MISSING"}),
        (Place(zone_hint="-1", point=Point(latitude=37.76, longitude=-122.39)), CITY, {"ZONE_UNKNOWN"}),
        (Place(address="somewhere"), CITY, {"COORDINATES_MISSING", "ZONE_UNKNOWN"}),
        (None, CITY, set()),
    ],
)
async def test_doubts_are_flagged_and_the_request_kept(
    delivery: Delivery, place: Place | None, zone: str, flags: set[str]
) -> None:
    filed = await file(delivery, place=place)
    assert (filed.zone, {flag.code for flag in filed.flags}) == (zone, flags)
    assert all(flag.reason for flag in filed.flags)
    assert await listed(delivery, RESIDENT, flagged_only=True) == ([filed.name] if flags else [])
    assert (await get(delivery, filed.name)).place == (place or Place()), "what was said of the place stands"


async def test_unknown_and_retired_types_are_refused(delivery: Delivery) -> None:
    for name in ("eventTypes/none", "eventTypes/retired"):
        with pytest.raises(Invalid) as caught:
            await file(delivery, type=name)
        assert caught.value.violations[0][0] == "type"
    delivery.management.retired["eventTypes/none"] = False
    await file(delivery, type="eventTypes/none")  # a type that has just been added is known at once


async def test_management_is_asked_once_a_minute(delivery: Delivery) -> None:
    for _ in range(3):
        await file(delivery)
    assert delivery.management.asked == [LIGHT]
    delivery.clock.advance(timedelta(seconds=61))
    await file(delivery)
    assert delivery.management.asked == [LIGHT, LIGHT]


async def test_no_more_types_are_remembered_than_the_limit(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_types, "CACHED_TYPES_MAX", 1)
    delivery.management.retired["eventTypes/tree"] = False
    for name in (LIGHT, "eventTypes/tree", LIGHT, LIGHT):
        await file(delivery, type=name)
    assert delivery.management.asked == [LIGHT, "eventTypes/tree", LIGHT]


async def test_while_management_is_away_its_last_word_counts_for_an_hour(delivery: Delivery) -> None:
    delivery.management.away = True
    with pytest.raises(Away):
        await file(delivery)
    delivery.management.away = False
    await file(delivery)
    delivery.management.away = True
    delivery.clock.advance(timedelta(minutes=50))
    await file(delivery)
    delivery.clock.advance(timedelta(minutes=20))
    with pytest.raises(Away):
        await file(delivery)


async def test_before_the_zones_are_known_nothing_is_filed_in_the_wrong_one(delivery: Delivery) -> None:
    delivery.host.zones.loaded.clear()
    with pytest.raises(Away):
        await file(delivery)


async def test_the_past_is_believed_and_the_future_is_not(delivery: Delivery) -> None:
    past = stamp(START - timedelta(days=3000))
    assert (await file(delivery, reported_at=past)).reported_at == past
    with pytest.raises(Invalid) as caught:
        await file(delivery, reported_at=stamp(START + timedelta(hours=1)))
    assert caught.value.violations[0][0] == "reportedAt"


async def test_filing_again_under_the_number_of_another_system_returns_the_same(delivery: Delivery) -> None:
    first = await file(delivery, external_id="311-1")
    assert await file(delivery, external_id="311-1", description="in other words") == first
    delivery.management.retired[LIGHT] = True
    delivery.clock.advance(timedelta(minutes=2))
    assert await file(delivery, external_id="311-1") == first, "also when its type was retired since"
    delivery.management.retired[LIGHT] = False
    delivery.clock.advance(timedelta(minutes=2))
    assert (await file(delivery, OTHER, external_id="311-1")).name != first.name, "numbers are the reporter's own"
    assert len(await delivery.facts()) == 2


async def test_the_same_filing_at_the_same_time_is_one_request(delivery: Delivery) -> None:
    by_number = await asyncio.gather(*(file(delivery, external_id="311-2") for _ in range(5)))
    by_request = await asyncio.gather(*(file(delivery, request_id="r-1") for _ in range(5)))
    assert len({request.name for request in by_number}) == 1
    assert len({request.name for request in by_request}) == 1
    assert len(await delivery.facts()) == 2


async def test_a_request_id_is_for_one_request(delivery: Delivery) -> None:
    await file(delivery, request_id="r-1")
    with pytest.raises(AlreadyExists) as caught:
        await file(delivery, request_id="r-1", description="another")
    assert caught.value.reason == Reason.REQUEST_ID_REUSED


async def test_bad_input_is_named(delivery: Delivery) -> None:
    with pytest.raises(Invalid) as caught:
        await delivery.requests(RESIDENT).FileRequest(pb.FileRequestRequest(type="x", contact="c" * 201))
    assert {field for field, _ in caught.value.violations} == {"type", "description", "contact"}


# ------------------------------------------------------------------------------------------------------------ following


async def test_residents_see_their_own_requests_only(delivery: Delivery) -> None:
    own, others = await file(delivery), await file(delivery, OTHER)
    assert await listed(delivery, RESIDENT) == [own.name]
    assert await listed(delivery, OTHER) == [others.name]
    assert await listed(delivery, RESIDENT, number=others.number) == []
    with pytest.raises(NotFound) as hidden:
        await get(delivery, others.name)
    with pytest.raises(NotFound) as absent:
        await get(delivery, f"zones/{D10}/requests/none")
    assert hidden.value.reason == absent.value.reason == Reason.REQUEST_NOT_FOUND
    assert hidden.value.message.replace(others.name, "") == absent.value.message.replace(
        f"zones/{D10}/requests/none", ""
    ), "the two cannot be told apart"


async def test_without_a_token_nothing_is_shown(delivery: Delivery) -> None:
    with pytest.raises(Unauthenticated):
        await listed(delivery, "")


async def test_staff_see_the_requests_of_their_zone(delivery: Delivery) -> None:
    here = await file(delivery)
    there = await file(delivery, place=Place(zone_hint="6"))
    assert await listed(delivery, DUTY_OFFICER) == [here.name]
    assert (await get(delivery, here.name, DUTY_OFFICER)).description == here.description
    with pytest.raises(Forbidden):
        await get(delivery, there.name, DUTY_OFFICER)


async def test_handlers_see_the_requests_that_their_organisation_works_on(delivery: Delivery) -> None:
    filed, other = await file(delivery), await file(delivery)
    assert await listed(delivery, HANDLER) == []
    await tell(delivery, opened(filed.name), advanced(2, "dispatched", PUBLIC_WORKS))
    assert await listed(delivery, HANDLER) == [filed.name]
    assert (await get(delivery, filed.name, HANDLER)).organisation == PUBLIC_WORKS
    with pytest.raises(NotFound):
        await get(delivery, other.name, HANDLER)


async def test_who_filed_it_is_shown_to_the_reporter_and_on_record_to_staff_with_the_right(delivery: Delivery) -> None:
    filed = await file(delivery)
    shown = await get(delivery, filed.name, DUTY_OFFICER)
    assert (shown.reporter, shown.contact) == (RESIDENT, "resident.01@example.org")
    assert (await delivery.audited())[-1] == (DUTY_OFFICER, "delivery.contacts.read", filed.name)
    masked = await get(delivery, filed.name, CLERK)
    assert (masked.reporter, masked.contact) == ("", "")
    response = await delivery.requests(DUTY_OFFICER).ListRequests(pb.ListRequestsRequest())
    assert (response.requests[0].reporter, response.requests[0].contact) == ("", ""), "a list tells nobody"
    own = await delivery.requests(RESIDENT).ListRequests(pb.ListRequestsRequest())
    assert own.requests[0].contact == "resident.01@example.org"
    assert len(await delivery.audited()) == 2


async def test_lists_come_in_pages(delivery: Delivery) -> None:
    names = [(await file(delivery)).name for _ in range(5)]
    stub = delivery.requests(RESIDENT)
    seen: list[str] = []
    token = ""
    while True:
        response = await stub.ListRequests(pb.ListRequestsRequest(page_size=2, page_token=token))
        seen += [request.name for request in response.requests]
        token = response.next_page_token
        if not token:
            break
    assert seen == names[::-1]
    first = await stub.ListRequests(pb.ListRequestsRequest(page_size=2))
    with pytest.raises(Invalid) as caught:
        await stub.ListRequests(pb.ListRequestsRequest(page_token=first.next_page_token, flagged_only=True))
    assert caught.value.reason == Reason.PAGE_TOKEN_INVALID


async def test_the_status_follows_the_event(delivery: Delivery) -> None:
    filed, joined = await file(delivery), await file(delivery)
    await tell(delivery, opened(filed.name), merged(joined.name, 2, "collected"))
    await tell(delivery, advanced(3, "dispatched", PUBLIC_WORKS))
    await tell(delivery, advanced(4, "fed_back", PUBLIC_WORKS, answer="Replaced"))
    for name, was_merged in ((filed.name, False), (joined.name, True)):
        found = await get(delivery, name)
        assert (found.status, found.event, found.event_status) == (pb.REQUEST_STATUS_ANSWERED, EVENT, "fed_back")
        assert (found.merged, found.answer) == (was_merged, "Replaced")
        assert found.due_at == stamp(START + timedelta(hours=24))
        assert [(update.event_status, update.note) for update in found.updates] == [
            ("", ""),
            ("collected", ""),
            ("dispatched", ""),
            ("fed_back", "Replaced"),
        ]
    assert await listed(delivery, RESIDENT, status=pb.REQUEST_STATUS_ANSWERED) == [joined.name, filed.name]


async def test_facts_come_over_the_bus(delivery: Delivery, bus: ConnectBus) -> None:
    filed = await file(delivery)
    management = await bus("management")
    consumer = FactConsumer(delivery.transactions, await bus("delivery"), "delivery", handlers())
    story = [fact(opened(filed.name)), fact(advanced(2, "dispatched", PUBLIC_WORKS), received_from="sf-d10")]

    async def working() -> bool:
        return (await get(delivery, filed.name)).status == pb.REQUEST_STATUS_IN_PROGRESS

    async with running(consumer.run()):
        for each in [*story, story[0]]:
            await management.publish(each)
        assert await eventually(working)


# --------------------------------------------------------------------------------------------------------------- rating


async def rate(delivery: Delivery, name: str, subject: str = RESIDENT, rating: int = 4) -> pb.Request:
    request = pb.RateRequestRequest(name=name, rating=rating, comment="quick")
    return (await delivery.requests(subject).RateRequest(request)).request


async def test_an_answered_request_is_rated_once(delivery: Delivery) -> None:
    filed = await answered(delivery)
    rated = await rate(delivery, filed.name)
    assert (rated.rating, rated.rating_comment) == (4, "quick")
    assert (await get(delivery, filed.name)).rating == 4
    envelope, message = (await delivery.facts())[-1]
    assert (envelope.zone, envelope.key) == (D10, filed.name)
    assert (message.request, message.event, message.rating, message.organisation) == (
        filed.name,
        EVENT,
        4,
        PUBLIC_WORKS,
    )
    assert (await delivery.audited())[-1] == (RESIDENT, "delivery.requests.rate", filed.name)
    with pytest.raises(AlreadyExists) as caught:
        await rate(delivery, filed.name)
    assert caught.value.reason == Reason.ALREADY_RATED


async def test_a_request_without_an_answer_is_not_rated(delivery: Delivery) -> None:
    filed = await file(delivery)
    with pytest.raises(WrongState):
        await rate(delivery, filed.name)


async def test_only_the_reporter_rates(delivery: Delivery) -> None:
    filed = await answered(delivery)
    with pytest.raises(NotFound):
        await rate(delivery, filed.name, OTHER)
    with pytest.raises(Forbidden):
        await rate(delivery, filed.name, NODE_ADMIN)
    with pytest.raises(Invalid):
        await rate(delivery, filed.name, rating=6)
