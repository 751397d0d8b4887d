"""Schema changes: numbered files, applied once each and in order, never altered and never undone."""

from __future__ import annotations

import hashlib
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from libs.db import search_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from libs.db import Connection

# The tables that every service's schema has: outbox, inbox, request log, audit log.
SHARED_MIGRATIONS = Path(__file__).parent / "migrations"
SHARED_COMPONENT = "libs"
# Another process may be migrating the same schema; a table may be in use by the version that is being replaced.
STATEMENT_TIMEOUT_S = 600
LOCK_TIMEOUT_S = 30

_FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_SCHEMA = re.compile(r"[a-z][a-z0-9_]{0,50}")

log = structlog.get_logger()


class MigrationError(Exception):
    """The files and the database do not fit together; somebody has to look."""


class SchemaTooNew(MigrationError):
    """The database was migrated by a newer version of this software, which must run it."""


class SchemaChanged(MigrationError):
    """A file was altered after it had been applied. Add another one instead."""


@dataclass(frozen=True)
class Migration:
    """One file of a component."""

    component: str
    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(directory: Path, component: str = "") -> list[Migration]:
    """Return the files `NNNN_name.sql` of a folder, numbered from 1 without gaps.

    The component is by default the name of the folder above: "identity" for services/identity/migrations. Raises
    MigrationError for other names and gaps.
    """
    found: list[Migration] = []
    for path in sorted(directory.glob("*.sql")):
        if not (match := _FILE.fullmatch(path.name)):
            raise MigrationError(f"{path.name}: migrations are named NNNN_what_changes.sql")
        found.append(Migration(component or directory.parent.name, int(match[1]), path.stem, path.read_text()))
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"{directory}: migrations are numbered from 0001 without gaps")
    return found


def all_migrations(directories: Iterable[Path]) -> list[list[Migration]]:
    """Return the shared migrations and then those of each folder."""
    others = [directory for directory in directories if directory.resolve() != SHARED_MIGRATIONS.resolve()]
    return [read_migrations(SHARED_MIGRATIONS, SHARED_COMPONENT), *(read_migrations(each) for each in others)]


async def migrate(conn: Connection, schema: str, directories: Sequence[Path]) -> int:
    """Bring `schema` up to date with the shared tables and the files of `directories`; return how many were applied.

    Creates the schema when it is missing. Each file is one transaction; processes that start at the same time wait for
    each other. Raises SchemaTooNew when the database knows more than these files, SchemaChanged when a file differs
    from what was applied, MigrationError for misnamed files.
    """
    if not _SCHEMA.fullmatch(schema):
        raise MigrationError(f"{schema!r} is no name for a schema")
    components = all_migrations(directories)
    count = 0
    async with _session(conn, schema):
        for migrations in components:
            for migration in await _outstanding(conn, migrations):
                await _apply(conn, schema, migration)
                count += 1
    return count


@asynccontextmanager
async def _session(conn: Connection, schema: str) -> AsyncIterator[None]:
    """Hold the schema's lock with its search path set, and put the connection back as it was."""
    await conn.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT_S}s'; SET lock_timeout = '{LOCK_TIMEOUT_S}s'")
    # Waiting in the lock would hold a snapshot, but start-up is short, and lock_timeout bounds it.
    await conn.execute("SELECT pg_advisory_lock(hashtext('quintet.migrate'), hashtext($1))", schema)
    try:
        # Asked first, since CREATE needs a right on the database even when there is nothing to create.
        if not await conn.fetchval("SELECT true FROM pg_namespace WHERE nspname = $1", schema):
            await conn.execute(f"CREATE SCHEMA {schema}")
        await conn.execute(f"SET search_path = {search_path(schema)}")
        await conn.execute("SET client_min_messages = warning")
        await conn.execute(
            """CREATE TABLE IF NOT EXISTS schema_migrations (
                component text NOT NULL,
                version integer NOT NULL,
                name text NOT NULL,
                checksum text NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
                PRIMARY KEY (component, version)
            )"""
        )
        yield
    finally:
        if not conn.is_closed():
            await conn.execute("SELECT pg_advisory_unlock(hashtext('quintet.migrate'), hashtext($1))", schema)
            await conn.execute(
                "RESET search_path; RESET statement_timeout; RESET lock_timeout; RESET client_min_messages"
            )


async def _outstanding(conn: Connection, migrations: Sequence[Migration]) -> list[Migration]:
    """Compare what was applied with the files and return the files to apply."""
    if not migrations:
        return []
    component = migrations[0].component
    rows = await conn.fetch(
        "SELECT version, name, checksum FROM schema_migrations WHERE component = $1 ORDER BY version", component
    )
    if len(rows) > len(migrations):
        raise SchemaTooNew(f"{component} is at version {rows[-1]['version']}; this software knows {len(migrations)}")
    for row, migration in zip(rows, migrations, strict=False):
        if row["checksum"] != migration.checksum:
            raise SchemaChanged(f"{component}/{migration.name} was applied in another form, as {row['name']}")
    return list(migrations[len(rows) :])


async def _apply(conn: Connection, schema: str, migration: Migration) -> None:
    async with conn.transaction():
        await conn.execute(migration.sql)
        await conn.execute(
            "INSERT INTO schema_migrations (component, version, name, checksum) VALUES ($1, $2, $3, $4)",
            migration.component,
            migration.version,
            migration.name,
            migration.checksum,
        )
    log.info("migrate.applied", schema=schema, component=migration.component, migration=migration.name)
