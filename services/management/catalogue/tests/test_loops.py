"""Loops that a platform team writes: read, refused by line, kept in versions, followed by events."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Forbidden, Invalid, NotFound, Reason, Unauthenticated, WrongState
from quintet.common.v1 import common_pb2
from quintet.management.v1 import loops_pb2, worklists_pb2
from quintet.management.v1 import management_pb2 as pb
from services.management.catalogue.book import LoopBook, open_book
from services.management.loop_yaml import PERMISSIONS
from services.management.model import Event
from services.management.tests.samples import FOLDER, NODE, NOW, WORKS
from services.management.wiring import LOOPS

if TYPE_CHECKING:
    from pathlib import Path

    from services.management.tests.conftest import MakeNode, Node

ADMIN, OFFICER, HANDLER = "people/admin", "people/duty-officer", "people/handler.works"
NAME = "loops/two-step"
LOOP = """
name: loops/two-step
title: {zh: 两步闭环, en: Two steps}
initial: found
states: [found, done]
open_states: [found]
routes_at_once: true
actions:
  - action: dispose
    title: {zh: 处置, en: Dispose}
    from: [found]
    to: done
    permission: management.events.dispose
"""
# Now somebody has to look at it in between.
LATER = """
name: loops/two-step
title: {zh: 两步闭环, en: Two steps}
initial: found
states: [found, fixed, done]
open_states: [found, fixed]
routes_at_once: true
actions:
  - action: dispose
    title: {zh: 处置, en: Dispose}
    from: [found]
    to: fixed
    permission: management.events.dispose
  - action: verify
    title: {zh: 核查, en: Verify}
    from: [fixed]
    to: done
    permission: management.events.verify
"""


async def put(node: Node, definition: str, subject: str = ADMIN) -> loops_pb2.PutLoopResponse:
    response: loops_pb2.PutLoopResponse = await node.call(
        "PutLoop", loops_pb2.PutLoopRequest(definition=definition), subject
    )
    return response


async def get(node: Node, name: str, version: int = 0, subject: str = "people/resident.01") -> Any:
    return await node.call("GetLoop", loops_pb2.GetLoopRequest(name=name, version=version), subject)


async def put_type(node: Node, loop: str = NAME, **more: Any) -> pb.EventType:
    wanted = pb.EventType(
        name="eventTypes/pothole",
        title=common_pb2.LocalText(zh="坑洼", en="Pothole"),
        loop=loop,
        deadline=pb.Allowance(minutes=60),
        routes=[pb.Route(zone="us-ca-sf", organisation=WORKS)],
        **more,
    )
    response = await node.call("PutEventType", pb.PutEventTypeRequest(event_type=wanted), ADMIN)
    found: pb.EventType = response.event_type
    return found


async def opened(node: Node) -> pb.Event:
    request = pb.OpenEventRequest(parent="zones/us-ca-sf-d6", type="eventTypes/pothole", description="a hole")
    found: pb.Event = (await node.call("OpenEvent", request, OFFICER)).event
    return found


def followed(loop: str) -> Event:
    """An event that follows a loop, as far as that matters."""
    return Event("zones/us-ca-sf-d6/events/1", "us-ca-sf-d6", NODE, "", "found", NOW, NOW, NOW, loop=loop)


async def advanced(node: Node, event: pb.Event, action: str, subject: str) -> pb.Event:
    request = pb.AdvanceEventRequest(name=event.name, action=action, reason="so")
    found: pb.Event = (await node.call("AdvanceEvent", request, subject)).event
    return found


async def work_of(node: Node, subject: str) -> dict[str, list[str]]:
    request = worklists_pb2.ListWorkRequest(
        parent="zones/us-ca-sf", inbox=worklists_pb2.WORK_INBOX_ROLE, order=worklists_pb2.WORK_ORDER_OLDEST
    )
    items = (await node.call("ListWork", request, subject)).items
    return {item.event.name: list(item.actions) for item in items}


async def test_a_loop_says_who_may_do_what(city: Node) -> None:
    loop = (await get(city, "loops/seven-step")).loop
    dispatch = next(action for action in loop.actions if action.action == "dispatch")
    assert (getattr(dispatch, "from"), dispatch.to) == (["filed"], "dispatched")
    assert (dispatch.permission, dispatch.needs_organisation) == ("management.events.dispatch", True)
    assert (loop.version, loop.shipped, loop.changed_by) == (1, True, "services/management")
    for version in (0, 2):
        with pytest.raises(NotFound):
            await get(city, "loops/none" if not version else "loops/seven-step", version)
    with pytest.raises(Unauthenticated):
        await get(city, "loops/seven-step", subject="")


async def test_a_change_makes_a_version(city: Node) -> None:
    first = await put(city, LOOP)
    assert (first.changed, first.loop.version, first.loop.changed_by) == (True, 1, ADMIN)
    assert not (await put(city, LOOP)).changed
    assert (await put(city, LATER)).loop.version == 2
    now, before = await get(city, NAME), await get(city, NAME, 1)
    assert (now.definition, list(now.loop.states)) == (LATER, ["found", "fixed", "done"])
    assert (before.definition, list(before.loop.states)) == (LOOP, ["found", "done"])
    page = await city.call("ListLoops", loops_pb2.ListLoopsRequest(page_size=2), OFFICER)
    rest = await city.call("ListLoops", loops_pb2.ListLoopsRequest(page_token=page.next_page_token), OFFICER)
    listed = [(loop.name, loop.version) for loop in (*page.loops, *rest.loops)]
    assert listed == [
        ("loops/emergency", 1), ("loops/seven-step", 1), ("loops/three-step", 1), (NAME, 2),
    ]  # fmt: skip
    rows = await city.rows(
        "SELECT action, resource FROM audit_entries WHERE action = 'management.loops.put' ORDER BY id"
    )
    assert [row["resource"] for row in rows][-2:] == [NAME, NAME]


async def test_faults_name_line_and_key(city: Node) -> None:
    broken = LOOP.replace("to: done", "to: gone").replace("management.events.dispose", "management.events.weld")
    with pytest.raises(Invalid) as caught:
        await put(city, broken)
    assert [field for field, _ in caught.value.violations] == ["definition", "definition"]
    faults = [rule for _, rule in caught.value.violations]
    assert faults[0] == "line 12: actions[0].to: 'gone' is not one of the states"
    assert faults[1].startswith("line 13: actions[0].permission: 'management.events.weld' must be one of ")
    with pytest.raises(Invalid, match="line 1: file: is nested too deeply"):
        await put(city, "[" * 20_000)


async def test_who_may_write_loops_and_which(city: Node) -> None:
    for subject in (OFFICER, "people/admin.d10"):
        with pytest.raises(Forbidden):
            await put(city, LOOP, subject)
    with pytest.raises(WrongState) as caught:
        await put(city, (LOOPS / "three-step.yaml").read_text().replace("needs_reason: true", "needs_reason: false"))
    assert caught.value.reason == Reason.LOOP_SHIPPED


async def test_events_keep_the_version_with_which_they_were_opened(city: Node) -> None:
    await put(city, LOOP)
    await put_type(city)
    early = await opened(city)
    assert (early.status, early.organisation, early.loop, early.loop_version) == ("found", WORKS, NAME, 1)
    await put(city, LATER)
    late = await opened(city)
    assert late.loop_version == 2

    # The handler has both in the list; what comes after differs.
    assert await work_of(city, HANDLER) == {early.name: ["dispose"], late.name: ["dispose"]}
    assert (await advanced(city, early, "dispose", HANDLER)).status == "done"
    assert (await advanced(city, late, "dispose", HANDLER)).status == "fixed"
    assert await work_of(city, "people/verifier") == {late.name: ["verify"]}
    assert (await advanced(city, late, "verify", "people/verifier")).status == "done"
    with pytest.raises(WrongState):
        await advanced(city, early, "verify", "people/verifier")


async def test_a_type_names_a_loop_that_is_there(city: Node) -> None:
    with pytest.raises(Invalid, match="loops/two-step is not a loop of this node"):
        await put_type(city)
    await put(city, LOOP)
    fixed = pb.StepDeadline(state="fixed", allowance=pb.Allowance(minutes=5))
    with pytest.raises(Invalid, match="fixed is not a state of loops/two-step"):
        await put_type(city, step_deadlines=[fixed])
    await put(city, LATER)
    assert (await put_type(city, step_deadlines=[fixed])).version == 1


async def test_three_steps(city: Node) -> None:
    await put_type(city, "loops/three-step")
    event = await opened(city)
    assert (event.status, event.organisation) == ("discovered", WORKS)
    back = await advanced(city, event, "return", HANDLER)
    assert (back.status, back.organisation, back.returns) == ("discovered", "", 1)
    request = pb.AdvanceEventRequest(name=event.name, action="redirect", organisation=WORKS)
    await city.call("AdvanceEvent", request, "people/dispatcher")
    request = pb.AdvanceEventRequest(name=event.name, action="dispose", answer="filled")
    done = (await city.call("AdvanceEvent", request, HANDLER)).event
    assert (done.status, done.answer, done.HasField("closed_at")) == ("disposed", "filled", True)
    assert (await advanced(city, event, "evaluate", "people/supervisor")).status == "evaluated"


async def test_another_process_learns_of_it(city: Node) -> None:
    other = await open_book(city.transactions, LOOPS)
    await put(city, LOOP)
    assert NAME not in other.present
    await city.transactions.look(other.refresh)
    assert other.present[NAME].version == 1

    # An event that was opened by a version which this process does not know yet goes on all the same.
    await put(city, LATER)
    opened_by_it = replace(followed(NAME), loop_version=2)
    late = await city.transactions.look(lambda conn: other.of(conn, opened_by_it))
    assert late.states == ("found", "fixed", "done")
    unknown = replace(opened_by_it, loop_version=3)
    with pytest.raises(WrongState):
        await city.transactions.look(lambda conn: other.of(conn, unknown))


async def test_a_new_release_brings_new_versions_of_its_loops(city: Node, tmp_path: Path) -> None:
    text = (LOOPS / "three-step.yaml").read_text()
    (tmp_path / "three-step.yaml").write_text(text.replace("en: Discover}", "en: Found}").replace("改派", "转派"))
    book = await open_book(city.transactions, tmp_path)
    assert book.present["loops/three-step"].version == 2
    assert book.present["loops/seven-step"].version == 1
    again = await open_book(city.transactions, tmp_path)
    assert again.present["loops/three-step"].version == 2


async def test_a_text_that_this_release_cannot_read_keeps_nobody_else_waiting(city: Node) -> None:
    await put(city, LOOP)
    await city.transactions.run(
        lambda tx: tx.conn.execute("UPDATE loop_versions SET definition = 'name: ?' WHERE name = $1", NAME)
    )
    book = LoopBook()
    await city.transactions.look(book.refresh)
    assert sorted(book.present) == ["loops/emergency", "loops/seven-step", "loops/three-step"]
    found = await get(city, NAME)
    assert (found.loop.name, found.loop.version, list(found.loop.states)) == (NAME, 1, [])


async def test_the_tier_above_counts_returns_of_loops_that_it_does_not_know(make_node: MakeNode) -> None:
    city, district = await make_node("sf", "us-ca-sf-d6"), await make_node("sf-d6", root="us-ca-sf-d6")
    await put(district, (LOOPS / "three-step.yaml").read_text().replace("loops/three-step", NAME))
    await put_type(district)
    event = await opened(district)
    await advanced(district, event, "return", HANDLER)
    await district.report_to(city)
    mirrored = (await city.call("GetEvent", pb.GetEventRequest(name=event.name), OFFICER)).event
    assert (mirrored.returns, mirrored.loop, mirrored.loop_version) == (1, "", 0)


def test_posts_can_give_all_that_a_loop_may_ask_for() -> None:
    policy = FOLDER.parent / "identity" / "policy.csv"
    with policy.open() as file:
        given = {row[2].strip() for row in csv.reader(file) if len(row) > 2 and row[0].strip() == "p"}
    assert set(PERMISSIONS) <= given
