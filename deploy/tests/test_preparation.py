"""Preparing a node: its own servers, and those of somebody else."""

from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from deploy.preparation import prepare_node
from deploy.probes import probe_nats, probe_postgres
from deploy.runtime import PostgresServer, remove_state
from deploy.testing import write_node_toml
from libs.config import GATEWAY, PARTS, NodeConfig, Secrets, load_config, login_dsn
from libs.testing import Nats, Postgres
from libs.tokens import load_service_key, load_service_keys

TABLES = {"outbox", "inbox", "audit_entries", "request_log"}


def secrets_of(config: NodeConfig) -> dict[str, str]:
    return {path.name: path.read_text() for path in config.node.secrets.iterdir()}


async def tables_of(dsn: str, secrets: Secrets, part: str) -> set[str]:
    """The tables that a part sees with its own login."""
    connection = await asyncpg.connect(login_dsn(dsn, part, secrets.read(f"postgres-{part}")))
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", part)
    finally:
        await connection.close()
    return {row["tablename"] for row in rows}


async def test_a_node_is_prepared_once_and_stays_as_it_is(tmp_path: Path) -> None:
    config = load_config(write_node_toml(tmp_path, extra='[gateway]\nstatus = "token"'))
    try:
        await prepare_node(config)
        first = secrets_of(config)
        await prepare_node(config)
        assert secrets_of(config) == first
        assert {"node-key", "status-token", "postgres-admin", "nats-federation"} <= first.keys()
        assert load_service_keys(config.secrets).keys() == {*PARTS, GATEWAY}
        assert load_service_key(config.secrets, GATEWAY).key_size == 256
        modes = {path.stat().st_mode & 0o777 for path in config.node.secrets.iterdir()}
        assert modes == {0o600}
        server = PostgresServer(config.state, config.secrets)
        await server.start()
        try:
            for part in PARTS:
                assert await tables_of(server.dsn(), config.secrets, part) >= TABLES
        finally:
            await server.stop()
    finally:
        remove_state(config.state)


async def test_servers_of_somebody_else_are_prepared_when_the_administrator_lets_us(
    tmp_path: Path, postgres: Postgres, nats: Nats
) -> None:
    name = f"elsewhere_{uuid4().hex}"
    dsn = postgres.server.dsn(name)
    extra = f'[postgres]\ndsn = "{dsn}"\n[nats]\nurl = "{nats.server.url}"'
    config = load_config(write_node_toml(tmp_path, extra=extra))
    for part in PARTS:
        config.secrets.set(f"postgres-{part}", postgres.password(part))
        config.secrets.set(f"nats-{part}", nats.server.password(part))
    with pytest.raises(Exception, match=name):
        await prepare_node(config)  # nobody has made the database, and we may not
    config.secrets.set("postgres-admin-dsn", postgres.server.admin_dsn())
    config.secrets.set("nats-admin", nats.server.password("admin"))
    await prepare_node(config)
    assert await tables_of(dsn, config.secrets, "management") >= TABLES
    async with postgres.admin() as admin:
        await admin.execute(f'DROP DATABASE "{name}"')


async def test_a_probe_tells_what_takes_connections(postgres: Postgres, nats: Nats) -> None:
    await probe_postgres(postgres.server.dsn())
    await probe_nats(nats.server.url)
    port = nats.server.url.rpartition(":")[2]
    with pytest.raises(RuntimeError, match="PostgreSQL does not take connections"):
        await probe_postgres(f"postgresql://127.0.0.1:{port}/quintet")
    for probe, url in ((probe_postgres, "postgresql://127.0.0.1:1/quintet"), (probe_nats, "nats://127.0.0.1:1")):
        with pytest.raises(OSError, match="Connect"):
            await probe(url)
    with pytest.raises(FileNotFoundError):
        await probe_postgres("postgresql:///quintet?host=/nowhere&port=5432")
