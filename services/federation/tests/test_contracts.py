"""The life of contracts between two nodes over TLS, each with its own database."""

from datetime import UTC, timedelta
from functools import partial

import pytest

from libs.clock import ManualClock
from libs.errors import Forbidden, Invalid, WrongState
from libs.ids import new_id
from libs.testing import eventually
from libs.tx import Tx
from quintet.federation.v1 import facts_pb2, link_pb2
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1 import sharing_pb2
from services.federation import contracts_store, machine, peers_store, refusals_store
from services.federation import terms as contract_terms
from services.federation.ledger import envelope_of
from services.federation.tests.contracting import Two, terms
from services.federation.tests.world import World
from services.federation.waiting import WaitDays

UNKNOWN_FIELD = b"\xf8\x07\x01"  # field 127, a number, of a release to come


async def connect(two: Two) -> None:
    await two.world.dial(two.provider)


async def test_offers_go_to_and_fro_until_one_is_accepted(two: Two) -> None:
    name = await two.offer(terms(quota_rows_per_day=100))
    await two.state_is(two.consumer, name, pb.CONTRACT_STATE_OFFERED)
    await two.take(
        two.consumer,
        lambda tx: two.consumer.negotiator.counter(tx, name, terms(quota_rows_per_day=900), machine.REQUEST),
    )
    await two.state_is(two.provider, name, pb.CONTRACT_STATE_REQUESTED)
    await two.take(
        two.provider, lambda tx: two.provider.negotiator.counter(tx, name, terms(quota_rows_per_day=500), machine.OFFER)
    )
    await two.state_is(two.consumer, name, pb.CONTRACT_STATE_OFFERED)
    await two.take(two.consumer, lambda tx: two.consumer.negotiator.accept(tx, name))
    await two.state_is(two.provider, name, pb.CONTRACT_STATE_ACCEPTED)
    await two.agreed(name)
    mine, theirs = await two.contract(two.consumer, name), await two.contract(two.provider, name)
    assert mine.terms.quota_rows_per_day == theirs.terms.quota_rows_per_day == 500
    assert mine.agreement_hash == theirs.agreement_hash != ""
    for node in two.both:
        taken = [(step.type.removeprefix("Contract"), step.node, step.state) for step in await two.steps(node, name)]
        assert taken[:7] == [
            ("OfferMessage", "beijing", "OFFERED"),
            ("RequestMessage", "sf", "REQUESTED"),
            ("OfferMessage", "beijing", "OFFERED"),
            ("NegotiationEventMessage ACCEPTED", "sf", "ACCEPTED"),
            ("AgreementMessage", "beijing", "AGREED"),
            ("AgreementVerificationMessage", "sf", "VERIFIED"),
            ("NegotiationEventMessage FINALIZED", "beijing", "FINALIZED"),
        ]


async def test_each_step_is_one_sides_only(two: Two) -> None:
    name = await two.request(terms())
    await two.state_is(two.provider, name, pb.CONTRACT_STATE_REQUESTED)
    for node, step in (
        (two.consumer, lambda tx: two.consumer.negotiator.agree(tx, name)),
        (two.consumer, lambda tx: two.consumer.negotiator.accept(tx, name)),
        (two.provider, lambda tx: two.provider.negotiator.verify(tx, name)),
        (two.consumer, lambda tx: two.consumer.negotiator.counter(tx, name, terms(), machine.REQUEST)),
    ):
        with pytest.raises(WrongState):
            await node.transactions.run(step)


async def test_who_waits_for_whom_is_seen_at_both_ends(two: Two) -> None:
    name = await two.request(terms())
    await two.state_is(two.provider, name, pb.CONTRACT_STATE_REQUESTED)
    for node in two.both:
        contract = await two.contract(node, name)
        assert (contract.waits_for, contract.owner) == ("beijing", "people/bj")
        left = contract.deadline.ToDatetime() - two.clock.now().replace(tzinfo=None)
        assert left == timedelta(days=WaitDays().negotiation)

    async def waiting_on(node_id: str) -> list[str]:
        return [
            each.name
            for each in await two.provider.transactions.read(
                lambda conn: contracts_store.page(conn, waiting_on=node_id, limit=10)
            )
        ]

    assert (await waiting_on("beijing"), await waiting_on("sf")) == ([name], [])
    await two.take(two.provider, lambda tx: two.provider.negotiator.agree(tx, name))
    assert (await waiting_on("beijing"), await waiting_on("sf")) == ([], [name])


async def test_a_message_that_comes_twice_changes_nothing(two: Two) -> None:
    name = await two.request(terms())
    await two.state_is(two.provider, name, pb.CONTRACT_STATE_REQUESTED)
    asked = (await two.steps(two.consumer, name))[0].message_id
    contract = await two.contract(two.consumer, name)

    async def again(tx: object) -> None:
        envelope = envelope_of(tx, machine.REQUEST, contract, "", asked)  # type: ignore[arg-type]
        await peers_store.enqueue(tx.conn, "beijing", [("", envelope)], link_pb2.LANE_CONTROL)  # type: ignore[attr-defined]

    await two.take(two.consumer, again)
    await two.idle()
    assert (await two.contract(two.provider, name)).refused == 0
    assert len(await two.steps(two.provider, name)) == 1


async def test_nobody_can_agree_to_other_terms_than_those_exchanged_last(two: Two) -> None:
    """The provider's own store is tampered with: the consumer ends the negotiation instead of following."""
    name = await two.request(terms(retention_days=30))
    await two.state_is(two.provider, name, pb.CONTRACT_STATE_REQUESTED)
    changed = terms(retention_days=1).SerializeToString()
    await two.provider.transactions.run(lambda tx: tx.conn.execute("UPDATE contracts SET terms = $1", changed))
    await two.take(two.provider, lambda tx: two.provider.negotiator.agree(tx, name))
    ended = await two.ended_alike(name)
    assert (ended.terminated_by, ended.reason.split(":")[0]) == ("sf", "FIELD_INVALID")


async def test_a_signature_of_another_key_ends_the_negotiation(two: Two) -> None:
    name = await two.request(terms())
    await two.state_is(two.provider, name, pb.CONTRACT_STATE_REQUESTED)
    two.provider.negotiator._signer = two.consumer.negotiator._signer  # the wrong key
    await two.take(two.provider, lambda tx: two.provider.negotiator.agree(tx, name))
    ended = await two.ended_alike(name)
    assert ended.reason.startswith("SIGNATURE_INVALID")


@pytest.mark.parametrize(
    "newer",
    [
        pb.Terms.FromString(terms().SerializeToString() + UNKNOWN_FIELD),
        terms(fields=[sharing_pb2.FieldTerms.FromString(b"\x0a\x03day" + UNKNOWN_FIELD)]),
        terms(fields=[sharing_pb2.FieldTerms(field="day", masking=99)]),  # type: ignore[arg-type]
        terms(mode=99),
    ],
    ids=["a field", "a field further down", "a masking", "a mode"],
)
async def test_terms_of_a_newer_release_are_refused_and_nobody_waits(two: Two, newer: pb.Terms) -> None:
    peer = await two.consumer.peer("beijing")
    with pytest.raises(Forbidden) as caught:
        await two.consumer.transactions.run(lambda tx: two.consumer.negotiator.request(tx, peer, newer))
    assert caught.value.reason == "TERMS_NOT_UNDERSTOOD"

    contract = pb.Contract(name=f"contracts/{new_id()}", kind=pb.CONTRACT_KIND_EXCHANGE, version=1, terms=newer)
    contract.provider, contract.consumer, contract.state = "beijing", "sf", pb.CONTRACT_STATE_REQUESTED

    async def as_newer(tx: Tx) -> None:
        await contracts_store.insert(tx.conn, contract, "beijing", b"", WaitDays(), two.clock.now())
        envelope = envelope_of(tx, machine.REQUEST, contract, "", new_id())
        await peers_store.enqueue(tx.conn, "beijing", [("", envelope)], link_pb2.LANE_CONTROL)

    await two.take(two.consumer, as_newer)
    await two.state_is(two.consumer, contract.name, pb.CONTRACT_STATE_TERMINATED)
    told = await two.contract(two.consumer, contract.name)
    assert (told.terminated_by, told.reason.split(":")[0]) == ("beijing", "TERMS_NOT_UNDERSTOOD")
    assert await two.provider.contracts() == []


async def test_an_end_that_crosses_an_agreement_wins(apart: Two) -> None:
    await connect(apart)
    name = await apart.request(terms())
    await apart.state_is(apart.provider, name, pb.CONTRACT_STATE_REQUESTED)
    await apart.idle()
    # Both act before they hear of each other.
    await apart.provider.transactions.run(lambda tx: apart.provider.negotiator.agree(tx, name))
    await apart.consumer.transactions.run(lambda tx: apart.consumer.negotiator.terminate(tx, name, "no more need"))
    for node in apart.both:
        node.hub.wake(apart.other(node).id)
    ended = await apart.ended_alike(name)
    assert ended.reason == "no more need"
    assert [step.outcome for step in await apart.steps(apart.consumer, name)][-1] == "CROSSED"


async def test_two_ends_that_cross_are_one(apart: Two) -> None:
    await connect(apart)
    name = await apart.in_force(terms())
    await apart.idle()
    for node in apart.both:
        await node.transactions.run(lambda tx, node=node: node.negotiator.terminate(tx, name, f"{node.id} has enough"))  # type: ignore[misc]
    for node in apart.both:
        node.hub.wake(apart.other(node).id)
    ended = await apart.ended_alike(name)
    assert ended.reason == f"{ended.terminated_by} has enough"


async def test_notice_ends_a_contract_at_its_time_by_itself(two: Two) -> None:
    name = await two.in_force(terms(notice_days=10))
    given = await two.take(two.consumer, lambda tx: two.consumer.negotiator.end(tx, name, "moving on", for_cause=False))
    assert given.state == pb.CONTRACT_STATE_FINALIZED
    assert given.terminates_at.ToDatetime() == (two.clock.now() + timedelta(days=10)).replace(tzinfo=None)

    async def told() -> bool:
        return (await two.contract(two.provider, name)).HasField("terminates_at")

    await eventually(told)
    with pytest.raises(WrongState):
        await two.take(two.consumer, lambda tx: two.consumer.negotiator.end(tx, name, "again", for_cause=False))
    await two.pass_time(days=9)
    for node in two.both:
        assert (await two.contract(node, name)).state == pb.CONTRACT_STATE_FINALIZED
    active = await two.provider.transactions.read(lambda conn: contracts_store.active_with(conn, "sf"))
    assert active[name].in_time(two.clock.now())
    assert not active[name].in_time(two.clock.now() + timedelta(days=1))  # not even before the node has looked
    await two.pass_time(days=1)
    ended = await two.ended_alike(name)
    assert (ended.reason, ended.terminated_by) == ("moving on", "sf")
    assert [each.state for each in await two.provider.transfers(name)] == [pb.TRANSFER_STATE_TERMINATED]
    reminders = await two.stated(two.provider, facts_pb2.ContractReminder)
    assert [(each.contract.name, each.owner) for each in reminders] == [(name, "people/sf")]


async def test_for_cause_a_contract_ends_at_once_also_under_notice(two: Two) -> None:
    name = await two.in_force(terms(notice_days=10))
    await two.take(two.provider, lambda tx: two.provider.negotiator.end(tx, name, "later", for_cause=False))
    await two.take(two.consumer, lambda tx: two.consumer.negotiator.end(tx, name, "a leak", for_cause=True))
    ended = await two.ended_alike(name)
    assert (ended.reason, ended.terminated_by) == ("a leak", "sf")
    assert not ended.HasField("terminates_at")


async def test_a_contract_ends_with_its_validity(two: Two) -> None:
    until = terms()
    until.valid_until.FromDatetime(two.clock.now() + timedelta(days=2))
    name = await two.in_force(until)
    await two.pass_time(days=3)
    assert (await two.ended_alike(name)).reason == machine.EXPIRED


async def test_what_is_owed_is_reminded_of_twice_and_ends_at_the_deadline(two: Two) -> None:
    name = await two.request(terms())
    await two.state_is(two.provider, name, pb.CONTRACT_STATE_REQUESTED)
    await two.pass_time(days=6.9)
    assert await two.stated(two.provider, facts_pb2.ContractReminder) == []
    await two.pass_time(days=0.2)
    await two.pass_time(hours=1)
    (first,) = await two.stated(two.provider, facts_pb2.ContractReminder)
    assert (first.contract.name, first.waits_for, first.owner) == (name, "beijing", "people/bj")
    assert (await two.contract(two.provider, name)).HasField("reminded_at")
    await two.pass_time(days=6)
    assert len(await two.stated(two.provider, facts_pb2.ContractReminder)) == 2
    await two.pass_time(days=1)
    assert (await two.ended_alike(name)).reason == machine.DEADLINE
    assert len(await two.stated(two.provider, facts_pb2.ContractReminder)) == 2


async def test_the_shorter_of_both_nodes_deadlines_counts(timed: World, present: ManualClock) -> None:
    """Each node has its own, from its configuration, and ends the negotiation for both."""
    timed.terms["wait_days"] = WaitDays(negotiation=3)
    consumer = await timed.node("sf", "city")
    timed.terms["wait_days"] = WaitDays(negotiation=30)
    provider = await timed.node("beijing", "d6")
    await timed.join(consumer, provider)
    two = Two(timed, consumer, provider, present)
    await connect(two)
    name = await two.request(terms())
    await two.state_is(two.provider, name, pb.CONTRACT_STATE_REQUESTED)
    deadlines = [(await two.contract(node, name)).deadline.ToDatetime(UTC) - present.now() for node in two.both]
    assert deadlines == [timedelta(days=3), timedelta(days=30)]
    await two.pass_time(days=3)
    ended = await two.ended_alike(name)
    assert (ended.reason, ended.terminated_by) == (machine.DEADLINE, "sf")


async def test_a_negotiation_with_a_node_that_is_away_ends_too(apart: Two) -> None:
    name = await apart.request(terms())
    await apart.pass_time(days=15)
    assert (await apart.contract(apart.consumer, name)).reason == machine.DEADLINE


async def test_the_salt_stays_in_the_service(two: Two) -> None:
    hashed = terms(fields=[sharing_pb2.FieldTerms(field="day", masking=sharing_pb2.MASKING_HASH)])
    name = await two.in_force(hashed)
    salts = {(await two.contract(node, name)).terms.salt for node in two.both}
    assert len(salts) == 1
    assert len(salts.pop()) == 32
    for node in two.both:
        stated = await two.stated(node, facts_pb2.ContractChanged)
        assert stated
        assert not any(each.contract.terms.salt for each in stated)
        assert not any(each.contract.terms.salt for each in await two.stated(node, facts_pb2.TransferChanged))


async def test_a_peer_cannot_touch_what_is_not_with_it(two: Two) -> None:
    """A step about a contract between others, and a contract in the name of others."""
    foreign = pb.Contract(name=f"contracts/{new_id()}", kind=pb.CONTRACT_KIND_EXCHANGE, version=1, terms=terms())
    foreign.provider, foreign.consumer = "beijing", "oakland"

    async def lie(tx: object) -> None:
        for message in (machine.REQUEST, machine.OFFER, machine.AGREEMENT):
            envelope = envelope_of(tx, message, foreign, "", new_id())  # type: ignore[arg-type]
            await peers_store.enqueue(tx.conn, "beijing", [("", envelope)], link_pb2.LANE_CONTROL)  # type: ignore[attr-defined]

    await two.take(two.consumer, lie)
    await two.idle()
    assert await two.provider.contracts() == []
    refused = await two.provider.transactions.read(lambda conn: refusals_store.refusals(conn, foreign.name, None, 10))
    assert [each.reason for each in refused] == ["NOT_PERMITTED"] * 3


# ------------------------------------------------------------------------------------------- transfers


async def test_a_contract_that_is_asked_for_rows_needs_no_transfer(two: Two) -> None:
    name = await two.request(terms(mode=pb.DELIVERY_MODE_PULL))
    await two.state_is(two.provider, name, pb.CONTRACT_STATE_REQUESTED)
    await two.agreed(name)
    await two.pass_time(days=1)
    await two.idle()
    for node in two.both:
        assert await node.transfers(name) == []
    with pytest.raises(WrongState):
        await two.take(two.consumer, lambda tx: two.consumer.negotiator.transfers.request(tx, name))


async def test_a_transfer_begins_when_its_contract_becomes_valid(two: Two) -> None:
    later = terms()
    later.valid_from.FromDatetime(two.clock.now() + timedelta(days=2))
    name = await two.request(later)
    await two.state_is(two.provider, name, pb.CONTRACT_STATE_REQUESTED)
    await two.agreed(name)
    await two.pass_time(days=1)
    assert await two.consumer.transfers(name) == []
    await two.pass_time(days=1)
    for node in two.both:
        await eventually(partial(node.transfers, name, pb.TRANSFER_STATE_STARTED))


async def test_a_transfer_that_is_not_asked_for_again_ends_by_itself(two: Two) -> None:
    name = await two.in_force(terms())
    await eventually(partial(two.consumer.transfers, name, pb.TRANSFER_STATE_STARTED))
    transfer = (await two.provider.transfers(name))[0].name
    await two.take(
        two.consumer,
        lambda tx: two.consumer.negotiator.transfers.take(tx, transfer, "TransferSuspensionMessage", "full"),
    )
    await eventually(partial(two.provider.transfers, name, pb.TRANSFER_STATE_SUSPENDED))
    held = (await two.provider.transfers(name))[0]
    assert (held.waits_for, held.owner, held.reason) == ("sf", "people/sf", "full")
    await two.pass_time(days=WaitDays().transfer_suspension)
    for node in two.both:
        await eventually(partial(node.transfers, name, pb.TRANSFER_STATE_TERMINATED))
    assert (await two.contract(two.consumer, name)).state == pb.CONTRACT_STATE_FINALIZED
    await two.take(two.consumer, lambda tx: two.consumer.negotiator.transfers.request(tx, name))
    for node in two.both:
        await eventually(partial(node.transfers, name, pb.TRANSFER_STATE_STARTED))


def test_terms_that_would_hide_something_are_wrong() -> None:
    with pytest.raises(Invalid):
        contract_terms.check(pb.CONTRACT_KIND_EXCHANGE, terms(salt=b"x" * 32))
    with pytest.raises(Invalid):
        contract_terms.check(pb.CONTRACT_KIND_CHARTER, terms())
