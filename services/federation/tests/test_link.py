"""Two nodes join and exchange over real TLS, each with its own database."""

import asyncio
from contextlib import suppress
from functools import partial

import pytest

from libs import rows
from libs.errors import WrongState
from libs.testing import eventually
from quintet.delivery.v1 import delivery_pb2
from quintet.delivery.v1 import facts_pb2 as delivery_facts
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from quintet.sharing.v1 import facts_pb2 as sharing_facts
from quintet.sharing.v1 import sharing_pb2
from services.federation import peers_store, refusals_store
from services.federation.tests.pairs import Pair, backlog, caught_up, event, fact, names_at, rows_fact, state_is
from services.federation.tests.world import World


async def test_joining_delegates_the_zone_and_signs_the_charter(pair: Pair) -> None:
    contract = (await pair.city.contracts())[0]
    assert contract.kind == pb.CONTRACT_KIND_CHARTER
    assert contract.provider_signature
    assert contract.consumer_signature
    assert (await pair.district.contracts())[0].agreement_hash == contract.agreement_hash
    delegated = [each for each in await pair.city.facts() if each.type.endswith("ZoneDelegated")]
    assert [each.zone for each in delegated] == ["d10"]


async def test_facts_go_up_and_requests_come_down_without_the_reporter(pair: Pair) -> None:
    await pair.district.state(event("sf-d10", "hill", 1))
    await pair.district.pump()
    await eventually(lambda: names_at(pair.city))
    arrived = (await pair.city.received("EventOpened"))[0]
    assert (arrived.received_from, arrived.node) == ("sf-d10", "sf-d10")
    assert arrived.contract == (await pair.city.contracts())[0].name

    request = delivery_pb2.Request(name="zones/d10/requests/1", reporter="people/r", contact="r@example.org")
    await pair.city.state(fact("sf", "d10", delivery_facts.RequestFiled(request=request)))
    await pair.city.state(fact("sf", "d6", delivery_facts.RequestFiled(request=request)))
    await pair.city.pump()
    await eventually(lambda: pair.district.received("RequestFiled"))
    filed = await pair.district.received("RequestFiled")
    assert len(filed) == 1
    told = delivery_facts.RequestFiled.FromString(filed[0].data).request
    assert (told.name, told.reporter, told.contact) == ("zones/d10/requests/1", "", "")


async def test_nothing_is_lost_or_doubled_while_the_link_breaks(pair: Pair) -> None:
    total = 300
    for number in range(total):
        await pair.district.state(event("sf-d10", "d10", number))
        if number % 50 == 0:
            await pair.district.pump()
            with suppress(Exception):
                pair.city.hub.session("sf-d10").close()
    await pair.district.pump()

    async def all_there() -> bool:
        return len(await names_at(pair.city)) >= total

    await eventually(all_there)
    assert await names_at(pair.city) == [f"zones/d10/events/{number}" for number in range(total)]

    async def acknowledged() -> bool:
        return not await backlog(pair.district, "sf")

    await eventually(acknowledged)
    contract = (await pair.district.contracts())[0]
    assert contract.facts_sent == total
    assert (await pair.city.contracts())[0].facts_received == total


async def test_a_node_that_stops_ends_the_streams_that_peers_opened(pair: Pair) -> None:
    opened = pair.city.hub.sessions()
    assert [session.dialled_by for session in opened] == [pair.district.id]
    running = await pair.world.dial(pair.city)
    await asyncio.sleep(0)  # it has begun

    running.cancel()

    async def ended() -> bool:
        return not set(opened) & set(pair.city.hub.sessions())

    await eventually(ended)


async def test_what_the_charter_does_not_allow_is_refused_and_holds_up_nobody(pair: Pair) -> None:
    """The district's own queue is tampered with: the city must not believe it."""
    contract = (await pair.district.contracts())[0]

    def envelope(each: Fact) -> tuple[str, bytes]:
        body = link_pb2.Envelope(
            lane=link_pb2.LANE_FACTS,
            contract=contract.name,
            agreement_hash=bytes.fromhex(contract.agreement_hash),
            fact=each,
        )
        return contract.name, body.SerializeToString()

    bad = [
        event("sf-d10", "d6", 1),  # another district's zone
        event("sf", "d10", 2),  # stated in the city's name
        fact("sf-d10", "d10", delivery_facts.RequestFiled()),  # the wrong way
    ]
    envelopes = [envelope(each) for each in [*bad, event("sf-d10", "d10", 4)]]
    envelopes[0:0] = [
        (
            "contracts/x",
            link_pb2.Envelope(
                lane=link_pb2.LANE_FACTS, contract="contracts/x", fact=event("sf-d10", "d10", 3)
            ).SerializeToString(),
        )
    ]
    await pair.district.transactions.run(lambda tx: peers_store.enqueue(tx.conn, "sf", envelopes))
    pair.district.hub.wake("sf")
    await eventually(lambda: names_at(pair.city))
    assert await names_at(pair.city) == ["zones/d10/events/4"]
    refused = await pair.city.transactions.read(lambda conn: refusals_store.refusals(conn, contract.name, None, 10))
    assert len(refused) == len(bad)
    assert (await pair.city.contracts())[0].refused == len(bad)


async def test_what_cannot_be_masked_stays_and_is_listed(pair: Pair) -> None:
    broken = fact("sf", "d10", delivery_facts.RequestFiled())
    broken.data = b"\xff"
    await pair.city.state(broken)
    await pair.city.pump()
    contract = (await pair.city.contracts())[0]
    assert (contract.facts_sent, contract.refused) == (0, 1)


async def test_a_partner_contract_gives_three_fields_and_ends_at_once(made: World) -> None:
    city, partner = await made.city_and_partner()
    await made.dial(partner)
    await made.dial(city)
    terms = pb.Terms(product="products/p", product_version=1, purpose="study")
    terms.fields.extend(sharing_pb2.FieldTerms(field=name) for name in ("station", "day", "mean"))
    peer = await city.peer("beijing")
    contract = await city.transactions.run(lambda tx: city.negotiator.request(tx, peer, terms))
    await state_is(partner, contract.name, pb.CONTRACT_STATE_REQUESTED)
    with pytest.raises(WrongState):
        await city.transactions.run(lambda tx: city.negotiator.agree(tx, contract.name))
    await partner.transactions.run(lambda tx: partner.negotiator.agree(tx, contract.name, "people/approver"))
    await state_is(city, contract.name, pb.CONTRACT_STATE_AGREED)
    query = "SELECT detail::text FROM audit_entries WHERE action = 'federation.contracts.approve'"
    assert "people/approver" in await partner.transactions.read(lambda conn: conn.fetchval(query))
    await city.transactions.run(lambda tx: city.negotiator.verify(tx, contract.name))
    await state_is(city, contract.name, pb.CONTRACT_STATE_FINALIZED)
    await eventually(partial(partner.transfers, contract.name, pb.TRANSFER_STATE_STARTED))
    await partner.pump()

    await partner.state(rows_fact(1, 5))
    await partner.state(rows_fact(2, 5))  # a newer version of the product leaks nothing into the old contract
    await partner.pump()
    await eventually(lambda: city.received("ProductRowsWritten"))
    written = [sharing_facts.ProductRowsWritten.FromString(each.data) for each in await city.received("RowsWritten")]
    assert [(list(each.fields), each.count) for each in written] == [(["station", "day", "mean"], 5)]
    assert rows.loads(written[0].rows, 3)[0] == ["s0", "2026-01-01", 1.5]

    await partner.transactions.run(lambda tx: partner.negotiator.terminate(tx, contract.name, "end of the study"))
    await state_is(city, contract.name, pb.CONTRACT_STATE_TERMINATED)
    await partner.state(rows_fact(1, 5))
    await partner.pump()
    await asyncio.sleep(0)
    await eventually(partial(caught_up, partner, "sf"))
    mine, theirs = await partner.contracts(), await city.contracts()
    assert (mine[0].rows_sent, theirs[0].rows_received) == (5, 5)  # newest first: the contract in force
