"""Both ends show the same figures; a difference that was made on purpose is found, and repaired, at both."""

from datetime import date, timedelta
from functools import partial
from typing import Any

import pytest_asyncio

from libs.clock import ManualClock
from libs.ids import new_id
from libs.testing import eventually
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from quintet.federation.v1.facts_pb2 import TransferChanged
from services.federation import (
    alarms,
    lanes_store,
    metering_store,
    peers_store,
    refusals_store,
    settlement_service,
)
from services.federation.control import control_envelope
from services.federation.metering_store import Settlement
from services.federation.settlement import SETTLEMENT_DIFFERS
from services.federation.tests import contracting
from services.federation.tests.pairs import event, linked, rows_fact, state_is
from services.federation.tests.world import Node, World

FACTS = 7


class Two:
    """A sender and a receiver under one contract, on clocks that the test moves."""

    def __init__(self, sender: Node, receiver: Node, contract: str, clock: ManualClock) -> None:
        self.sender = sender
        self.receiver = receiver
        self.contract = contract
        self.clock = clock

    @property
    def today(self) -> date:
        return self.clock.now().date()

    async def at(self, node: Node, day: date) -> Settlement:
        read = partial(metering_store.get, contract=self.contract, sender=self.sender.id, day=day)
        found = await node.transactions.read(read)
        assert found is not None
        return found

    async def ends(self, day: date) -> tuple[Settlement, Settlement]:
        return await self.at(self.sender, day), await self.at(self.receiver, day)

    async def settled(self, day: date, facts: int, step_s: float = 2) -> bool:
        """Whether both ends show the same, and know it. Time passes meanwhile, no faster than they can answer."""
        self.clock.advance(timedelta(seconds=step_s))
        for node in (self.sender, self.receiver):
            await settlement_service.settle_due(node.transactions, node.settler)
        both = await self.ends(day)
        alarmed = [await self.alarms(node) for node in (self.sender, self.receiver)]
        return all(end.own.facts == facts and end.agrees for end in both) and not any(alarmed)

    async def alarms(self, node: Node) -> list[str]:
        found = await node.transactions.read(alarms.all_set)
        return [each.name for each in found if each.name == SETTLEMENT_DIFFERS]

    async def reconcile(self, node: Node, day: date) -> None:
        await node.transactions.run(lambda tx: node.settler.begin(tx, self.contract, day))

    async def sql(self, node: Node, query: str, *args: Any) -> None:
        await node.transactions.run(lambda tx: tx.conn.execute(query, *args))

    async def audited(self, node: Node, action: str) -> int:
        query = "SELECT count(*) FROM audit_entries WHERE action = $1"
        count: int = await node.transactions.read(lambda conn: conn.fetchval(query, action))
        return count


@pytest_asyncio.fixture
async def charter(timed: World, present: ManualClock) -> Two:
    pair = await linked(timed)
    two = Two(pair.district, pair.city, (await pair.city.contracts())[0].name, present)
    for number in range(FACTS):
        await two.sender.state(event("sf-d10", "d10", number, present.now()))
    await send(two, FACTS)
    return two


@pytest_asyncio.fixture
async def exchange(timed: World, present: ManualClock) -> Two:
    city, partner = await timed.city_and_partner()
    await timed.dial(partner)
    await timed.dial(city)
    contract = await contracting.Two(timed, city, partner, present).in_force(contracting.terms())
    two = Two(partner, city, contract, present)
    for number in range(1, FACTS + 1):
        await partner.state(rows_fact(1, number, present.now()))
    await send(two, FACTS)
    return two


async def send(two: Two, facts: int) -> None:
    await two.sender.pump()

    async def arrived() -> bool:
        read = partial(metering_store.get, contract=two.contract, sender=two.sender.id, day=two.today)
        found = await two.receiver.transactions.read(read)
        lanes = await two.sender.transactions.read(lambda conn: lanes_store.sent(conn, two.receiver.id))
        return found is not None and found.own.facts == facts and not any(lane.backlog for lane in lanes.values())

    await eventually(arrived)


async def test_the_figures_are_the_same_at_both_ends(exchange: Two) -> None:
    day = exchange.today
    sent, received = await exchange.ends(day)
    assert sent.own == received.own
    assert (sent.own.facts, sent.own.rows) == (FACTS, FACTS * (FACTS + 1) // 2)
    assert sent.own.bytes > 0
    assert sent.other is None
    await exchange.reconcile(exchange.receiver, day)
    await eventually(partial(exchange.settled, day, FACTS))


async def test_days_are_compared_by_themselves_after_their_end(charter: Two) -> None:
    day = charter.today
    charter.clock.advance(timedelta(days=1, hours=2))
    for node in (charter.sender, charter.receiver):
        await settlement_service.settle_due(node.transactions, node.settler)

    async def known() -> bool:
        return all(end.agrees and end.check_at is None for end in await charter.ends(day))

    await eventually(known)


async def test_rows_that_the_consumer_lost_are_stated_again(exchange: Two) -> None:
    day = exchange.today
    await exchange.sql(exchange.sender, "DELETE FROM peer_outbox")  # not kept any more
    await exchange.sql(
        exchange.receiver, "DELETE FROM settlement_ledger WHERE id IN (SELECT id FROM settlement_ledger LIMIT 2)"
    )
    await exchange.reconcile(exchange.sender, day)
    await eventually(partial(exchange.alarms, exchange.receiver))
    assert await exchange.alarms(exchange.sender)
    await eventually(partial(exchange.settled, day, FACTS - 2))
    stated = [each for each in await exchange.sender.facts() if each.type.endswith("TransferChanged")]
    states = [TransferChanged.FromString(each.data).transfer.state for each in stated]
    assert states[-2:] == [pb.TRANSFER_STATE_STARTED] * 2  # sharing states the rows again
    assert await exchange.audited(exchange.sender, "federation.settlements.repair") == 1


async def test_what_the_provider_never_sent_is_dropped_and_listed(exchange: Two) -> None:
    day = exchange.today
    await exchange.sql(
        exchange.sender, "DELETE FROM settlement_ledger WHERE id IN (SELECT id FROM settlement_ledger LIMIT 3)"
    )
    await exchange.reconcile(exchange.receiver, day)
    await eventually(partial(exchange.settled, day, FACTS - 3))
    refused = await exchange.receiver.transactions.read(
        lambda conn: refusals_store.refusals(conn, exchange.contract, None, 10)
    )
    assert [each.reason for each in refused] == ["NEVER_SENT"]
    assert refused[0].description.startswith("3 facts")
    assert await exchange.audited(exchange.receiver, "federation.settlements.drop") == 1
    assert await exchange.audited(exchange.receiver, "federation.settlements.agree") == 1


async def test_figures_that_were_altered_are_counted_again(exchange: Two) -> None:
    day = exchange.today
    await exchange.sql(exchange.receiver, "UPDATE settlement_days SET facts = facts + 5, digest = 3")
    await exchange.sql(exchange.sender, "UPDATE settlement_days SET rows = 0")
    await exchange.reconcile(exchange.receiver, day)
    await eventually(partial(exchange.settled, day, FACTS))


async def test_what_was_withdrawn_with_its_contract_is_not_counted(exchange: Two) -> None:
    day = exchange.today
    await exchange.sql(
        exchange.receiver, "DELETE FROM settlement_ledger WHERE id IN (SELECT id FROM settlement_ledger LIMIT 1)"
    )
    node = exchange.sender
    await node.transactions.run(lambda tx: node.negotiator.terminate(tx, exchange.contract, "the end"))
    await state_is(exchange.receiver, exchange.contract, pb.CONTRACT_STATE_TERMINATED)
    await exchange.reconcile(exchange.sender, day)
    await eventually(partial(exchange.settled, day, FACTS - 1))


async def test_a_fact_that_cannot_be_had_any_more_keeps_the_alarm(charter: Two) -> None:
    """Nothing is made to look right: the city lacks a fact of the district, and people have to know."""
    day = charter.today
    await charter.sql(charter.sender, "DELETE FROM peer_outbox")
    await charter.sql(
        charter.receiver, "DELETE FROM settlement_ledger WHERE id IN (SELECT id FROM settlement_ledger LIMIT 1)"
    )
    charter.clock.advance(timedelta(days=1))
    await charter.reconcile(charter.sender, day)

    async def given_up() -> bool:
        await charter.settled(day, FACTS, step_s=10)
        found = await charter.at(charter.sender, day)
        return found.check_at is not None and found.check_at > charter.clock.now() + timedelta(hours=12)

    await eventually(given_up)
    assert (await charter.at(charter.sender, day)).own.facts == FACTS
    assert (await charter.at(charter.receiver, day)).own.facts == FACTS - 1
    for node in (charter.sender, charter.receiver):
        assert await charter.alarms(node) == [SETTLEMENT_DIFFERS]


async def test_only_the_parties_of_a_contract_state_its_figures(exchange: Two) -> None:
    """The receiver claims to be the sender, to have what was never listed, and to be somebody else."""
    node, day = exchange.receiver, exchange.today.isoformat()
    digest = bytes(32)
    bad = [
        link_pb2.SettlementStatement(contract=exchange.contract, counted_node="sf", day=day, digest=digest),
        link_pb2.SettlementStatement(contract=exchange.contract, counted_node="beijing", day="never", digest=digest),
        link_pb2.SettlementStatement(contract=exchange.contract, counted_node="beijing", day=day, digest=b""),
        link_pb2.SettlementStatement(
            contract=exchange.contract,
            counted_node="beijing",
            day=day,
            digest=digest,
            portion=link_pb2.SettlementPortion(never_sent=[new_id()]),
        ),
    ]
    envelopes = [("", control_envelope(settlement=each)) for each in bad]
    await node.transactions.run(lambda tx: peers_store.enqueue(tx.conn, "beijing", envelopes, link_pb2.LANE_CONTROL))
    node.hub.wake("beijing")

    async def refused() -> list[str]:
        rows = await exchange.sender.transactions.read(
            lambda conn: refusals_store.refusals(conn, exchange.contract, None, 10)
        )
        return [each.reason for each in rows]

    async def all_refused() -> bool:
        return len(await refused()) == len(bad)

    await eventually(all_refused)
    assert (await exchange.at(exchange.sender, exchange.today)).own.facts == FACTS


async def test_rows_that_the_receiver_lost_are_sent_again(exchange: Two) -> None:
    await lose_and_repair(exchange)


async def test_facts_under_a_charter_that_the_receiver_lost_are_sent_again(charter: Two) -> None:
    await lose_and_repair(charter)


async def lose_and_repair(two: Two) -> None:
    """The receiver loses entries and figures, and asks: sender and receiver show the same afterwards as before."""
    day = two.today
    before = await two.at(two.receiver, day)
    sql = "DELETE FROM settlement_ledger WHERE id IN (SELECT id FROM settlement_ledger ORDER BY id LIMIT 3)"
    await two.sql(two.receiver, sql)
    await two.sql(two.receiver, "DELETE FROM settlement_days")
    await two.reconcile(two.receiver, day)
    await eventually(partial(two.settled, day, FACTS))
    assert (await two.at(two.receiver, day)).own == before.own
    assert (await two.at(two.sender, day)).own == before.own
    assert await two.audited(two.sender, "federation.settlements.repair") == 1
