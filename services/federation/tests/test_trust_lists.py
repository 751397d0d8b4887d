"""The signed and numbered list of a node's keys and peers: made with each change, never taken back by an older one."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from libs.testing import eventually
from quintet.federation.v1 import trust_pb2
from services.federation import alarms, trust_list, trust_store
from services.federation.signing import NodeSigner
from services.federation.tests.pairs import Pair, event, names_at
from services.federation.tests.world import Node


async def own(node: Node) -> trust_pb2.TrustList:
    return trust_pb2.TrustList.FromString((await node.trust.newest()).list)


async def known(node: Node, peer: str) -> trust_pb2.TrustList:
    """Return the list of a peer that a node goes by."""
    found = await node.transactions.read(lambda conn: trust_store.newest(conn, peer))
    assert found is not None
    return trust_pb2.TrustList.FromString(found.list)


async def alarms_at(node: Node) -> list[tuple[str, str]]:
    """Return the alarms about trust."""
    found = await node.transactions.read(alarms.all_set)
    return [(each.peer, each.name) for each in found if each.name.startswith("TRUST_")]


async def show(node: Node, of: Node, signed: trust_pb2.SignedTrustList) -> bool:
    """Let a node be shown a list as that of a peer."""
    peer = await node.peer(of.id)
    return bool(await node.transactions.run(lambda tx: node.trust.hear(tx, peer, signed)))


async def test_each_change_of_a_peer_makes_the_next_list(pair: Pair) -> None:
    city = pair.city
    joined = await own(city)
    assert [(peer.node, peer.kind, peer.state, peer.zone) for peer in joined.peers] == [
        ("sf-d10", "CHILD", "ACTIVE", "d10")
    ]
    assert joined.peers[0].root_fingerprint == pair.district.membership.root_fingerprint
    await city.transactions.run(lambda tx: city.members.standing.suspend(tx, "sf-d10", "under inquiry"))
    suspended = await own(city)
    assert (suspended.number, suspended.peers[0].state) == (joined.number + 1, "SUSPENDED")
    assert (await own(city)).number == suspended.number  # nothing has changed
    trust_list.opened(await city.trust.newest(), city.trust.authority.root_certificate, "sf")


async def test_the_newest_list_is_in_the_hello(pair: Pair) -> None:
    city, district = pair.city, pair.district
    await pair.world.join(city, await pair.world.node("sf-d6", "d6"), "d6")
    district.hub.reopen("sf")

    async def told() -> bool:
        return [peer.node for peer in (await known(district, "sf")).peers] == ["sf-d10", "sf-d6"]

    await eventually(told)


async def test_an_older_or_another_list_is_refused_with_an_alarm(pair: Pair) -> None:
    city, district = pair.city, pair.district
    older = await city.trust.newest()
    assert await show(district, city, older)
    await city.transactions.run(lambda tx: city.members.standing.suspend(tx, "sf-d10", "under inquiry"))
    newer = await city.trust.newest()
    assert await show(district, city, newer)
    assert await show(district, city, newer)
    assert await alarms_at(district) == []

    twin = trust_pb2.TrustList.FromString(newer.list)
    del twin.peers[:]
    for rolled_back in (older, trust_list.sealed(city.trust.authority, twin)):
        assert not await show(district, city, rolled_back)
        assert await alarms_at(district) == [("sf", "TRUST_ROLLBACK")]
        assert await known(district, "sf") == trust_pb2.TrustList.FromString(newer.list)
    assert await show(district, city, newer)
    assert await alarms_at(district) == []


async def test_a_forged_list_is_refused_and_changes_no_key(pair: Pair) -> None:
    city, district = pair.city, pair.district
    before = await district.transactions.read(lambda conn: trust_store.keys(conn, "sf"))
    stolen = Ed25519PrivateKey.generate()
    thief = NodeSigner("sf", lambda: stolen)
    forged = await own(city)
    forged.number += 1
    forged.keys.add(key_id=thief.key_id, key=thief.public_key)
    elsewhere = await own(city)
    elsewhere.number, elsewhere.node = elsewhere.number + 1, "sf-d6"
    wrong_id = await own(city)
    wrong_id.number += 1
    wrong_id.keys[0].key_id = "0" * 16
    shown = [trust_list.sealed(district.trust.authority, forged)]  # by another root than the one that is pinned
    shown += [trust_list.sealed(city.trust.authority, each) for each in (elsewhere, wrong_id)]
    shown.append(trust_pb2.SignedTrustList(list=b"\xff", root_signature=city.trust.authority.sign(b"\xff")))
    for signed in shown:
        assert not await show(district, city, signed)
        assert await alarms_at(district) == [("sf", "TRUST_LIST_REFUSED")]
        assert await district.transactions.read(lambda conn: trust_store.keys(conn, "sf")) == before
    await district.state(event("sf-d10", "d10", 1))  # the exchange goes on with what is known
    await district.pump()
    await eventually(lambda: names_at(city))
