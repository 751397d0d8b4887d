"""Reports of one component are of one thing, wherever they say that it is; those of two are not, however near."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from quintet.common.v1 import common_pb2
from quintet.management.v1 import management_pb2
from quintet.management.v1 import merging_pb2 as pb
from services.management.convert import place_pb, time_pb
from services.management.merging.tests.moves import check, event_of, file, reports, split, suggestions
from services.management.merging.tests.test_score import open_event
from services.management.model import MergePolicy
from services.management.model_component import Component, component_key
from services.management.model_merge import CANDIDATES_MAX, judge, score
from services.management.tests.samples import GRAFFITI, NOISE, TWIN_PEAKS, YESTERDAY, north_of, report
from services.management.tests.story import OFFICER, events, filed

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

LAMP = Component("componentTypes/lamp-post", "L-17")
OTHER = Component(LAMP.type, "L-18")


def named(component: Component | None) -> dict[str, Any]:
    return {"component": common_pb2.Component(type=component.type, code=component.code) if component else None}


@pytest.mark.parametrize("code", ["L-17", "l 17", " Ｌ—１７ ", "L_17"])
def test_a_code_is_the_same_however_it_is_typed(code: str) -> None:
    assert component_key(Component(LAMP.type, code)) == component_key(LAMP)


def test_other_codes_and_types_and_no_codes_are_not() -> None:
    keys = [component_key(each) for each in (LAMP, OTHER, Component(LAMP.type, "L1-7"), Component("x", "L-17"))]
    assert len(set(keys)) == len(keys)
    assert [component_key(each) for each in (None, Component(LAMP.type), Component(LAMP.type, "—"))] == ["", "", ""]


def test_the_component_weighs_as_much_as_all_the_rest() -> None:
    said = report(component=LAMP)
    far = open_event(150, 40, "an abandoned car", component_key=component_key(LAMP))
    assert score(GRAFFITI, said, far).value > 0.6 > score(GRAFFITI, report(), far).value
    near = open_event(5, component_key=component_key(OTHER))
    assert score(GRAFFITI, said, near).value < 0.6 < score(GRAFFITI, report(), near).value


def test_who_merges_says_that_it_is_the_same_component() -> None:
    far = open_event(2000, component_key=component_key(LAMP))
    near = open_event(5, number=2)
    (first, second), _ = judge(GRAFFITI, report(component=LAMP), [near, far])
    assert (first.candidate, second.candidate) == (far, near)
    assert "同为部件 componentTypes/lamp-post L-17" in first.explanation.zh
    assert "same component componentTypes/lamp-post L-17" in first.explanation.en
    assert re.search(r"component 1\.00 x \d\d%", first.explanation.en)


def test_two_components_are_left_to_people_and_types_of_a_family_are_suggested() -> None:
    near = open_event(5, component_key=component_key(OTHER))
    said = report(component=LAMP, description="Red tags on the retaining wall")
    assert judge(GRAFFITI, said, [near]) == ([], [])
    patient = replace(GRAFFITI, merge=replace(GRAFFITI.merge, suggested=0.3))
    assert [len(each) for each in judge(patient, said, [near])] == [0, 1]
    kin = open_event(2000, type=NOISE.name, component_key=component_key(LAMP))
    assert [len(each) for each in judge(GRAFFITI, said, [kin])] == [0, 1]


async def test_reports_of_one_component_are_one_event_wherever_they_say_it_is(city: Node) -> None:
    first = await file(city, 1, **named(LAMP))
    assert await file(city, 2, 3000, "又有人在上面乱涂", **named(Component(LAMP.type, "ｌ 17"))) == first
    await city.hear(filed(3, place=None, **named(LAMP)))
    assert await event_of(city, 3) == first, "who knows no place may know the number on the post"
    assert await file(city, 4, 5, **named(OTHER)) != first
    assert await suggestions(city) == []
    assert await file(city, 5) == first, "who names no component goes by the place"
    assert [each.component.code for each in await reports(city, first)] == ["L-17", "ｌ 17", "L-17", ""]
    await check(city, 5)


async def test_the_component_is_found_among_however_many_events_around(city: Node) -> None:
    first = await file(city, 1, 5000, **named(LAMP))
    await city.put(replace(GRAFFITI, merge=MergePolicy()))
    for number in range(2, CANDIDATES_MAX + 4):
        await city.hear(filed(number))
    await city.put(GRAFFITI)
    await city.hear(filed(1000, **named(LAMP)))
    request = management_pb2.GetEventRequest(name=first)
    assert "zones/us-ca-sf-d10/requests/r1000" in (await city.call("GetEvent", request, OFFICER)).event.requests


async def test_a_report_that_is_split_off_takes_its_component_along(city: Node) -> None:
    await file(city, 1, **named(LAMP))
    first = await file(city, 2, **named(LAMP))
    moved = (await reports(city, first))[1]
    opened = (await split(city, moved.name)).event
    assert opened.component == moved.component == named(LAMP)["component"]
    assert [event.component.code for event in await events(city)] == ["L-17", "L-17"]


async def test_who_takes_a_report_down_is_told_of_the_event_of_the_component(city: Node) -> None:
    first = await file(city, 1, **named(LAMP))
    request = pb.FindDuplicatesRequest(
        parent="zones/us-ca-sf",
        type=GRAFFITI.name,
        occurred_at=time_pb(YESTERDAY),
        place=place_pb(north_of(TWIN_PEAKS, 4000)),
        **named(LAMP),
    )
    found = await city.call("FindDuplicates", request, OFFICER)
    assert [each.event for each in found.merged] == [first]
    request.component.code = OTHER.code
    assert not (await city.call("FindDuplicates", request, OFFICER)).merged
