"""Reminders and escalations reach those who hold the role that they are for, and nobody else."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.clock import ManualClock
from libs.errors import NotFound
from quintet.collaboration.v1 import notices_pb2 as pb
from quintet.management.v1.facts_pb2 import (
    DeadlineReminder,
    EventEscalated,
    HandoverAcross,
    HandoverChanged,
    WhistleUnanswered,
)
from quintet.management.v1.handovers_pb2 import Handover, HandoverState
from quintet.management.v1.management_pb2 import ClockKind, EscalationTier
from services.collaboration.tests.conftest import COLLEAGUE, CREW_D6, DUTY_CENTRE, DUTY_OFFICER, GARDENER, Collaboration
from services.collaboration.tests.samples import D10, EVENT, HANDLER, PARKS, PUBLIC_WORKS, fact, person_changed, stamp

DUE = datetime(2026, 1, 5, 22, 0, tzinfo=UTC)  # 14:00 in San Francisco


def reminder(offset_min: int = -60, role: str = "handler", organisation: str = PUBLIC_WORKS) -> DeadlineReminder:
    return DeadlineReminder(
        event=EVENT,
        title="Fallen tree",
        clock=ClockKind.CLOCK_KIND_BUSINESS,
        due_at=stamp(DUE),
        offset_min=offset_min,
        role=role,
        organisation=organisation,
        zone=D10,
        node="sf",
    )


def escalated(tier: EscalationTier.ValueType, role: str = "duty_officer", node: str = "sf") -> EventEscalated:
    return EventEscalated(
        event=EVENT,
        title="Fallen tree",
        clock=ClockKind.CLOCK_KIND_STEP,
        due_at=stamp(DUE),
        role=role,
        tier=tier,
        organisation=PUBLIC_WORKS,
        zone=D10,
        node=node,
    )


def handed(state: str, **more: Any) -> HandoverChanged:
    handover = Handover(
        name=f"{EVENT}/handovers/1",
        event=EVENT,
        title="Fallen tree",
        zone=D10,
        node="sf",
        from_organisation=PUBLIC_WORKS,
        to_organisation=PARKS,
        state=HandoverState.Value(f"HANDOVER_STATE_{state}"),
        answer_due_at=stamp(DUE),
        **more,
    )
    return HandoverChanged(handover=handover)


async def told(collaboration: Collaboration, *people: str, **asked: Any) -> list[list[pb.Notice]]:
    """The notices of each person."""
    answers = [await collaboration.notices(person).ListNotices(pb.ListNoticesRequest(**asked)) for person in people]
    return [list(answer.notices) for answer in answers]


async def test_a_reminder_reaches_the_role_in_the_events_organisation(collaboration: Collaboration) -> None:
    await collaboration.tell(person_changed(CREW_D6, PUBLIC_WORKS, zone="us-ca-sf-d6"))
    await collaboration.tell(reminder(), reminder(offset_min=30))
    handler, colleague, gardener, elsewhere = await told(collaboration, HANDLER, COLLEAGUE, GARDENER, CREW_D6)
    assert handler == colleague
    assert (gardener, elsewhere) == ([], [])
    assert [notice.text.en for notice in handler] == [
        "The deadline of “Fallen tree” was 2026-01-05 14:00; it is late.",
        "The deadline of “Fallen tree” is 2026-01-05 14:00.",
    ]
    assert [notice.text.zh for notice in handler] == [
        "“Fallen tree”的业务时限已于2026年01月05日 14:00到期，尚未完成。",
        "“Fallen tree”的业务时限将于2026年01月05日 14:00到期。",
    ]
    assert {(notice.subject, notice.organisation, notice.urgent) for notice in handler} == {
        (EVENT, PUBLIC_WORKS, False)
    }


async def test_a_role_that_the_organisation_does_not_have_is_told_in_the_zone(collaboration: Collaboration) -> None:
    await collaboration.tell(person_changed(DUTY_OFFICER, DUTY_CENTRE, role="duty_officer", zone=D10))
    await collaboration.tell(reminder(role="duty_officer"))
    (found,), handler = await told(collaboration, DUTY_OFFICER, HANDLER)
    assert (found.role, found.organisation) == ("duty_officer", "")
    assert handler == []


async def test_what_nobody_is_there_for_reaches_the_node_admin(collaboration: Collaboration) -> None:
    await collaboration.tell(person_changed(GARDENER, PARKS, role="node_admin"), reminder(role="leader"))
    ((found,),) = await told(collaboration, GARDENER)
    assert found.role == "node_admin"
    assert found.text.en.endswith("(Meant for the role leader, which nobody holds here.)")
    assert found.text.zh.endswith("（本应告知角色 leader，但无人任职。）")


async def test_a_fact_told_twice_is_one_notice(collaboration: Collaboration) -> None:
    same = fact(reminder())
    for _ in range(2):
        await collaboration.transactions.run(lambda tx: collaboration.handlers[DeadlineReminder](tx, same, reminder()))
    (handler,) = await told(collaboration, HANDLER)
    assert len(handler) == 1


async def test_an_escalation_waits_until_one_of_the_role_acknowledges(
    collaboration: Collaboration, clock: ManualClock
) -> None:
    tier = EscalationTier.ESCALATION_TIER_ORGANISATION
    await collaboration.tell(escalated(tier, role="handler"))
    (waiting,), (same,), gardener = await told(collaboration, HANDLER, COLLEAGUE, GARDENER)
    assert waiting == same
    assert gardener == []
    assert waiting.urgent
    assert waiting.text.en.startswith("The deadline of the present step of “Fallen tree” was 2026-01-05 14:00")

    asked = pb.AcknowledgeNoticeRequest(name=waiting.name)
    with pytest.raises(NotFound, match="does not exist"):
        await collaboration.notices(GARDENER).AcknowledgeNotice(asked)
    seen = (await collaboration.notices(COLLEAGUE).AcknowledgeNotice(asked)).notice
    clock.advance(timedelta(minutes=1))
    again = (await collaboration.notices(HANDLER).AcknowledgeNotice(asked)).notice
    assert again == seen
    assert seen.acknowledged_by == COLLEAGUE
    listed = await collaboration.notices(HANDLER).ListNotices(pb.ListNoticesRequest(unacknowledged_only=True))
    assert (list(listed.notices), listed.urgent) == ([], 0)
    assert [action for _, action, _ in await collaboration.audited()].count("collaboration.notices.acknowledge") == 1


async def test_the_tier_above_is_told_of_what_is_brought_before_it_only(collaboration: Collaboration) -> None:
    await collaboration.tell(person_changed(DUTY_OFFICER, DUTY_CENTRE, role="duty_officer"))
    below = {"node": "sf-d10", "received_from": "sf-d10"}
    for tier in (EscalationTier.ESCALATION_TIER_ZONE, EscalationTier.ESCALATION_TIER_ABOVE):
        await collaboration.tell(escalated(tier, node="sf-d10"), **below)
    await collaboration.tell(reminder(role="duty_officer"), **below)
    ((found,),) = await told(collaboration, DUTY_OFFICER)
    assert (found.kind, found.node) == (pb.NOTICE_KIND_ESCALATION, "sf-d10")


async def test_notices_come_page_by_page_and_urgent_ones_are_counted_on_all(collaboration: Collaboration) -> None:
    tier = EscalationTier.ESCALATION_TIER_ORGANISATION
    await collaboration.tell(*(escalated(tier, role="handler") for _ in range(5)), reminder())
    stub = collaboration.notices(HANDLER)
    names: list[str] = []
    token = ""
    while True:
        page = await stub.ListNotices(pb.ListNoticesRequest(page_size=2, page_token=token))
        assert page.urgent == 5
        names += [notice.name for notice in page.notices]
        token = page.next_page_token
        if not token:
            break
    assert len(names) == len(set(names)) == 6


@pytest.mark.parametrize(
    ("state", "who", "en"),
    [
        ("OFFERED", GARDENER, "public-works offers you “Fallen tree”: answer by 2026-01-05 14:00."),
        ("ACCEPTED", HANDLER, "parks has accepted “Fallen tree”."),
        ("LAPSED", HANDLER, "parks has not answered for “Fallen tree” in time: you still answer for it"),
        ("ORDERED", GARDENER, "It was decided that you answer for “Fallen tree”."),
        ("DISMISSED", HANDLER, "It was decided that you go on answering for “Fallen tree”."),
    ],
)
async def test_a_hand_over_is_told_to_whoever_it_concerns_next(
    collaboration: Collaboration, state: str, who: str, en: str
) -> None:
    await collaboration.tell(handed(state))
    (found,), other = await told(collaboration, who, HANDLER if who == GARDENER else GARDENER)
    assert found.text.en.startswith(en)
    assert "Fallen tree" in found.text.zh
    assert (found.kind, found.subject) == (pb.NOTICE_KIND_HANDOVER, f"{EVENT}/handovers/1")
    assert other == []


async def test_a_dispute_is_brought_before_the_role_that_decides_here_or_above(collaboration: Collaboration) -> None:
    await collaboration.tell(person_changed(DUTY_OFFICER, DUTY_CENTRE, role="leader"))
    zone, above = EscalationTier.ESCALATION_TIER_ZONE, EscalationTier.ESCALATION_TIER_ABOVE
    below = {"node": "sf-d10", "received_from": "sf-d10"}
    await collaboration.tell(handed("DISPUTED", decide_role="leader", decide_tier=zone), **below)
    await collaboration.tell(handed("OFFERED"), handed("SUPERSEDED"), **below)
    assert await told(collaboration, DUTY_OFFICER, GARDENER) == [[], []]
    await collaboration.tell(handed("DISPUTED", decide_role="leader", decide_tier=above), **below)
    ((found,),) = await told(collaboration, DUTY_OFFICER)
    assert found.urgent
    assert not found.HasField("due_at")
    assert found.text.en == "public-works and parks dispute who answers for “Fallen tree”: it is brought before you."


async def test_an_offer_of_another_tier_is_told_where_it_is_answered(collaboration: Collaboration) -> None:
    below = {"node": "sf-d10", "received_from": "sf-d10"}
    elsewhere, here = (handed("OFFERED", to_node=node).handover for node in ("sf-d6", "sf"))
    await collaboration.tell(HandoverAcross(handover=elsewhere), **below)
    assert await told(collaboration, GARDENER, HANDLER) == [[], []]
    await collaboration.tell(HandoverAcross(handover=here), **below)
    found, other = await told(collaboration, GARDENER, HANDLER)
    assert other == []
    assert "offers you “Fallen tree”" in found[0].text.en
    assert "拟将“Fallen tree”移交贵单位" in found[0].text.zh
    # Of an own offer to another node nobody is told here.
    own = handed("OFFERED", to_node="sf-d10")
    await collaboration.tell(own, HandoverAcross(handover=own.handover))
    assert [len(each) for each in await told(collaboration, GARDENER, HANDLER)] == [1, 0]


async def test_a_whistle_is_told_to_the_organisations_of_this_node(collaboration: Collaboration) -> None:
    unanswered = WhistleUnanswered(
        whistle=f"zones/{D10}/whistles/1",
        organisations=[PARKS, "organisations/harbour", PUBLIC_WORKS],
        report_by=stamp(DUE),
        role="handler",
        zone=D10,
        node="sf-d10",
    )
    await collaboration.tell(unanswered, node="sf-d10", received_from="sf-d10")
    (gardener,), (handler,) = await told(collaboration, GARDENER, HANDLER)
    assert (gardener.organisation, handler.organisation) == (PARKS, PUBLIC_WORKS)
    assert gardener.text.en == "us-ca-sf-d10 has blown the whistle: report in on site by 2026-01-05 14:00."
    assert gardener.text.zh == "us-ca-sf-d10 吹哨，请于2026年01月05日 14:00前到场报到。"
    assert gardener.urgent
