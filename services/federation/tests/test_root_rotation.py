"""A node changes its root: peers follow by a signature of the root before, and no stream ends for it."""

from functools import partial

import pytest

from libs.errors import Forbidden
from libs.testing import eventually
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import trust_pb2
from services.federation import pki, trust_list
from services.federation.pki import NEXT_ROOT
from services.federation.tests.pairs import Pair, event, names_at
from services.federation.tests.test_rotation import handler
from services.federation.tests.world import Node, World


async def rotate_root(node: Node) -> str:
    return (await handler(node).rotate_root(trust_pb2.RotateRootRequest(reason="every five years"))).root_fingerprint


async def flows(pair: Pair, number: int) -> None:
    await pair.district.state(event("sf-d10", "d10", number))
    await pair.district.pump()

    async def arrived() -> bool:
        return f"zones/d10/events/{number}" in await names_at(pair.city)

    await eventually(arrived)


async def pinned(node: Node, peer: str, fingerprint: str) -> bool:
    return pki.fingerprint((await node.peer(peer)).root_certificate) == fingerprint


async def test_peers_follow_and_no_stream_ends(pair: Pair) -> None:
    for node in pair.both:
        pair.world.look_after(node)
    sessions = {id(session) for session in pair.district.hub.sessions()}
    made = {node.id: await rotate_root(node) for node in pair.both}
    for node, peer in (pair.both, pair.both[::-1]):
        assert made[peer.id] == peer.membership.root_fingerprint
        await eventually(partial(pinned, node, peer.id, made[peer.id]))
    await flows(pair, 1)
    assert {id(session) for session in pair.district.hub.sessions()} == sessions
    for node in pair.both:
        with pytest.raises(FileNotFoundError):
            node.secrets.read(NEXT_ROOT)
        assert (await node.members.guard.look()).good

    # Afterwards: a new stream with the certificate of the old root, and certificates by the new one.
    await pair.cut()
    await pair.dial()
    await flows(pair, 2)
    _, request = pki.request_certificate("sf-d10")
    issued = await pair.city.transactions.run(lambda tx: pair.city.members.certificates.issue(tx, "sf-d10", request))
    pki.check_issued(issued, (await pair.district.peer("sf")).root_certificate, pki.spiffe_id("sf", "sf-d10"))


async def test_a_peer_that_was_away_through_two_changes_follows(pair: Pair) -> None:
    """It calls with the first root pinned: the server shows how its present one is certified by the one before."""
    await pair.cut()
    await rotate_root(pair.city)
    await pair.dial()
    await flows(pair, 1)
    first = (await pair.district.peer("sf")).root_certificate
    await pair.cut()
    last = [await rotate_root(pair.city) for _ in range(2)][-1]
    peer = await pair.district.peer("sf")
    assert peer.root_certificate == first
    newest = await pair.city.trust.newest()
    assert await pair.district.transactions.run(lambda tx: pair.district.trust.hear(tx, peer, newest))
    assert await pinned(pair.district, "sf", last)
    await pair.dial()
    await flows(pair, 2)
    assert (await pair.district.members.guard.look()).good


async def test_nobody_else_hands_a_root_over(pair: Pair) -> None:
    city, district = pair.both
    pin = city.trust.authority.root_certificate
    before = await city.trust.newest()
    await rotate_root(city)
    after = trust_pb2.TrustList.FromString((await city.trust.newest()).list)
    trust_list.opened(await city.trust.newest(), pin, "sf")
    with pytest.raises(Forbidden):  # not back again
        trust_list.opened(before, city.trust.authority.root_certificate, "sf")
    for handover in ((), after.handovers):
        theirs = trust_pb2.TrustList(node="sf", number=9, root_certificate=district.trust.authority.root_certificate)
        theirs.keys.extend(after.keys)
        theirs.handovers.extend(handover)
        with pytest.raises(Forbidden):
            trust_list.opened(trust_list.sealed(district.trust.authority, theirs), pin, "sf")
    after.root_certificate = pin
    with pytest.raises(Forbidden):  # the new root does not sign for the old one
        trust_list.opened(trust_list.sealed(city.trust.authority, after), pin, "sf")


async def test_a_change_that_was_interrupted_is_completed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    city = pair.city

    with monkeypatch.context() as interrupted:
        interrupted.setattr(city.trust.authority, "adopt", lambda _: None)
        await city.transactions.run(city.trust.change_root)
    listed = trust_pb2.TrustList.FromString((await city.trust.newest()).list)
    assert listed.root_certificate != city.trust.authority.root_certificate
    assert (await city.members.guard.look()).good
    assert listed.root_certificate == city.trust.authority.root_certificate


async def test_a_joiner_whose_invitation_names_the_root_before_is_let_in(made: World) -> None:
    city, district = await made.node("sf", "city"), await made.node("sf-d10", "d10")
    request = pb.CreateInvitationRequest(node="sf-d10", kind=pb.PEER_KIND_CHILD, zone="d10")
    invitation = await city.membership.invite(request)
    confirmed = city.membership.root_fingerprint
    await rotate_root(city)
    await district.joiner.join(invitation, confirmed)
    await rotate_root(city)
    for person in ("people/node-admin", "people/data-steward"):
        await city.approve(district, person)
    await district.joiner.ask_all()
    assert (await district.peer("sf")).state == pb.PEER_STATE_ACTIVE
    assert await pinned(district, "sf", city.membership.root_fingerprint)
