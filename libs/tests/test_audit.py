"""The audit log: sealed without gaps, signed, readable in pages, and telling when and where somebody altered it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from libs import audit, audit_store, context
from libs.audit import AuditSealer, AuditServicer
from libs.audit_chain import START, Checkpoint, Entry, Head, extend, key_id, sign_checkpoint, verify_chain
from libs.audit_chain import verify_checkpoint as verify
from libs.clock import ManualClock
from libs.errors import Invalid
from libs.testing import Database, MakeDatabase, MakeTransactions, eventually, running
from libs.tx import Transactions, Tx
from quintet.audit.v1.audit_pb2 import ListAuditEntriesRequest, VerifyAuditLogRequest, VerifyAuditLogResponse

KEY = Ed25519PrivateKey.generate()
TIME = datetime(2026, 1, 5, 8, 0, 0, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "SEAL_INTERVAL_S", 0.01)
    monkeypatch.setattr("libs.duty.LOCK_RETRY_S", 0.05)


@pytest.fixture
async def made(database: MakeDatabase) -> Database:
    return await database(management=[])


@pytest.fixture
async def management(transactions: MakeTransactions, made: Database) -> Transactions:
    return await transactions("management", on=made)


@pytest.fixture
def sealer(management: Transactions) -> AuditSealer:
    return AuditSealer(management.pool, management.clock, "management", "sf", lambda: KEY)


async def record(management: Transactions, *resources: str, actor: str = "people/duty-officer.d10") -> None:
    context.caller_subject.set(actor)

    async def work(tx: Tx) -> None:
        for resource in resources:
            tx.audit("management.events.dispatch", resource, to="organisations/dpw", number=1e20, list=[1, 2.5, None])

    await management.run(work)


async def sealed(management: Transactions) -> list[Entry]:
    return await management.read(lambda conn: audit_store.sealed(conn, 0, 10_000))


async def verdict(management: Transactions) -> VerifyAuditLogResponse:
    return await AuditServicer(management, lambda: [KEY.public_key()]).VerifyAuditLog(VerifyAuditLogRequest(), None)


@pytest.fixture
async def five(management: Transactions, sealer: AuditSealer) -> Transactions:
    """A log of five sealed entries and a checkpoint."""
    await record(management, *(f"zones/z/events/{number}" for number in range(1, 6)))
    async with management.pool.acquire() as conn:
        await sealer.seal_all(conn)
    return management


async def test_entries_are_sealed_without_gaps_while_they_come(
    management: Transactions, sealer: AuditSealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "SEAL_BATCH_ENTRIES", 7)
    async with running(sealer.run()):
        await asyncio.gather(*(record(management, f"a/{n}", f"b/{n}") for n in range(30)))

        async def all_sealed() -> bool:
            return len(await sealed(management)) == 60

        await eventually(all_sealed)
    found = await verdict(management)
    assert (found.verified, found.entries, found.unsealed, found.fault) == (True, 60, 0, "")
    assert [entry.sequence for entry in await sealed(management)] == list(range(1, 61))


async def test_an_entry_that_commits_late_is_sealed_late(management: Transactions, sealer: AuditSealer) -> None:
    first_inserted, second_committed = asyncio.Event(), asyncio.Event()

    async def slow(tx: Tx) -> None:
        await tx.conn.execute(
            """INSERT INTO audit_entries (time, actor, action, resource, detail, trace_id)
            VALUES (now(), 'a', 'b', 'late', '{}', '')"""
        )
        first_inserted.set()
        await second_committed.wait()

    late = asyncio.create_task(management.run(slow))
    await first_inserted.wait()
    await record(management, "early")
    async with management.pool.acquire() as conn:
        await sealer.seal_all(conn)
        second_committed.set()
        await late
        await sealer.seal_all(conn)
    assert [entry.resource for entry in await sealed(management)] == ["early", "late"]
    assert (await verdict(management)).verified


async def test_checkpoints_are_signed_by_number_and_by_time(
    management: Transactions, sealer: AuditSealer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "CHECKPOINT_ENTRIES", 10)

    async def sequences() -> list[int]:
        return [each.sequence for each in await management.read(lambda conn: audit_store.checkpoints(conn, 0, 1000))]

    async with running(sealer.run()):
        await record(management, "first")
        await eventually(lambda: holds(sequences, [1]))
        await record(management, *"abc")
        await record(management, *"defghijklm")
        await eventually(lambda: holds(sequences, [1, 14]))
        clock.advance(timedelta(seconds=audit.CHECKPOINT_S))
        await record(management, "last")
        await eventually(lambda: holds(sequences, [1, 14, 15]))
    assert (await verdict(management)).verified


async def holds(question: Callable[[], Awaitable[object]], answer: object) -> bool:
    return await question() == answer


UNSEAL = "UPDATE audit_entries SET sequence = NULL, hash = NULL, previous_hash = NULL"
COPY = (
    "INSERT INTO audit_entries (time, actor, action, resource, detail, trace_id, sequence, previous_hash, hash)"
    " SELECT time, actor, action, resource, detail, trace_id, {}, hash, sha256('x') FROM audit_entries"
    " WHERE sequence = 2"
)
TAMPERINGS = {
    "UPDATE audit_entries SET actor = 'people/nobody' WHERE sequence = 3": "entry 3 was altered",
    "UPDATE audit_entries SET detail = '{}' WHERE sequence = 3": "entry 3 was altered",
    "UPDATE audit_entries SET detail = 'no json' WHERE sequence = 3": "entry 3 holds what was never written",
    "UPDATE audit_entries SET time = time + interval '1 microsecond' WHERE sequence = 4": "entry 4 was altered",
    "DELETE FROM audit_entries WHERE sequence = 2": "entry 2 is missing",
    "DELETE FROM audit_entries WHERE sequence = 5": "entries 5 to 5 are missing",
    "DELETE FROM audit_entries": "entries 1 to 5 are missing",
    "UPDATE audit_entries SET hash = previous_hash WHERE sequence = 5": "entry 5 was altered",
    "UPDATE audit_checkpoints SET head = '\\x00'": "checkpoint 5 does not say what was signed",
    "UPDATE audit_checkpoints SET signature = '\\x00'": "checkpoint 5 has a signature that does not hold",
    "UPDATE audit_checkpoints SET key_id = ''": "checkpoint 5 is signed with a key that is not the node's",
    "UPDATE audit_checkpoints SET root = sha256('')": "checkpoint 5 does not say what was signed",
    "UPDATE audit_checkpoints SET root = ''": "checkpoint 5 does not say what was signed",
    "UPDATE audit_checkpoints SET time = time + interval '1 microsecond'": "checkpoint 5 does not say what was signed",
    "UPDATE audit_checkpoints SET statement = statement || ' '": "checkpoint 5 does not say what was signed",
    "UPDATE audit_checkpoints SET sequence = 4": "checkpoint 4 does not say what was signed",
    "UPDATE audit_checkpoints SET sequence = 0": "a checkpoint of nothing was inserted",
    "UPDATE audit_entries SET action = 'management.events.void' WHERE sequence = 1": "entry 1 was altered",
    "UPDATE audit_entries SET resource = resource || '0' WHERE sequence = 2": "entry 2 was altered",
    "UPDATE audit_entries SET trace_id = 'x' WHERE sequence = 3": "entry 3 was altered",
    "UPDATE audit_entries SET detail = replace(detail, ',', ', ') WHERE sequence = 3": "entry 3 was altered",
    "UPDATE audit_entries SET previous_hash = hash WHERE sequence = 3": "entry 3 does not continue entry 2",
    "UPDATE audit_entries SET sequence = -1, hash = '' WHERE sequence = 5": "entries 5 to 5 are missing",
    f"{UNSEAL} WHERE sequence = 3": "entry 3 is missing",
    # Two entries change places.
    "UPDATE audit_entries SET sequence = CASE sequence WHEN 2 THEN -3 ELSE -2 END WHERE sequence IN (2, 3);"
    "UPDATE audit_entries SET sequence = -sequence WHERE sequence < 0": "entry 2 does not continue entry 1",
    # One is put in between, and those behind it move on.
    "UPDATE audit_entries SET sequence = -sequence - 1 WHERE sequence >= 3;"
    f"UPDATE audit_entries SET sequence = -sequence WHERE sequence < 0; {COPY.format(3)}": "entry 3 was altered",
    COPY.format(0): "an entry before the first was inserted",
    "INSERT INTO audit_tiles VALUES (8, 0, sha256(''))": "a node of the tree was inserted",
}


LARGE_TAMPERINGS = {
    "UPDATE audit_tiles SET hash = sha256('x') WHERE level = 8 AND index = 1": "node 8/1 of the tree is not the one",
    "DELETE FROM audit_tiles WHERE index = 0": "node 8/0 of the tree is not the one",
    "UPDATE audit_tiles SET level = 16 WHERE index = 0": "node 8/0 of the tree is not the one",
    "INSERT INTO audit_tiles VALUES (16, 0, sha256('x'))": "a node of the tree was inserted",
    "DELETE FROM audit_entries WHERE sequence = 300": "entry 300 is missing",
    "DELETE FROM audit_entries WHERE sequence > 590": "entries 591 to 600 are missing",
}


@pytest.mark.parametrize("statement", LARGE_TAMPERINGS)
async def test_tampering_with_a_log_with_kept_nodes_is_named(
    management: Transactions, sealer: AuditSealer, made: Database, statement: str
) -> None:
    await record(management, *(f"a/{number}" for number in range(600)))
    async with management.pool.acquire() as conn:
        await sealer.seal_all(conn)
    assert (await verdict(management)).verified
    async with made.admin() as admin:
        await admin.execute("SET search_path = management; SET session_replication_role = replica")
        await admin.execute(statement)
    assert (await verdict(management)).fault.startswith(LARGE_TAMPERINGS[statement])


@pytest.mark.parametrize("statement", TAMPERINGS)
async def test_tampering_in_the_database_is_named(five: Transactions, made: Database, statement: str) -> None:
    assert (await verdict(five)).verified
    async with made.admin() as admin:
        await admin.execute("SET search_path = management; SET session_replication_role = replica")  # no triggers
        await admin.execute(statement)
    found = await verdict(five)
    assert not found.verified
    assert found.fault.startswith(TAMPERINGS[statement]), found.fault


async def test_a_chain_forged_anew_fails_at_its_checkpoint(five: Transactions, made: Database) -> None:
    """Whoever can write the tables can compute hashes; they cannot sign."""
    head = START
    async with made.admin() as admin:
        await admin.execute("SET search_path = management; SET session_replication_role = replica")
        for entry in await sealed(five):
            forged = replace(entry, actor="people/nobody")
            before, head = head, extend("management", head, forged)
            await admin.execute(
                "UPDATE audit_entries SET actor = $2, previous_hash = $3, hash = $4 WHERE sequence = $1",
                head.sequence, forged.actor, before.hash, head.hash,
            )  # fmt: skip
    assert (await verdict(five)).fault == "entry 5 is not the one that its checkpoint was signed for"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entries SET actor = 'people/nobody'",
        "UPDATE audit_entries SET sequence = NULL, hash = NULL, previous_hash = NULL",
        "UPDATE audit_entries SET actor = 'x', sequence = 9, hash = '', previous_hash = '' WHERE sequence IS NULL",
        "DELETE FROM audit_entries",
        "TRUNCATE audit_entries",
        "UPDATE audit_checkpoints SET head = ''",
        "DELETE FROM audit_checkpoints",
        "TRUNCATE audit_checkpoints",
        "TRUNCATE audit_tiles",
    ],
)
async def test_the_service_itself_only_adds(five: Transactions, statement: str) -> None:
    await record(five, "unsealed")

    async def work(tx: Tx) -> None:
        await tx.conn.execute(statement)

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await five.run(work)


async def test_lists_pages_of_sealed_entries(five: Transactions) -> None:
    await record(five, "unsealed")
    servicer = AuditServicer(five, lambda: [KEY.public_key()])
    seen: list[int] = []
    token = ""
    for _ in range(3):
        page = await servicer.ListAuditEntries(ListAuditEntriesRequest(page_size=2, page_token=token), None)
        seen += [entry.sequence for entry in page.entries]
        token = page.next_page_token
    assert (seen, token) == ([1, 2, 3, 4, 5], "")
    with pytest.raises(Invalid):
        await servicer.ListAuditEntries(ListAuditEntriesRequest(page_token="nonsense"), None)


async def test_lists_by_resource_and_actor(five: Transactions, sealer: AuditSealer) -> None:
    await record(five, "zones/z/events/2", actor="people/handler.d10")
    async with five.pool.acquire() as conn:
        await sealer.seal_all(conn)
    servicer = AuditServicer(five, list)

    async def sequences(resource: str = "", actor: str = "") -> list[int]:
        page = await servicer.ListAuditEntries(ListAuditEntriesRequest(resource=resource, actor=actor), None)
        return [entry.sequence for entry in page.entries]

    assert await sequences(resource="zones/z/events/2") == [2, 6]
    assert await sequences(actor="people/handler.d10") == [6]
    assert await sequences(resource="zones/z/events/2", actor="people/duty-officer.d10") == [2]
    page = await servicer.ListAuditEntries(ListAuditEntriesRequest(actor="people/handler.d10"), None)
    assert page.entries[0].detail["to"] == "organisations/dpw"
    assert page.entries[0].part == "management"
    assert len(page.entries[0].hash) == len(page.entries[0].previous_hash) == 32


async def test_one_sealer_at_a_time_and_another_takes_over(
    management: Transactions, sealer: AuditSealer, made: Database
) -> None:
    async with running(sealer.run(), sealer.run()) as tasks:
        for number in range(20):
            await record(management, str(number))
            if number == 5:
                tasks[0].cancel()
            if number % 7 == 0:
                await made.cut()

        async def all_sealed() -> bool:
            return len(await sealed(management)) == 20

        await eventually(all_sealed)
    assert (await verdict(management)).verified


def test_a_chain_is_verified_from_any_head() -> None:
    entries: list[Entry] = []
    head = START
    for number in range(4):
        bare = Entry(TIME, "people/a", "act", f"r/{number}", '{"x":1}', "")
        before, head = head, extend("management", head, bare)
        entries.append(replace(bare, sequence=head.sequence, previous_hash=before.hash, hash=head.hash))
    assert verify_chain("management", entries).head == head
    middle = Head(2, entries[1].hash)
    assert verify_chain("management", entries[2:], middle).head == head
    assert verify_chain("management", entries[1:], middle).fault == "entry 3 is missing"
    assert verify_chain("delivery", entries).fault.startswith("entry 1 was altered")


def test_checkpoints_are_verified_without_the_database() -> None:
    head, root = Head(7, bytes(range(32))), sha256(b"root").digest()
    signed = sign_checkpoint(KEY, "sf", "management", head, root, TIME)
    keys = {key_id(KEY.public_key()): KEY.public_key()}
    assert verify(signed, "sf", "management", keys, head.hash, root) == ""
    assert '"time":"2026-01-05T08:00:00.000001Z"' in signed.statement
    assert f'"root":"{root.hex()}","sequence":7,' in signed.statement
    assert "does not say" in verify(signed, "beijing", "management", keys, head.hash, root)
    later: Checkpoint = replace(signed, time=TIME + timedelta(days=1))
    assert "does not say" in verify(later, "sf", "management", keys, head.hash, root)
    assert "not the one" in verify(signed, "sf", "management", keys, bytes(32), root)
    assert "not those" in verify(signed, "sf", "management", keys, head.hash, bytes(32))
    assert "not the node's" in verify(signed, "sf", "management", {}, head.hash, root)
    # One from before there was a tree.
    rootless = sign_checkpoint(KEY, "sf", "management", head, b"", TIME)
    assert "root" not in rootless.statement
    assert verify(rootless, "sf", "management", keys, head.hash, root) == ""


async def test_old_keys_still_verify(five: Transactions) -> None:
    new = Ed25519PrivateKey.generate()
    await record(five, "after the rotation")
    async with five.pool.acquire() as conn:
        await AuditSealer(five.pool, five.clock, "management", "sf", lambda: new).seal_all(conn)
    both = AuditServicer(five, lambda: [new.public_key(), KEY.public_key()])
    assert (await both.VerifyAuditLog(VerifyAuditLogRequest(), None)).verified
    assert not (await verdict(five)).verified
