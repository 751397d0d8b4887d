"""A warning from its draft to its review, as the people of the centre and the city see it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Forbidden, Invalid, NotFound, Stale, WrongState
from quintet.common.v1.common_pb2 import LocalText
from quintet.management.v1 import visits_pb2
from quintet.management.v1 import warnings_pb2 as pb
from quintet.perception.v1.facts_pb2 import WarningEnded, WarningRaised
from quintet.perception.v1.perception_pb2 import LEVEL_II, LEVEL_III, LEVEL_IV
from services.management.warnings.tests.samples import (
    CITY,
    D6,
    D10,
    LEADER,
    OFFICER,
    POTRERO,
    SEWERS,
    WORKS,
    act,
    content,
    drafted,
    in_force,
    published,
)

if TYPE_CHECKING:
    from services.management.warnings.tests.conftest import Centre
    from services.management.warnings.watching import Watcher

ENDING = LocalText(zh="雨已停", en="The rain has stopped")


def watcher(centre: Centre) -> Watcher:
    """The background work of the centre, to be done when the test says so."""
    run: Any = centre.wired.tasks["warnings"]
    found: Watcher = run.__self__
    return found


async def test_a_warning_goes_from_its_draft_to_its_review(centre: Centre) -> None:
    warning = await drafted(centre)
    assert (warning.state, warning.drafted_by) == (pb.PUBLIC_WARNING_STATE_DRAFT, OFFICER)
    assert await in_force(centre, D10) == []

    warning = await act(centre, "Publish", warning.name, etag=warning.etag)
    for zone in (D10, POTRERO, CITY):
        [seen] = await in_force(centre, zone)
        assert (seen.headline.zh, seen.headline.en, seen.revision) == ("暴雨预警", "Heavy rain warning", 1)
    assert await in_force(centre, D6) == []

    worse = content(centre, instruction={"zh": "立即转移", "en": "Leave now"})
    warning = await act(centre, "Revise", warning.name, content=worse)
    assert (await in_force(centre, D10))[0].instruction.en == "Stay indoors"
    warning = await act(centre, "Publish", warning.name)
    assert [(seen.revision, seen.instruction.zh) for seen in await in_force(centre, D10)] == [(2, "立即转移")]

    warning = await act(centre, "End", warning.name, ending=ENDING)
    assert await in_force(centre, D10) == []
    with pytest.raises(WrongState):
        await act(centre, "Publish", warning.name)
    warning = await act(
        centre, "Review", warning.name, LEADER, outcome=pb.WARNING_OUTCOME_TRUE, notes="Forty cellars kept dry"
    )
    assert (warning.state, warning.reviewed_by) == (pb.PUBLIC_WARNING_STATE_REVIEWED, LEADER)
    assert await centre.stated_types() == ["PublicWarningPublished"] * 2 + ["PublicWarningEnded"]
    of_warnings = "SELECT action FROM audit_entries WHERE action LIKE '%warnings%' ORDER BY id"
    actions = [row["action"] for row in await centre.rows(of_warnings)]
    verbs = ["draft", "publish", "revise", "publish", "end", "review"]
    assert actions == [f"management.public_warnings.{verb}" for verb in verbs]


async def test_the_grave_levels_need_a_second_person(centre: Centre) -> None:
    warning = await drafted(centre, "LEVEL_II")
    with pytest.raises(WrongState) as missing:
        await act(centre, "Publish", warning.name)
    assert missing.value.reason == "APPROVAL_MISSING"
    with pytest.raises(Forbidden):
        await act(centre, "Approve", warning.name)

    await act(centre, "Revise", warning.name, LEADER, content=content(centre, "LEVEL_I"))
    with pytest.raises(Forbidden) as same:
        await act(centre, "Approve", warning.name, LEADER)
    assert same.value.reason == "APPROVAL_BY_SAME"
    await act(centre, "Revise", warning.name, content=content(centre, "LEVEL_I"))
    approved = await act(centre, "Approve", warning.name, LEADER)
    assert (approved.state, approved.approved_by) == (pb.PUBLIC_WARNING_STATE_APPROVED, LEADER)
    # Another word, and the approval is void.
    await act(centre, "Revise", warning.name, content=content(centre, "LEVEL_I"))
    with pytest.raises(WrongState):
        await act(centre, "Publish", warning.name)
    await act(centre, "Approve", warning.name, LEADER)
    await act(centre, "Publish", warning.name)
    # Nor may one person alone take the graveness away from what is in force.
    await act(centre, "Revise", warning.name, content=content(centre, "LEVEL_IV"))
    with pytest.raises(WrongState):
        await act(centre, "Publish", warning.name)
    await act(centre, "Approve", warning.name, LEADER)
    assert (await act(centre, "Publish", warning.name)).content.level == LEVEL_IV


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"headline": {"zh": "暴雨预警"}}, "content.headline.en"),
        ({"description": {"en": "Rain"}}, "content.description.zh"),
        ({"instruction": {"zh": " ", "en": "Stay"}}, "content.instruction.zh"),
        ({"audience": {"zones": [D6]}}, "content.audience.zones[0]"),
        ({"escalateTo": "roles/leader"}, "content.acknowledgeMinutes"),
        ({"level": "LEVEL_UNSPECIFIED"}, "content.level"),
    ],
)
async def test_what_is_missing_is_refused_by_field(centre: Centre, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        await drafted(centre, **changes)
    assert [found for found, _ in refused.value.violations] == [field]


async def test_two_who_edit_at_once_do_not_overwrite_each_other(centre: Centre) -> None:
    warning = await drafted(centre)
    await act(centre, "Revise", warning.name, content=content(centre), etag=warning.etag)
    with pytest.raises(Stale):
        await act(centre, "Revise", warning.name, content=content(centre), etag=warning.etag)
    with pytest.raises(NotFound):
        await act(centre, "Publish", f"zones/{D10}/publicWarnings/none")
    discarded = await act(centre, "Discard", warning.name, reason="a test")
    assert discarded.state == pb.PUBLIC_WARNING_STATE_DISCARDED


async def test_who_must_acknowledge_does_or_it_is_passed_on(centre: Centre) -> None:
    warning = await published(
        centre,
        audience={"zones": [D10], "organisations": [WORKS, SEWERS]},
        acknowledgeMinutes=10,
        escalateTo="roles/leader",
    )
    assert (warning.receipts, warning.acknowledged) == (2, 0)

    async def acknowledge(recipient: str, subject: str) -> pb.WarningReceipt:
        request = pb.AcknowledgePublicWarningRequest(name=warning.name, recipient=recipient)
        receipt: pb.WarningReceipt = (await centre.ask("AcknowledgePublicWarning", request, subject)).receipt
        return receipt

    with pytest.raises(Forbidden):
        await acknowledge(WORKS, "people/handler.ops")
    assert (await acknowledge(WORKS, "people/handler.works")).acknowledged_by == "people/handler.works"
    with pytest.raises(NotFound):
        await acknowledge("roles/leader", LEADER)

    centre.clock.advance(timedelta(minutes=10))
    await watcher(centre).look()
    await watcher(centre).look()
    shown = await centre.ask("ListWarningReceipts", pb.ListWarningReceiptsRequest(name=warning.name), OFFICER)
    assert [
        (receipt.recipient, receipt.HasField("acknowledged_at"), receipt.HasField("escalated_at"),
         receipt.escalated_from) for receipt in shown.receipts
    ] == [(WORKS, True, False, ""), (SEWERS, False, True, ""), ("roles/leader", False, False, SEWERS)]  # fmt: skip
    [late] = [message for fact, message in await centre.stated() if fact.type.endswith("Unacknowledged")]
    assert (late.recipient, late.escalated_to) == (SEWERS, "roles/leader")

    # A leader of another city is none of ours.
    with pytest.raises(Forbidden):
        await acknowledge("roles/leader", "people/neighbour")
    await acknowledge("roles/leader", LEADER)
    counted = await centre.ask("GetPublicWarning", pb.GetPublicWarningRequest(name=warning.name), OFFICER)
    found = counted.warning
    assert (found.receipts, found.acknowledged, found.escalated) == (3, 2, 1)

    # What is new must be acknowledged anew.
    await act(centre, "Revise", warning.name, content=found.content)
    again = await act(centre, "Publish", warning.name)
    assert (again.receipts, again.acknowledged, again.escalated) == (2, 0, 0)


async def test_a_warning_that_expired_is_over(centre: Centre) -> None:
    warning = await published(centre)
    centre.clock.advance(timedelta(hours=6))
    assert await in_force(centre, D10) == []
    await watcher(centre).look()
    found = await centre.ask("GetPublicWarning", pb.GetPublicWarningRequest(name=warning.name), OFFICER)
    assert (found.warning.state, found.warning.ending.zh) == (pb.PUBLIC_WARNING_STATE_ENDED, "预警已到期，自动解除")


async def test_sensors_and_people_warn_in_one_list(centre: Centre) -> None:
    raised = WarningRaised()
    raised.warning.name, raised.warning.level = f"zones/{D10}/warnings/w1", LEVEL_II
    raised.warning.reason.text.zh, raised.warning.reason.text.en = "水位过高", "Water too high"
    raised.warning.raised_at.FromDatetime(centre.clock.now())
    await centre.hear(raised, zone=D10)
    centre.clock.advance(timedelta(minutes=1))
    warning = await drafted(centre)

    async def entries(*, active_only: bool, size: int = 10, token: str = "") -> Any:
        request = pb.ListCentreEntriesRequest(
            parent=f"zones/{CITY}", active_only=active_only, page_size=size, page_token=token
        )
        return await centre.ask("ListCentreEntries", request, OFFICER)

    seen = (await entries(active_only=True)).entries
    assert [(entry.name, entry.kind, entry.level, entry.text.zh, entry.text.en) for entry in seen] == [
        (warning.name, pb.CENTRE_ENTRY_KIND_PUBLIC, LEVEL_III, "暴雨预警", "Heavy rain warning"),
        (f"zones/{D10}/warnings/w1", pb.CENTRE_ENTRY_KIND_SENSOR, LEVEL_II, "水位过高", "Water too high"),
    ]
    first = await entries(active_only=True, size=1)
    second = await entries(active_only=True, size=1, token=first.next_page_token)
    assert [entry.name for entry in (*first.entries, *second.entries)] == [entry.name for entry in seen]

    ended = WarningEnded(warning=raised.warning)
    ended.warning.ended_at.FromDatetime(centre.clock.now())
    await centre.hear(ended, zone=D10)
    assert [entry.name for entry in (await entries(active_only=True)).entries] == [warning.name]
    assert [entry.active for entry in (await entries(active_only=False)).entries] == [True, False]
    request = pb.ListPublicWarningsRequest(parent=f"zones/{CITY}", state=pb.PUBLIC_WARNING_STATE_DRAFT)
    assert [found.name for found in (await centre.ask("ListPublicWarnings", request, OFFICER)).warnings] == [
        warning.name
    ]
    with pytest.raises(Forbidden):
        await centre.ask("ListCentreEntries", pb.ListCentreEntriesRequest(parent=f"zones/{CITY}"), "people/resident.01")


async def test_people_to_visit_are_ticked_off_and_stay_masked(centre: Centre) -> None:
    warning = await published(centre)
    drafts = [
        visits_pb2.VisitDraft(who=who, where=where, why="独居，无手机", assigned_to=assigned)
        for who, where, assigned in [
            ("Example One", "12 Sample Street, door 4", "people/grid-officer"),
            ("示例二", "示例路34号2栋", "people/neighbour"),
        ]
    ]
    added = await centre.ask("AddVisits", visits_pb2.AddVisitsRequest(name=warning.name, visits=drafts), OFFICER)
    assert added.visits == 2

    async def visits(subject: str, **more: Any) -> Any:
        return await centre.ask("ListVisits", visits_pb2.ListVisitsRequest(name=warning.name, **more), subject)

    masked = await visits(OFFICER)
    assert [(visit.who, visit.where) for visit in masked.visits] == [("E**", "** Sam**"), ("示**", "示例路**号**")]
    [own] = (await visits("people/grid-officer", purpose=visits_pb2.VISIT_PURPOSE_VISIT)).visits
    assert (own.who, own.where) == ("Example One", "12 Sample Street, door 4")
    [entry] = await centre.rows("SELECT actor, detail FROM audit_entries WHERE action = 'management.visits.read'")
    assert entry["actor"] == "people/grid-officer"
    assert "VISIT_PURPOSE_VISIT" in entry["detail"]

    tick = visits_pb2.TickVisitRequest(
        name=own.name, outcome=visits_pb2.VISIT_OUTCOME_HELPED, note="brought to school 3"
    )
    with pytest.raises(Forbidden):
        await centre.ask("TickVisit", tick, "people/neighbour")
    ticked = (await centre.ask("TickVisit", tick, "people/grid-officer")).visit
    assert (ticked.visited_by, ticked.outcome) == ("people/grid-officer", visits_pb2.VISIT_OUTCOME_HELPED)
    with pytest.raises(WrongState):
        await centre.ask("TickVisit", tick, "people/grid-officer")
    left = await visits(OFFICER, open_only=True)
    assert ([visit.assigned_to for visit in left.visits], left.total, left.done) == (["people/neighbour"], 2, 1)
    # Nothing of the list was stated as a fact.
    rows = await centre.rows("SELECT fact FROM outbox")
    assert not any(b"Example" in row["fact"] or "示例".encode() in row["fact"] for row in rows)
