"""A node is invited, asks, and is let in by two people who have compared its fingerprint."""

import asyncio
from datetime import timedelta

import pytest
import pytest_asyncio

from libs.clock import ManualClock
from libs.errors import DomainError, Forbidden, Invalid, Reason, WrongState
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import alarms, membership_store, pki, trust_list
from services.federation.membership import REQUEST_DAYS
from services.federation.tests.world import PEOPLE, Node, World

CHILD = pb.CreateInvitationRequest(node="sf-d10", kind=pb.PEER_KIND_CHILD, zone="d10")


@pytest_asyncio.fixture
async def made(timed: World) -> World:
    # TLS goes by the real clock, which the tests do not turn.
    timed.terms["leaf_valid"] = timedelta(days=30)
    return timed


async def ask(city: Node, district: Node, request: pb.CreateInvitationRequest = CHILD) -> pb.Invitation:
    invitation = await city.membership.invite(request)
    await district.joiner.join(invitation, city.membership.root_fingerprint)
    return invitation


async def states(city: Node, district: Node) -> tuple[int, int]:
    return (await city.peer(district.id)).state, (await district.peer(city.id)).state


async def refused(work: object) -> tuple[type[DomainError], str]:
    with pytest.raises(DomainError) as raised:
        await work  # type: ignore[misc]
    return type(raised.value), raised.value.reason


async def test_two_different_people_let_a_node_in(made: World) -> None:
    city, district = await made.node("sf", "city"), await made.node("sf-d10", "d10")
    await ask(city, district)
    assert await states(city, district) == (pb.PEER_STATE_REQUESTED, pb.PEER_STATE_REQUESTED)
    assert await city.contracts() == []

    await city.approve(district, PEOPLE[0])
    await district.joiner.ask_all()
    assert await states(city, district) == (pb.PEER_STATE_REQUESTED, pb.PEER_STATE_REQUESTED)
    assert (await district.peer("sf")).certificate == ""

    await city.approve(district, PEOPLE[1])
    await district.joiner.ask_all()
    assert await states(city, district) == (pb.PEER_STATE_ACTIVE, pb.PEER_STATE_ACTIVE)
    assert [contract.state for contract in await district.contracts()] == [pb.CONTRACT_STATE_VERIFIED]
    approvals = await city.transactions.read(lambda conn: membership_store.approvals(conn, ["sf-d10"]))
    assert [each.person for each in approvals["sf-d10"]] == sorted(PEOPLE)


async def test_nobody_approves_twice_and_no_program_does(made: World) -> None:
    city, district = await made.node("sf", "city"), await made.node("sf-d10", "d10")
    await ask(city, district)
    await city.approve(district, PEOPLE[0])
    assert await refused(city.approve(district, PEOPLE[0])) == (WrongState, Reason.APPROVAL_BY_SAME)
    program = "serviceAccounts/gateway"
    assert await refused(city.approve(district, program)) == (Forbidden, Reason.APPROVAL_BY_PERSON)
    wrong = city.transactions.run(lambda tx: city.membership.approve(tx, "sf-d10", "0" * 64, PEOPLE[1]))
    assert await refused(wrong) == (Forbidden, Reason.FINGERPRINT_DIFFERS)
    assert await states(city, district) == (pb.PEER_STATE_REQUESTED, pb.PEER_STATE_REQUESTED)
    await city.approve(district, PEOPLE[1])
    assert await refused(city.approve(district, "people/third")) == (WrongState, Reason.WRONG_STATE)


async def test_the_joiner_has_to_confirm_the_fingerprint(made: World) -> None:
    city, district, other = await made.node("sf", "city"), await made.node("sf-d10", "d10"), await made.node("x", "d10")
    invitation = await city.membership.invite(CHILD)
    mine = city.membership.root_fingerprint
    assert await refused(district.joiner.join(invitation, "0" * 64)) == (Forbidden, Reason.FINGERPRINT_DIFFERS)
    wrong = pb.Invitation()
    wrong.CopyFrom(invitation)
    wrong.root_fingerprint = "0" * 64
    assert (await refused(district.joiner.join(wrong, mine)))[0] is Invalid
    assert await refused(other.joiner.join(invitation, mine)) == (Forbidden, Reason.JOIN_TOKEN_INVALID)
    await district.joiner.join(invitation, mine)
    await district.joiner.join(invitation, mine)  # the same again is the same
    assert await states(city, district) == (pb.PEER_STATE_REQUESTED, pb.PEER_STATE_REQUESTED)
    stolen = await made.node("sf-d10", "d10")
    assert await refused(stolen.joiner.join(invitation, mine)) == (Forbidden, Reason.JOIN_TOKEN_INVALID)


async def test_a_node_that_was_turned_away_may_be_invited_again(made: World) -> None:
    city, district = await made.node("sf", "city"), await made.node("sf-d10", "d10")
    await ask(city, district)
    for _ in range(2):
        await city.transactions.run(lambda tx: city.membership.reject(tx, "sf-d10", "not expected"))
    await district.joiner.ask_all()
    assert await states(city, district) == (pb.PEER_STATE_REJECTED, pb.PEER_STATE_REJECTED)
    assert (await district.peer("sf")).state_reason == "not expected"
    assert (await refused(city.approve(district, PEOPLE[0])))[0] is WrongState
    await made.join(city, district, "d10")
    assert await states(city, district) == (pb.PEER_STATE_ACTIVE, pb.PEER_STATE_ACTIVE)


async def test_what_nobody_answers_ends_with_an_alarm(made: World, present: ManualClock) -> None:
    city, district = await made.node("sf", "city"), await made.node("sf-d10", "d10")
    await ask(city, district)
    await city.approve(district, PEOPLE[0])
    present.advance(timedelta(days=REQUEST_DAYS))
    await city.membership.lapse()
    await district.joiner.ask_all()
    assert await states(city, district) == (pb.PEER_STATE_REJECTED, pb.PEER_STATE_REJECTED)
    for node in (city, district):
        assert [each.name for each in await node.transactions.read(alarms.all_set)] == ["JOIN_UNANSWERED"]
    unused = await city.membership.invite(CHILD)
    present.advance(timedelta(hours=1))
    late = district.joiner.join(unused, city.membership.root_fingerprint)
    assert await refused(late) == (Forbidden, Reason.JOIN_TOKEN_INVALID)


async def test_zones_never_overlap_whoever_is_first(made: World) -> None:
    city = await made.node("sf", "city")
    requests = [
        pb.CreateInvitationRequest(node=f"n-{number}", kind=pb.PEER_KIND_CHILD, zone=zone)
        for number, zone in enumerate(["d10", "hill", "d10", "hill"])
    ]
    results = await asyncio.gather(*(city.membership.invite(each) for each in requests), return_exceptions=True)
    refusals = [each for each in results if isinstance(each, WrongState)]
    assert (len(results) - len(refusals), {each.reason for each in refusals}) == (1, {Reason.ZONE_DELEGATED})
    await city.membership.invite(pb.CreateInvitationRequest(node="d6", kind=pb.PEER_KIND_CHILD, zone="d6"))
    for zone in ("", "city", "nowhere"):
        with pytest.raises(Invalid):
            await city.membership.invite(pb.CreateInvitationRequest(node="y", kind=pb.PEER_KIND_CHILD, zone=zone))


async def test_a_stolen_token_and_a_public_root_are_not_enough(made: World) -> None:
    """Approval compares the root only: everything else in the card has to be bound to it."""
    city, district, thief = await made.node("sf", "city"), await made.node("sf-d10", "d10"), await made.node("x", "d10")
    token = (await city.membership.invite(CHILD)).token
    honest = link_pb2.NodeCard.FromString((await district.membership.card("sf")).card)
    _, request = pki.request_certificate("sf-d10")

    def card(**lies: object) -> link_pb2.NodeCard:
        told = link_pb2.NodeCard()
        told.CopyFrom(honest)
        told.MergeFrom(link_pb2.NodeCard(**{"certificate_request": request, **lies}))  # type: ignore[arg-type]
        return told

    theirs = (await thief.membership.card("sf")).card
    own_root = trust_list.sealed_card(thief.trust.authority, card())
    keys = link_pb2.NodeCard.FromString(theirs).trust_list
    borrowed = trust_list.sealed_card(district.trust.authority, card(trust_list=keys))
    elsewhere = await district.membership.card("other", request)
    bare = link_pb2.SignedNodeCard(card=card().SerializeToString(), root_signature=own_root.root_signature)
    for forged in (own_root, borrowed, elsewhere, bare):
        asked = city.membership.admit(link_pb2.JoinRequest(token=token, card=forged))
        assert await refused(asked) == (Forbidden, Reason.SIGNATURE_INVALID)
    good = trust_list.sealed_card(district.trust.authority, card())
    answer = await city.membership.admit(link_pb2.JoinRequest(token=token, card=good))
    assert answer.state == pb.PEER_STATE_REQUESTED
    with pytest.raises(Forbidden):  # the answer is for the joiner only
        trust_list.opened_card(answer.card, "x")
    assert trust_list.opened_card(answer.card, "sf-d10").node == "sf"
