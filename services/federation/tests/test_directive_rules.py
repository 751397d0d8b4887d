"""What a directive may become, whatever order the news comes in, and what is due when."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from libs.errors import Forbidden, Invalid, WrongState
from quintet.federation.v1 import directive_pb2 as pb
from services.federation import directive_rules as rules

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
NAME = "directives/d1"


def asked(acknowledge_min: int = 0, expires_min: int = 60) -> pb.Directive:
    made = pb.Directive(zone="d10", organisation="organisations/parks", title="Clear the drains", state=rules.ANSWERED)
    made.from_node = "somebody-else"
    if acknowledge_min:
        made.acknowledge_by.FromDatetime(START + timedelta(minutes=acknowledge_min))
    made.expires_at.FromDatetime(START + timedelta(minutes=expires_min))
    return made


def issued(acknowledge_min: int = 0, expires_min: int = 60) -> pb.Directive:
    return rules.issued(asked(acknowledge_min, expires_min), name=NAME, node="sf", person="people/leader.sf", now=START)


def delivered() -> pb.Directive:
    return rules.delivered(issued(), node="sf-d10", now=START)


def after(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


def test_what_only_nodes_may_say_is_not_taken_from_the_one_who_asks() -> None:
    made = issued()
    assert (made.name, made.from_node, made.issued_by, made.state) == (NAME, "sf", "people/leader.sf", rules.SENT)
    assert rules.time_of(made.issued_at) == START


@pytest.mark.parametrize(
    ("acknowledge_min", "expires_min", "field"),
    [(0, 0, "expiresAt"), (0, -1, "expiresAt"), (0, 60 * 24 * 367, "expiresAt"), (-1, 60, "acknowledgeBy"),
     (61, 60, "acknowledgeBy")],
)  # fmt: skip
def test_times_that_cannot_be_kept_are_refused(acknowledge_min: int, expires_min: int, field: str) -> None:
    with pytest.raises(Invalid, match=field):
        issued(acknowledge_min, expires_min)
    made = asked()
    made.ClearField("expires_at")
    with pytest.raises(Invalid, match="required"):
        rules.issued(made, name=NAME, node="sf", person="people/leader.sf", now=START)


def test_one_that_comes_too_late_is_shown_as_expired_and_nobody_acts_on_it() -> None:
    late = rules.delivered(rules.received(issued(), node="sf-d10"), node="sf-d10", now=after(60))
    assert (late.state, late.to_node, late.title) == (rules.EXPIRED, "sf-d10", "Clear the drains")
    with pytest.raises(WrongState):
        rules.acknowledged(late, person="people/duty-officer.d10", now=after(61))


def test_nothing_is_taken_up_after_the_end() -> None:
    with pytest.raises(WrongState):
        rules.answered(delivered(), "done", person="people/p", now=after(60))
    with pytest.raises(WrongState):
        rules.acknowledged(rules.cancelled(delivered(), "not needed"), person="people/p", now=after(1))


def test_whatever_order_the_news_comes_in_the_end_is_the_same() -> None:
    acknowledged = rules.acknowledged(delivered(), person="people/a", now=after(5))
    answered = rules.answered(acknowledged, "done", person="people/b", now=after(9))
    ends, kept = set(), issued()
    for order in permutations([delivered(), acknowledged, answered, answered]):
        kept = issued()
        for told in order:
            kept = rules.told_from_below(kept, told)
        ends.add(kept.SerializeToString(deterministic=True))
    assert len(ends) == 1
    assert (kept.state, kept.answer, kept.to_node, kept.acknowledged_by) == (
        rules.ANSWERED, "done", "sf-d10", "people/a",
    )  # fmt: skip


def test_taking_back_and_answering_at_the_same_moment_end_alike_at_both() -> None:
    below = rules.answered(delivered(), "done", person="people/b", now=after(9))
    above = rules.cancelled(issued(), "not needed")
    assert rules.told_from_below(above, below).state == rules.told_from_above(below, above).state == rules.ANSWERED
    # An answer in time that arrives after the end counts; so does one taken back after it expired.
    expired, _ = rules.looked(issued(), after(60), escalates=True)
    assert rules.told_from_below(expired, below).state == rules.ANSWERED
    assert rules.cancelled(expired, "settled by telephone").state == rules.CANCELLED


def test_a_node_below_does_not_take_back_and_one_above_does_not_rewrite() -> None:
    with pytest.raises(Forbidden):
        rules.told_from_below(issued(), rules.cancelled(delivered(), "no"))
    rewritten = delivered()
    rewritten.title, rewritten.state = "Something else", rules.ANSWERED
    assert rules.told_from_above(delivered(), rewritten) == delivered()
    rewritten.state = rules.DELIVERED
    assert rules.told_from_below(issued(), rewritten).title == "Clear the drains"


def test_a_missing_acknowledgement_is_escalated_a_few_times_and_the_end_once() -> None:
    made, times = issued(10, 60 * 24), []
    while (due := rules.look_at(made, escalates=True)) is not None:
        made, reason = rules.looked(made, due, escalates=True)
        times.append(((due - START) // timedelta(minutes=1), reason))
    assert times == [
        (10, "NOT_ACKNOWLEDGED"), (70, "NOT_ACKNOWLEDGED"), (130, "NOT_ACKNOWLEDGED"), (60 * 24, "NOT_ANSWERED"),
    ]  # fmt: skip
    assert (made.state, made.escalations) == (rules.EXPIRED, rules.ESCALATIONS_MAX + 1)


def test_a_node_that_was_down_meanwhile_escalates_once() -> None:
    made, reason = rules.looked(issued(10, 60), after(600), escalates=True)
    assert (made.state, made.escalations, reason) == (rules.EXPIRED, 1, "NOT_ANSWERED")


def test_one_that_was_taken_up_is_due_at_its_end_only() -> None:
    made = rules.acknowledged(issued(10, 60), person="people/a", now=after(5))
    assert rules.look_at(made, escalates=True) == after(60)
    passed_on, reason = rules.looked(issued(10, 60), after(60), escalates=False)
    assert (passed_on.state, passed_on.escalations, reason) == (rules.EXPIRED, 0, "")
