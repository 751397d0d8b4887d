"""What is counted under a contract is counted once, on the fact's own day, and the same at both ends."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from libs.fact_sums import id_digest, time_of
from libs.ids import new_id
from libs.testing import MakeTransactions
from libs.tx import Transactions
from services.federation import metering_store
from services.federation.metering import (
    DAYS_KEEP_DAYS,
    LEDGER_KEEP_DAYS,
    QUERY,
    Entry,
    Figures,
    meter,
)

MIGRATIONS = Path(__file__).parent.parent / "migrations"
CONTRACT = "contracts/c"
SENDER = "sf-d10"
NOON = datetime(2026, 1, 4, 12, tzinfo=UTC)
DAY = NOON.date()
VECTOR = "fe805c9b84abb91bd415c90d3fbcca6477409ee21c20cc4dc31aacfd4e669b78"


@pytest_asyncio.fixture
async def node(transactions: MakeTransactions) -> Transactions:
    return await transactions("federation", MIGRATIONS)


def entry(number: int = 0, *, time: datetime = NOON, kind: int = 0, rows: int = 0) -> Entry:
    fact_id = UUID(int=number) if number else UUID(new_id())
    return Entry(CONTRACT, SENDER, fact_id, time, kind=kind, rows=rows, bytes=0 if kind else 7)


async def record(node: Transactions, entries: list[Entry], now: datetime = NOON) -> None:
    await node.run(lambda tx: metering_store.record(tx.conn, "sf", entries, now))


async def day_of(node: Transactions, day: date = DAY) -> metering_store.Settlement:
    found = await node.read(lambda conn: metering_store.get(conn, CONTRACT, SENDER, day))
    assert found is not None
    return found


@given(st.lists(st.integers(1, 2**128 - 1), unique=True, max_size=20))
def test_the_digest_does_not_depend_on_the_order(numbers: list[int]) -> None:
    entries = [entry(number) for number in numbers]
    turned = entries[::-1]
    assert meter(entries) == meter(turned)


def test_the_digest_is_as_the_protocol_says() -> None:
    """The test vector of docs/protocol.md."""
    first, second = UUID("019adf00-0000-7000-8000-000000000001"), UUID("019adf00-0000-7000-8000-000000000002")
    total = (id_digest(first) + id_digest(second)) % 2**256
    assert f"{total:064x}" == VECTOR


@pytest.mark.parametrize(("seconds", "year"), [(0, 1970), (-1, 1970), (2**62, 2200), (-(2**62), 1970), (10**12, 2200)])
def test_any_time_has_a_day(seconds: int, year: int) -> None:
    assert time_of(Timestamp(seconds=seconds)).year == year


async def test_each_fact_is_counted_once_on_its_own_day(node: Transactions) -> None:
    late = entry(time=NOON - timedelta(days=1))
    entries = [entry(rows=3), entry(rows=4), entry(kind=QUERY, rows=10), late]
    await record(node, [*entries, entries[0]])
    await record(node, entries[1:])
    found = (await day_of(node)).own
    assert found == Figures(facts=2, rows=7, bytes=14, queries=1, query_rows=10, digest=found.digest)
    assert found.digest == sum(id_digest(each.id) for each in entries[:3]) % 2**256
    assert (await day_of(node, late.day)).own.facts == 1


async def test_counting_again_from_the_ledger_gives_the_same(node: Transactions) -> None:
    await record(node, [entry(rows=number) for number in range(50)] + [entry(kind=QUERY, rows=2)])
    before = await day_of(node)
    await node.run(lambda tx: tx.conn.execute("UPDATE settlement_days SET facts = 1, digest = 5"))
    again = await node.run(lambda tx: metering_store.recount(tx.conn, CONTRACT, SENDER, DAY, NOON))
    assert again == before


async def test_the_ledger_is_kept_for_a_while_and_the_figures_for_longer(node: Transactions) -> None:
    await record(node, [entry(rows=1)])
    before = (await day_of(node)).own

    async def forget(after_days: int) -> int:
        return await node.run(lambda tx: metering_store.forget(tx.conn, NOON + timedelta(days=after_days)))

    assert await forget(LEDGER_KEEP_DAYS - 1) == 0
    assert await forget(LEDGER_KEEP_DAYS + 1) == 1
    assert await forget(LEDGER_KEEP_DAYS + 1) == 0
    again = await node.run(lambda tx: metering_store.recount(tx.conn, CONTRACT, SENDER, DAY, NOON))
    assert again is not None
    assert (again.own, again.purged) == (before, True)
    await node.run(lambda tx: tx.conn.execute("UPDATE settlement_days SET check_at = NULL"))
    await forget(DAYS_KEEP_DAYS + 1)
    assert await node.read(lambda conn: metering_store.get(conn, CONTRACT, SENDER, DAY)) is None


async def test_a_day_is_compared_after_its_end_and_again_when_something_comes_late(node: Transactions) -> None:
    await record(node, [entry()])
    assert (await day_of(node)).check_at == datetime(2026, 1, 5, 1, 15, tzinfo=UTC)  # the receiver's turn is later
    await node.run(lambda tx: tx.conn.execute("UPDATE settlement_days SET check_at = NULL"))
    after = NOON + timedelta(days=3)
    await record(node, [entry()], after)
    assert (await day_of(node)).check_at == after + timedelta(hours=1)
    due = await node.read(lambda conn: metering_store.due(conn, after + timedelta(hours=1), 10))
    assert due == [(CONTRACT, SENDER, DAY)]
