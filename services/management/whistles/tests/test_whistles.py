"""Whistles: who is called, who came, from where and when, and what the street says of them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import AlreadyExists, Forbidden, Invalid, Reason, Stale, WrongState
from quintet.common.v1 import common_pb2
from quintet.management.v1 import management_pb2
from quintet.management.v1 import whistles_pb2 as pb
from quintet.management.v1.facts_pb2 import WhistleUnanswered
from services.management.convert import time_pb
from services.management.tests.conftest import received
from services.management.tests.samples import PARKS, SEWERS, TWIN_PEAKS, WORKS, north_of
from services.management.tests.story import OFFICER, events, filed, walk
from services.management.whistles.calling import WhistleTask

if TYPE_CHECKING:
    from services.management.model import Place
    from services.management.tests.conftest import MakeNode, Node

WORKER, SEWER_MAN, GARDENER = "people/handler.works", "people/handler.ops", "people/handler.parks"
ZONE = "zones/us-ca-sf-d10"


def point(place: Place) -> common_pb2.Point:
    return common_pb2.Point(latitude=place.latitude or 0, longitude=place.longitude or 0)


HERE = point(TWIN_PEAKS)
NEAR, FAR = point(north_of(TWIN_PEAKS, 150)), point(north_of(TWIN_PEAKS, 260))


async def blown(node: Node, *organisations: str, minutes: int = 60, **more: Any) -> pb.Whistle:
    values: dict[str, Any] = {"place": common_pb2.Place(address="Twin Peaks", point=HERE)} | more
    request = pb.BlowWhistleRequest(
        parent=ZONE,
        organisations=organisations or [WORKS, SEWERS],
        instruction="the road has sunk: come",
        report_by=time_pb(node.clock.now() + timedelta(minutes=minutes)),
        **values,
    )
    whistle: pb.Whistle = (await node.call("BlowWhistle", request, OFFICER)).whistle
    return whistle


async def report(node: Node, name: str, organisation: str, by: str, at: common_pb2.Point | None = HERE) -> pb.Whistle:
    request = pb.ReportInRequest(name=name, organisation=organisation, position=at, note="here")
    whistle: pb.Whistle = (await node.call("ReportIn", request, by)).whistle
    return whistle


async def finish(node: Node, name: str, **more: Any) -> pb.Whistle:
    request = pb.FinishWhistleRequest(name=name, outcome="filled and fenced", **more)
    whistle: pb.Whistle = (await node.call("FinishWhistle", request, OFFICER)).whistle
    return whistle


async def rate(node: Node, name: str, organisation: str, score: int, **more: Any) -> pb.Whistle:
    request = pb.RateWhistleRequest(name=name, organisation=organisation, score=score, **more)
    whistle: pb.Whistle = (await node.call("RateWhistle", request, OFFICER)).whistle
    return whistle


async def listed(node: Node, subject: str = OFFICER, **more: Any) -> tuple[list[pb.Whistle], int]:
    answer = await node.call("ListWhistles", pb.ListWhistlesRequest(parent=ZONE, **more), subject)
    return list(answer.whistles), answer.waiting


def states(whistle: pb.Whistle) -> dict[str, str]:
    return {
        each.organisation: pb.SummonsState.Name(each.state).removeprefix("SUMMONS_STATE_") for each in whistle.summons
    }


async def turn(node: Node) -> None:
    await WhistleTask(node.transactions).turn()


async def told(node: Node) -> list[tuple[str, list[str]]]:
    facts = [message for _, message in await node.stated() if isinstance(message, WhistleUnanswered)]
    return [(fact.role, list(fact.organisations)) for fact in facts]


async def test_organisations_report_in_at_the_place_and_are_rated(city: Node) -> None:
    whistle = await blown(city)
    assert states(whistle) == {WORKS: "CALLED", SEWERS: "CALLED"}
    assert await listed(city, SEWER_MAN) == ([whistle], 2)
    assert await listed(city, GARDENER) == ([], 0)  # not called
    with pytest.raises(WrongState) as caught:
        await report(city, whistle.name, WORKS, WORKER, FAR)
    assert caught.value.reason == Reason.NOT_ON_SITE
    assert (caught.value.metadata["distance_m"], caught.value.metadata["radius_m"]) == ("260", "200")
    with pytest.raises(Invalid, match="position"):
        await report(city, whistle.name, WORKS, WORKER, None)
    with pytest.raises(Forbidden):
        await report(city, whistle.name, WORKS, SEWER_MAN)
    after = await report(city, whistle.name, WORKS, WORKER, NEAR)
    works = after.summons[0]
    assert (works.reported_by, round(works.distance_m), works.late_min) == (WORKER, 150, 0)
    with pytest.raises(AlreadyExists):
        await report(city, whistle.name, WORKS, "people/handler.works.2")
    city.clock.advance(timedelta(minutes=61, seconds=1))
    late = await report(city, whistle.name, SEWERS, SEWER_MAN)
    assert late.summons[1].late_min == 2
    assert (await listed(city))[1] == 0
    with pytest.raises(WrongState):
        await rate(city, whistle.name, WORKS, 5)  # not finished
    with pytest.raises(Stale):
        await finish(city, whistle.name, etag=1)
    await finish(city, whistle.name, etag=late.version)
    rated = await rate(city, whistle.name, WORKS, 5, solved=True, note="quick")
    assert (rated.summons[0].score, rated.summons[0].solved, rated.summons[0].rated_by) == (5, True, OFFICER)
    with pytest.raises(AlreadyExists):
        await rate(city, whistle.name, WORKS, 1)
    assert [fact.type.rpartition(".")[2] for fact, _ in await city.stated()] == [
        *["WhistleChanged"] * 5, "WhistleRated",
    ]  # fmt: skip
    _, said = (await city.stated())[-1]
    assert (said.summons.organisation, said.summons.score, said.summons.solved) == (WORKS, 5, True)


async def test_who_does_not_come_is_reminded_then_told_of_and_ends_absent(city: Node) -> None:
    whistle = await blown(city, WORKS, SEWERS)
    await turn(city)
    assert await told(city) == []
    await report(city, whistle.name, WORKS, WORKER)
    city.clock.advance(timedelta(minutes=45))
    for _ in range(2):
        await turn(city)
    assert await told(city) == [("handler", [SEWERS])]
    city.clock.advance(timedelta(minutes=15))
    for _ in range(2):
        await turn(city)
    assert await told(city) == [("handler", [SEWERS]), ("leader", [SEWERS])]
    ((found,), waiting) = await listed(city, state=pb.WHISTLE_STATE_BLOWN)
    assert (states(found), waiting) == ({WORKS: "ON_SITE", SEWERS: "OVERDUE"}, 1)
    assert found.summons[1].HasField("escalated_at")
    assert states(await finish(city, whistle.name)) == {WORKS: "ON_SITE", SEWERS: "ABSENT"}
    city.clock.advance(timedelta(minutes=1))
    with pytest.raises(WrongState):
        await report(city, whistle.name, SEWERS, SEWER_MAN)
    assert (await rate(city, whistle.name, SEWERS, 1)).summons[1].score == 1
    assert await listed(city, state=pb.WHISTLE_STATE_BLOWN) == ([], 0)


async def test_a_call_needs_a_place_a_time_and_each_organisation_once(city: Node) -> None:
    with pytest.raises(Invalid, match="place"):
        await blown(city, place=common_pb2.Place())
    with pytest.raises(Invalid, match="organisations"):
        await blown(city, WORKS, WORKS)
    for minutes in (-1, 8 * 24 * 60):
        with pytest.raises(Invalid, match="reportBy"):
            await blown(city, minutes=minutes)
    with pytest.raises(Forbidden):
        await city.call(
            "BlowWhistle",
            pb.BlowWhistleRequest(
                parent=ZONE,
                organisations=[WORKS],
                instruction="x",
                place=common_pb2.Place(address="x"),
                report_by=time_pb(city.clock.now()),
            ),
            WORKER,
        )


async def test_a_place_without_a_position_is_not_checked(city: Node) -> None:
    whistle = await blown(city, place=common_pb2.Place(address="the old bridge"))
    after = await report(city, whistle.name, WORKS, WORKER, FAR)
    assert (states(after)[WORKS], after.summons[0].distance_m) == ("ON_SITE", 0)
    with pytest.raises(WrongState) as caught:
        await report(city, whistle.name, PARKS, GARDENER)
    assert caught.value.reason == Reason.NOT_SUMMONED


async def test_a_whistle_stands_in_the_steps_of_its_event(city: Node) -> None:
    await city.hear(filed())
    (event,) = await events(city, "us-ca-sf-d10")
    await walk(city, event.name, "file")
    whistle = await blown(city, event=event.name)
    await finish(city, whistle.name)
    request = management_pb2.ListEventStepsRequest(name=event.name)
    steps = (await city.call("ListEventSteps", request, "people/dispatcher")).steps
    assert [step.action for step in steps] == ["open", "file", "blow_whistle", "finish_whistle"]
    assert (await listed(city, event=event.name))[0][0].name == whistle.name


async def family(make_node: MakeNode) -> tuple[Node, Node]:
    child = await make_node("sf-d10", root="us-ca-sf-d10")
    return child, await make_node("sf", "us-ca-sf-d10")


async def pass_down(city: Node, child: Node) -> None:
    """Let the child hear what comes down under a charter."""
    for fact, _ in await city.stated():
        if fact.type.endswith("WhistleReportedIn"):
            await child.take_in(received(fact))


async def test_organisations_of_the_tier_above_hear_of_it_and_report_in_there(make_node: MakeNode) -> None:
    child, city = await family(make_node)
    whistle = await blown(child, SEWERS, WORKS)
    await child.report_to(city)
    assert (await listed(city, SEWER_MAN))[0] == [whistle]
    with pytest.raises(WrongState):
        await report(city, whistle.name, SEWERS, SEWER_MAN, FAR)
    there = await report(city, whistle.name, SEWERS, SEWER_MAN)
    assert states(there)[SEWERS] == "ON_SITE"
    assert (await listed(child))[1] == 2  # the word is on its way
    await pass_down(city, child)
    await pass_down(city, child)  # delivered twice
    ((here,), waiting) = await listed(child)
    assert (states(here), waiting) == ({SEWERS: "ON_SITE", WORKS: "CALLED"}, 1)
    assert here.summons[0].reported_by == SEWER_MAN
    # Only the street ends and rates it; the city hears.
    with pytest.raises(WrongState) as caught:
        await finish(city, whistle.name)
    assert caught.value.reason == Reason.NOT_AUTHORITATIVE
    await finish(child, whistle.name)
    await rate(child, whistle.name, SEWERS, 4, solved=True)
    await child.report_to(city)
    ((above,), _) = await listed(city)
    assert above == (await listed(child))[0][0]


async def test_an_arrival_that_was_in_time_counts_though_its_word_came_late(make_node: MakeNode) -> None:
    child, city = await family(make_node)
    whistle = await blown(child, SEWERS)
    await child.report_to(city)
    await report(city, whistle.name, SEWERS, SEWER_MAN)
    child.clock.advance(timedelta(hours=2))
    await finish(child, whistle.name)
    await pass_down(city, child)
    ((found,), _) = await listed(child)
    assert (states(found), found.summons[0].late_min) == ({SEWERS: "ON_SITE"}, 0)


async def test_nobody_speaks_for_another_nodes_whistle(make_node: MakeNode) -> None:
    child, city = await family(make_node)
    await blown(child)
    ((fact, message),) = await child.stated()
    with pytest.raises(Invalid, match="speaks of it"):
        await city.take_in(city.fact(message, node="sf-d6", zone=fact.zone, key=fact.key, received_from="sf-d6"))
    await city.take_in(fact)  # not received from anybody: it would be our own
    assert await listed(city) == ([], 0)
