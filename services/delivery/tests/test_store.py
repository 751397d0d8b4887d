"""Requests, service items and applications in a real PostgreSQL."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from libs.access import Visibility
from libs.testing import MakeTransactions
from libs.tx import Transactions, Tx
from libs.zones import Doubt
from services.delivery import applications_store, items_store, search, store
from services.delivery.applications_model import ApplicationState, ServiceItem
from services.delivery.model import Component, Request, Status
from services.delivery.store import Filter
from services.delivery.tests.samples import EVERYTHING, MIGRATIONS, PUBLIC_WORKS, RESIDENT, START, request
from services.delivery.tests.test_model import APPLICATION, CERTIFICATE

ITEMS = [
    ServiceItem("a-1", "残疾人证新办", "区残联", "残疾人证办理", "1"),
    ServiceItem("a-2", "残疾人证换领", "区残联", "残疾人证办理", "1"),
    ServiceItem("a-3", "残疾人机动轮椅车燃油补贴", "区残联", "未分类", "1"),
    ServiceItem("b-1", "Food stall permit", "Health", "Permits", "2"),
    ServiceItem("b-2", "Permit", "Health", "Permits", "2"),
]


@pytest.fixture
async def delivery(transactions: MakeTransactions) -> Transactions:
    return await transactions("delivery", MIGRATIONS)


async def keep(delivery: Transactions, *requests: Request) -> list[bool]:
    async def work(tx: Tx) -> list[bool]:
        return [await store.add(tx.conn, each) for each in requests]

    return await delivery.run(work)


async def put(delivery: Transactions, items: Sequence[ServiceItem]) -> int:
    return await delivery.run(lambda tx: items_store.put(tx.conn, items, tx.now))


async def found(delivery: Transactions, text: str, department: str = "", limit: int = 10) -> list[str]:
    query = search.query(text)
    assert query is not None
    rows, total = await delivery.read(lambda conn: items_store.find(conn, query, department, None, limit))
    assert total >= len(rows)
    return [item.code for _, item in rows]


async def ids(delivery: Transactions, visibility: Visibility, narrow: Filter = Filter()) -> list[str]:  # noqa: B008
    rows = await delivery.read(lambda conn: store.list_requests(conn, visibility, narrow, None, 100))
    return [row.id for row in rows]


async def test_a_request_is_kept_as_it_was_filed(delivery: Transactions) -> None:
    post = Component("componentTypes/lamp-post", "L-17")
    filed = request(flags=(Doubt("COORDINATES_ZERO", "point", "why"),), external_id="311-1", component=post)
    assert await keep(delivery, filed) == [True]
    assert await delivery.read(lambda conn: store.get(conn, filed.zone, filed.id)) == filed
    assert await delivery.read(lambda conn: store.get(conn, "us-ca-sf", filed.id)) is None, (
        "the zone is part of the name"
    )
    whole_city = request("r2", place=None)
    assert await keep(delivery, whole_city) == [True]
    assert await delivery.read(lambda conn: store.get(conn, whole_city.zone, "r2")) == whole_city


async def test_numbers_and_the_reporters_external_ids_are_taken_once(delivery: Transactions) -> None:
    first = request(external_id="311-1")
    again = request("r2", external_id="311-1")
    number = request("r3", number=first.number)
    other = request("r4", external_id="311-1", reporter="people/resident.02")
    none = [request("r5"), request("r6")]
    assert await keep(delivery, first, again, number, other, *none) == [True, False, False, True, True, True]
    assert await delivery.read(lambda conn: store.find(conn, RESIDENT, "311-1")) == first
    assert await delivery.read(lambda conn: store.find(conn, RESIDENT, "")) is None


async def test_the_same_external_id_at_the_same_time_is_kept_once(delivery: Transactions) -> None:
    tries = [keep(delivery, request(f"r{n}", external_id="311-1")) for n in range(5)]
    assert sorted(await asyncio.gather(*tries)) == [[False], [False], [False], [False], [True]]


async def test_lists_show_what_may_be_seen(delivery: Transactions) -> None:
    await keep(
        delivery,
        request("r1"),
        request("r2", zone="us-ca-sf-d6", filed_at=START + timedelta(hours=1)),
        request("r3", reporter="people/resident.02", filed_at=START + timedelta(hours=2)),
    )
    await delivery.run(
        lambda tx: tx.conn.execute("UPDATE requests SET organisation = $1 WHERE id = 'r1'", PUBLIC_WORKS)
    )
    assert await ids(delivery, EVERYTHING) == ["r3", "r2", "r1"], "newest first"
    assert await ids(delivery, Visibility(zones=("us-ca-sf-d6",))) == ["r2"]
    assert await ids(delivery, Visibility(owner=RESIDENT, owner_everywhere=True)) == ["r2", "r1"]
    assert await ids(delivery, Visibility(organisation_everywhere=(PUBLIC_WORKS,))) == ["r1"]
    assert await ids(delivery, Visibility(organisation_zones=((PUBLIC_WORKS, "us-ca-sf-d6"),))) == []
    assert await ids(delivery, Visibility()) == [], "nothing by default"


async def test_lists_are_narrowed_and_paged(delivery: Transactions) -> None:
    flag = (Doubt("ZONE_UNKNOWN", "place", "why"),)
    await keep(delivery, *(request(f"r{n}", flags=flag if n == 2 else ()) for n in range(5)))
    assert await ids(delivery, EVERYTHING, Filter(flagged_only=True)) == ["r2"]
    assert await ids(delivery, EVERYTHING, Filter(number="SF-20260105-R3")) == ["r3"]
    assert await ids(delivery, EVERYTHING, Filter(status=Status.CLOSED)) == []
    after = (START, "r3")
    rows = await delivery.read(lambda conn: store.list_requests(conn, EVERYTHING, Filter(), after, 2))
    assert [row.id for row in rows] == ["r2", "r1"]


async def test_items_are_written_when_they_change(delivery: Transactions) -> None:
    assert await put(delivery, ITEMS) == 5
    assert await put(delivery, ITEMS) == 0
    renamed = [replace(ITEMS[0], title="残疾人证首次办理"), *ITEMS[1:]]
    assert await put(delivery, renamed) == 1
    assert await found(delivery, "首次") == ["a-1"], "the index follows the title"
    assert await delivery.read(lambda conn: items_store.get(conn, "a-1")) == renamed[0]
    assert await delivery.read(lambda conn: items_store.get(conn, "none")) is None


async def test_search_in_chinese_and_english(delivery: Transactions) -> None:
    await put(delivery, ITEMS)
    assert await found(delivery, "残疾人证") == ["a-1", "a-2", "a-3"], "exact before partial"
    assert await found(delivery, "残疾证") == ["a-1", "a-2", "a-3"], "with a character left out"
    assert await found(delivery, "换领残疾人证") == ["a-2", "a-1"], "in another order of words"
    assert await found(delivery, "PERMITS") == ["b-2", "b-1"], "the shorter title first"
    assert await found(delivery, "补") == ["a-3"]
    assert await found(delivery, "permit", "区残联") == []
    assert await found(delivery, "区残联") == ["a-1", "a-2", "a-3"], "departments are found too"
    assert await found(delivery, "飞机") == []
    assert await found(delivery, "%' OR _") == []


async def test_search_goes_on_behind_the_last_item(delivery: Transactions) -> None:
    many = [ServiceItem(f"c-{n:02}", f"许可证 {'延续' * (n % 3)}", "区交通局", "", "1") for n in range(20)]
    await put(delivery, many)
    query = search.query("许可证")
    assert query is not None
    seen: list[str] = []
    after: tuple[int, int, str] | None = None
    while True:
        rows, total = await delivery.read(lambda conn, after=after: items_store.find(conn, query, "", after, 7))  # type: ignore[misc]
        assert total == 20
        if not rows:
            break
        seen += [item.code for _, item in rows]
        score, last = rows[-1]
        after = (score, len(last.title), last.code)
    assert sorted(seen) == [item.code for item in many]
    assert len(set(seen)) == 20


async def test_all_items_by_code(delivery: Transactions) -> None:
    await put(delivery, ITEMS)
    items, total = await delivery.read(lambda conn: items_store.list_by_code(conn, "", "a-2", 2))
    assert ([item.code for item in items], total) == (["a-3", "b-1"], 5)
    items, total = await delivery.read(lambda conn: items_store.list_by_code(conn, "Health", "b-2", 2))
    assert (items, total) == ([], 2)


async def test_an_application_and_its_certificate(delivery: Transactions) -> None:
    form = {"address": {"lines": ["1", "2"]}, "adults": 2.0, "text": "a ' \" \\ 文"}
    application = replace(APPLICATION, form=form)
    await delivery.run(lambda tx: applications_store.add(tx.conn, application))
    assert await delivery.read(lambda conn: applications_store.get(conn, "a1")) == application
    decided = replace(
        application,
        state=ApplicationState.APPROVED,
        decided_at=START,
        decided_by="people/service-officer",
        decision_reason="complete",
        certificate="certificates/c1",
    )

    async def decide(tx: Tx) -> None:
        await applications_store.add_certificate(tx.conn, CERTIFICATE)
        await applications_store.decide(tx.conn, decided)

    await delivery.run(decide)
    assert await delivery.read(lambda conn: applications_store.get(conn, "a1")) == decided
    assert await delivery.read(lambda conn: applications_store.get_certificate(conn, "c1")) == CERTIFICATE
    revoked = replace(CERTIFICATE, revoked_at=START, revoked_by="people/service-officer", revoked_reason="lost")
    await delivery.run(lambda tx: applications_store.revoke(tx.conn, revoked))
    assert await delivery.read(lambda conn: applications_store.get_certificate(conn, "c1")) == revoked


async def test_applications_are_listed_for_who_may_see_them(delivery: Transactions) -> None:
    async def add(tx: Tx) -> None:
        for n in range(3):
            each = replace(APPLICATION, id=f"a{n}", applicant=f"people/resident.{n:02}")
            await applications_store.add(tx.conn, each)

    await delivery.run(add)

    async def listed(visibility: Visibility, state: ApplicationState | None = None) -> list[str]:
        rows = await delivery.read(lambda conn: applications_store.list_applications(conn, visibility, state, None, 10))
        return [row.id for row in rows]

    assert await listed(EVERYTHING) == ["a2", "a1", "a0"]
    assert await listed(Visibility(owner=RESIDENT, owner_everywhere=True)) == ["a1"]
    assert await listed(EVERYTHING, ApplicationState.APPROVED) == []
    assert await listed(Visibility()) == []
