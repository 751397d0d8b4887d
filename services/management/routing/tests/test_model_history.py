"""What history says about where an event belongs, and how its being right is measured."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.management.routing.model_history import Correction, Ended, Experience, words_of
from services.management.routing.model_measure import measure

CITY, NORTH, SOUTH = ("city",), ("city", "north"), ("city", "south")
ROADS, WATER = "organisations/roads", "organisations/water"
START = datetime(2026, 1, 1, tzinfo=UTC)


def shares(experience: Experience, path: tuple[str, ...], text: str = "") -> dict[str, float]:
    return {each.organisation: each.share for each in experience.rank(path, words_of(text))}


def test_nothing_known_says_nothing() -> None:
    assert Experience().rank(NORTH, words_of("a leak")) == []


def test_a_zone_speaks_for_itself_once_it_has_events_of_its_own() -> None:
    known = Experience()
    for _ in range(40):
        known.learn(NORTH, ROADS, ())
    assert max(shares(known, SOUTH).items(), key=lambda each: each[1])[0] == ROADS
    for _ in range(10):
        known.learn(SOUTH, WATER, ())
    assert known.rank(SOUTH, {})[0].organisation == WATER
    assert known.rank(NORTH, {})[0].organisation == ROADS


def test_returns_lower_who_had_the_event() -> None:
    known = Experience()
    for _ in range(6):
        known.learn(NORTH, ROADS, ())
    for _ in range(4):
        known.learn(NORTH, WATER, ())
    assert known.rank(NORTH, {})[0].organisation == ROADS
    known.correct(NORTH, ROADS)
    (first, second) = known.rank(NORTH, {})
    assert (first.organisation, second.corrections) == (WATER, 1)


def test_words_in_both_languages_tell_organisations_apart() -> None:
    known = Experience()
    for number in range(20):
        known.learn(NORTH, ROADS, words_of(f"pothole {number} 路面坑洼"))
        known.learn(NORTH, WATER, words_of(f"water leak {number} 自来水漏水"))
    for text, right in (
        ("Leak in the street", WATER),
        ("漏水了", WATER),
        ("a deep POTHOLE", ROADS),
        ("路面有坑洼", ROADS),
    ):
        first = known.rank(NORTH, words_of(text))[0]
        assert first.organisation == right, text
        assert first.words


def test_numbers_and_words_that_say_nothing_do_not_count() -> None:
    assert words_of("At 4155550123, and on the 12") == {}
    assert list(words_of("Broken pipes，水管破裂").values()) == ["broken", "pipes", "水管", "管破", "破裂"]


def test_endings_do_not_tell_words_apart_and_words_are_shown_as_they_were_said() -> None:
    known = Experience()
    for _ in range(20):
        known.learn(NORTH, ROADS, words_of("deep potholes"))
        known.learn(NORTH, WATER, words_of("leaking pipe"))
    first = known.rank(NORTH, words_of("A pothole, and another pothole"))[0]
    assert (first.organisation, first.words) == (ROADS, ("pothole",))


@given(
    st.lists(st.tuples(st.sampled_from([NORTH, SOUTH]), st.sampled_from([ROADS, WATER]), st.booleans()), max_size=40)
)
def test_shares_are_of_one(told: list[tuple[tuple[str, ...], str, bool]]) -> None:
    known = Experience()
    for path, organisation, ended in told:
        if ended:
            known.learn(path, organisation, ())
        else:
            known.correct(path, organisation)
    found = shares(known, NORTH)
    assert not found or abs(sum(found.values()) - 1) < 1e-9
    assert all(share > 0 for share in found.values())


def event(number: int, organisation: str, suggestion: str = ROADS, zone: str = "north") -> Ended:
    at = START + timedelta(days=number)
    return Ended("eventTypes/leak", zone, organisation, suggestion, "", at, at + timedelta(hours=1))


def path(zone: str) -> tuple[str, ...]:
    return ("city", zone)


def test_no_event_is_judged_with_what_came_after_it() -> None:
    events = [event(0, WATER), event(1, WATER), event(2, ROADS)]
    count, rules, history = measure(events, (), path, {"north"})
    # The first has no history, the second is told right by the first, the third is not.
    assert (count, history.suggested, history.right) == (3, 2, 1)
    assert (rules.suggested, rules.right) == (3, 1)
    assert measure(list(reversed(events)), (), path, {"north"}) == (count, rules, history)


def test_events_of_other_zones_teach_and_are_not_counted() -> None:
    events = [event(0, WATER, zone="south"), event(1, WATER, suggestion="")]
    assert measure(events, (), path, {"north"})[0] == 1
    _, rules, history = measure(events, (), path, {"north"})
    assert (rules.suggested, history.suggested, history.right) == (0, 1, 1)
    assert (rules.share, history.share) == (0.0, 1.0)


def test_a_correction_teaches_from_its_time_on() -> None:
    events = [event(0, ROADS), event(1, WATER), event(2, WATER)]
    correction = Correction("eventTypes/leak", "north", ROADS, START + timedelta(days=1, hours=2))
    assert measure(events, [correction], path, {"north"})[2].right == 1
    assert measure(events, (), path, {"north"})[2].right == 0
