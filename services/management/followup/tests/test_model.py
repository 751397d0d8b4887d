"""Who is drawn, and what becomes of a call."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Forbidden, Invalid, Reason, WrongState
from services.management.followup.model import (
    CLAIM_HOURS,
    Answer,
    Closed,
    Draw,
    FollowUp,
    Policy,
    State,
    Way,
    claimed,
    commitment,
    drawn,
    fitting,
    months,
    number,
    present,
    recorded,
    released,
)
from services.management.tests.samples import NOW, WORKS, tree
from services.management.warnings.model_indicator import Said

SEED = "00" * 32
CALLER, OTHER = "people/duty-officer", "people/verifier"
CLOSED = Closed("zones/us-ca-sf-d10/events/e1", 6, WORKS, "eventTypes/graffiti", "us-ca-sf-d10")


def policy(**changes: Any) -> Policy:
    values: dict[str, Any] = {
        "name": "followUpPolicies/all",
        "title": Said("全部回访", "All"),
        "types": (),
        "zones": (),
        "share": 1.0,
        "tries": 3,
        "retry_hours": 24,
    }
    return Policy(**(values | changes))


def draw(wanted: Policy, *requests: str, again: tuple[str, ...] = ()) -> list[FollowUp]:
    named = [(f"zones/us-ca-sf-d10/followUps/{place}", request) for place, request in enumerate(requests)]
    return drawn(Draw(wanted, "sf", "2026-01", SEED), CLOSED, named, again=again, now=NOW)


def call(**changes: Any) -> FollowUp:
    return replace(draw(policy(), "zones/us-ca-sf-d10/requests/r1")[0], **changes)


def said(state: State, satisfaction: int = 0, note: str = "", by: str = CALLER) -> Answer:
    return Answer(state, satisfaction, note, Way.PERSON, by)


def record(found: FollowUp, answer: Answer, **changes: Any) -> FollowUp:
    return recorded(found, answer, policy(**changes), organisations=(), now=NOW)


def test_anybody_can_draw_again() -> None:
    """The formula of the proto, computed here once more."""
    for request in (f"zones/us-ca-sf-d10/requests/r{place}" for place in range(200)):
        digest = hashlib.sha256(f"{SEED}/{request}".encode()).hexdigest()
        expected = int(digest[:16], 16) // 2**11 / 2**53
        (found,) = draw(policy(share=0.3), request)
        assert found.draw == expected
        assert (found.state is State.OPEN) == (expected < 0.3)
        assert found.explanation
        assert found.explanation.inputs["commitment"] == commitment(SEED) == hashlib.sha256(SEED.encode()).hexdigest()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
def test_about_the_share_is_drawn(share: float) -> None:
    requests = [f"zones/us-ca-sf-d10/requests/r{place}" for place in range(2000)]
    found = sum(each.state is State.OPEN for each in draw(policy(share=share), *requests))
    assert abs(found / len(requests) - share) < 0.05


@given(st.text(), st.text())
def test_a_number_is_a_fraction(seed: str, request: str) -> None:
    assert 0 <= number(seed.encode(errors="ignore").decode(), request.encode(errors="ignore").decode()) < 1


def test_all_and_none_are_what_they_say() -> None:
    requests = [f"zones/us-ca-sf-d10/requests/r{place}" for place in range(50)]
    assert {each.state for each in draw(policy(share=1.0), *requests)} == {State.OPEN}
    assert {each.state for each in draw(policy(share=0.0), *requests)} == {State.NOT_DRAWN}


def test_who_was_not_satisfied_is_asked_again_whatever_the_draw() -> None:
    one, other = draw(policy(share=0.0), "zones/z/requests/r1", "zones/z/requests/r2", again=("zones/z/requests/r2",))
    assert (one.state, other.state) == (State.NOT_DRAWN, State.OPEN)
    assert other.explanation
    assert "未解决" in other.explanation.zh
    assert "not solved before" in other.explanation.en


def test_the_policy_nearest_to_the_request_counts() -> None:
    zones = tree()
    everywhere, district = policy(), policy(name="followUpPolicies/d10", zones=("us-ca-sf-d10",))
    typed = policy(name="followUpPolicies/noise", types=("eventTypes/noise",))
    retired = policy(name="followUpPolicies/a", types=("eventTypes/noise",), retired=True)

    def found(type_name: str, zone: str, *policies: Policy) -> str:
        fit = fitting(policies, type_name, zone, zones.covers, lambda code: len(zones.path(code)))
        return fit.name.partition("/")[2] if fit else ""

    every = (everywhere, district, typed, retired)
    assert found("eventTypes/graffiti", "us-ca-sf-d6", *every) == "all"
    assert found("eventTypes/graffiti", "us-ca-sf-d10-potrero-hill", *every) == "d10"
    assert found("eventTypes/noise", "us-ca-sf-d10", *every) == "noise"
    assert found("eventTypes/graffiti", "us-ca-sf-d6", district) == ""


def test_nobody_asks_about_the_work_of_their_own_organisation() -> None:
    with pytest.raises(Forbidden) as refused:
        claimed(call(), subject=CALLER, organisations=(WORKS,), now=NOW)
    assert refused.value.reason == Reason.OWN_WORK
    assert claimed(call(), subject=CALLER, organisations=(), now=NOW).caller == CALLER


def test_a_call_is_with_one_person_at_a_time() -> None:
    mine = claimed(call(), subject=CALLER, organisations=(), now=NOW)
    assert claimed(mine, subject=CALLER, organisations=(), now=NOW) == mine
    with pytest.raises(WrongState) as refused:
        claimed(mine, subject=OTHER, organisations=(), now=NOW)
    assert refused.value.reason == Reason.ALREADY_ASSIGNED
    with pytest.raises(WrongState):
        record(mine, said(State.SOLVED, by=OTHER))


def test_a_claim_lapses_and_its_answer_counts_unless_another_has_the_call() -> None:
    mine = claimed(call(), subject=CALLER, organisations=(), now=NOW)
    assert mine.claim_ends_at == NOW + timedelta(hours=CLAIM_HOURS)
    end = NOW + timedelta(hours=CLAIM_HOURS)
    assert present(mine, end - timedelta(seconds=1)) == mine
    assert (present(mine, end).caller, present(mine, end).claim_ends_at) == ("", None)
    with pytest.raises(WrongState) as refused:
        released(mine, end)
    assert refused.value.reason == Reason.NOT_ASSIGNED
    late = said(State.SOLVED, 5)
    assert recorded(mine, late, policy(), organisations=(), now=end).state is State.SOLVED
    taken = claimed(mine, subject=OTHER, organisations=(), now=end)
    with pytest.raises(WrongState) as refused:
        recorded(taken, late, policy(), organisations=(), now=end)
    assert refused.value.reason == Reason.ALREADY_ASSIGNED
    assert refused.value.metadata["until"] == (end + timedelta(hours=CLAIM_HOURS)).isoformat()


def test_who_is_not_reached_is_called_again_until_the_tries_are_used_up() -> None:
    found = call(caller=CALLER)
    for tries in (1, 2):
        found = record(found, said(State.NOT_REACHED))
        assert (found.state, found.tries, found.caller) == (State.OPEN, tries, "")
        assert found.call_at == NOW + timedelta(hours=24)
    found = record(found, said(State.NOT_REACHED))
    assert (found.state, found.tries, found.finished_at) == (State.NOT_REACHED, 3, NOW)
    with pytest.raises(WrongState):
        record(found, said(State.SOLVED))


@pytest.mark.parametrize(
    ("answer", "field"),
    [(said(State.NOT_SOLVED, note="  "), "note"), (said(State.NOT_REACHED, 3), "satisfaction")],
)
def test_an_answer_that_cannot_be_is_refused_by_field(answer: Answer, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        record(call(), answer)
    assert [found for found, _ in refused.value.violations] == [field]


def test_months_are_counted_with_both_ends() -> None:
    assert months("2026-01", "2026-01") == 1
    assert months("2025-11", "2026-02") == 4
    assert months("2026-02", "2026-01") == 0
