"""Proofs from the log in the database: of any size that was signed, by few reads, checked as a third party would."""

from hashlib import sha256

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from libs import audit_store, audit_tree, merkle
from libs.audit import AuditSealer, AuditServicer
from libs.errors import Invalid, NotFound, Reason, WrongState
from libs.testing import MakeTransactions
from libs.tx import Transactions, Tx
from quintet.audit.v1 import audit_pb2

KEY = Ed25519PrivateKey.generate()
ENTRIES = 1_300


@pytest.fixture
async def log(transactions: MakeTransactions) -> Transactions:
    return await transactions("management")


async def grown(log: Transactions, entries: int) -> AuditServicer:
    """Add entries, seal them, and sign."""

    async def work(tx: Tx) -> None:
        for number in range(entries):
            tx.audit("things.put", f"things/{number}")

    await log.run(work)
    async with log.pool.acquire() as conn:
        await AuditSealer(log.pool, log.clock, "management", "sf", lambda: KEY).seal_all(conn)
    return AuditServicer(log, lambda: [KEY.public_key()], lambda: KEY)


async def leaves(log: Transactions) -> list[bytes]:
    entries = await log.read(lambda conn: audit_store.sealed(conn, 0, 10 * ENTRIES))
    return [merkle.leaf_hash(entry.hash) for entry in entries]


async def test_proofs_of_all_kinds_hold_against_the_signed_root(log: Transactions) -> None:
    await grown(log, 255)
    await grown(log, 1)
    servicer = await grown(log, ENTRIES - 256)
    checkpoint = (await servicer.GetCheckpoint(audit_pb2.GetCheckpointRequest(), None)).checkpoint
    assert checkpoint.size == ENTRIES
    assert checkpoint.root == merkle.root_of(await leaves(log))
    for sequence, size in ((1, 0), (256, 256), (257, 300), (1024, 1025), (ENTRIES, ENTRIES)):
        request = audit_pb2.GetInclusionProofRequest(sequence=sequence, size=size)
        proof = await servicer.GetInclusionProof(request, None)
        leaf = merkle.leaf_hash(proof.entry.hash)
        assert merkle.verify_inclusion(leaf, sequence - 1, proof.size, proof.proof, proof.root)
        assert proof.checkpoint.root == (proof.root if proof.size in {255, 256, ENTRIES} else b"")
    for first, second in ((0, 0), (0, 1), (1, 1300), (255, 256), (256, 1024), (1023, 1290), (700, 700)):
        asked = audit_pb2.GetConsistencyProofRequest(first=first, second=second)
        found = await servicer.GetConsistencyProof(asked, None)
        assert merkle.verify_consistency(
            found.first, found.second, found.first_root, found.second_root, list(found.proof)
        )


async def test_a_signed_checkpoint_can_be_had_at_once(log: Transactions) -> None:
    servicer = AuditServicer(log, lambda: [KEY.public_key()], lambda: KEY)
    empty = await servicer.GetCheckpoint(audit_pb2.GetCheckpointRequest(at_once=True), None)
    assert not empty.HasField("checkpoint")
    await grown(log, 2)

    async def work(tx: Tx) -> None:
        tx.audit("things.put", "things/3")

    await log.run(work)
    async with log.pool.acquire() as conn:
        sealer = AuditSealer(log.pool, log.clock, "management", "sf", lambda: KEY)
        await sealer._seal(conn)
    before = await servicer.GetCheckpoint(audit_pb2.GetCheckpointRequest(), None)
    now = await servicer.GetCheckpoint(audit_pb2.GetCheckpointRequest(at_once=True), None)
    again = await servicer.GetCheckpoint(audit_pb2.GetCheckpointRequest(at_once=True), None)
    assert (before.checkpoint.size, now.checkpoint.size) == (2, 3)
    assert again == now
    listed = await servicer.ListCheckpoints(audit_pb2.ListCheckpointsRequest(page_size=1), None)
    rest = await servicer.ListCheckpoints(audit_pb2.ListCheckpointsRequest(page_token=listed.next_page_token), None)
    assert [*listed.checkpoints, *rest.checkpoints] == [before.checkpoint, now.checkpoint]


async def test_what_was_not_signed_cannot_be_proven(log: Transactions) -> None:
    servicer = await grown(log, 5)
    for call in (
        servicer.GetInclusionProof(audit_pb2.GetInclusionProofRequest(sequence=1, size=6), None),
        servicer.GetConsistencyProof(audit_pb2.GetConsistencyProofRequest(first=1, second=6), None),
        servicer.GetConsistencyProof(audit_pb2.GetConsistencyProofRequest(first=4, second=3), None),
    ):
        with pytest.raises(Invalid):
            await call
    with pytest.raises(NotFound):
        await servicer.GetInclusionProof(audit_pb2.GetInclusionProofRequest(sequence=5, size=4), None)


async def test_a_log_with_a_hole_gives_no_proofs_and_says_so(log: Transactions) -> None:
    servicer = await grown(log, 300)
    async with log.pool.acquire() as conn:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute("DELETE FROM audit_entries WHERE sequence = 299")
        await conn.execute("ALTER TABLE audit_entries DISABLE TRIGGER USER")
        await conn.execute("DELETE FROM audit_entries WHERE sequence = 299")
    for call in (
        servicer.GetInclusionProof(audit_pb2.GetInclusionProofRequest(sequence=299), None),
        servicer.GetInclusionProof(audit_pb2.GetInclusionProofRequest(sequence=3), None),
        servicer.GetConsistencyProof(audit_pb2.GetConsistencyProofRequest(first=256), None),
    ):
        with pytest.raises(WrongState) as raised:
            await call
        assert raised.value.reason == Reason.AUDIT_LOG_TORN


async def test_a_log_from_before_the_tree_is_caught_up_with(log: Transactions) -> None:
    await grown(log, 700)
    async with log.pool.acquire() as conn:
        await conn.execute("ALTER TABLE audit_tiles DISABLE TRIGGER USER")
        await conn.execute("DELETE FROM audit_tiles")
    servicer = await grown(log, 1)
    assert (await servicer.VerifyAuditLog(audit_pb2.VerifyAuditLogRequest(), None)).verified
    async with log.pool.acquire() as conn:
        assert await audit_tree.root(conn, 701) == merkle.root_of(await leaves(log))


@pytest.mark.parametrize("size", [0, 255, 256, 257, 65_535, 65_536, 66_000])
def test_the_kept_nodes_are_those_of_the_tree(size: int) -> None:
    tiles = audit_tree.Tiles()
    all_leaves = [sha256(number.to_bytes(4)).digest() for number in range(size)]
    completed = [node for leaf in all_leaves for node in tiles.append(leaf)]
    assert [(level, index) for level, index, _ in completed if level == 8] == [(8, n) for n in range(size >> 8)]
    assert [(level, index) for level, index, _ in completed if level == 16] == [(16, n) for n in range(size >> 16)]
    for level, index, hash_ in completed[-2:]:
        assert hash_ == merkle.root_of(all_leaves[index << level : (index + 1) << level])
