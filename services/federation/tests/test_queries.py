"""Rows on demand between two nodes: streamed, taken back, within the caller's time, counted and kept at both ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from libs.errors import Away, Exhausted, Forbidden, Invalid, Reason, TooLate, WrongState
from libs.testing import eventually
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from quintet.sharing.v1.sharing_pb2 import Aggregation, RowFilter
from services.federation import refusals_store
from services.federation.answering import ANSWERING_MAX
from services.federation.asking import STREAMS_MAX
from services.federation.query_rules import STREAM_CREDIT
from services.federation.tests.asking import CONTRACT, FIELDS, NOBODY, PURPOSE, STEWARD, Exchange, connected, exchange
from services.federation.tests.world import Node, World

Make = Callable[..., Awaitable[Exchange]]


@pytest_asyncio.fixture
async def make(made: World) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def connect(rows: int = 5, *, connect: bool = True, **terms: Any) -> Exchange:
            found = await exchange(made, stack, rows=rows, **terms)
            if connect:
                await connected(found, made)
            return found

        yield connect


def question(**fields: Any) -> pb.QueryContractRequest:
    return pb.QueryContractRequest(name=CONTRACT, **fields)


async def test_a_page_is_counted_and_kept_at_both_ends(make: Make) -> None:
    found = await make()
    answer = await found.stub().QueryContract(question(fields=["station", "mean"]))
    assert [dict(row) for row in answer.rows][:1] == [{"station": "station 0", "mean": "mean 0"}]
    provider, consumer = await found.contract(found.provider), await found.contract(found.consumer)
    assert (provider.rows_sent, consumer.rows_received) == (5, 5)
    ((by, given),) = await found.audited(found.provider, "federation.contracts.answer")
    ((who, asked),) = await found.audited(found.consumer, "federation.contracts.query")
    assert (by, who) == ("nodes/sf", STEWARD)
    assert given == asked
    assert (given["actor"], given["node"], given["purpose"], given["rows"]) == (f"{STEWARD}@sf", "sf", PURPOSE, 5)
    with pytest.raises(Forbidden):
        await found.stub(NOBODY).QueryContract(question())


async def test_a_stream_brings_all_rows_in_order(make: Make) -> None:
    found = await make(rows=95)
    pages = [page async for page in found.stub().StreamContract(_stream(page_size=10))]
    assert [row["day"] for page in pages for row in page.rows] == [f"day {n}" for n in range(95)]
    assert [len(page.rows) for page in pages] == [10] * 9 + [5]
    assert (pages[0].next_page_token, pages[-1].next_page_token) == ("10", "")
    assert (await found.contract(found.consumer)).rows_received == 95
    assert await metered(found.consumer) == await metered(found.provider) == [(10, 95)]
    again = [page async for page in found.stub().StreamContract(_stream(page_size=50, page_token="90"))]
    assert [row["day"] for page in again for row in page.rows] == [f"day {n}" for n in range(90, 95)]


async def test_a_stream_that_nobody_reads_holds_a_few_pages_and_no_more(make: Make) -> None:
    found = await make(rows=1000)
    session = await found.consumer.hub.reach("beijing")
    query = link_pb2.Query(rows=question(page_size=1))
    stream = found.consumer.questions.stream(session, query, 20)
    await anext(stream)

    async def read_ahead() -> bool:
        return len(found.rows.reads) >= STREAM_CREDIT

    await eventually(read_ahead)
    page = await found.stub().QueryContract(question(page_size=1))  # others are served meanwhile
    assert len(page.rows) == 1
    assert len(found.rows.reads) == STREAM_CREDIT + 1
    await stream.aclose()


async def test_who_goes_away_ends_the_work_at_the_provider(make: Make) -> None:
    found = await make()
    found.rows.free.clear()
    for ask in (found.stub().QueryContract(question()), _read_one(found)):
        dropped = found.rows.dropped
        call = asyncio.ensure_future(ask)

        async def at_work() -> bool:
            return found.rows.held == 1

        async def ended(before: int = dropped) -> bool:
            return found.rows.dropped == before + 1

        await eventually(at_work)
        call.cancel()
        await eventually(ended)
    assert found.rows.held == 0
    found.rows.free.set()
    assert len((await found.stub().QueryContract(question())).rows) == 5, "the link stands"
    assert await found.audited(found.provider, "federation.contracts.answer") != []


async def test_the_callers_deadline_is_the_providers_too(make: Make) -> None:
    found = await make()
    found.rows.free.clear()
    with pytest.raises((Away, TooLate)) as caught:  # the caller's own clock or the node's, whichever rings first
        await found.stub().QueryContract(question(), timeout=0.5)
    assert caught.value.reason in {Reason.DEPENDENCY_SLOW, Reason.DEADLINE}

    async def given_up() -> bool:
        return found.rows.dropped == 1

    await eventually(given_up, within_s=5)


async def test_a_peer_that_is_away_is_said_to_be_at_once(make: Make) -> None:
    found = await make(connect=False)
    with pytest.raises(Away) as caught:
        await found.stub().QueryContract(question())
    assert caught.value.reason == Reason.PEER_AWAY
    assert caught.value.metadata["since"].startswith("20")
    with pytest.raises(Away):
        await anext(aiter(found.stub().StreamContract(_stream())))


async def test_a_stream_whose_link_breaks_ends_with_an_error(make: Make) -> None:
    found = await make(rows=1000)
    stream = aiter(found.stub().StreamContract(_stream(page_size=1)))
    await anext(stream)
    found.rows.free.clear()
    found.consumer.hub.session("beijing").close()
    with pytest.raises(Away) as caught:
        await _read_all(stream)
    assert caught.value.reason == Reason.PEER_AWAY


async def test_the_quota_holds_at_both_ends(make: Make) -> None:
    found = await make(rows=30, quota_rows_per_day=25)
    await found.stub().QueryContract(question(page_size=20))
    with pytest.raises(Exhausted) as caught:
        await found.stub().QueryContract(question(page_size=20))
    assert caught.value.reason == Reason.QUOTA
    assert (await found.contract(found.provider)).rows_sent == 20
    refused = await found.provider.transactions.read(lambda conn: refusals_store.refusals(conn, CONTRACT, None, 9))
    assert [(each.reason, each.actor) for each in refused] == [("QUOTA", f"{STEWARD}@sf")]
    # A provider that does not count: the consumer does.
    await found.provider.transactions.run(lambda tx: tx.conn.execute("UPDATE contracts SET quota_rows = 0"))
    with pytest.raises(Exhausted):
        await found.stub().QueryContract(question(page_size=20))
    assert (await found.contract(found.consumer)).rows_received == 20


async def test_the_consumer_takes_no_field_that_is_not_in_the_contract(make: Make) -> None:
    found = await make()
    with pytest.raises(Forbidden) as caught:
        await found.stub().QueryContract(question(fields=["secret"]))
    assert caught.value.reason == Reason.FIELD_NOT_IN_CONTRACT
    found.rows.extra = "secret"
    with pytest.raises(Forbidden, match="beijing answered with field secret"):
        await found.stub().QueryContract(question())
    found.rows.extra = FIELDS[0]
    with pytest.raises(Forbidden, match="was not asked for"):
        await found.stub().QueryContract(question(fields=[FIELDS[1]]))
    consumer = await found.contract(found.consumer)
    assert (consumer.rows_received, consumer.refused) == (0, 3)


async def test_filter_zone_and_counts_of_the_contract_hold_for_questions_at_both_ends(make: Make) -> None:
    chosen = RowFilter(where={"station": "station 1"})
    found = await make(rows=3, zone="cn-110000", filter=chosen, aggregation=Aggregation(k=2, count_field="number"))
    found.rows.count = 0
    await found.stub().QueryContract(question())
    (asked,) = found.rows.reads
    assert (asked.zone, asked.filter, asked.aggregation.k) == ("cn-110000", chosen, 2)
    # A provider that gives more: another station, and groups that are too small.
    found.rows.count = 1
    with pytest.raises(Forbidden, match="outside of what the contract chooses"):
        await found.stub().QueryContract(question())
    found.rows.extra = "number"
    with pytest.raises(Forbidden, match="a count is below 2"):
        await found.stub().QueryContract(question())
    with pytest.raises(Invalid):  # other fields would make other groups
        await found.stub().QueryContract(question(fields=["day"]))
    assert (await found.contract(found.consumer)).rows_received == 0


async def test_a_contract_that_ends_ends_its_streams(make: Make) -> None:
    found = await make(rows=100)
    stream = aiter(found.stub().StreamContract(_stream(page_size=1)))
    await anext(stream)
    ended = "UPDATE contracts SET state = $1"
    await found.provider.transactions.run(lambda tx: tx.conn.execute(ended, pb.CONTRACT_STATE_TERMINATED))
    with pytest.raises(WrongState) as caught:
        await _read_all(stream)
    assert caught.value.reason == Reason.CONTRACT_NOT_ACTIVE


async def test_more_questions_than_the_limits_are_turned_away_at_once(make: Make) -> None:
    found = await make()
    found.rows.free.clear()
    calls = [asyncio.ensure_future(found.stub().QueryContract(question())) for _ in range(ANSWERING_MAX + 3)]

    async def turned_away() -> bool:
        return sum(call.done() for call in calls) == 3

    await eventually(turned_away)
    assert {call.exception().reason for call in calls if call.done()} == {Reason.TOO_BUSY}  # type: ignore[union-attr]
    found.rows.free.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, Exhausted) for result in results) == 3
    session = await found.consumer.hub.reach("beijing")
    streams = [
        found.consumer.questions.stream(session, link_pb2.Query(rows=question()), 5) for _ in range(STREAMS_MAX + 1)
    ]
    found.rows.free.clear()
    first = [asyncio.ensure_future(anext(stream)) for stream in streams]
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    for call in first:
        call.cancel()
    ended = await asyncio.gather(*first, return_exceptions=True)
    assert any(isinstance(result, Exhausted) for result in ended)


async def test_a_provider_of_the_release_before_answers_page_by_page(make: Make) -> None:
    found = await make(rows=25)
    answering = found.provider.questions._answering
    give = answering._give

    async def as_before(session: Any, query: link_pb2.Query, work: Any) -> None:
        query.stream = False
        await give(session, query, work)

    answering._give = as_before  # type: ignore[method-assign]
    pages = [page async for page in found.stub().StreamContract(_stream(page_size=10))]
    assert [len(page.rows) for page in pages] == [10, 10, 5]


async def metered(node: Node) -> list[tuple[int, int]]:
    query = "SELECT queries, query_rows FROM settlement_days WHERE sender = 'beijing'"
    return [tuple(row) for row in await node.transactions.read(lambda conn: conn.fetch(query))]


def _stream(**fields: Any) -> pb.StreamContractRequest:
    return pb.StreamContractRequest(name=CONTRACT, **fields)


async def _read_one(found: Exchange) -> object:
    return await anext(aiter(found.stub().StreamContract(_stream())))


async def _read_all(stream: AsyncIterator[object]) -> None:
    async for _ in stream:
        pass
