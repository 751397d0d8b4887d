"""What a node needs before its services run: keys, secrets, schemas with their roles, streams. Safe to repeat."""

from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

import structlog

from deploy.runtime import EmbeddedServers, part_passwords, prepare_database, prepare_streams
from deploy.runtime.postgres import ADMIN
from deploy.services import load_parts
from libs import host
from libs.config import PARTS, NodeConfig
from libs.db import open_pool
from libs.host import Part
from libs.migrate import migrate
from libs.state import Secrets, login_dsn

# Secrets that an operator lays down where the node does not run the server itself.
POSTGRES_ADMIN_DSN = "postgres-admin-dsn"
POSTGRES_ADMIN = "postgres-admin"  # what PostgresServer makes of its own
NATS_ADMIN_PASSWORD = "nats-admin"  # noqa: S105 - the name of a file
STATUS_TOKEN = "status-token"  # noqa: S105

log = structlog.get_logger(__name__)


def prepare_keys(config: NodeConfig) -> None:
    """Makes every key and password that is missing."""
    # PostgreSQL's own account must pass through the folder; what is secret in it is closed by itself.
    config.state.mkdir(mode=0o711, parents=True, exist_ok=True)
    host.prepare(config)
    for kind in ("postgres", "nats"):
        part_passwords(config.secrets, kind)
    if config.gateway.status != "public":
        config.secrets.get(STATUS_TOKEN)


async def prepare_elsewhere(config: NodeConfig) -> None:
    """Prepares servers that node.toml says are elsewhere, given an administrator's secrets; else leaves them be."""
    if config.postgres.dsn is not None:
        admin_dsn = _admin_dsn(config.postgres.dsn, config.secrets)
        if not admin_dsn:
            why = f"neither of the secrets {POSTGRES_ADMIN_DSN} and {POSTGRES_ADMIN}: prepared by somebody else"
            log.info("postgres_not_prepared", why=why)
        else:
            database = config.postgres.dsn.partition("?")[0].rpartition("/")[2]
            await prepare_database(admin_dsn, part_passwords(config.secrets, "postgres"), database=database)
    if config.nats.url is not None:
        try:
            password = config.secrets.read(NATS_ADMIN_PASSWORD)
        except FileNotFoundError:
            log.info("nats_not_prepared", why=f"no secret {NATS_ADMIN_PASSWORD}: prepared by somebody else")
        else:
            await prepare_streams(config.nats.url, password)


def _admin_dsn(dsn: str, secrets: Secrets) -> str:
    """The superuser's DSN as an operator laid it down, or of the server that `quintet server` runs; "" for neither."""
    with suppress(FileNotFoundError):
        return secrets.read(POSTGRES_ADMIN_DSN)
    with suppress(FileNotFoundError):
        whole = urlsplit(dsn)
        return login_dsn(urlunsplit(whole._replace(path="/postgres")), ADMIN, secrets.read(POSTGRES_ADMIN))
    return ""


async def prepare_node(config: NodeConfig) -> None:
    """All of it, with the servers started for as long as it takes. Raises as EmbeddedServers.start and migrate do."""
    parts = load_parts(PARTS)
    prepare_keys(config)
    servers = EmbeddedServers()
    try:
        await servers.start(config)
        await prepare_elsewhere(config)
        await migrate_parts(config, parts)
    finally:
        await servers.stop()


async def migrate_parts(config: NodeConfig, parts: Sequence[Part]) -> None:
    """Brings the schema of each part up to date, as the part itself does when it starts."""
    dsn = config.runtime().postgres
    for part in parts:
        password = config.secrets.read(f"postgres-{part.name}")
        pool = await open_pool(dsn, name=part.name, user=part.name, password=password, max_size=1)
        try:
            async with pool.dedicated("migrate") as connection:
                applied = await migrate(connection, part.name, [part.migrations])
        finally:
            await pool.close()
        log.info("schema_prepared", part=part.name, migrations=applied)
