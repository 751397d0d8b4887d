"""The provider holds what a consumer says is gone against what it has given, and shows people what comes of it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import date, timedelta
from functools import partial
from uuid import UUID

import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given as given_any
from hypothesis import strategies as st

from libs.clock import ManualClock
from libs.testing import eventually
from libs.tx import Tx
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1.facts_pb2 import ReceivedDay
from services.federation import (
    alarms,
    contracts_store,
    deletion_checks,
    deletion_rules,
    metering_store,
    settlement_service,
)
from services.federation.deletion_checks import DELETION_DIFFERS, DeletionChecks
from services.federation.deletion_rules import DIFFERS, IMPOSSIBLE, MATCHES, PENDING, ProvedDay, Sums, Unproved, judge
from services.federation.metering import DAYS_KEEP_DAYS, QUERY
from services.federation.tests import contracting
from services.federation.tests.asking import CONTRACT, Exchange, exchange
from services.federation.tests.deleting import deleted, deletions, given, listed, of_facts, prove, told
from services.federation.tests.pairs import rows_fact, state_is
from services.federation.tests.world import Node, World
from services.federation.waiting import WaitDays

DAY = date(2026, 1, 5)
GIVEN = Sums(2, 10, 77)
HELD_DAYS = 30


@pytest_asyncio.fixture
async def joined(timed: World) -> AsyncIterator[Exchange]:
    async with AsyncExitStack() as stack:
        yield await exchange(timed, stack, rows=0, retention_days=HELD_DAYS)


async def shown(node: Node) -> list[pb.DeletionCheck.ValueType]:
    """Return what was found of each proof, the oldest first."""
    return [one.check for one in reversed(await listed(node))]


async def alarmed(node: Node) -> bool:
    found = await node.transactions.read(lambda conn: alarms.of_contracts(conn, [CONTRACT]))
    return [one.name for one in found[CONTRACT]] == [DELETION_DIFFERS]


async def later(joined: Exchange, clock: ManualClock, **time: float) -> None:
    clock.advance(timedelta(**time))
    await DeletionChecks("beijing").due(joined.provider.transactions)


def before(clock: ManualClock) -> Timestamp:
    """Return up to when rows had been received that were deleted because their time was over."""
    stamp = Timestamp()
    stamp.FromDatetime(clock.now() - timedelta(days=HELD_DAYS))
    return stamp


async def test_a_proof_of_all_that_was_given_matches(joined: Exchange) -> None:
    """Answers to questions are counted, too, but nobody keeps them: they are no part of it."""
    days = [await given(joined, "2026-01-05", 3, facts=2), await given(joined, "2026-01-06", 1)]
    await given(joined, "2026-01-06", 100, kind=QUERY)
    await told(joined, rows=4, days=days)
    (proof,) = await listed(joined.provider)
    assert (proof.check, proof.check_text, proof.HasField("checked_at")) == (MATCHES, "", True)
    assert [day.digest for day in proof.days] == [day.digest for day in days]
    assert not await alarmed(joined.provider)
    assert [detail["found"] for _, detail in await joined.audited(joined.provider, "federation.deletions.check")] == [
        "matches"
    ]


async def test_the_consumer_does_not_judge_its_own_proof(joined: Exchange) -> None:
    await told(joined, days=[await given(joined, "2026-01-05", 3)])
    assert await shown(joined.consumer) == [pb.DELETION_CHECK_UNSPECIFIED]


async def test_another_digest_differs_at_once_and_alarms(joined: Exchange) -> None:
    day = await given(joined, "2026-01-05", 3)
    day.digest = bytes([day.digest[0] ^ 1]) + day.digest[1:]
    await told(joined, days=[day])
    (proof,) = await listed(joined.provider)
    assert proof.check == DIFFERS
    assert "other facts were given on 2026-01-05" in proof.check_text
    assert await alarmed(joined.provider)


async def test_more_than_was_given_differs(joined: Exchange) -> None:
    day = await given(joined, "2026-01-05", 3)
    more = ReceivedDay()
    more.CopyFrom(day)
    more.rows = 4
    await told(joined, days=[more])
    never = ReceivedDay(contract=CONTRACT, day="2026-01-07", facts=1, rows=1, digest=bytes(32))
    await told(joined, days=[never])
    await told(joined, rows=4)
    assert await shown(joined.provider) == [DIFFERS] * 3
    assert "nothing was given under contracts/c1 on 2026-01-07" in (await listed(joined.provider))[1].check_text
    assert "4 rows are said to be deleted, 3 were given" in (await listed(joined.provider))[0].check_text


async def test_a_day_that_is_left_out_differs_when_it_has_not_come_in_time(
    joined: Exchange, present: ManualClock
) -> None:
    first, second = await given(joined, "2026-01-05", 3), await given(joined, "2026-01-06", 3)
    await told(joined, rows=3, days=[first])
    (proof,) = await listed(joined.provider)
    assert (proof.check, proof.check_text) == (PENDING, "of 1 days, first 2026-01-06, more was given than proofs name")
    assert not await alarmed(joined.provider)
    await later(joined, present, hours=deletion_rules.MISSING_WAIT_HOURS)
    assert await shown(joined.provider) == [DIFFERS]
    assert await alarmed(joined.provider)
    # What came after all puts it right.
    await told(joined, rows=0, days=[second])
    assert await shown(joined.provider) == [MATCHES, MATCHES]
    assert not await alarmed(joined.provider)


async def test_proofs_that_differ_do_not_hold_up_the_next(
    joined: Exchange, present: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion_checks, "PROOFS_PER_LOOK_MAX", 1)
    never = ReceivedDay(contract=CONTRACT, day="2026-01-07", facts=1, rows=0, digest=bytes(32))
    await told(joined, days=[never])
    present.advance(timedelta(seconds=1))
    await told(joined, reason="RETENTION", held_before=before(present), days=[await given(joined, "2026-01-05", 3)])
    assert await shown(joined.provider) == [DIFFERS, MATCHES]


async def test_people_are_not_alarmed_for_ever(joined: Exchange, present: ManualClock) -> None:
    await told(joined, days=[ReceivedDay(contract=CONTRACT, day="2026-01-05", facts=1, rows=0, digest=bytes(32))])
    assert await alarmed(joined.provider)
    await later(joined, present, days=deletion_rules.ALARM_DAYS)
    assert not await alarmed(joined.provider)
    assert await shown(joined.provider) == [DIFFERS]


async def test_rows_of_a_day_go_by_and_by_and_the_proof_that_names_the_day_counts(
    joined: Exchange, present: ManualClock
) -> None:
    """While a contract goes on only what is old is deleted: what is younger is not missing."""
    day = await given(joined, "2026-01-05", 3, facts=2)
    await given(joined, "2026-01-06", 3)
    await told(joined, reason="RETENTION", rows=2, held_before=before(present))
    assert await shown(joined.provider) == [PENDING]
    await told(joined, reason="RETENTION", rows=4, held_before=before(present), days=[day])
    assert await shown(joined.provider) == [MATCHES, MATCHES]


async def test_what_came_late_for_a_day_may_be_held_longer(joined: Exchange, present: ManualClock) -> None:
    first, late = await given(joined, "2026-01-05", 3), await given(joined, "2026-01-05", 3)
    await told(joined, reason="RETENTION", rows=3, held_before=before(present), days=[first])
    await later(joined, present, days=HELD_DAYS)
    assert await shown(joined.provider) == [PENDING]
    await told(joined, reason="RETENTION", rows=3, held_before=before(present), days=[late])
    assert await shown(joined.provider) == [MATCHES, MATCHES]


async def test_rows_whose_days_are_never_named_cannot_be_checked(joined: Exchange, present: ManualClock) -> None:
    await given(joined, "2026-01-05", 3)
    await told(joined, reason="RETENTION", rows=2, held_before=before(present))
    await later(joined, present, days=HELD_DAYS, hours=deletion_rules.MISSING_WAIT_HOURS)
    (proof,) = await listed(joined.provider)
    assert (proof.check, proof.check_text) == (IMPOSSIBLE, "no later proof has named the days of these rows")


async def test_a_successor_proves_for_the_contract_before(joined: Exchange) -> None:
    """It went on holding the rows, so their days stand in its proof, under the contract of that time."""
    contract = await joined.contract(joined.provider)
    contract.name = "contracts/c0"

    async def precede(tx: Tx) -> None:
        await contracts_store.insert(tx.conn, contract, "sf", b"", WaitDays(), tx.now)
        await tx.conn.execute("UPDATE contracts SET amends = 'c0' WHERE id = 'c1'")

    await joined.provider.transactions.run(precede)
    old, new = await given(joined, "2026-01-05", 3, contract="contracts/c0"), await given(joined, "2026-01-06", 3)
    await told(joined, rows=6, days=[new])
    assert await shown(joined.provider) == [PENDING]
    await told(joined, rows=0, days=[old])
    assert await shown(joined.provider) == [MATCHES, MATCHES]


async def test_what_flowed_is_proved_over_the_link(timed: World, present: ManualClock) -> None:
    """The consumer counts what it received; the proof goes over the link and is found to be of just that."""
    consumer, provider = await timed.city_and_partner()
    await timed.dial(provider)
    contract = await contracting.Two(timed, consumer, provider, present).in_force(contracting.terms())
    provider.control["deletion_proof"] = deletions(provider).handle
    for number in range(1, 4):
        await provider.state(rows_fact(1, number, present.now()))
    await provider.pump()

    async def received() -> bool:
        return len(await consumer.received("ProductRowsWritten")) == 3

    await eventually(received)
    facts = await consumer.received("ProductRowsWritten")
    day = of_facts(present.now().date().isoformat(), 6, [UUID(fact.id) for fact in facts], contract)
    await provider.transactions.run(lambda tx: provider.negotiator.terminate(tx, contract, "the end"))
    await state_is(consumer, contract, pb.CONTRACT_STATE_TERMINATED)
    await prove(consumer, deleted(contract=contract, rows=6, days=[day]))
    consumer.hub.wake("beijing")

    async def checked() -> bool:
        request = pb.ListDeletionProofsRequest(contract=contract)
        return [one.check for one in (await deletions(provider).page(request)).proofs] == [MATCHES]

    await eventually(checked)


async def test_what_was_withdrawn_is_not_missed(timed: World, present: ManualClock) -> None:
    """Rows that never left are counted until both ends have compared the day, which they do when it is over."""
    consumer, provider = await timed.city_and_partner()
    dialling = await timed.dial(provider)
    contract = await contracting.Two(timed, consumer, provider, present).in_force(contracting.terms())
    provider.control["deletion_proof"] = deletions(provider).handle
    dialling.cancel()

    async def cut() -> bool:
        return not provider.hub.sessions() and not consumer.hub.sessions()

    await eventually(cut)
    await provider.state(rows_fact(1, 3, present.now()))
    await provider.pump()
    await provider.transactions.run(lambda tx: provider.negotiator.terminate(tx, contract, "the end"))
    await prove(consumer, deleted(contract=contract))
    await timed.dial(provider)

    async def found(check: pb.DeletionCheck.ValueType) -> bool:
        request = pb.ListDeletionProofsRequest(contract=contract)
        return [one.check for one in (await deletions(provider).page(request)).proofs] == [check]

    await eventually(partial(found, PENDING))
    present.advance(timedelta(days=1, hours=3))

    async def settled() -> bool:
        present.advance(timedelta(seconds=2))
        for node in (provider, consumer):
            await settlement_service.settle_due(node.transactions, node.settler)
        days = await provider.transactions.read(
            lambda conn: metering_store.page(conn, contract, date.min, date.max, None, 2)
        )
        return [one.own.facts for one in days] == [0]

    await eventually(settled)
    present.advance(timedelta(hours=deletion_rules.LOOK_AGAIN_HOURS))
    await DeletionChecks("beijing").due(provider.transactions)
    assert await found(MATCHES)


def day(proved: Sums, given: Sums | None, on: date = DAY) -> ProvedDay:
    return ProvedDay(CONTRACT, on, proved, given)


def test_a_day_whose_figures_are_kept_no_more_cannot_be_checked() -> None:
    old = DAY - timedelta(days=DAYS_KEEP_DAYS + 1)
    assert judge([day(GIVEN, None, old), day(GIVEN, GIVEN)], Unproved(), 5, 10, DAY).check == IMPOSSIBLE
    assert judge([day(GIVEN, None)], Unproved(), 5, 10, DAY).check == DIFFERS


@given_any(st.integers(0, 4), st.integers(0, 20), st.integers(0, 99))
def test_only_what_was_given_matches(facts: int, rows: int, digest: int) -> None:
    """Whatever a proof says: less waits for the rest, and everything else differs."""
    said = Sums(facts, rows, digest)
    found = judge([day(said, GIVEN)], Unproved(), 0, 10, DAY).check
    fewer = facts < GIVEN.facts and rows <= GIVEN.rows
    assert found == (MATCHES if said == GIVEN else PENDING if fewer else DIFFERS)
