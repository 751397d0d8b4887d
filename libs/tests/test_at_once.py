"""Work that commits as one statement: all of it or nothing, on what was read, once per request, whatever is lost."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from libs import context, tx
from libs.db import Connection
from libs.errors import AlreadyExists, Away, NotFound, Reason, Stale
from libs.testing import Database, MakeDatabase, MakeTransactions
from libs.tx import Transactions, Tx
from quintet.identity.v1.directory_pb2 import PutZoneRequest, PutZoneResponse, Zone
from quintet.identity.v1.facts_pb2 import AccessChanged

THINGS = """CREATE TABLE things (id text PRIMARY KEY, revision int NOT NULL);
CREATE TABLE steps (thing text NOT NULL, revision int NOT NULL);
INSERT INTO things VALUES ('a', 1);
"""
MOVE = """step AS (INSERT INTO steps VALUES ($1, $2)),
moved AS (UPDATE things SET revision = $2 WHERE id = $1 AND revision = $3 RETURNING id)"""
METHOD = "quintet.identity.v1.DirectoryService/PutZone"


@pytest.fixture
async def made(database: MakeDatabase, tmp_path: Path) -> Database:
    folder = tmp_path / "identity" / "migrations"
    folder.mkdir(parents=True)
    (folder / "0001_things.sql").write_text(THINGS)
    return await database(identity=[folder])


@pytest.fixture
async def identity(transactions: MakeTransactions, made: Database) -> Transactions:
    return await transactions("identity", on=made)


@pytest.fixture(autouse=True)
def caller() -> Iterator[None]:
    subject = context.caller_subject.set("people/duty-officer.d10")
    method = context.rpc_method.set(METHOD)
    yield
    context.caller_subject.reset(subject)
    context.rpc_method.reset(method)


async def rows(of: Transactions, table: str) -> list[asyncpg.Record]:
    async def read(conn: Connection) -> list[asyncpg.Record]:
        return await conn.fetch(f"SELECT * FROM {table}")

    return await of.read(read)


async def move(tx: Tx) -> PutZoneResponse:
    """Take the thing one revision on."""
    revision: int = await tx.conn.fetchval("SELECT revision FROM things WHERE id = $1", "a")
    tx.write(MOVE, "a", revision + 1, revision, checked="moved")
    tx.publish(AccessChanged(subject=str(revision + 1)), zone="us-ca-sf", key="things/a")
    return PutZoneResponse(zone=Zone(name=f"zones/r{revision + 1}"))


async def moves(identity: Transactions, request_id: str = "", zone: str = "zones/z") -> str:
    request = PutZoneRequest(zone=Zone(name=zone), request_id=request_id)
    return (await identity.mutate_at_once(request, PutZoneResponse, move)).zone.name


async def written(identity: Transactions) -> list[int]:
    """How many steps, facts, audit entries and answers there are."""
    return [len(await rows(identity, table)) for table in ("steps", "outbox", "audit_entries", "request_log")]


async def test_change_facts_audit_and_answer_commit_together(identity: Transactions) -> None:
    assert await moves(identity, "r-1") == "zones/r2"
    assert await written(identity) == [1, 1, 1, 1]
    assert await moves(identity, "r-1") == "zones/r2"
    assert await moves(identity) == "zones/r3"
    assert await written(identity) == [2, 2, 2, 1]
    with pytest.raises(AlreadyExists) as raised:
        await moves(identity, "r-1", zone="zones/another")
    assert raised.value.reason == Reason.REQUEST_ID_REUSED


async def test_what_changed_since_it_was_read_is_read_again(identity: Transactions) -> None:
    names = await asyncio.gather(*(moves(identity) for _ in range(4)))
    assert sorted(names) == ["zones/r2", "zones/r3", "zones/r4", "zones/r5"]
    assert [row["revision"] for row in await rows(identity, "steps")] == [2, 3, 4, 5]
    assert await written(identity) == [4, 4, 4, 0]


async def test_the_same_request_at_the_same_time_is_done_once(identity: Transactions) -> None:
    assert set(await asyncio.gather(*(moves(identity, "r-1") for _ in range(4)))) == {"zones/r2"}
    assert await written(identity) == [1, 1, 1, 1]


async def test_gives_up_after_bounded_attempts(identity: Transactions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tx, "RETRY_DELAY_MAX_S", 0.001)
    attempts = 0

    async def late(tx: Tx) -> PutZoneResponse:
        nonlocal attempts
        attempts += 1
        tx.write(MOVE, "a", 9, 8, checked="moved")
        return PutZoneResponse()

    with pytest.raises(Stale):
        await identity.mutate_at_once(PutZoneRequest(), PutZoneResponse, late)
    assert attempts == tx.TRANSACTION_ATTEMPTS
    assert await written(identity) == [0, 0, 0, 0]


async def test_an_error_and_a_change_past_the_write_leave_nothing(identity: Transactions) -> None:
    async def fails(tx: Tx) -> PutZoneResponse:
        await move(tx)
        raise NotFound(Reason.ZONE_NOT_FOUND, "no such zone")

    async def passes_by(tx: Tx) -> PutZoneResponse:
        await tx.conn.fetchval("UPDATE things SET revision = 7 RETURNING 1")
        return PutZoneResponse()

    async def writes_twice(tx: Tx) -> PutZoneResponse:
        await move(tx)
        return await move(tx)

    for work, error in ((fails, NotFound), (passes_by, RuntimeError), (writes_twice, RuntimeError)):
        with pytest.raises(error):
            await identity.mutate_at_once(PutZoneRequest(request_id="r-1"), PutZoneResponse, work)
    assert [row["revision"] for row in await rows(identity, "things")] == [1]
    assert await written(identity) == [0, 0, 0, 0]


async def test_writes_within_a_transaction_commit_with_it(identity: Transactions) -> None:
    async def work(tx: Tx) -> None:
        await tx.conn.execute("INSERT INTO things VALUES ('b', 1)")
        tx.write(MOVE, "b", 2, 1, checked="moved")
        for revision in (3, 4):
            tx.write("noted AS (INSERT INTO steps VALUES ($1, $2))", "b", revision)

    await identity.run(work)
    assert sorted(map(tuple, await rows(identity, "steps"))) == [("b", 2), ("b", 3), ("b", 4)]
    assert sorted(map(tuple, await rows(identity, "things"))) == [("a", 1), ("b", 2)]


SLOW = """
CREATE FUNCTION identity.slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF NEW.revision = 2 THEN PERFORM pg_sleep(0.5); END IF; RETURN NEW; END $$;
CREATE TRIGGER slow AFTER INSERT ON identity.steps FOR EACH ROW EXECUTE FUNCTION identity.slow()
"""


async def test_a_connection_lost_during_the_statement(identity: Transactions, made: Database) -> None:
    async with made.admin() as admin:
        await admin.execute(SLOW)

    async def cut() -> None:
        async with made.admin() as admin:
            query = """SELECT pid FROM pg_stat_activity WHERE datname = $1 AND query LIKE '%INSERT INTO steps%'
                AND state = 'active' AND pid <> pg_backend_pid()"""
            while not (pid := await admin.fetchval(query, made.name)):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.01)
            await admin.execute("SELECT pg_terminate_backend($1)", pid)

    cutting = asyncio.create_task(cut())
    with pytest.raises(Away) as raised:
        await moves(identity)
    assert raised.value.metadata["outcome"] == "unknown"
    await cutting
    assert await written(identity) == [0, 0, 0, 0]

    cutting = asyncio.create_task(cut())
    assert await moves(identity, "r-1") == "zones/r2"
    await cutting
    assert await written(identity) == [1, 1, 1, 1]
