"""A node changes its signing key while facts flow; what the old key has signed stays good, unless it was stolen."""

from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from libs.config import Secrets
from libs.errors import Forbidden, NotFound, WrongState
from libs.node_key import NodeKeys, ensure_node_key
from libs.testing import eventually
from quintet.audit.v1 import audit_pb2
from quintet.federation.v1 import evidence_pb2, link_pb2, trust_pb2
from services.federation import alarms, pki, receipts_store, trust_store
from services.federation.evidence_service import EvidenceHandler
from services.federation.key_ring import KEY_OVERLAP
from services.federation.rotation import NEXT_NAME, SIGNING_KEY_NOT_LISTED
from services.federation.signing import NodeSigner, check_agreement, key_id, open_batch, open_receipt
from services.federation.terms import agreement
from services.federation.tests.pairs import Pair, event, names_at
from services.federation.tests.test_cosign import PART, offers, write
from services.federation.tests.world import Node, local_logs
from services.federation.trust_service import TrustHandler


def handler(node: Node) -> TrustHandler:
    return TrustHandler(node.transactions, node.trust, node.members.rotation, node.members.guard)


async def rotate(node: Node, *, compromised: bool = False) -> str:
    request = trust_pb2.RotateSigningKeyRequest(reason="once a year", compromised=compromised)
    return (await handler(node).rotate_key(request)).key_id


async def signs_with(node: Node, key: str) -> bool:
    return node.signer.key_id == key


async def settled(node: Node, key: str) -> bool:
    """Say whether the key is the only one that is not retired, and its predecessor's private half is gone."""
    keys = await node.transactions.read(lambda conn: trust_store.keys(conn, node.id))
    with pytest.raises(FileNotFoundError):
        node.secrets.read(NEXT_NAME)
    return [each.key_id for each in keys if each.retired_at is None] == [key]


async def test_facts_flow_through_a_change_of_keys_at_both_ends(pair: Pair) -> None:
    city, district = pair.city, pair.district
    before = {node.id: node.signer.key_id for node in (city, district)}
    for node in (city, district):
        pair.world.look_after(node)
    sessions = {id(session) for session in district.hub.sessions()}
    sent = 0

    async def changed(keys: dict[str, str]) -> bool:
        nonlocal sent
        sent += 1
        await district.state(event("sf-d10", "d10", sent))
        await district.pump()
        return sent >= 10 and all([await signs_with(node, keys[node.id]) for node in (city, district)])

    await changed(before)
    made = {node.id: await rotate(node) for node in (city, district)}
    with pytest.raises(WrongState):
        await rotate(city)
    await eventually(partial(changed, made), within_s=20)
    for _ in range(5):
        await changed(made)

    async def arrived() -> bool:
        return len(await names_at(city)) == sent

    await eventually(arrived)
    assert await names_at(city) == [f"zones/d10/events/{number + 1}" for number in range(sent)]
    assert {id(session) for session in district.hub.sessions()} == sessions  # nothing was turned away on the way
    for node in (city, district):
        await eventually(partial(pair_settled, node, made[node.id]))
        assert not [each for each in await node.transactions.read(alarms.all_set) if "TRUST" in each.name]

    # Receipts from before and after verify, each with the key that it names.
    ring = await district.transactions.read(lambda conn: trust_store.ring(conn, "sf"))

    async def both_signed() -> bool:
        kept = await receipts(district)
        return {each.key_id for each in kept} == {before["sf"], made["sf"]}

    await eventually(both_signed)
    for kept in await receipts(district):
        signed = link_pb2.SignedReceipt(receipt=kept.receipt, key_id=kept.key_id, signature=kept.signature)
        assert open_receipt(signed, ring.ever(kept.key_id)).receiver == "sf"
    charter = (await district.contracts())[0]
    check_agreement(charter.provider_signature, agreement(charter), ring.ever)


async def pair_settled(node: Node, key: str) -> bool:
    try:
        node.secrets.read(NEXT_NAME)
    except FileNotFoundError:
        return await settled(node, key)
    return False


async def receipts(node: Node) -> list[receipts_store.Kept]:
    return list(await node.transactions.read(lambda conn: receipts_store.page(conn, "sf", None, 500)))


async def test_a_peer_that_is_away_learns_the_key_from_the_next_hello(pair: Pair) -> None:
    city, district = pair.city, pair.district
    await pair.cut()
    await city.transactions.run(
        lambda tx: tx.conn.execute("UPDATE peers SET last_contact = last_contact - interval '1 h'")
    )
    await district.state(event("sf-d10", "d10", 1))
    await district.pump()
    made = await rotate(city)
    await city.members.rotation.advance()  # nobody is connected: nobody has to confirm
    assert await signs_with(city, made)
    await pair.dial()
    await eventually(lambda: names_at(city))


async def test_the_overlap_ends_and_the_old_key_signs_nothing_new(pair: Pair) -> None:
    city, district = pair.city, pair.district
    old_key, now = city.key, city.transactions.clock.now()
    old = NodeSigner("sf", lambda: old_key)
    batch = old.batch(link_pb2.Batch(sender="sf", receiver="sf-d10"))
    await city.transactions.run(lambda tx: tx.conn.execute("UPDATE peers SET last_contact = NULL"))
    await rotate(city)
    await city.members.rotation.advance()
    await show(city, district)
    ring = await district.transactions.read(lambda conn: trust_store.ring(conn, "sf"))
    open_batch(batch, ring.at(batch.key_id, now))
    with pytest.raises(Forbidden):
        ring.at(batch.key_id, now + KEY_OVERLAP + timedelta(minutes=1))
    assert ring.ever(batch.key_id) == old.public_key


async def show(city: Node, district: Node) -> None:
    peer, signed = await district.peer("sf"), await city.trust.newest()
    assert await district.transactions.run(lambda tx: district.trust.hear(tx, peer, signed))


async def test_a_stolen_key_is_refused_at_once(pair: Pair) -> None:
    city, district = pair.city, pair.district
    stolen = district.key
    thief = NodeSigner("sf-d10", lambda: stolen)
    pair.world.look_after(district)
    made = await rotate(district, compromised=True)
    await eventually(partial(signs_with, district, made))

    async def revoked() -> bool:
        keys = await city.transactions.read(lambda conn: trust_store.keys(conn, "sf-d10"))
        return [each.key_id for each in keys if each.revoked_at is not None] == [thief.key_id]

    await eventually(revoked)
    ring = await city.transactions.read(lambda conn: trust_store.ring(conn, "sf-d10"))
    with pytest.raises(Forbidden, match="revoked"):
        ring.at(thief.key_id, city.transactions.clock.now())
    with pytest.raises(Forbidden, match="revoked"):
        ring.ever(thief.key_id)
    asked = thief.renewal("sf", pki.request_certificate("sf-d10")[1])
    with pytest.raises(Forbidden, match="revoked"):
        await city.members.certificates.renew(asked)
    await district.state(event("sf-d10", "d10", 1))
    await district.pump()
    await eventually(lambda: names_at(city))


async def test_a_certificate_is_renewed_with_a_key_that_the_issuer_has_not_heard_of(pair: Pair) -> None:
    """After a long absence in which the key was changed the list comes with the request."""
    city, district = pair.city, pair.district
    await pair.cut()
    await district.transactions.run(lambda tx: tx.conn.execute("UPDATE peers SET last_contact = NULL"))
    made = await rotate(district)
    await district.members.rotation.advance()
    asked = district.signer.renewal("sf", pki.request_certificate("sf-d10")[1])
    with pytest.raises(Forbidden, match=made):
        await city.members.certificates.renew(asked)
    asked.trust_list.CopyFrom(await district.trust.newest())
    await city.members.certificates.renew(asked)


async def test_an_interrupted_rotation_goes_on(pair: Pair) -> None:
    """The process dies after the new key signs, before the old one is retired."""
    city = pair.city
    await city.transactions.run(lambda tx: tx.conn.execute("UPDATE peers SET last_contact = NULL"))
    made = await rotate(city)
    city.keys.replace(city.members.rotation._next() or Ed25519PrivateKey.generate())
    await city.members.rotation.advance()
    assert await settled(city, made)


async def test_a_key_that_nobody_was_told_of_is_an_alarm_until_another_is_made(pair: Pair) -> None:
    city = pair.city
    await city.trust.newest()
    city.keys.replace(Ed25519PrivateKey.generate())  # a folder of secrets that was restored, or a file put there
    await city.members.rotation.advance()
    assert [each.name for each in await city.transactions.read(alarms.all_set)] == [SIGNING_KEY_NOT_LISTED]
    made = await rotate(city)
    await city.members.rotation.advance()
    assert await signs_with(city, made)
    assert await city.transactions.read(alarms.all_set) == []


async def test_the_audit_log_verifies_across_a_rotation(pair: Pair) -> None:
    city, district = pair.city, pair.district
    await city.transactions.run(lambda tx: tx.conn.execute("UPDATE peers SET last_contact = NULL"))
    old = city.signer.key_id
    await write(city, 1)
    made = await rotate(city)
    await city.members.rotation.advance()
    await write(city, 1)
    log = local_logs(city.log)[PART]
    checkpoints = (await log.ListCheckpoints(audit_pb2.ListCheckpointsRequest())).checkpoints
    assert {each.key_id for each in checkpoints} == {old, made}
    assert (await log.VerifyAuditLog(audit_pb2.VerifyAuditLogRequest())).verified
    await city.cosigning.offer_all()

    async def cosigned() -> bool:
        found = await offers(city, "sf-d10")
        return bool(found) and found[-1].answered_at is not None and not found[-1].refusal

    await eventually(cosigned)
    listed = await EvidenceHandler(district.transactions, district.trust, district.cosigning).keys(
        evidence_pb2.ListSigningKeysRequest()
    )
    of_city = [each.key_id for each in listed.keys if each.node == "sf"]
    assert old in of_city


async def test_lists_are_shown_to_people(pair: Pair) -> None:
    shown = (await handler(pair.city).page(trust_pb2.ListTrustListsRequest(page_size=1))).trust_lists
    assert [each.name for each in shown] == ["trustLists/sf"]
    of_peer = await handler(pair.city).get(trust_pb2.GetTrustListRequest(name="trustLists/sf-d10"))
    assert of_peer.trust_list.list.keys[0].key_id == pair.district.signer.key_id
    with pytest.raises(NotFound):
        await handler(pair.city).get(trust_pb2.GetTrustListRequest(name="trustLists/nobody"))


def test_all_processes_sign_with_the_new_key_at_once(tmp_path: Path) -> None:
    ensure_node_key(Secrets(tmp_path))
    one, other = NodeKeys(Secrets(tmp_path)), NodeKeys(Secrets(tmp_path))
    before = one.present().public_key().public_bytes_raw()
    following = Ed25519PrivateKey.generate()
    other.replace(following)
    other.replace(following)
    assert key_id(one.present().public_key().public_bytes_raw()) == key_id(following.public_key().public_bytes_raw())
    assert [key.public_bytes_raw() for key in one.public()] == [before, following.public_key().public_bytes_raw()]
