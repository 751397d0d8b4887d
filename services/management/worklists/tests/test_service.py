"""Claims, assignments and lists, called over a real channel by people with the rights of the built-in roles."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import DomainError, Forbidden, Invalid, NotFound, Reason, Stale, WrongState
from quintet.common.v1.common_pb2 import LocalText
from quintet.identity.v1.directory_pb2 import Person, Post
from quintet.identity.v1.facts_pb2 import PersonChanged
from quintet.management.v1 import management_pb2
from quintet.management.v1 import worklists_pb2 as pb
from services.management.convert import time_pb
from services.management.tests.samples import CHILD, GRAFFITI, NOISE, NOW, PARKS, SEWERS, WORKS
from services.management.tests.story import OFFICER, events, walk

if TYPE_CHECKING:
    from services.management.tests.conftest import MakeNode, Node

DISPATCHER = "people/dispatcher"
ONE, TWO = "people/handler.works", "people/handler.works.2"
CITY = "zones/us-ca-sf"


async def opened(node: Node, zone: str = "us-ca-sf-d6", event_type: str = NOISE.name) -> str:
    request = management_pb2.OpenEventRequest(parent=f"zones/{zone}", type=event_type, description="Loud at night")
    name: str = (await node.call("OpenEvent", request, OFFICER)).event.name
    return name


async def dispatched(node: Node, organisation: str = WORKS) -> str:
    name = await opened(node)
    await walk(node, name, "file")
    await walk(node, name, "dispatch", organisation=organisation)
    return name


async def claim(node: Node, name: str, person: str, **more: Any) -> management_pb2.Event:
    event: management_pb2.Event = (await node.call("ClaimEvent", pb.ClaimEventRequest(name=name, **more), person)).event
    return event


async def listed(node: Node, person: str, inbox: str = "UNSPECIFIED", **more: Any) -> list[str]:
    request = pb.ListWorkRequest(parent=CITY, inbox=pb.WorkInbox.Value(f"WORK_INBOX_{inbox}"), **more)
    return [item.event.name for item in (await node.call("ListWork", request, person)).items]


async def refusal(node: Node, method: str, request: Any, person: str) -> str:
    with pytest.raises(DomainError) as caught:
        await node.call(method, request, person)
    return caught.value.reason


async def test_each_finds_in_the_role_inbox_what_they_can_act_upon(city: Node) -> None:
    collected, filed = await opened(city), await opened(city)
    await walk(city, filed, "file")
    theirs, others = await dispatched(city), await dispatched(city, SEWERS)
    inboxes = {person: await listed(city, person, "ROLE") for person in (OFFICER, DISPATCHER, ONE, "people/verifier")}
    # Voiding is possible in all of these states; it makes nothing anybody's work.
    assert inboxes == {OFFICER: [collected], DISPATCHER: [filed], ONE: [theirs], "people/verifier": []}
    assert set(await listed(city, DISPATCHER)) == {collected, filed, theirs, others}
    items = (await city.call("ListWork", pb.ListWorkRequest(parent=CITY), ONE)).items
    assert [(item.event.name, list(item.actions)) for item in items] == [(theirs, ["dispose", "return"])]


async def test_two_handlers_claim_and_one_has_it(city: Node) -> None:
    name = await dispatched(city)
    assert await listed(city, ONE, "UNASSIGNED") == [name]
    event = await claim(city, name, ONE)
    assert (event.assignee, event.revision) == (ONE, 4)
    assert await listed(city, ONE, "MINE") == [name]
    assert await listed(city, TWO, "MINE") == await listed(city, TWO, "UNASSIGNED") == []
    assert await listed(city, TWO, "ROLE") == [name]
    with pytest.raises(WrongState) as caught:
        await claim(city, name, TWO)
    assert (caught.value.reason, caught.value.metadata["assignee"]) == (Reason.ALREADY_ASSIGNED, ONE)
    # Once more changes nothing.
    assert (await claim(city, name, ONE)).revision == 4
    steps = (await city.call("ListEventSteps", management_pb2.ListEventStepsRequest(name=name), DISPATCHER)).steps
    assert [(step.action, step.assignee, step.to) for step in steps[-1:]] == [("claim", ONE, "dispatched")]
    fact, message = (await city.stated())[-1]
    assert (fact.type.rpartition(".")[2], fact.key, message.assignee, message.revision) == (
        "EventAssigned",
        name,
        ONE,
        4,
    )
    audit = await city.rows("SELECT resource, detail FROM audit_entries WHERE action = 'management.events.claim'")
    assert [(row["resource"], ONE in row["detail"]) for row in audit] == [(name, True)]


async def test_who_cannot_go_on_cannot_claim(city: Node) -> None:
    name = await opened(city)
    assert await refusal(city, "ClaimEvent", pb.ClaimEventRequest(name=name), DISPATCHER) == Reason.NOT_PERMITTED
    others = await dispatched(city, SEWERS)
    assert await refusal(city, "ClaimEvent", pb.ClaimEventRequest(name=others), ONE) == Reason.NOT_PERMITTED
    with pytest.raises(NotFound):
        await claim(city, "zones/us-ca-sf/events/none", ONE)
    done = await dispatched(city)
    with pytest.raises(Stale):
        await claim(city, done, ONE, etag=1)
    await walk(city, done, "dispose", "feed_back", "verify", reason="done")
    with pytest.raises(WrongState):
        await claim(city, done, "people/verifier")


async def test_a_dispatcher_assigns_to_people_of_the_organisation_only(city: Node) -> None:
    name = await dispatched(city)
    request = pb.AssignEventRequest(name=name, assignee="people/handler.ops", reason="near")
    assert await refusal(city, "AssignEvent", request, DISPATCHER) == Reason.ASSIGNEE_NOT_ENTITLED
    assert await refusal(city, "AssignEvent", request, ONE) == Reason.NOT_PERMITTED
    request = pb.AssignEventRequest(name=name, assignee="people/nobody")
    assert await refusal(city, "AssignEvent", request, DISPATCHER) == Reason.ASSIGNEE_NOT_ENTITLED
    request = pb.AssignEventRequest(name=name, assignee=TWO, reason="near")
    assert (await city.call("AssignEvent", request, DISPATCHER)).event.assignee == TWO
    # Whoever assigns may take it from one and give it to another.
    request = pb.AssignEventRequest(name=name, assignee=ONE)
    assert (await city.call("AssignEvent", request, DISPATCHER)).event.assignee == ONE
    assert await listed(city, DISPATCHER, filter=pb.WorkFilter(assignee=ONE)) == [name]
    assert await listed(city, DISPATCHER, filter=pb.WorkFilter(unassigned=True)) == []


async def test_work_is_handed_on_and_put_back(city: Node) -> None:
    name = await dispatched(city)
    handed = pb.TransferWorkRequest(name=name, to=TWO, reason="my shift ends")
    assert await refusal(city, "ReleaseEvent", pb.ReleaseEventRequest(name=name), DISPATCHER) == Reason.NOT_ASSIGNED
    await claim(city, name, ONE)
    assert await refusal(city, "TransferWork", handed, TWO) == Reason.NOT_PERMITTED
    assert (await city.call("TransferWork", handed, ONE)).event.assignee == TWO
    assert await refusal(city, "TransferWork", handed, DISPATCHER) == Reason.NOT_ASSIGNED  # the dispatcher has it not
    by_dispatcher = pb.TransferWorkRequest(name=name, holder=TWO, to=ONE, reason="ill")
    assert (await city.call("TransferWork", by_dispatcher, DISPATCHER)).event.assignee == ONE
    assert (await city.call("ReleaseEvent", pb.ReleaseEventRequest(name=name, reason="no"), ONE)).event.assignee == ""
    assert await listed(city, TWO, "UNASSIGNED") == [name]
    rows = await city.rows("SELECT action, actor, assignee, reason FROM event_steps ORDER BY revision OFFSET 3")
    assert [tuple(row) for row in rows] == [
        ("claim", ONE, ONE, ""),
        ("transfer", ONE, TWO, "my shift ends"),
        ("transfer", DISPATCHER, ONE, "ill"),
        ("release", ONE, "", "no"),
    ]


async def test_an_assignment_ends_with_the_organisation_the_role_and_the_event(city: Node) -> None:
    name = await opened(city)
    assert (await claim(city, name, OFFICER)).assignee == OFFICER
    assert (await walk(city, name, "file")).assignee == ""  # now it is the dispatchers' work
    await walk(city, name, "dispatch", organisation=WORKS)
    await claim(city, name, ONE)
    event = await walk(city, name, "dispose", reason="done")
    assert event.assignee == ONE  # the same people go on
    assert (await walk(city, name, "feed_back", reason="done")).assignee == ""
    await claim(city, name, "people/verifier")
    assert (await walk(city, name, "verify", reason="seen")).assignee == ""
    other = await dispatched(city)
    await claim(city, other, ONE)
    returned = management_pb2.AdvanceEventRequest(name=other, action="return", reason="not ours")
    assert (await city.call("AdvanceEvent", returned, ONE)).event.assignee == ""


async def test_a_bulk_is_answered_event_by_event(city: Node) -> None:
    first, second, third = [await dispatched(city) for _ in range(3)]
    await claim(city, second, TWO)
    targets = [pb.BulkTarget(name=first), pb.BulkTarget(name=second), pb.BulkTarget(name=third, etag=1)]
    request = pb.BulkWorkRequest(targets=targets, claim=pb.BulkClaim(), request_id="b1")
    response = await city.call("BulkWork", request, ONE)
    assert [(result.name, result.error.code, result.error.reason) for result in response.results] == [
        (first, "", ""),
        (second, "FAILED_PRECONDITION", Reason.ALREADY_ASSIGNED),
        (third, "ABORTED", Reason.ETAG_STALE),
    ]
    assert (response.done, response.results[0].event.assignee) == (1, ONE)
    # Again: what was done is not done twice, what was refused is tried again.
    await city.call("ReleaseEvent", pb.ReleaseEventRequest(name=second), TWO)
    response = await city.call("BulkWork", request, ONE)
    assert [result.event.revision for result in response.results] == [4, 6, 0]
    moved = pb.BulkWorkRequest(targets=targets[:2], transfer=pb.BulkTransfer(to=TWO, reason="holiday"), request_id="b2")
    assert (await city.call("BulkWork", moved, ONE)).done == 2
    disposed = pb.BulkWorkRequest(targets=targets[:2], advance=pb.BulkAdvance(action="dispose", reason="done"))
    response = await city.call("BulkWork", disposed, TWO)
    assert [result.event.status for result in response.results] == ["disposed", "disposed"]
    given = pb.BulkWorkRequest(targets=targets, assign=pb.BulkAssign(assignee=ONE))
    assert (await city.call("BulkWork", given, ONE)).results[0].error.reason == Reason.NOT_PERMITTED
    # The id is the bulk's, for each event: another thing under it is refused.
    reused = pb.BulkWorkRequest(targets=targets[:2], release=pb.BulkRelease(reason="no"), request_id="b2")
    response = await city.call("BulkWork", reused, ONE)
    assert {result.error.reason for result in response.results} == {Reason.REQUEST_ID_REUSED}
    with pytest.raises(Invalid):
        await city.call("BulkWork", pb.BulkWorkRequest(targets=targets), ONE)
    with pytest.raises(Invalid):
        await city.call("BulkWork", pb.BulkWorkRequest(targets=targets[:1] * 2, claim=pb.BulkClaim()), ONE)


async def test_counts_equal_the_lists(city: Node) -> None:
    names = [await opened(city) for _ in range(3)]
    await walk(city, names[0], "file")
    await dispatched(city)
    city.clock.advance(timedelta(hours=20))  # to 04:00: the day ends at midnight, and they are due at 08:00
    response = await city.call("CountWork", pb.CountWorkRequest(parent=CITY), OFFICER)
    counts = {pb.WorkInbox.Name(each.inbox).removeprefix("WORK_INBOX_"): each for each in response.counts}
    assert {name: each.total for name, each in counts.items()} == {
        "UNSPECIFIED": 4,
        "ROLE": 2,
        "MINE": 0,
        "ORGANISATION": 0,
        "UNASSIGNED": 2,
    }
    assert dict(counts["UNSPECIFIED"].by_state) == {"collected": 2, "filed": 1, "dispatched": 1}
    assert (counts["UNSPECIFIED"].overdue, counts["UNSPECIFIED"].due_today) == (0, 4)
    await claim(city, names[1], OFFICER)
    city.clock.advance(timedelta(hours=5))
    only = pb.CountWorkRequest(parent=CITY, inboxes=[pb.WORK_INBOX_ROLE, pb.WORK_INBOX_MINE])
    found = (await city.call("CountWork", only, OFFICER)).counts
    assert [(each.total, each.overdue, each.due_today, each.unassigned) for each in found] == [
        (2, 2, 0, 1),
        (1, 1, 0, 0),
    ]
    assert len(await listed(city, OFFICER, "ROLE", filter=pb.WorkFilter(overdue=True))) == 2
    with pytest.raises(Invalid):
        await city.call("CountWork", pb.CountWorkRequest(parent=CITY, inboxes=[pb.WORK_INBOX_ROLE] * 2), OFFICER)


async def test_pages_go_on_and_belong_to_their_list(city: Node) -> None:
    names = [await opened(city) for _ in range(5)]
    for order, expected in (("DUE", names), ("OLDEST", names), ("NEWEST", names[::-1])):
        found, token = [], ""
        request = pb.ListWorkRequest(parent=CITY, order=pb.WorkOrder.Value(f"WORK_ORDER_{order}"), page_size=2)
        while True:
            request.page_token = token
            response = await city.call("ListWork", request, OFFICER)
            found += [item.event.name for item in response.items]
            token = response.next_page_token
            if not token:
                break
        assert found == expected
    first = await city.call("ListWork", pb.ListWorkRequest(parent=CITY, page_size=2), OFFICER)
    with pytest.raises(Invalid):
        await listed(city, OFFICER, "ROLE", page_token=first.next_page_token)


async def test_an_upper_tier_sees_who_has_an_event_below(make_node: MakeNode) -> None:
    district, city = await make_node(CHILD, root="us-ca-sf-d10"), await make_node("sf", "us-ca-sf-d10")
    name = await opened(district, "us-ca-sf-d10")
    await walk(district, name, "file")
    await walk(district, name, "dispatch", organisation=WORKS)
    await claim(district, name, ONE)
    await district.report_to(city)
    assert await listed(city, DISPATCHER) == []
    request = pb.ListWorkRequest(parent=CITY, filter=pb.WorkFilter(mirrored=True))
    (item,) = (await city.call("ListWork", request, DISPATCHER)).items
    assert (item.event.name, item.event.assignee, item.event.revision, list(item.actions)) == (name, ONE, 4, [])
    with pytest.raises(WrongState):
        await claim(city, name, ONE)
    await walk(district, name, "dispose", "feed_back", reason="done")
    await district.report_to(city)
    ((mirrored),) = await events(city, "us-ca-sf-d10")
    assert (mirrored.status, mirrored.assignee) == ("fed_back", "")


async def test_who_leaves_a_post_leaves_its_work(city: Node) -> None:
    mine, colleagues = await dispatched(city), await dispatched(city)
    await claim(city, mine, ONE)
    await claim(city, colleagues, TWO)

    async def changed(*posts: Post, **more: Any) -> str:
        await city.hear(PersonChanged(person=Person(name=ONE, posts=posts, **more)))
        found = await city.call("GetEvent", management_pb2.GetEventRequest(name=mine), DISPATCHER)
        assignee: str = found.event.assignee
        return assignee

    here = Post(role="roles/handler", zone="us-ca-sf", organisation=WORKS)
    assert await changed(here) == ONE
    assert await changed(Post(role="roles/handler", zone="us-ca-sf-d10", organisation=WORKS)) == ""
    await claim(city, mine, ONE)
    assert await changed(Post(role="roles/handler", zone="us-ca-sf", organisation=PARKS)) == ""
    await claim(city, mine, ONE)
    assert await changed(here, disabled=True) == ""
    steps = (await city.call("ListEventSteps", management_pb2.ListEventStepsRequest(name=mine), DISPATCHER)).steps
    assert (steps[-1].action, steps[-1].actor) == ("release", "services/management")
    assert "不在 organisations/public-works 任职" in steps[-1].explanation.text.zh
    assert "holds no post" in steps[-1].explanation.text.en
    assert await listed(city, TWO, "MINE") == [colleagues]


async def test_saved_filters_are_ones_own_or_shared(city: Node) -> None:
    def put(person: str, name: str, **more: Any) -> pb.PutSavedFilterRequest:
        saved = pb.SavedFilter(
            name=f"{person}/savedFilters/{name}",
            title=LocalText(zh="涂鸦", en="Graffiti"),
            parent=CITY,
            inbox=pb.WORK_INBOX_ROLE,
            filter=pb.WorkFilter(types=[GRAFFITI.name], due_before=time_pb(NOW)),
            order=pb.WORK_ORDER_NEWEST,
            **more,
        )
        return pb.PutSavedFilterRequest(saved_filter=saved)

    async def seen(person: str) -> list[str]:
        response = await city.call("ListSavedFilters", pb.ListSavedFiltersRequest(), person)
        return [saved.name.rpartition("/")[2] for saved in response.saved_filters]

    request = put(ONE, "own")
    saved = (await city.call("PutSavedFilter", request, ONE)).saved_filter
    assert (saved.revision, saved.title.zh, saved.filter, saved.order) == (
        1, "涂鸦", request.saved_filter.filter, pb.WORK_ORDER_NEWEST,
    )  # fmt: skip
    await city.call("PutSavedFilter", put(ONE, "shared", organisation=WORKS), ONE)
    assert (await seen(ONE), await seen(TWO), await seen("people/handler.parks")) == (["own", "shared"], ["shared"], [])
    with pytest.raises(Forbidden):
        await city.call("PutSavedFilter", put(ONE, "theirs", organisation=PARKS), ONE)
    # Another's is as if it were not there.
    delete = pb.DeleteSavedFilterRequest(name=f"{ONE}/savedFilters/shared")
    assert await refusal(city, "PutSavedFilter", put(ONE, "own"), TWO) == Reason.SAVED_FILTER_NOT_FOUND
    assert await refusal(city, "DeleteSavedFilter", delete, TWO) == Reason.SAVED_FILTER_NOT_FOUND
    request.etag = 1
    assert (await city.call("PutSavedFilter", request, ONE)).saved_filter.revision == 2
    assert await refusal(city, "PutSavedFilter", request, ONE) == Reason.ETAG_STALE
    page = await city.call("ListSavedFilters", pb.ListSavedFiltersRequest(page_size=1), ONE)
    assert len(page.saved_filters) == 1
    rest = pb.ListSavedFiltersRequest(page_size=1, page_token=page.next_page_token)
    assert (await city.call("ListSavedFilters", rest, ONE)).saved_filters[0].name.endswith("/shared")
    await city.call("DeleteSavedFilter", delete, ONE)
    assert (await seen(ONE), await seen(TWO)) == (["own"], [])
    assert await refusal(city, "DeleteSavedFilter", delete, ONE) == Reason.SAVED_FILTER_NOT_FOUND
