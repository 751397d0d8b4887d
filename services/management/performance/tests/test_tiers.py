"""An upper tier scores what the tiers below it handle, by what their facts tell, and says what they do not."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from quintet.delivery.v1.facts_pb2 import RequestRated
from quintet.management.v1 import scorecards_pb2 as pb
from quintet.management.v1.facts_pb2 import EventRated
from services.management.performance.tests import by_hand
from services.management.performance.tests.lives import attach, chance_lives, rate, take_in
from services.management.performance.tests.test_figures import PARTS, behind, draft, put, scores
from services.management.tests import samples
from services.management.tests.conftest import received

if TYPE_CHECKING:
    from services.management.performance.tests.lives import Life
    from services.management.tests.conftest import MakeNode, Node

DISTRICT = "us-ca-sf-d10"


async def below(node: Node, number: int = 60, seed: int = 21) -> list[Life]:
    """Let a district handle events, some of which are rated."""
    lives = [life for life in chance_lives(seed, number * 2) if life.zone.startswith(DISTRICT)]
    await take_in(node, lives, "people/admin.d10", DISTRICT)
    for life in lives[::2]:
        if life.closed_at:
            await rate(node, life, 5 - life.number % 3)
    return lives


async def test_the_city_counts_what_the_district_counts(make_node: MakeNode) -> None:
    city = await make_node("sf", DISTRICT)
    district = await make_node(samples.CHILD, root=DISTRICT)
    lives = await below(district)
    await district.report_to(city)
    expected = by_hand.figures(lives, city.clock.now())
    await put(city)
    card = await draft(city)
    assert card.events == len(lives)
    found = await scores(city, card)
    for (kind, subject), score in found.items():
        for figure in score.figures:
            met, not_met = expected[kind, subject, figure.indicator]
            assert (figure.numerator, figure.denominator) == (len(met), len(met) + len(not_met)), (
                kind,
                subject,
                figure,
            )
    rated = await behind(city, card, "ZONE", "zones/us-ca-sf", "satisfaction", PARTS[0])
    assert {each.event for each in rated} == {
        life.event for life in lives if not life.is_reversed and life.ratings and sum(life.ratings) >= 4
    }
    assert {each.node for each in rated} == {samples.CHILD}
    (told,) = card.limits
    assert told.zh.startswith(f"其中{len(lives)}件由其他节点办理")
    assert "working time cannot be reckoned here" in told.en


async def test_an_event_of_whose_opening_the_city_was_not_told_is_kept_out_with_the_reason(make_node: MakeNode) -> None:
    city = await make_node("sf", DISTRICT)
    district = await make_node(samples.CHILD, root=DISTRICT)
    lives = await below(district, 20)
    untold = next(life.event for life in lives if life.steps)
    for fact, message in await district.stated():
        if message.DESCRIPTOR.name != "EventOpened" or message.event.name != untold:
            await city.take_in(received(fact))
    city.clock.advance(timedelta(hours=1))
    await put(city)
    # The time of its first fact stands for that of its opening.
    now = city.clock.now()
    card = await draft(city, now - timedelta(days=366), now)
    kept_out = await behind(city, card, "ZONE", "zones/us-ca-sf", "", pb.FIGURE_PART_EXCLUDED)
    assert [each.event for each in kept_out if each.excluded == "HISTORY_MISSING"] == [untold]
    (reason,) = [each for each in card.exclusions if each.code == "HISTORY_MISSING"]
    assert (reason.events, reason.text.zh) == (1, "其他节点的事件，本节点未收到其立案之初的记录")


async def test_a_rating_counts_once_and_for_the_event_that_the_request_stands_for(city: Node) -> None:
    (life, other) = [each for each in chance_lives(3, 200) if each.state == "closed"][:2]
    await take_in(city, [life, other])
    request = f"zones/{life.zone}/requests/r1"
    await attach(city, life.event, request)
    for _ in range(2):
        await city.hear(RequestRated(request=request, event=life.event, rating=4), zone=life.zone)
    await city.hear(RequestRated(request=request, event=other.event, rating=1), zone=life.zone)
    await city.hear(RequestRated(request=request, event="zones/x/events/y", rating=1), zone=life.zone)
    stated = [message for fact, message in await city.stated() if fact.type.endswith("EventRated")]
    assert [(each.event, each.rating, each.node) for each in stated] == [(life.event, 4, "sf")]
    # Nobody else speaks of this node's events.
    forged = EventRated(event=life.event, request="zones/x/requests/2", rating=1, zone=life.zone, node="sf")
    await city.hear(forged, zone=life.zone)
    rows = await city.rows("SELECT event, rating FROM event_ratings")
    assert [(row["event"], row["rating"]) for row in rows] == [(life.event, 4)]
