"""The pure rules: the loop as a machine, merging, routing, deadlines, doubts, joint disposal."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Invalid, Reason, WrongState
from services.management.deadlines.model_clocks import EVERY_HOUR, reckoned
from services.management.model import Doubt, Event, EventType, Flag, MergePolicy, Place, Route, StepAction, flagged
from services.management.model_joint import Draft, Outcome, settle, start
from services.management.model_loop import LOOP_DEFAULT, Command, advance
from services.management.model_merge import Candidate, Match, address_key, box, can_match, distance_m, judge
from services.management.model_report import merge_report, open_event, opening_step, route, title, unknown_type
from services.management.tests.samples import (
    GRAFFITI,
    NODE,
    NOISE,
    NOW,
    PARKS,
    SEVEN,
    SEWERS,
    TWIN_PEAKS,
    WORKS,
    YESTERDAY,
    north_of,
    report,
    tree,
)


def opened(event_type: EventType = GRAFFITI, **changes: Any) -> Event:
    taken = report(**changes)
    routing = route(event_type, taken.zone, tree())
    return open_event(taken, event_type, SEVEN, routing, node=NODE, name="zones/us-ca-sf-d6/events/1", now=NOW)


def walk(event: Event, *actions: str, **more: Any) -> Event:
    for action in actions:
        event, _ = advance(SEVEN, event, Command(action, "people/x", NOW, **more))
    return event


# ------------------------------------------------------------------------------------------------------------ the loop

ACTIONS = [action.action for action in SEVEN.actions]
DECLARED = {(source, action.action): action.target for action in SEVEN.actions for source in action.sources}


@given(
    actions=st.lists(st.sampled_from([*ACTIONS, "open", "merge", "nonsense"]), max_size=40),
    reasons=st.lists(st.sampled_from(["", "because"]), min_size=40, max_size=40),
    hours=st.lists(st.integers(-100, 0), min_size=40, max_size=40),
)
def test_no_action_outside_the_declared_ones_ever_succeeds(
    actions: list[str], reasons: list[str], hours: list[int]
) -> None:
    event = opened()
    for action, reason, ago_h in zip(actions, reasons, hours, strict=False):
        said = NOW + timedelta(hours=ago_h)
        command = Command(action, "people/x", NOW, reason, occurred_at=said)
        try:
            after, taken = advance(SEVEN, event, command)
        except WrongState:
            assert (event.status, action) not in DECLARED
            continue
        except Invalid:
            assert not reason
            assert SEVEN.by_name[action].needs_reason
            continue
        assert DECLARED[event.status, action] == after.status
        assert (taken.from_status, taken.to_status) == (event.status, after.status)
        assert after.revision == taken.revision == event.revision + 1
        assert (after.status in SEVEN.open_states) == (after.closed_at is None)
        assert after.returns - event.returns == (action == "return")
        assert (said < event.step_at) <= any(flag.code == Doubt.TIME_REVERSED for flag in after.flags)
        assert after.step_at == taken.occurred_at == said
        event = after


def test_a_refused_action_says_what_is_possible() -> None:
    with pytest.raises(WrongState) as caught:
        walk(opened(), "verify")
    assert caught.value.reason == Reason.WRONG_STATE
    assert caught.value.metadata["allowed"] == "file, void"
    assert "possible: file, void" in caught.value.message
    done = walk(opened(), "file", "dispatch", "dispose", "feed_back", "verify", "evaluate")
    with pytest.raises(WrongState, match="possible: nothing"):
        walk(done, "evaluate")


def test_dispatch_takes_the_organisation_given_else_the_one_that_routing_suggests() -> None:
    filed = walk(opened(), "file")
    assert filed.organisation == ""
    assert walk(filed, "dispatch").organisation == WORKS
    assert walk(filed, "dispatch", organisation=SEWERS).organisation == SEWERS
    with pytest.raises(Invalid) as caught:
        walk(walk(opened(NOISE), "file"), "dispatch")
    assert caught.value.violations[0][0] == "organisation"


def test_a_returned_event_belongs_to_nobody_until_it_is_dispatched_again() -> None:
    returned = walk(walk(opened(), "file"), "dispatch", organisation=SEWERS)
    returned = walk(returned, "return", reason="not ours")
    assert (returned.status, returned.organisation, returned.handlers, returned.returns) == ("filed", "", (), 1)
    assert walk(returned, "dispatch").organisation == WORKS


def test_rework_stays_with_its_organisation() -> None:
    disposed = walk(walk(walk(opened(), "file"), "dispatch", organisation=SEWERS), "dispose")
    assert walk(disposed, "rework", reason="still there").organisation == SEWERS


@pytest.mark.parametrize(
    ("action", "more", "field"),
    [
        ("void", {}, "reason"),
        ("void", {"reason": "  "}, "reason"),
        ("file", {"organisation": WORKS}, "organisation"),
        ("file", {"answer": "hello"}, "answer"),
    ],
)
def test_an_action_gets_what_it_needs_and_nothing_else(action: str, more: dict[str, str], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        walk(opened(), action, **more)
    assert [name for name, _ in caught.value.violations] == [field]


def test_what_reporters_are_told() -> None:
    disposed = walk(opened(), "file", "dispatch", "dispose")
    assert walk(disposed, "feed_back", answer="Painted over", reason="internal").answer == "Painted over"
    assert walk(disposed, "feed_back", reason="Painted").answer == "Painted"
    assert walk(opened(), "void", reason="Not in the city").answer == "Not in the city"


def test_times_are_the_actors_word_within_reason() -> None:
    event = opened()
    said = YESTERDAY + timedelta(hours=1)
    after, taken = advance(SEVEN, event, Command("file", "people/x", NOW, occurred_at=said))
    assert (taken.occurred_at, taken.recorded_at, after.flags) == (said, NOW, ())
    early = Command("dispatch", "people/x", NOW, occurred_at=said - timedelta(seconds=1))
    flagged_, _ = advance(SEVEN, after, early)
    assert [(flag.code, flag.field) for flag in flagged_.flags] == [(Doubt.TIME_REVERSED, "occurredAt")]
    with pytest.raises(Invalid, match="future"):
        advance(SEVEN, after, Command("dispatch", "people/x", NOW, occurred_at=NOW + timedelta(minutes=1)))
    skewed, _ = advance(SEVEN, after, Command("dispatch", "people/x", NOW, occurred_at=NOW + timedelta(seconds=2)))
    assert skewed.step_at == NOW


def test_leaving_the_open_states_closes_at_the_time_of_the_step() -> None:
    event = walk(opened(), "file", "dispatch", "dispose", "feed_back")
    assert event.is_open
    said = NOW - timedelta(hours=1)
    closed, _ = advance(SEVEN, event, Command("verify", "people/x", NOW, occurred_at=said))
    assert closed.closed_at == said
    assert walk(closed, "evaluate").closed_at == said


# ------------------------------------------------------------------------------------------------------------- opening


def test_an_event_is_due_its_types_deadline_after_it_happened() -> None:
    assert reckoned(opened(), GRAFFITI, EVERY_HOUR).deadlines.due_at == YESTERDAY + timedelta(hours=48)


def test_a_type_that_is_not_known_opens_an_event_all_the_same() -> None:
    unknown = unknown_type("eventTypes/ufo", LOOP_DEFAULT)
    event = opened(unknown, type="eventTypes/ufo")
    assert [flag.code for flag in event.flags] == [Doubt.TYPE_UNKNOWN, Doubt.NO_ROUTE]
    assert reckoned(event, unknown, EVERY_HOUR).deadlines.due_at is None
    assert event.loop == LOOP_DEFAULT


def test_doubts_of_the_report_stand_with_the_event() -> None:
    doubt = Flag("ZONE_UNKNOWN", "place", "x")
    late = opened(replace(GRAFFITI, version=3, retired=True), flags=(doubt,), occurred_at=NOW + timedelta(hours=1))
    assert [flag.code for flag in late.flags] == ["ZONE_UNKNOWN", Doubt.TYPE_RETIRED, Doubt.TIME_IN_FUTURE]


def test_doubts_are_kept_once_and_bounded() -> None:
    many = [Flag("X", "y", str(number % 60)) for number in range(200)]
    assert len(flagged((), *many)) == 50
    assert flagged((many[0],), many[0]) == (many[0],)


def test_the_title_speaks_the_reports_language_and_quotes_nothing() -> None:
    assert title(GRAFFITI, report()) == "Graffiti · us-ca-sf-d6"
    place = Place(neighbourhood="国贸")
    assert title(GRAFFITI, report(description="墙上有涂鸦", place=place)) == "涂鸦 · 国贸"
    assert title(NOISE, report(description="太吵")) == "Noise · us-ca-sf-d6"
    assert title(unknown_type("eventTypes/ufo", LOOP_DEFAULT), report(type="eventTypes/ufo")) == "ufo · us-ca-sf-d6"


def test_the_first_step_explains_the_routing() -> None:
    event = opened()
    first = opening_step(event, actor="services/management")
    assert (first.revision, first.action, first.to_status) == (1, StepAction.OPEN, "collected")
    assert first.explanation == event.routing


# ------------------------------------------------------------------------------------------------------------- routing


@pytest.mark.parametrize(
    ("zone", "organisation"),
    [
        ("us-ca-sf", WORKS),
        ("us-ca-sf-d6", WORKS),
        ("us-ca-sf-d10", WORKS),
        ("us-ca-sf-d10-potrero-hill", PARKS),
    ],
)
def test_the_deepest_route_wins(zone: str, organisation: str) -> None:
    routing = route(GRAFFITI, zone, tree())
    assert routing.organisation == organisation
    assert routing.explanation.rule == GRAFFITI.name
    assert routing.explanation.inputs["zone"] == zone
    assert organisation in routing.explanation.en
    assert organisation in routing.explanation.zh


def test_routing_follows_the_tree_and_not_the_spelling() -> None:
    only_d1 = replace(GRAFFITI, routes=(Route("us-ca-sf-d1", WORKS),))
    routing = route(only_d1, "us-ca-sf-d10", tree())
    assert routing.organisation == ""
    assert "no route" in routing.explanation.en


# ------------------------------------------------------------------------------------------------------------- merging


def candidate(place: Place = TWIN_PEAKS, hours: float = 0, number: int = 1) -> Candidate:
    at = YESTERDAY + timedelta(hours=hours)
    name = f"zones/us-ca-sf/events/{number}"
    return Candidate(
        number, name, at, place.address, place.latitude, place.longitude, GRAFFITI.name, "Tags on the wall"
    )


def found(*candidates: Candidate, place: Place = TWIN_PEAKS, policy: MergePolicy = GRAFFITI.merge) -> list[Match]:
    return judge(replace(GRAFFITI, merge=policy), report(place=place), candidates).matches


def test_near_in_place_and_time_is_the_same_thing() -> None:
    here = candidate(north_of(TWIN_PEAKS, 99))
    (match,) = found(here)
    assert match.candidate == here
    assert match.explanation.inputs["distance_m"] == "99"
    assert "99 m apart" in match.explanation.en
    assert not found(candidate(north_of(TWIN_PEAKS, 102)))


@pytest.mark.parametrize("hours", [-72, 0, 72])
def test_the_window_counts_in_both_directions(hours: float) -> None:
    assert found(candidate(hours=hours))
    assert not found(candidate(hours=hours + math.copysign(0.1, hours))) or not hours


def test_equal_addresses_match_without_coordinates() -> None:
    place = Place(address="501 twin peaks blvd,  San Francisco CA")
    (match,) = found(candidate(), place=place)
    assert match.explanation.inputs["address"] == place.address
    assert found(candidate(), place=place, policy=MergePolicy(0, 72))
    assert not found(candidate(), place=north_of(TWIN_PEAKS, 10), policy=MergePolicy(0, 72))


@pytest.mark.parametrize("address", ["", "  ", "Not associated with a specific address", "N/A", "unknown", "地址不详"])
def test_an_address_that_names_no_place_never_matches(address: str) -> None:
    place = Place(address=address)
    assert address_key(address) == ""
    assert not can_match(GRAFFITI.merge, place)
    assert not found(candidate(place), place=place)


def test_what_can_be_merged_at_all() -> None:
    assert can_match(GRAFFITI.merge, TWIN_PEAKS)
    assert not can_match(MergePolicy(100, 0), TWIN_PEAKS)
    assert can_match(MergePolicy(0, 72), north_of(TWIN_PEAKS, 0))
    assert not can_match(MergePolicy(0, 72), Place())


def test_the_nearest_is_meant_then_the_earliest() -> None:
    near, far = candidate(north_of(TWIN_PEAKS, 5), number=1), candidate(north_of(TWIN_PEAKS, 50), number=2)
    early = candidate(north_of(TWIN_PEAKS, 5), hours=-3, number=3)
    assert [match.candidate.id for match in found(far, near, early)] == [3, 1, 2]


@given(
    latitude=st.floats(-85, 85),
    longitude=st.floats(-170, 170),
    radius_m=st.floats(1, 5000),
    bearing=st.floats(0, 2 * math.pi),
    share=st.floats(0, 1),
)
def test_the_box_holds_the_circle(
    latitude: float, longitude: float, radius_m: float, bearing: float, share: float
) -> None:
    north = radius_m * share * math.cos(bearing) / 111_195.08
    east = radius_m * share * math.sin(bearing) / (111_195.08 * math.cos(math.radians(latitude)))
    around = box(latitude, longitude, radius_m)
    there = (latitude + north, longitude + east)
    if distance_m(latitude, longitude, *there) <= radius_m * 0.999:
        assert around.south <= there[0] <= around.north
        assert around.west <= there[1] <= around.east


def test_distance_is_that_of_the_sphere() -> None:
    # San Francisco to Beijing, by the great circle.
    assert distance_m(37.7749, -122.4194, 39.9042, 116.4074) == pytest.approx(9_503_000, rel=0.005)


def test_a_merged_report_leaves_time_and_place() -> None:
    event = opened()
    (match,) = found(candidate())
    after, taken = merge_report(event, report(2), match.explanation, actor="services/management", now=NOW)
    assert (after.reports, after.revision, after.occurred_at) == (2, 2, event.occurred_at)
    assert (taken.action, taken.from_status, taken.to_status) == (StepAction.MERGE, "collected", "collected")


# ------------------------------------------------------------------------------------------------------ joint disposal

DRAFTS = (Draft(WORKS, "paint"), Draft(SEWERS, "pump"))


def test_a_joint_disposal_waits_for_every_share() -> None:
    event = walk(opened(), "file", "dispatch")
    event, taken, shares = start(SEVEN, event, DRAFTS, SEWERS, reason="both", actor="people/x", now=NOW)
    assert (event.organisation, event.handlers, event.shares_open) == (SEWERS, (SEWERS, WORKS), 2)
    assert [(share.id, share.lead) for share in shares] == [("1", False), ("2", True)]
    assert taken.action == StepAction.START_JOINT_DISPOSAL
    for action, more in (("dispose", {}), ("return", {"reason": "x"})):
        with pytest.raises(WrongState) as caught:
            walk(event, action, **more)
        assert caught.value.reason == Reason.SUB_ORDER_OPEN
    with pytest.raises(WrongState):
        start(SEVEN, event, DRAFTS, WORKS, reason="again", actor="people/x", now=NOW)
    event, taken, done = settle(event, shares[0], Outcome(True, NOW, "painted", "people/y"), NOW)
    assert (done.done_at, event.shares_open, taken.action) == (NOW, 1, StepAction.COMPLETE_SUB_ORDER)
    event, taken, gone = settle(event, shares[1], Outcome(False, NOW, "no pump", "people/z"), NOW)
    assert (gone.done_at, gone.is_open, taken.action) == (None, False, StepAction.WITHDRAW_SUB_ORDER)
    assert event.flags[-1].code == Doubt.SUB_ORDER_CANCELLED
    assert walk(event, "dispose").status == "disposed"


@pytest.mark.parametrize(
    ("drafts", "lead", "field"),
    [
        (DRAFTS[:1], WORKS, "subOrders"),
        ((DRAFTS[0], DRAFTS[0]), WORKS, "subOrders"),
        (DRAFTS, PARKS, "lead"),
    ],
)
def test_shares_are_for_several_organisations_and_the_lead_has_one(
    drafts: tuple[Draft, ...], lead: str, field: str
) -> None:
    event = walk(opened(), "file", "dispatch")
    with pytest.raises(Invalid) as caught:
        start(SEVEN, event, drafts, lead, reason="x", actor="people/x", now=NOW)
    assert caught.value.violations[0][0] == field


def test_a_joint_disposal_starts_where_the_loop_says() -> None:
    with pytest.raises(WrongState, match="starts in dispatched"):
        start(SEVEN, opened(), DRAFTS, WORKS, reason="x", actor="people/x", now=NOW)
