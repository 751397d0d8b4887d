"""Two nodes cosign each other's audit logs; who rewrites a log is found out by the other."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from libs import audit_store, audit_tree, canonical, merkle
from libs.audit import AuditSealer
from libs.audit_chain import START, Head, extend, sign_checkpoint
from libs.errors import Forbidden, Invalid, NotFound
from libs.testing import eventually
from libs.tx import Tx
from quintet.federation.v1 import link_pb2
from services.federation import alarms, cosign, cosign_store
from services.federation.control import ControlHandler
from services.federation.cosign_store import FORKED, Held, Offered
from services.federation.peers_store import Peer
from services.federation.signing import COSIGN_PREFIX, key_id
from services.federation.tests.pairs import in_force
from services.federation.tests.world import Node, World

PART = "federation"


@pytest_asyncio.fixture
async def city(made: World) -> Node:
    return await made.node("sf", "city")


@pytest_asyncio.fixture
async def district(made: World, city: Node) -> Node:
    """A district that has joined, with what its joining left in its log sealed and signed."""
    node = await made.node("sf-d10", "d10")
    await made.join(city, node, "d10")
    await made.dial(node)
    for each in (node, city):
        await eventually(partial(in_force, each))
    await write(node, 300)
    return node


async def write(node: Node, entries: int) -> None:
    """Add entries to the node's log, seal them, and sign."""

    async def work(tx: Tx) -> None:
        for number in range(entries):
            tx.audit("things.put", f"things/{number}")

    await node.transactions.run(work)
    async with node.transactions.pool.acquire() as conn:
        await AuditSealer(node.transactions.pool, node.transactions.clock, PART, node.id, lambda: node.key).seal_all(
            conn
        )


async def offers(node: Node, to: str) -> list[Offered]:
    return await node.transactions.read(lambda conn: cosign_store.page(conn, to, PART, None, 100))


async def held(node: Node, of: str) -> Held | None:
    async def read(tx: Tx) -> Held | None:
        return await cosign_store.held(tx.conn, of, PART)

    return await node.transactions.run(read)


async def alarmed(node: Node, peer: str) -> bool:
    found = await node.transactions.read(lambda conn: alarms.of_peers(conn, [peer]))
    return FORKED in [alarm.name for alarm in found[peer]]


async def offer(district: Node, answers: int) -> list[Offered]:
    """Offer what has grown, and return all that was answered once there are so many answers."""
    await district.cosigning.offer_all()

    async def answered() -> bool:
        return len(await offers(district, "sf")) == answers

    await eventually(answered)
    return await offers(district, "sf")


async def execute(node: Node, statement: str, *arguments: object) -> None:
    """Do what only the owner of the database can."""

    async def work(tx: Tx) -> None:
        await tx.conn.execute("ALTER TABLE audit_entries DISABLE TRIGGER USER")
        await tx.conn.execute("ALTER TABLE audit_checkpoints DISABLE TRIGGER USER")
        await tx.conn.execute("ALTER TABLE audit_tiles DISABLE TRIGGER USER")
        await tx.conn.execute(statement, *arguments)

    await node.transactions.run(work)


async def test_a_peer_vouches_for_a_log_as_it_grows(city: Node, district: Node) -> None:
    first = (await offer(district, 1))[0]
    city_key = city.key.public_key()
    city_key.verify(first.cosignature, COSIGN_PREFIX + first.statement.encode())
    assert first.peer_key_id == key_id(city_key.public_bytes_raw())
    assert (first.refusal, first.peer_size) == ("", first.size)
    kept = await held(city, "sf-d10")
    assert kept is not None
    assert (kept.statement, kept.size) == (first.statement, first.size)

    assert await district.cosigning.offer_all() == 0  # nothing has grown
    await write(district, 500)
    second = (await offer(district, 2))[1]
    assert (second.size, second.refusal) == (first.size + 500, "")
    assert not await alarmed(city, "sf-d10")
    # Both ways.
    await write(city, 3)
    await city.cosigning.offer_all()
    await eventually(partial(is_held, district, "sf"))


async def is_held(node: Node, of: str) -> bool:
    return await held(node, of) is not None


async def rewritten(node: Node) -> None:
    """Whoever holds the database and the node's key alters an entry, and makes all the rest fit again."""
    entries = await node.transactions.read(lambda conn: audit_store.sealed(conn, 0, 10_000))
    tree, head = merkle.Frontier(), START
    for entry in entries:
        forged = replace(entry, actor="people/nobody") if entry.sequence == 7 else entry
        before, head = head, extend(PART, head, forged)
        tree = tree.append(merkle.leaf_hash(head.hash))
        await execute(
            node,
            "UPDATE audit_entries SET actor = $2, previous_hash = $3, hash = $4 WHERE sequence = $1",
            head.sequence, forged.actor, before.hash, head.hash,
        )  # fmt: skip
    await execute(node, "DELETE FROM audit_tiles")
    await execute(node, "DELETE FROM audit_checkpoints")
    async with node.transactions.pool.acquire() as conn:
        await audit_tree.grow(conn, head.sequence)
        now = node.transactions.clock.now()
        signed = sign_checkpoint(node.key, node.id, PART, Head(head.sequence, head.hash), tree.root(), now)
        await audit_store.add_checkpoint(conn, signed)


async def test_a_log_rewritten_with_the_nodes_own_key_is_found_out(city: Node, district: Node) -> None:
    before = (await offer(district, 1))[0]
    await rewritten(district)
    await district.cosigning.offer_all()
    await eventually(partial(alarmed, city, "sf-d10"))
    await eventually(partial(alarmed, district, "sf"))
    kept = await held(city, "sf-d10")
    assert kept is not None
    assert kept.statement == before.statement
    assert kept.forked.startswith(f"{FORKED}: two roots for {before.size} entries")

    # Also later, when it has grown: what the city cosigned is not its beginning.
    await write(district, 40)
    last = (await offer(district, 2))[-1]
    assert last.refusal == f"{FORKED}: the log does not continue its first {before.size} entries"
    # Both signed statements stand in the city's own log: together they prove it.
    rows = await city.transactions.read(
        lambda conn: conn.fetch("SELECT detail FROM audit_entries WHERE action = 'federation.checkpoints.refuse'")
    )
    details: list[Any] = [canonical.loads(row["detail"]) for row in rows]
    assert [detail["held"] for detail in details] == [before.statement]
    for text, signature in (("statement", "signature"), ("held", "held_signature")):
        district.key.public_key().verify(bytes.fromhex(details[0][signature]), details[0][text].encode())


async def test_a_log_that_lost_its_end_is_found_out_at_once(city: Node, district: Node) -> None:
    first = (await offer(district, 1))[0]
    await write(district, 10)
    await offer(district, 2)
    # With its last checkpoint the end is gone, and what is left verifies.
    await execute(district, "DELETE FROM audit_entries WHERE sequence > $1", first.size)
    await execute(district, "DELETE FROM audit_checkpoints WHERE sequence > $1", first.size)
    await execute(district, "DELETE FROM cosignatures")
    await district.cosigning.offer_all()
    await eventually(partial(alarmed, city, "sf-d10"))
    await eventually(partial(alarmed, district, "sf"))
    answer = (await offers(district, "sf"))[-1]
    assert answer.refusal == f"{FORKED}: the log had {first.size + 10} entries and has {first.size} now"


async def test_a_node_that_forgot_what_was_cosigned_is_told(city: Node, district: Node) -> None:
    first = (await offer(district, 1))[0]
    await execute(district, "DELETE FROM cosignatures")
    await write(district, 10)
    answer = (await offer(district, 1))[0]
    assert answer.refusal == f"{cosign.CONSISTENCY_NEEDED}: the proof must begin at {first.size} entries"
    assert not await alarmed(city, "sf-d10")
    await district.cosigning.offer_all()

    async def cosigned() -> bool:
        return [offered.cosignature != b"" for offered in await offers(district, "sf")] == [True]

    await eventually(cosigned)


async def test_people_may_begin_anew_after_a_restore(city: Node, district: Node) -> None:
    await offer(district, 1)
    await rewritten(district)
    await district.cosigning.offer_all()
    await eventually(partial(alarmed, city, "sf-d10"))
    await eventually(partial(alarmed, district, "sf"))

    async def work(tx: Tx) -> None:
        await city.cosigning.forget(tx, "sf-d10", PART, "restored from the backup of Monday")

    await city.transactions.run(work)
    assert not await alarmed(city, "sf-d10")
    with pytest.raises(NotFound):
        await city.transactions.run(work)
    await write(district, 1)
    assert (await offer(district, 2))[-1].refusal == ""

    async def calm() -> bool:
        return not await alarmed(district, "sf")

    await eventually(calm)


async def test_what_is_not_the_peers_own_word_is_refused(city: Node, district: Node) -> None:
    peer = await city.peer("sf-d10")
    head = Head(5, bytes(32))
    now = city.transactions.clock.now()
    good = sign_checkpoint(district.key, "sf-d10", PART, head, bytes(32), now)
    stranger = Ed25519PrivateKey.generate()
    forged = sign_checkpoint(stranger, "sf-d10", PART, head, bytes(32), now)
    of_another = sign_checkpoint(district.key, "sf-d6", PART, head, bytes(32), now)
    bad = [
        (of_another.statement, of_another.key_id, of_another.signature, Forbidden),
        (forged.statement, forged.key_id, forged.signature, Forbidden),
        (forged.statement, good.key_id, forged.signature, Forbidden),
        (good.statement + " ", good.key_id, good.signature, Invalid),
        (good.statement.replace("root", "toor"), good.key_id, good.signature, Invalid),
        ("[" * 2_000, good.key_id, good.signature, Invalid),
        ("{}", "", b"", Invalid),
    ]
    for statement, key, signature, error in bad:
        told = link_pb2.CheckpointOffer(statement=statement, key_id=key, signature=signature)
        with pytest.raises(error):
            await applied(city, city.cosigning.cosign, peer, link_pb2.Envelope(checkpoint=told))
    assert await held(city, "sf-d10") is None
    # An answer to what was never offered, and one with a false signature.
    statement = (await offer(district, 1))[0].statement
    city_key = key_id(city.key.public_key().public_bytes_raw())
    parent = await district.peer("sf")
    for text, signature, error in ((good.statement, b"", Invalid), (statement, bytes(64), Forbidden)):
        answer = link_pb2.Cosignature(statement=text, node="sf", key_id=city_key, signature=signature)
        with pytest.raises(error):
            await applied(district, district.cosigning.answered, parent, link_pb2.Envelope(cosignature=answer))


async def applied(node: Node, handler: ControlHandler, peer: Peer, envelope: link_pb2.Envelope) -> None:
    await node.transactions.run(lambda tx: handler(tx, peer, envelope))


async def test_old_cosignatures_are_forgotten(city: Node, district: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosign_store, "COSIGNATURES_KEPT_MAX", 3)
    sizes = []
    for _ in range(5):
        await write(district, 1)
        await district.cosigning.offer_all()
        checkpoint = await district.transactions.read(audit_store.newest_checkpoint)
        assert checkpoint is not None
        sizes.append(checkpoint.sequence)

        async def answered(size: int = checkpoint.sequence) -> bool:
            return (await offers(district, "sf"))[-1:] != [] and (await offers(district, "sf"))[-1].size == size

        await eventually(answered)
    assert [offered.size for offered in await offers(district, "sf")] == sizes[-3:]
