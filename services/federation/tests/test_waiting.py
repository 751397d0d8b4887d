"""Whose step is next, until when, and when its owner is reminded."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintet.federation.v1 import federation_pb2 as pb
from services.federation import waiting
from services.federation.waiting import WaitDays

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DAYS = WaitDays(negotiation=3, switch=4, transfer_request=5, transfer_suspension=6)


def contract(state: pb.ContractState.ValueType) -> pb.Contract:
    return pb.Contract(provider="p", consumer="c", state=state, terms=pb.Terms(consumer_contact="people/one"))


@pytest.mark.parametrize(
    ("state", "node", "owner"),
    [
        (pb.CONTRACT_STATE_REQUESTED, "p", "nodes/p"),
        (pb.CONTRACT_STATE_OFFERED, "c", "people/one"),
        (pb.CONTRACT_STATE_ACCEPTED, "p", "nodes/p"),
        (pb.CONTRACT_STATE_AGREED, "c", "people/one"),
        (pb.CONTRACT_STATE_VERIFIED, "p", "nodes/p"),
    ],
)
def test_a_negotiation_waits_for_one_side(state: pb.ContractState.ValueType, node: str, owner: str) -> None:
    """The contact of that side in the terms answers for it, and the node itself when there is none."""
    deadline = NOW + timedelta(days=3)
    assert waiting.of_contract(contract(state), DAYS, NOW) == (node, owner, deadline)


def test_what_is_in_force_or_over_waits_for_nobody() -> None:
    for state in (pb.CONTRACT_STATE_FINALIZED, pb.CONTRACT_STATE_TERMINATED):
        assert waiting.of_contract(contract(state), DAYS, NOW) is None


def test_notice_waits_for_its_own_end_and_validity_may_come_first() -> None:
    given_notice = contract(pb.CONTRACT_STATE_FINALIZED)
    given_notice.terminated_by = "c"
    given_notice.terminates_at.FromDatetime(NOW + 5 * DAY)
    assert waiting.of_contract(given_notice, DAYS, NOW) == ("c", "people/one", NOW + 5 * DAY)
    assert waiting.ends_at(given_notice) == NOW + 5 * DAY
    given_notice.terms.valid_until.FromDatetime(NOW + 2 * DAY)
    assert waiting.ends_at(given_notice) == NOW + 2 * DAY


def test_an_amendment_that_is_due_waits_for_the_provider() -> None:
    amendment = contract(pb.CONTRACT_STATE_FINALIZED)
    amendment.awaits_switch = True
    amendment.in_force_at.FromDatetime(NOW + 30 * DAY)
    owed = waiting.of_contract(amendment, DAYS, NOW)
    assert owed is not None
    assert (owed.node, owed.deadline) == ("p", NOW + timedelta(days=30 + 4))


@pytest.mark.parametrize(
    ("state", "wait"),
    [
        (pb.TRANSFER_STATE_REQUESTED, ("p", "nodes/p", NOW + 5 * DAY)),
        (pb.TRANSFER_STATE_SUSPENDED, ("c", "people/one", NOW + 6 * DAY)),
        (pb.TRANSFER_STATE_STARTED, None),
    ],
)
def test_a_transfer_waits_for_its_start(
    state: pb.TransferState.ValueType, wait: tuple[str, str, datetime] | None
) -> None:
    transfer = pb.Transfer(provider="p", consumer="c", changed_by="c", state=state)
    assert waiting.of_transfer(transfer, pb.Terms(consumer_contact="people/one"), DAYS, NOW) == wait


def test_an_amendment_comes_into_force_after_the_notice_unless_both_waive_it() -> None:
    terms = pb.Terms()
    assert waiting.in_force_at(terms, 10, NOW) == NOW + 10 * DAY
    terms.valid_from.FromDatetime(NOW + 20 * DAY)
    assert waiting.in_force_at(terms, 10, NOW) == NOW + 20 * DAY
    terms.waive_notice = True
    terms.valid_from.FromDatetime(NOW - DAY)
    assert waiting.in_force_at(terms, 10, NOW) == NOW


def test_reminders_come_at_half_time_and_a_day_before_the_end() -> None:
    assert list(waiting.reminders(NOW, NOW + 14 * DAY)) == [NOW + 7 * DAY, NOW + 13 * DAY]
    hour = timedelta(hours=1)
    assert list(waiting.reminders(NOW, NOW + 10 * hour)) == [NOW + 5 * hour, NOW + 9 * hour]


@given(st.timedeltas(timedelta(seconds=1), timedelta(days=3650)))
def test_there_are_two_reminders_before_any_deadline(length: timedelta) -> None:
    now, seen = NOW, []
    while (following := waiting.next_reminder(NOW, NOW + length, now)) is not None:
        now = following
        seen.append(now)
    assert len(seen) == 2
    assert NOW < seen[0] < seen[1] < NOW + length
