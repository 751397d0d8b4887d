"""Indicators from the facts that reach a node to the figures that people read."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format

from libs.errors import Forbidden, Invalid, NotFound
from quintet.collaboration.v1 import collaboration_pb2
from quintet.collaboration.v1.facts_pb2 import TaskChanged
from quintet.delivery.v1.facts_pb2 import RequestFiled
from quintet.federation.v1.facts_pb2 import ZoneDelegated
from quintet.management.v1 import facts_pb2, management_pb2
from quintet.management.v1 import indicators_pb2 as pb
from quintet.perception.v1.facts_pb2 import DailyAggregateComputed
from services.management.tests.conftest import received

if TYPE_CHECKING:
    from quintet.fact.v1.fact_pb2 import Fact
    from services.management.warnings.tests.conftest import Centre

ADMIN = "people/admin"
OPENED = "quintet.management.v1.EventOpened"
ADVANCED = "quintet.management.v1.EventAdvanced"
D6, D10, POTRERO = "us-ca-sf-d6", "us-ca-sf-d10", "us-ca-sf-d10-potrero-hill"


def declared(**changes: Any) -> pb.Indicator:
    """Graffiti opened in the last hour."""
    values = {
        "name": "indicators/graffiti-per-hour",
        "title": {"zh": "每小时涂鸦", "en": "Graffiti per hour"},
        "unit": {"zh": "件", "en": "events"},
        "facts": [{"type": OPENED, "where": [{"field": "event.type", "equals": "eventTypes/graffiti"}]}],
        "aggregation": "AGGREGATION_COUNT",
        "windowMinutes": 60,
    }
    return json_format.ParseDict(values | changes, pb.Indicator())


async def put(centre: Centre, indicator: pb.Indicator) -> pb.PutIndicatorResponse:
    answer: pb.PutIndicatorResponse = await centre.ask(
        "PutIndicator", pb.PutIndicatorRequest(indicator=indicator), ADMIN
    )
    return answer


async def values(centre: Centre, indicator: pb.Indicator, zone: str = "us-ca-sf", series: int = 0) -> Any:
    request = pb.GetIndicatorValuesRequest(name=indicator.name, zone=zone, series_minutes=series)
    return await centre.ask("GetIndicatorValues", request, "people/duty-officer")


def opened(centre: Centre, zone: str, number: int = 1, event_type: str = "graffiti", due_h: int = 0) -> Fact:
    """The fact of another node, so that nothing but the mirror and the indicators take it in."""
    name = f"zones/{zone}/events/e{number}"
    event = management_pb2.Event(name=name, zone=zone, node="elsewhere", type=f"eventTypes/{event_type}", revision=1)
    if due_h:
        event.due_at.FromDatetime(centre.clock.now() + timedelta(hours=due_h))
    return received(centre.fact(facts_pb2.EventOpened(event=event), node="elsewhere", zone=zone, key=name))


def advanced(centre: Centre, zone: str, number: int, revision: int, *, closed: bool) -> Fact:
    name = f"zones/{zone}/events/e{number}"
    message = facts_pb2.EventAdvanced(event=name, revision=revision, zone=zone, node="elsewhere")
    if closed:
        message.closed_at.FromDatetime(centre.clock.now())
    return received(centre.fact(message, node="elsewhere", zone=zone, key=name))


async def test_events_of_a_type_are_counted_per_zone_and_rolled_up(centre: Centre) -> None:
    indicator = (await put(centre, declared())).indicator
    for number, zone in enumerate([D6, D10, POTRERO, POTRERO]):
        await centre.take_in(opened(centre, zone, number))
    await centre.take_in(opened(centre, D6, 9, "noise"))

    answer = await values(centre, indicator)
    assert (answer.now.value, answer.now.facts) == (4, 4)
    assert {zone.zone: zone.value for zone in answer.zones} == {D6: 1, D10: 3}
    assert (answer.unit.zh, answer.unit.en) == ("件", "events")

    centre.clock.advance(timedelta(minutes=59))
    assert (await values(centre, indicator, D10)).now.value == 3
    centre.clock.advance(timedelta(minutes=1))
    answer = await values(centre, indicator, D10, series=120)
    assert answer.now.value == 0
    assert [point.value for point in answer.series][-62:] == [0, *[3] * 60, 0]


async def test_a_late_fact_counts_where_it_belongs(centre: Centre) -> None:
    indicator = (await put(centre, declared())).indicator
    late, too_late = opened(centre, D6, 1), opened(centre, D6, 2)
    centre.clock.advance(timedelta(hours=2))
    await centre.take_in(late)
    answer = await values(centre, indicator, series=180)
    assert answer.now.value == 0
    assert [point.value for point in answer.series].count(1) == 30  # every second minute of an hour
    centre.clock.advance(timedelta(hours=24))
    await centre.take_in(too_late)
    rows = await centre.rows("SELECT sum(facts) AS facts FROM indicator_buckets")
    assert rows[0]["facts"] == 1


async def test_figures_of_a_field(centre: Centre) -> None:
    names = {}
    for aggregation in ("SUM", "MEAN", "MAX", "LATEST"):
        indicator = declared(
            name=f"indicators/pm25-{aggregation.lower()}",
            facts=[{"type": "quintet.perception.v1.DailyAggregateComputed",
                    "where": [{"field": "indicator", "equals": "pm25"}]}],
            aggregation=f"AGGREGATION_{aggregation}",
            field="mean",
        )  # fmt: skip
        names[aggregation] = (await put(centre, indicator)).indicator
    assert not (await values(centre, names["MEAN"])).now.HasField("value")
    for zone, code, mean in [(D6, "pm25", 30.0), (D10, "pm25", 50.0), (POTRERO, "pm25", 10.0), (D6, "no2", 999.0)]:
        await centre.hear(DailyAggregateComputed(indicator=code, mean=mean), zone=zone)
        centre.clock.advance(timedelta(seconds=1))
    await centre.hear(DailyAggregateComputed(indicator="pm25", mean=float("nan")), zone=D6)

    found = {aggregation: (await values(centre, each)).now.value for aggregation, each in names.items()}
    assert found == {"SUM": 90, "MEAN": 30, "MAX": 50, "LATEST": 10}
    assert (await values(centre, names["LATEST"], D6)).now.value == 30


async def test_open_events_past_their_time_stand_until_they_are_closed(centre: Centre) -> None:
    indicator = declared(
        name="indicators/overdue",
        facts=[{"type": OPENED}, {"type": ADVANCED, "where": [{"field": "closed_at", "set": False}]}],
        ends=[{"type": ADVANCED, "where": [{"field": "closed_at", "set": True}]}],
        aggregation="AGGREGATION_STANDING",
        windowMinutes=0,
        dueField="event.due_at",
    )
    indicator = (await put(centre, indicator)).indicator
    await centre.hear(ZoneDelegated(zone=D10, node="elsewhere"), zone=D10)
    for number, hours in ((1, 1), (2, 5), (3, 0)):
        await centre.take_in(opened(centre, D10, number, due_h=hours))
    await centre.take_in(advanced(centre, D10, 1, 2, closed=False))
    assert (await values(centre, indicator)).now.value == 0
    centre.clock.advance(timedelta(hours=2))
    assert (await values(centre, indicator)).now.value == 1
    centre.clock.advance(timedelta(hours=4))
    assert {zone.zone: zone.value for zone in (await values(centre, indicator)).zones} == {D6: 0, D10: 2}
    await centre.take_in(advanced(centre, D10, 1, 3, closed=True))
    assert (await values(centre, indicator)).now.value == 1


async def test_tasks_late_and_requests_filed_are_facts_like_any_other(centre: Centre) -> None:
    done, cancelled = ({"field": "task.state", "equals": f"TASK_STATE_{state}"} for state in ("DONE", "CANCELLED"))
    changed = "quintet.collaboration.v1.TaskChanged"
    late = declared(
        name="indicators/tasks-late",
        facts=[{"type": changed}],
        ends=[{"type": changed, "where": [done]}, {"type": changed, "where": [cancelled]}],
        aggregation="AGGREGATION_STANDING",
        windowMinutes=0,
        dueField="task.due_at",
    )
    filed = declared(name="indicators/filed", facts=[{"type": "quintet.delivery.v1.RequestFiled"}])
    late, filed = (await put(centre, late)).indicator, (await put(centre, filed)).indicator
    task = collaboration_pb2.Task(name="tasks/t1", state=collaboration_pb2.TASK_STATE_OPEN)
    task.due_at.FromDatetime(centre.clock.now() - timedelta(minutes=1))
    await centre.hear(TaskChanged(task=task), zone=D6, key=task.name)
    assert (await values(centre, late)).now.value == 1
    task.state = collaboration_pb2.TASK_STATE_DONE
    await centre.hear(TaskChanged(task=task), zone=D6, key=task.name)
    assert (await values(centre, late)).now.value == 0

    request = RequestFiled()
    request.request.name, request.request.zone = f"zones/{D6}/requests/r1", D6
    await centre.hear(request, zone=D6)
    assert (await values(centre, filed)).now.value == 1
    # The report itself was taken in as before.
    assert await centre.rows("SELECT FROM events WHERE zone = $1", D6)


async def test_a_new_version_counts_anew_only_when_it_counts_otherwise(centre: Centre) -> None:
    indicator = (await put(centre, declared())).indicator
    await centre.take_in(opened(centre, D6))
    assert not (await put(centre, declared())).changed
    renamed = await put(centre, declared(title={"zh": "涂鸦", "en": "Graffiti"}))
    assert (renamed.indicator.version, (await values(centre, indicator)).now.value) == (2, 1)
    wider = await put(centre, declared(windowMinutes=120))
    assert (wider.indicator.version, (await values(centre, indicator)).now.value) == (3, 0)
    request = pb.ListIndicatorsRequest(page_size=1)
    assert [each.version for each in (await centre.ask("ListIndicators", request, ADMIN)).indicators] == [3]


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"facts": [{"type": "quintet.management.v1.Nothing"}]}, "indicator.facts[0].type", "a fact that a service"),
        (
            {"facts": [{"type": OPENED, "where": [{"field": "event.colour", "equals": "red"}]}]},
            "indicator.facts[0].where[0].field",
            "quintet.management.v1.Event has no field colour",
        ),
        (
            {"facts": [{"type": OPENED, "where": [{"field": "event.flags.code", "equals": "X"}]}]},
            "indicator.facts[0].where[0].field",
            "no single message",
        ),
        (
            {"facts": [{"type": OPENED, "where": [{"field": "event.reports", "equals": "many"}]}]},
            "indicator.facts[0].where[0].equals",
            "whole number",
        ),
        ({"aggregation": "AGGREGATION_MAX", "field": "event.title"}, "indicator.field", "is no number"),
        ({"aggregation": "AGGREGATION_MAX"}, "indicator.field", "is required"),
        ({"windowMinutes": 61, "stepMinutes": 2}, "indicator.windowMinutes", "multiple of stepMinutes"),
        ({"title": {"zh": "标题"}}, "indicator.title.en", "is required"),
        (
            {"thresholds": [{"level": "LEVEL_III",
                             "category": "WARNING_CATEGORY_SAFETY", "comparator": "COMPARATOR_AT_LEAST",
                             "value": 9, "clearValue": 5,
                             "zones": [D6, "cn-110000"], "headline": {"zh": "警", "en": "W"},
                             "instruction": {"zh": "避", "en": "Go"}}]},
            "indicator.thresholds[0].zones[1]",
            "cn-110000 is not a zone of this node",
        ),
    ],
)  # fmt: skip
async def test_what_the_facts_cannot_have_is_refused_by_field(
    centre: Centre, changes: dict[str, Any], field: str, rule: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await put(centre, declared(**changes))
    assert [found for found, _ in refused.value.violations] == [field]
    assert rule in refused.value.violations[0][1]


async def test_figures_are_for_those_who_watch_the_zone(centre: Centre) -> None:
    indicator = (await put(centre, declared())).indicator
    with pytest.raises(Forbidden):
        await centre.ask("PutIndicator", pb.PutIndicatorRequest(indicator=indicator), "people/duty-officer")
    request = pb.GetIndicatorValuesRequest(name=indicator.name, zone="us-ca-sf-d6")
    with pytest.raises(Forbidden):
        await centre.ask("GetIndicatorValues", request, "people/duty-officer.d10")
    request.zone = "us-ca-sf-d10"
    assert (await centre.ask("GetIndicatorValues", request, "people/duty-officer.d10")).now.zone == "us-ca-sf-d10"
    request.name = "indicators/none"
    with pytest.raises(NotFound):
        await centre.ask("GetIndicatorValues", request, "people/duty-officer.d10")
