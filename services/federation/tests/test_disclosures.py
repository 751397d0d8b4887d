"""A person sees who was given their data; the database alone does not say whom a disclosure is about."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

import pytest_asyncio

from libs import rows
from libs.access import Caller, Grants, Kind, acting_as
from libs.tests import callers
from quintet.delivery.v1 import delivery_pb2
from quintet.delivery.v1 import facts_pb2 as delivery_facts
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1 import sharing_pb2
from quintet.sharing.v1.facts_pb2 import ProductRowsWritten
from services.federation import contracts_store, disclosures_store
from services.federation.disclosures import DISCLOSURES_KEEP_DAYS, Disclosures
from services.federation.disclosures_service import DisclosuresHandler
from services.federation.terms import ActiveContract, default_charter
from services.federation.tests.asking import CONTRACT, PURPOSE, Exchange, connected, exchange
from services.federation.tests.pairs import fact
from services.federation.tests.world import World

RESIDENT, OTHER = "people/resident.01", "people/resident.02"


@pytest_asyncio.fixture
async def found(made: World) -> AsyncIterator[Exchange]:
    async with AsyncExitStack() as stack:
        found = await exchange(made, stack, rows=3)
        await connected(found, made)
        yield found


def handler(found: Exchange) -> DisclosuresHandler:
    return DisclosuresHandler(found.provider.transactions, found.provider.disclosures)


async def seen_by(found: Exchange, person: str) -> list[pb.Disclosure]:
    caller = Caller(person, Kind.PERSON, Grants(person, (), lambda: callers.TREE))
    with acting_as(caller):
        answer = await handler(found).mine(pb.ListMyDisclosuresRequest())
    return list(answer.disclosures)


async def push(found: Exchange, *people: str) -> None:
    """State one row about each person; who they are is not in the contract."""
    node = found.provider
    written = ProductRowsWritten(
        product="products/p",
        version=1,
        fields=["station", "who", "day", "mean"],
        rows=rows.dumps((f"s{number}", who, "2026-01-01", 1.5) for number, who in enumerate(people)),
        count=len(people),
        key_fields=["station", "day"],
        subject_fields=["who"],
    )
    await node.transactions.run(lambda tx: contracts_store.set_flowing(tx.conn, name=CONTRACT))
    await node.state(fact("beijing", "d6", written))
    await node.pump()


async def test_a_person_sees_who_was_sent_their_data_under_which_contract_and_for_what(found: Exchange) -> None:
    await push(found, RESIDENT, OTHER, RESIDENT)
    await push(found, RESIDENT)
    (disclosed,) = await seen_by(found, RESIDENT)
    assert (disclosed.contract, disclosed.peer, disclosed.purpose) == (CONTRACT, "peers/sf", PURPOSE)
    assert (disclosed.what, disclosed.on_request, disclosed.count) == ("products/p", False, 3)
    assert [each.field for each in disclosed.fields] == ["day", "mean", "station"]
    assert disclosed.first_time.ToDatetime() < disclosed.last_time.ToDatetime()
    assert [each.count for each in await seen_by(found, OTHER)] == [1]
    assert await seen_by(found, "people/resident.03") == []


async def test_who_a_row_is_about_stays_at_the_provider(found: Exchange) -> None:
    await push(found, RESIDENT)
    query = "SELECT envelope FROM peer_outbox"
    envelopes = await found.provider.transactions.read(lambda conn: conn.fetch(query))
    assert len(envelopes) >= 1
    assert not any(RESIDENT.encode() in row["envelope"] or b"who" in row["envelope"] for row in envelopes)
    kept = await found.provider.transactions.read(lambda conn: conn.fetch("SELECT d::text FROM disclosures AS d"))
    assert len(kept) == 1
    assert "resident" not in kept[0]["d"]


async def test_what_a_peer_asked_for_is_listed_with_the_fields_it_asked_for(found: Exchange) -> None:
    found.rows.subject = RESIDENT
    await found.stub().QueryContract(pb.QueryContractRequest(name=CONTRACT, fields=["mean"]))
    (disclosed,) = await seen_by(found, RESIDENT)
    assert (disclosed.on_request, disclosed.count) == (True, 3)
    assert [each.field for each in disclosed.fields] == ["mean"]


async def test_a_steward_looks_for_a_person_and_leaves_a_trace(found: Exchange) -> None:
    await push(found, RESIDENT)
    answer = await handler(found).of(pb.ListDisclosuresRequest(subject=RESIDENT))
    assert [each.contract for each in answer.disclosures] == [CONTRACT]
    ((_, detail),) = await found.audited(found.provider, "federation.disclosures.read")
    assert detail["disclosures"] == 1
    assert RESIDENT not in str(detail)


async def test_the_list_has_pages_and_an_end_of_keeping(found: Exchange) -> None:
    terms = pb.Terms(product="products/p", fields=[sharing_pb2.FieldTerms(field="day")], purpose=PURPOSE)
    node = found.provider
    for number in range(3):
        contract = ActiveContract(f"contracts/{number}", pb.CONTRACT_KIND_EXCHANGE, "sf", "b", "sf", terms, b"")
        disclosed = node.disclosures.of_rows(contract, [RESIDENT])
        now = node.transactions.clock.now()
        record = partial(disclosures_store.record, disclosed=disclosed, now=now)
        await node.transactions.run(lambda tx, record=record: record(tx.conn))  # type: ignore[misc]
    first = await handler(found).of(pb.ListDisclosuresRequest(subject=RESIDENT, page_size=2))
    request = pb.ListDisclosuresRequest(subject=RESIDENT, page_token=first.next_page_token)
    rest = await handler(found).of(request)
    names = [each.contract for page in (first, rest) for each in page.disclosures]
    assert names == ["contracts/2", "contracts/1", "contracts/0"]
    later = node.transactions.clock.now() + timedelta(days=DISCLOSURES_KEEP_DAYS + 1)
    assert await node.transactions.run(lambda tx: disclosures_store.forget(tx.conn, later)) == 3


def charter() -> ActiveContract:
    return ActiveContract("contracts/c", pb.CONTRACT_KIND_CHARTER, "d10", "sf", "d10", default_charter("d10"), b"")


def test_a_fact_discloses_what_is_not_masked_of_its_reporter() -> None:
    made = Disclosures(b"key")
    request = delivery_pb2.Request(name="zones/d10/requests/1", reporter=RESIDENT, contact="r@example.org")
    filed = fact("sf", "d10", delivery_facts.RequestFiled(request=request))
    assert not made.of_fact(charter(), filed, ["request.reporter", "request.contact"])
    assert not made.of_fact(charter(), filed, ["request"])
    (disclosed,) = made.of_fact(charter(), filed, ["request.reporter"])
    assert disclosed.person == made.person(RESIDENT)
    assert (disclosed.what, disclosed.fields) == (filed.type, ("request.contact",))
    (whole,) = made.of_fact(charter(), filed, [])
    assert set(whole.fields) == {"request.reporter", "request.contact"}
    nobody = fact("sf", "d10", delivery_facts.RequestFiled())
    assert not made.of_fact(charter(), nobody, [])


def test_a_masked_field_is_named_with_its_mask_and_a_dropped_one_is_not_named() -> None:
    fields = [
        sharing_pb2.FieldTerms(field="who", masking=sharing_pb2.MASKING_HASH),
        sharing_pb2.FieldTerms(field="phone", masking=sharing_pb2.MASKING_DROP),
    ]
    terms = pb.Terms(product="products/p", fields=fields, purpose=PURPOSE)
    contract = ActiveContract("contracts/c", pb.CONTRACT_KIND_EXCHANGE, "sf", "b", "sf", terms, b"")
    (disclosed,) = Disclosures(b"key").of_rows(contract, [RESIDENT])
    assert disclosed.fields == ("who MASKING_HASH",)
