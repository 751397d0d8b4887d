"""Indicators that cross their thresholds become warnings, and warnings follow them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from quintet.management.v1 import facts_pb2, management_pb2
from quintet.management.v1 import warnings_pb2 as pb
from quintet.perception.v1.perception_pb2 import LEVEL_II, LEVEL_III
from services.management.tests.conftest import received
from services.management.warnings.tests.samples import CITY, D10, LEADER, OFFICER, act, content, in_force, put_indicator

if TYPE_CHECKING:
    from services.management.warnings.tests.conftest import Centre
    from services.management.warnings.watching import Watcher

ALONE = {
    "level": "LEVEL_III",
    "comparator": "COMPARATOR_AT_LEAST",
    "value": 3,
    "clearValue": 1,
    "category": "WARNING_CATEGORY_SAFETY",
    "zones": [D10],
    "publishes": True,
    "headline": {"zh": "涂鸦激增", "en": "Graffiti surge"},
    "instruction": {"zh": "请留意", "en": "Look out"},
}


async def look(centre: Centre, minutes: int = 0) -> None:
    """Let time pass, and the centre look at its indicators once."""
    centre.clock.advance(timedelta(minutes=minutes))
    run: Any = centre.wired.tasks["warnings"]
    watcher: Watcher = run.__self__
    await watcher.look()


async def open_events(centre: Centre, count: int, first: int = 1) -> None:
    for number in range(first, first + count):
        name = f"zones/{D10}/events/e{number}"
        event = management_pb2.Event(name=name, zone=D10, node="elsewhere", revision=1)
        fact = centre.fact(facts_pb2.EventOpened(event=event), node="elsewhere", zone=D10, key=name)
        await centre.take_in(received(fact))


async def warnings(centre: Centre) -> list[pb.PublicWarning]:
    request = pb.ListPublicWarningsRequest(parent=f"zones/{CITY}")
    return list((await centre.ask("ListPublicWarnings", request, OFFICER)).warnings)


async def test_a_threshold_crossed_long_enough_drafts_a_warning_that_says_why(centre: Centre) -> None:
    await put_indicator(centre)
    await open_events(centre, 3)
    await look(centre)
    await look(centre, minutes=1)
    assert await warnings(centre) == []
    await look(centre, minutes=1)
    [warning] = await warnings(centre)
    assert (warning.state, warning.draft.level) == (pb.PUBLIC_WARNING_STATE_DRAFT, LEVEL_III)
    assert (warning.drafted_by, warning.source) == ("services/management", "indicators/graffiti")
    assert (warning.draft.headline.zh, warning.draft.headline.en) == ("涂鸦激增", "Graffiti surge")
    why = warning.explanation
    assert why.rule == "indicators/graffiti"
    assert {name: why.inputs[name] for name in ("value", "limit", "clear", "minutes", "zone")} == {
        "value": "3", "limit": "3", "clear": "1", "minutes": "2", "zone": D10,
    }  # fmt: skip
    assert "每小时涂鸦在区域 us-ca-sf-d10 为 3 件，不低于 3 件" in why.text.zh
    assert "Graffiti per hour in us-ca-sf-d10 was 3 events, at or above 3 events, for 2 min" in why.text.en
    assert await in_force(centre, D10) == []
    await look(centre, minutes=1)
    assert len(await warnings(centre)) == 1


async def test_what_grows_graver_is_one_warning_not_two(centre: Centre) -> None:
    await put_indicator(centre)
    await open_events(centre, 3)
    await look(centre)
    await look(centre, minutes=2)
    [warning] = await warnings(centre)
    await act(centre, "Revise", warning.name, content=content(centre))
    await act(centre, "Publish", warning.name)

    await open_events(centre, 3, first=4)
    await look(centre)
    [warning] = await warnings(centre)
    assert (warning.content.level, warning.draft.level) == (LEVEL_III, LEVEL_II)
    # What the officer wrote is still there; what is in force holds until a second person has agreed.
    assert warning.draft.description.en == "Heavy rain in the next three hours"
    assert [seen.level for seen in await in_force(centre, D10)] == [LEVEL_III]
    await act(centre, "Approve", warning.name, LEADER)
    await act(centre, "Publish", warning.name)
    assert [(seen.level, seen.revision) for seen in await in_force(centre, D10)] == [(LEVEL_II, 2)]

    await look(centre, minutes=70)
    [warning] = await warnings(centre)
    # People published it, so people end it: the centre only tells them that the figure is back.
    assert warning.HasField("cleared_at")
    assert warning.state == pb.PUBLIC_WARNING_STATE_PUBLISHED


async def test_a_threshold_that_publishes_by_itself_also_ends_by_itself(centre: Centre) -> None:
    await put_indicator(centre, thresholds=[ALONE])
    await open_events(centre, 3)
    await look(centre)
    [seen] = await in_force(centre, D10)
    assert (seen.headline.zh, seen.headline.en) == ("涂鸦激增", "Graffiti surge")
    await look(centre, minutes=61)
    assert await in_force(centre, D10) == []
    [warning] = await warnings(centre)
    assert (warning.state, warning.ending.zh) == (
        pb.PUBLIC_WARNING_STATE_ENDED,
        "每小时涂鸦在区域 us-ca-sf-d10 已恢复至 0 件，预警解除",
    )
    # The next time is another warning.
    await open_events(centre, 3, first=10)
    await look(centre)
    assert len(await warnings(centre)) == 2


async def test_a_warning_that_expires_while_its_cause_goes_on_is_raised_anew(centre: Centre) -> None:
    standing = {"facts": [{"type": "quintet.management.v1.EventOpened"}], "aggregation": "AGGREGATION_STANDING",
                "ends": [{"type": "quintet.management.v1.EventAdvanced"}], "windowMinutes": 0}  # fmt: skip
    await put_indicator(centre, thresholds=[ALONE], **standing)
    await open_events(centre, 3)
    await look(centre)
    [first] = await in_force(centre, D10)
    await look(centre, minutes=24 * 60)
    await look(centre, minutes=1)
    [second] = await in_force(centre, D10)
    assert second.name != first.name


async def test_somebody_who_dropped_a_draft_is_not_asked_again_until_it_clears(centre: Centre) -> None:
    await put_indicator(centre, thresholds=[ALONE | {"publishes": False}])
    await open_events(centre, 3)
    await look(centre)
    [warning] = await warnings(centre)
    await act(centre, "Discard", warning.name, reason="a film is being made")
    await look(centre, minutes=1)
    assert len(await warnings(centre)) == 1
