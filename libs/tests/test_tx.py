"""The unit of work: everything of it commits or nothing, once per request, through lost connections and conflicts."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from libs import context, tx
from libs.clock import ManualClock
from libs.db import Connection, open_pool, violations
from libs.errors import AlreadyExists, Away, Exhausted, NotFound, Reason, Stale
from libs.pending import AUDIT_BYTES_MAX, FACTS_PER_TRANSACTION_MAX
from libs.testing import MakeDatabase, MakeTransactions, Postgres
from libs.tx import Transactions, Tx
from quintet.fact.v1.fact_pb2 import Fact
from quintet.identity.v1.directory_pb2 import PutZoneRequest, PutZoneResponse, Zone
from quintet.identity.v1.facts_pb2 import AccessChanged

THINGS = "CREATE TABLE things (id text CONSTRAINT things_key PRIMARY KEY, count int NOT NULL DEFAULT 0)"
METHOD = "quintet.identity.v1.DirectoryService/PutZone"


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "identity" / "migrations"
    folder.mkdir(parents=True)
    (folder / "0001_things.sql").write_text(THINGS)
    return folder


@pytest.fixture
async def identity(transactions: MakeTransactions, migrations: Path) -> Transactions:
    return await transactions("identity", migrations)


@pytest.fixture(autouse=True)
def caller() -> Iterator[None]:
    subject = context.caller_subject.set("people/duty-officer.d10")
    method = context.rpc_method.set(METHOD)
    trace = context.traceparent.set("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    yield
    context.caller_subject.reset(subject)
    context.rpc_method.reset(method)
    context.traceparent.reset(trace)


async def rows(of: Transactions, table: str) -> list[asyncpg.Record]:
    async def read(conn: Connection) -> list[asyncpg.Record]:
        return await conn.fetch(f"SELECT * FROM {table}")

    return await of.read(read)


async def add(tx: Tx, name: str = "a") -> None:
    await tx.conn.execute("INSERT INTO things (id, count) VALUES ($1, 1)", name)
    tx.publish(AccessChanged(subject=name), zone="us-ca-sf", key=f"things/{name}")


async def test_change_facts_and_audit_commit_together(identity: Transactions, clock: ManualClock) -> None:
    async def work(tx: Tx) -> str:
        await add(tx)
        tx.audit("identity.things.add", "things/a", count=1, big=2**60, text="a\0b", at=(1.5, None))
        return "done"

    assert await identity.run(work) == "done"
    fact = Fact.FromString((await rows(identity, "outbox"))[0]["fact"])
    assert (fact.type, fact.node, fact.zone, fact.key) == (
        "quintet.identity.v1.AccessChanged", "sf", "us-ca-sf", "things/a",
    )  # fmt: skip
    assert AccessChanged.FromString(fact.data).subject == "a"
    assert fact.time.ToDatetime(tzinfo=clock.now().tzinfo) == clock.now()
    assert fact.traceparent == context.traceparent.get()
    entry = (await rows(identity, "audit_entries"))[0]
    assert entry["actor"] == "people/duty-officer.d10"
    assert entry["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert entry["detail"] == '{"at":[1.5,null],"big":"1152921504606846976","count":1,"text":"a\ufffdb"}'


async def test_an_error_leaves_nothing(identity: Transactions) -> None:
    async def work(tx: Tx) -> None:
        await add(tx)
        tx.audit("identity.things.add", "things/a")
        raise NotFound(Reason.ZONE_NOT_FOUND, "no such zone")

    with pytest.raises(NotFound):
        await identity.run(work)
    for table in ("things", "outbox", "audit_entries"):
        assert await rows(identity, table) == []


async def test_a_swallowed_database_error_is_not_taken_for_success(identity: Transactions) -> None:
    async def work(tx: Tx) -> None:
        await tx.conn.execute("INSERT INTO things VALUES ('a')")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await tx.conn.execute("SELECT 1 / 0")

    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await identity.run(work)


async def test_facts_keep_the_order_of_their_statement(identity: Transactions) -> None:
    async def work(tx: Tx) -> None:
        for number in range(300):
            tx.publish(AccessChanged(subject=str(number)), zone="us-ca-sf", key="things/a")

    await identity.run(work)
    facts = [Fact.FromString(row["fact"]) for row in sorted(await rows(identity, "outbox"), key=lambda r: r["id"])]
    assert [AccessChanged.FromString(fact.data).subject for fact in facts] == [str(n) for n in range(300)]
    assert sorted(fact.id for fact in facts) == [fact.id for fact in facts]


async def test_what_waits_for_the_commit_is_called_once_it_can_be_seen(identity: Transactions) -> None:
    called: list[int] = []

    async def change(tx: Tx) -> None:
        await add(tx)
        tx.after_commit(lambda: called.append(len(called)))
        assert called == []

    await identity.run(change)
    assert called == [0]

    with pytest.raises(asyncpg.UniqueViolationError):
        await identity.run(change)
    assert called == [0]


async def test_forwarded_facts_are_unchanged(identity: Transactions) -> None:
    fact = Fact(
        id="019385f0-0000-7000-8000-000000000001", type="other.v9.Thing", node="beijing", zone="cn-110000", key="k"
    )

    async def work(tx: Tx) -> None:
        tx.forward(fact)

    await identity.run(work)
    row = (await rows(identity, "outbox"))[0]
    assert Fact.FromString(row["fact"]) == fact
    assert row["subject"] == "facts.unknown.other_v9_Thing"


async def test_limits_on_facts_and_audit(identity: Transactions) -> None:
    async def large(tx: Tx) -> None:
        tx.publish(AccessChanged(subject="x" * 600_000), zone="us-ca-sf", key="k")

    async def many(tx: Tx) -> None:
        for _ in range(FACTS_PER_TRANSACTION_MAX + 1):
            tx.publish(AccessChanged(), zone="us-ca-sf", key="k")

    async def verbose(tx: Tx) -> None:
        tx.audit("a", "b", text="x" * AUDIT_BYTES_MAX)

    async def homeless(tx: Tx) -> None:
        tx.publish(AccessChanged(), zone="", key="k")

    for work in (large, many, verbose):
        with pytest.raises(Exhausted):
            await identity.run(work)
    with pytest.raises(ValueError, match="zone"):
        await identity.run(homeless)


async def test_runs_again_after_a_serialisation_failure(identity: Transactions) -> None:
    await identity.run(add)
    attempts = 0
    both_read = asyncio.Barrier(2)

    async def increase(tx: Tx) -> None:
        nonlocal attempts
        attempts += 1
        count = await tx.conn.fetchval("SELECT count FROM things")
        if attempts <= 2:
            await both_read.wait()
        await tx.conn.execute("UPDATE things SET count = $1", count + 1)

    await asyncio.gather(*(identity.run(increase, isolation="serializable") for _ in range(2)))
    assert attempts == 3
    assert (await rows(identity, "things"))[0]["count"] == 3


async def test_runs_again_after_a_deadlock(identity: Transactions) -> None:
    await identity.run(lambda tx: add(tx, "a"))
    await identity.run(lambda tx: add(tx, "b"))
    attempts = 0
    both_hold = asyncio.Barrier(2)

    async def touch(tx: Tx, order: str) -> None:
        nonlocal attempts
        attempts += 1
        for place, name in enumerate(order):
            await tx.conn.execute("UPDATE things SET count = count + 1 WHERE id = $1", name)
            if place == 0 and attempts <= 2:
                await both_hold.wait()

    await asyncio.gather(identity.run(lambda tx: touch(tx, "ab")), identity.run(lambda tx: touch(tx, "ba")))
    assert attempts == 3
    assert [row["count"] for row in await rows(identity, "things")] == [3, 3]


async def test_gives_up_after_bounded_attempts(identity: Transactions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tx, "RETRY_DELAY_FIRST_S", 0.001)
    attempts = 0

    async def conflict(tx: Tx) -> None:
        nonlocal attempts
        attempts += 1
        await tx.conn.execute("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'serialization_failure'; END $$")

    with pytest.raises(Stale) as raised:
        await identity.run(conflict)
    assert raised.value.reason == Reason.CONFLICT
    assert attempts == tx.TRANSACTION_ATTEMPTS


async def test_runs_again_after_the_connection_is_lost_before_the_commit(
    identity: Transactions, postgres: Postgres
) -> None:
    attempts = 0

    async def work(tx: Tx) -> None:
        nonlocal attempts
        attempts += 1
        await add(tx)
        if attempts == 1:
            pid = await tx.conn.fetchval("SELECT pg_backend_pid()")
            async with postgres.admin() as admin:
                await admin.execute("SELECT pg_terminate_backend($1)", pid)

    await identity.run(work)
    assert attempts == 2
    assert len(await rows(identity, "things")) == 1
    assert len(await rows(identity, "outbox")) == 1


SLOW_COMMIT = """
CREATE FUNCTION identity.slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF NEW.id = 'slow' THEN PERFORM pg_sleep(0.5); END IF; RETURN NEW; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON identity.things DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION identity.slow()
"""


async def test_a_connection_lost_during_the_commit(
    database: MakeDatabase, transactions: MakeTransactions, migrations: Path
) -> None:
    made = await database(identity=[migrations])
    identity = await transactions("identity", on=made)
    async with made.admin() as admin:
        await admin.execute(SLOW_COMMIT)
    attempts = 0

    async def work(tx: Tx) -> PutZoneResponse:
        nonlocal attempts
        attempts += 1
        await add(tx, "slow" if attempts == 1 else "quick")
        return PutZoneResponse(zone=Zone(name="zones/us-ca-sf-d10"))

    async def cut_during_commit() -> None:
        async with made.admin() as admin:
            query = "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND query LIKE 'COMMIT%' AND state = 'active'"
            while not (pid := await admin.fetchval(query, made.name)):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.01)
            await admin.execute("SELECT pg_terminate_backend($1)", pid)

    cutting = asyncio.create_task(cut_during_commit())
    with pytest.raises(Away) as raised:
        await identity.run(work)
    assert raised.value.metadata["outcome"] == "unknown"
    await cutting

    attempts = 0
    cutting = asyncio.create_task(cut_during_commit())
    await identity.mutate(PutZoneRequest(request_id="r-1"), PutZoneResponse, work)
    await cutting
    assert attempts == 2
    assert [row["id"] for row in await rows(identity, "things")] == ["quick"]


async def test_reads_are_read_only_and_of_one_moment(identity: Transactions) -> None:
    async def write(conn: Connection) -> None:
        await conn.execute("INSERT INTO things VALUES ('a')")

    async def count_twice(conn: Connection) -> tuple[int, int]:
        query = "SELECT count(*) FROM things"
        before = await conn.fetchval(query)
        await identity.run(add)
        return before, await conn.fetchval(query)

    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await identity.read(write)
    assert await identity.read(count_twice) == (0, 0)


async def test_violations_become_domain_errors_by_the_name_of_the_constraint(identity: Transactions) -> None:
    async def twice(tx: Tx) -> None:
        for _ in range(2):
            with violations({"things_key": AlreadyExists(Reason.LOGIN_TAKEN, "taken")}):
                await add(tx)

    with pytest.raises(AlreadyExists):
        await identity.run(twice)


async def test_a_database_that_is_not_there_is_away(tmp_path: Path) -> None:
    with pytest.raises(Away) as raised:
        await open_pool(f"postgresql:///quintet?host={tmp_path}", name="identity", user="identity")
    assert raised.value.reason == Reason.DEPENDENCY_AWAY


async def test_a_pool_without_a_free_connection_is_away(
    database: MakeDatabase, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.db.ACQUIRE_TIMEOUT_S", 0.1)
    made = await database(identity=[])
    pool = await made.pool("identity", max_size=1)
    identity = Transactions(pool, clock, "identity", "sf")

    async def within(_conn: Connection) -> None:
        await identity.run(add)

    with pytest.raises(Away) as raised:
        await identity.read(within)
    assert raised.value.reason == Reason.DEPENDENCY_SLOW
    await pool.close()


async def test_statements_that_take_too_long_are_away(identity: Transactions) -> None:
    async def slow(tx: Tx) -> None:
        await tx.conn.execute("SET LOCAL statement_timeout = 20")
        await tx.conn.execute("SELECT pg_sleep(5)")

    with pytest.raises(Away) as raised:
        await identity.run(slow)
    assert raised.value.reason == Reason.DEPENDENCY_SLOW


async def test_cancelling_rolls_back_and_gives_the_connection_back(identity: Transactions) -> None:
    async def hang(tx: Tx) -> None:
        await add(tx)
        await tx.conn.execute("SELECT pg_sleep(30)")

    for _ in range(8):  # more than the pool holds
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(identity.run(hang), 0.1)
    assert await rows(identity, "things") == []


async def test_now_is_the_clock_at_the_start(identity: Transactions, clock: ManualClock) -> None:
    async def work(tx: Tx) -> None:
        before = tx.now
        clock.advance(timedelta(hours=1))
        assert tx.now == before

    await identity.run(work)


async def test_a_session_whose_last_borrower_was_cancelled_between_two_messages_serves_the_next(
    identity: Transactions,
) -> None:
    async with identity.pool.acquire() as connection:
        # Cancelled after this, a borrower leaves the server in the middle of a statement, with a snapshot taken.
        await connection.prepare("SELECT count(*) FROM things")
    assert await rows(identity, "things") == []
    await identity.run(add)
    assert len(await rows(identity, "things")) == 1
