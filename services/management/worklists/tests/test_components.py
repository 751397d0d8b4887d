"""Lists narrowed to a component: all that concerns one lamp, or all lamps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Invalid
from libs.testing import running
from quintet.common.v1.common_pb2 import Component, LocalText
from quintet.management.v1 import management_pb2
from quintet.management.v1 import worklists_pb2 as pb
from services.management.routing.tests.test_components import LAMP, put_lamps
from services.management.tests.samples import NOISE, WORKS
from services.management.tests.story import OFFICER, walk
from services.management.worklists.tests.test_service import CITY, DISPATCHER, ONE, claim, listed
from services.management.worklists.tests.test_watch import watching

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

LAMPS, L_1042, L_7 = Component(type=LAMP), Component(type=LAMP, code="L-1042"), Component(type=LAMP, code="L-7")


async def reported(node: Node, *components: Component | None) -> list[str]:
    """Events of a type that is never merged, one for each of the components."""
    await put_lamps(node, event_types=(NOISE.name,))
    found = []
    for component in components:
        request = management_pb2.OpenEventRequest(
            parent=f"{CITY}-d6", type=NOISE.name, description="It hums", component=component
        )
        found.append((await node.call("OpenEvent", request, OFFICER)).event.name)
    return found


async def of_component(node: Node, component: Component, **more: Any) -> list[str]:
    return await listed(node, OFFICER, filter=pb.WorkFilter(component=component, **more))


async def events_of(node: Node, component: Component | None, **more: Any) -> management_pb2.ListEventsResponse:
    request = management_pb2.ListEventsRequest(parent=CITY, component=component, **more)
    found: management_pb2.ListEventsResponse = await node.call("ListEvents", request, OFFICER)
    return found


async def test_work_is_narrowed_to_one_component_or_to_all_of_a_type(city: Node) -> None:
    lamp, _, again, some_lamp, other = await reported(city, L_1042, None, L_1042, LAMPS, L_7)
    assert await of_component(city, L_1042) == [lamp, again]
    assert await of_component(city, Component(type=LAMP, code=" ｌ 1042")) == [lamp, again], "as a code is compared"
    assert await of_component(city, LAMPS) == [lamp, again, some_lamp, other]
    assert await of_component(city, Component(type="componentTypes/tree", code="L-1042")) == []
    await walk(city, again, "file")
    assert await of_component(city, L_1042, states=["filed"]) == [again], "all conditions hold"


async def test_counts_are_those_of_the_narrowed_list(city: Node) -> None:
    lamp, other, nothing = await reported(city, L_1042, L_7, None)
    for name in (lamp, other, nothing):
        await walk(city, name, "file")
        await walk(city, name, "dispatch", organisation=WORKS)
    await claim(city, lamp, ONE)
    inboxes = [pb.WORK_INBOX_UNSPECIFIED, pb.WORK_INBOX_MINE, pb.WORK_INBOX_UNASSIGNED]
    for component, expected in ((LAMPS, [2, 1, 1]), (L_1042, [1, 1, 0]), (L_7, [1, 0, 1])):
        request = pb.CountWorkRequest(parent=CITY, inboxes=inboxes, filter=pb.WorkFilter(component=component))
        assert [each.total for each in (await city.call("CountWork", request, ONE)).counts] == expected
    request = pb.CountWorkRequest(parent=CITY, inboxes=inboxes[:1], filter=pb.WorkFilter(component=L_1042))
    (counts,) = (await city.call("CountWork", request, ONE)).counts
    assert (dict(counts.by_state), counts.unassigned) == ({"dispatched": 1}, 0)


async def test_a_stream_tells_of_the_component_only(city: Node) -> None:
    async with (
        running(city.wired.tasks["changes"]()),
        watching(city, DISPATCHER, inbox=pb.WORK_INBOX_ROLE, filter=pb.WorkFilter(component=L_1042)) as stream,
    ):
        other, nothing, lamp = await reported(city, L_7, None, L_1042)
        for name in (other, nothing, lamp):
            await walk(city, name, "file")
        await stream.until(("ADDED", lamp))
        for name in (other, nothing, lamp):
            await walk(city, name, "dispatch", organisation=WORKS)
        await stream.until(("REMOVED", lamp))


async def test_pages_of_work_and_of_events_go_on_and_belong_to_their_component(city: Node) -> None:
    names = await reported(city, *[L_1042, L_7, None] * 3)
    ours = names[::3]
    request = pb.ListWorkRequest(parent=CITY, page_size=2, filter=pb.WorkFilter(component=L_1042))
    first = await city.call("ListWork", request, OFFICER)
    request.page_token = first.next_page_token
    rest = await city.call("ListWork", request, OFFICER)
    assert [item.event.name for page in (first, rest) for item in page.items] == ours
    request.filter.component.code = L_7.code
    with pytest.raises(Invalid):
        await city.call("ListWork", request, OFFICER)

    newest = await events_of(city, L_1042, page_size=2)
    older = await events_of(city, L_1042, page_size=2, page_token=newest.next_page_token)
    assert [event.name for page in (newest, older) for event in page.events] == ours[::-1]
    for component in (L_7, LAMPS, None):
        with pytest.raises(Invalid):
            await events_of(city, component, page_size=2, page_token=newest.next_page_token)


async def test_the_history_of_a_lamp_holds_what_is_over(city: Node) -> None:
    lamp, other, nothing = await reported(city, L_1042, L_7, None)
    void = management_pb2.AdvanceEventRequest(name=lamp, action="void", reason="nothing there")
    await city.call("AdvanceEvent", void, OFFICER)
    assert [event.name for event in (await events_of(city, L_1042)).events] == [lamp]
    assert [event.name for event in (await events_of(city, LAMPS)).events] == [other, lamp]
    assert [event.name for event in (await events_of(city, LAMPS, status="collected")).events] == [other]
    assert await of_component(city, L_1042) == [], "a work list holds open events"
    assert nothing in await listed(city, OFFICER)


async def test_a_code_needs_its_type_and_a_letter_or_digit(city: Node) -> None:
    saved = pb.SavedFilter(name=f"{ONE}/savedFilters/lamp", title=LocalText(en="The lamp"), parent=CITY)
    for wanted, field, rule in (
        (Component(code="L-1042"), "type", "is required"),
        (Component(type=LAMP, code=" -"), "code", "must have a letter or a digit"),
    ):
        for method, prefix, request in (
            ("ListEvents", "", management_pb2.ListEventsRequest(parent=CITY, component=wanted)),
            ("ListWork", "filter.", pb.ListWorkRequest(parent=CITY, filter=pb.WorkFilter(component=wanted))),
            ("CountWork", "filter.", pb.CountWorkRequest(parent=CITY, filter=pb.WorkFilter(component=wanted))),
        ):
            with pytest.raises(Invalid) as refused:
                await city.call(method, request, OFFICER)
            assert list(refused.value.violations) == [(f"{prefix}component.{field}", rule)], method
        saved.filter.component.CopyFrom(wanted)
        with pytest.raises(Invalid) as refused:
            await city.call("PutSavedFilter", pb.PutSavedFilterRequest(saved_filter=saved), ONE)
        assert list(refused.value.violations) == [(f"savedFilter.filter.component.{field}", rule)]
    saved.filter.component.CopyFrom(L_1042)
    kept = (await city.call("PutSavedFilter", pb.PutSavedFilterRequest(saved_filter=saved), ONE)).saved_filter
    assert kept.filter.component == L_1042
