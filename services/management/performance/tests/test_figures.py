"""Every figure equals a count by hand, to the row, and opens exactly the events that it counts."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quintet.management.v1 import scorecards_pb2 as pb
from services.management.performance import store_facts
from services.management.performance.tests import by_hand
from services.management.performance.tests.lives import END, START, Life, chance_lives, rate, take_in

if TYPE_CHECKING:
    import pytest

    from services.management.tests.conftest import Node

SUPERVISOR = "people/supervisor"
SOURCE = (Path(__file__).parents[4] / "docs/examples/management/scorecards/handling.yaml").read_text()
NAME = "scorecardDefinitions/handling"
PARTS = (pb.FIGURE_PART_MET, pb.FIGURE_PART_NOT_MET)


async def put(node: Node, source: str = SOURCE, name: str = NAME, subject: str = SUPERVISOR) -> pb.ScorecardDefinition:
    answer = await node.call(
        "PutScorecardDefinition", pb.PutScorecardDefinitionRequest(name=name, source=source), subject
    )
    found: pb.ScorecardDefinition = answer.definition
    return found


async def draft(
    node: Node, start: datetime = START, end: datetime = END, *, zone: str = "us-ca-sf", definition: str = NAME
) -> pb.Scorecard:
    request = pb.DraftScorecardRequest(parent=f"zones/{zone}", definition=definition)
    request.period_from.FromDatetime(start)
    request.period_to.FromDatetime(end)
    found: pb.Scorecard = (await node.call("DraftScorecard", request, SUPERVISOR)).scorecard
    return found


async def publish(node: Node, card: pb.Scorecard, subject: str = SUPERVISOR) -> pb.Scorecard:
    request = pb.PublishScorecardRequest(name=card.name, version=card.version, as_of=card.as_of)
    found: pb.Scorecard = (await node.call("PublishScorecard", request, subject)).scorecard
    return found


async def scores(node: Node, card: pb.Scorecard, subject: str = SUPERVISOR) -> dict[tuple[str, str], pb.Score]:
    """All scores of a version, page by page."""
    found: dict[tuple[str, str], pb.Score] = {}
    token = ""
    while True:
        request = pb.ListScoresRequest(parent=card.name, version=card.version, page_size=3, page_token=token)
        answer = await node.call("ListScores", request, subject)
        for score in answer.scores:
            kind = pb.SubjectKind.Name(score.kind).removeprefix("SUBJECT_KIND_")
            found[kind, score.subject] = score
        token = answer.next_page_token
        if not token:
            return found


async def behind(
    node: Node,
    card: pb.Scorecard,
    kind: str,
    subject: str,
    indicator: str,
    part: Any,
    who: str = SUPERVISOR,
    *,
    page: int = 7,
) -> list[pb.FigureEvent]:
    """All events behind a part of a figure, page by page."""
    found: list[pb.FigureEvent] = []
    token = ""
    while True:
        request = pb.ListFigureEventsRequest(
            parent=card.name,
            version=card.version,
            kind=pb.SubjectKind.Value(f"SUBJECT_KIND_{kind}"),
            subject=subject,
            indicator=indicator,
            part=part,
            page_size=page,
            page_token=token,
        )
        answer = await node.call("ListFigureEvents", request, who)
        found += answer.events
        token = answer.next_page_token
        if not token:
            return found


async def lives_of(node: Node, number: int = 250, seed: int = 7) -> list[Life]:
    lives = chance_lives(seed, number)
    await take_in(node, lives)
    chance = random.Random(seed)
    for life in lives:
        for _ in range(chance.choice((0, 0, 0, 1, 2)) if life.closed_at else 0):
            await rate(node, life, chance.randint(1, 5))
    return lives


async def test_every_figure_equals_a_count_by_hand_and_opens_its_events(
    city: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_facts, "EVENTS_BATCH", 90)  # so that there are several
    lives = await lives_of(city)
    await put(city)
    card = await draft(city)
    doubted = {life.event for life in lives if life.is_reversed}
    assert doubted, "the sample has events that contradict themselves"
    assert (card.events, [(each.code, each.events) for each in card.exclusions]) == (
        len(lives),
        [("TIME_REVERSED", len(doubted))],
    )
    expected = by_hand.figures(lives, city.clock.now())
    found = await scores(city, card)
    assert found.keys() == {pair for life in lives for i in by_hand.INDICATORS for pair in by_hand.subjects(life, i)}
    for (kind, subject), score in found.items():
        for figure in score.figures:
            met, not_met = expected[kind, subject, figure.indicator]
            told = (figure.numerator, figure.denominator, figure.unknown)
            assert told == (len(met), len(met) + len(not_met), 0), (kind, subject, figure.indicator)
            for part, events in zip(PARTS, (met, not_met), strict=True):
                opened = [each.event for each in await behind(city, card, kind, subject, figure.indicator, part)]
                assert len(opened) == len(set(opened))
                assert set(opened) == events, (kind, subject, figure.indicator)
        kept_out = await behind(city, card, kind, subject, "", pb.FIGURE_PART_EXCLUDED)
        assert {each.event for each in kept_out} == {
            life.event for life in lives if life.is_reversed and (kind, subject) in by_hand.subjects(life)
        }
        assert score.excluded == len(kept_out)
        assert {each.excluded for each in kept_out} <= {"TIME_REVERSED"}


async def test_points_are_the_mean_of_the_lines_by_weight(city: Node) -> None:
    await lives_of(city, 60)
    definition = await put(city)
    score = (await scores(city, await draft(city)))["ZONE", "zones/us-ca-sf"]
    given = []
    for indicator, figure in zip(definition.indicators, score.figures, strict=True):
        if figure.denominator < indicator.min_sample:
            assert not figure.HasField("points")
            assert figure.note.zh, figure.note.en
            continue
        share = (100 * figure.rate - indicator.none_at) / (indicator.full_at - indicator.none_at)
        assert abs(figure.points - 100 * min(1, max(0, share))) <= 0.005
        given.append((indicator.weight, figure.points))
    assert score.weight == sum(weight for weight, _ in given)
    assert abs(score.points - sum(weight * found for weight, found in given) / score.weight) <= 0.005


async def test_a_period_counts_by_the_time_that_the_definition_names(city: Node) -> None:
    lives = await lives_of(city, 80)
    middle = START + timedelta(days=30)
    for counts_by, times in (
        ("occurred", [life.occurred_at for life in lives]),
        ("closed", [life.closed_at for life in lives]),
    ):
        source = SOURCE.replace("counts_by: opened", f"counts_by: {counts_by}")
        await put(city, source)
        card = await draft(city, START, middle)
        assert card.events == sum(at is not None and START <= at < middle for at in times)


async def test_the_zone_of_a_scorecard_is_as_far_up_as_it_looks(city: Node) -> None:
    lives = await lives_of(city, 60)
    await put(city)
    card = await draft(city, zone="us-ca-sf-d10")
    inside = [life for life in lives if life.zone.startswith("us-ca-sf-d10")]
    assert card.events == len(inside)
    zones = {subject for kind, subject in await scores(city, card) if kind == "ZONE"}
    assert zones == {"zones/us-ca-sf-d10", "zones/us-ca-sf-d10-potrero-hill"}


async def test_what_is_not_settled_yet_counts_in_neither_part(city: Node) -> None:
    """An open event within its time is neither late nor on time, and one that is past it is late."""
    now = city.clock.now()
    fresh = Life(1, "us-ca-sf-d6", "eventTypes/noise", now - timedelta(hours=1))
    stale = Life(2, "us-ca-sf-d6", "eventTypes/noise", now - timedelta(hours=40))
    for life in (fresh, stale):
        life.steps += [("file", life.occurred_at, ""), ("dispatch", life.occurred_at, "organisations/parks")]
    await take_in(city, [fresh, stale])
    await put(city)
    card = await draft(city, now - timedelta(days=3), now)
    for indicator in ("on_time", "response"):
        parts = {
            part: [each.event for each in await behind(city, card, "ZONE", "zones/us-ca-sf-d6", indicator, part)]
            for part in (*PARTS, pb.FIGURE_PART_UNKNOWN)
        }
        assert parts == {PARTS[0]: [], PARTS[1]: [stale.event], pb.FIGURE_PART_UNKNOWN: [fresh.event]}
    (told,) = [text for text in card.limits if "按期办结率" in text.zh]
    assert "1 events" in told.en
    assert "1件" in told.zh
