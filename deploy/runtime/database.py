"""The node's database: one login role and one schema per part, and nobody sees another's."""

import base64
import hashlib
import hmac
import os
from collections.abc import Mapping

import asyncpg

from deploy.runtime.postgres import DATABASE, ROLE_CONNECTIONS_MAX

EXTENSIONS_SCHEMA = "extensions"
# Search in any script, and "no two bookings of one thing at one time".
EXTENSIONS = ("pg_trgm", "btree_gist")
# Nodes and tests that prepare databases at once on one server take turns.
PREPARE_LOCK = 7_512_001
SCRAM_ITERATIONS = 4_096
SCRAM_SALT_BYTES = 16
STATEMENT_TIMEOUT = "120s"

Admin = asyncpg.Connection


async def prepare_database(
    admin_dsn: str,
    passwords: Mapping[str, str],
    *,
    database: str = DATABASE,
    connections_max: int = ROLE_CONNECTIONS_MAX,
) -> None:
    """Makes the database, and per part its role, its password as given, its schema and its rights. Safe to repeat.

    admin_dsn is the superuser's, on any database of the server; passwords are by part.
    """
    admin = await asyncpg.connect(admin_dsn)
    try:
        await admin.execute("SELECT pg_advisory_lock($1)", PREPARE_LOCK)
        for shared in ("postgres", "template1"):
            await admin.execute(f"REVOKE ALL ON DATABASE {shared} FROM PUBLIC")
        for part, password in passwords.items():
            await _prepare_role(admin, part, password, connections_max)
        await create_database(admin, database, tuple(passwords))
    finally:
        await admin.close()
    inside = await asyncpg.connect(admin_dsn, database=database)
    try:
        async with inside.transaction():
            await _prepare_schemas(inside, tuple(passwords))
    finally:
        await inside.close()


async def create_database(admin: Admin, name: str, parts: tuple[str, ...], *, template: str = "template0") -> None:
    """Makes the database unless it is there, and lets only the parts connect to it.

    With another prepared database as template it comes with that one's schemas and rows; nobody may be connected there.
    """
    if not await admin.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
        await admin.execute(f"CREATE DATABASE {_name(name)} TEMPLATE {_name(template)}")
    await admin.execute(f"REVOKE ALL ON DATABASE {_name(name)} FROM PUBLIC")
    await admin.execute(f"GRANT CONNECT ON DATABASE {_name(name)} TO {', '.join(map(_name, parts))}")


async def _prepare_role(admin: Admin, part: str, password: str, connections_max: int) -> None:
    role = _name(part)
    if not await admin.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", part):
        await admin.execute(f"CREATE ROLE {role}")
    # The server gets the verifier only, so the password stands in no statement and in no log.
    await admin.execute(
        f"ALTER ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS "
        f"CONNECTION LIMIT {int(connections_max)} PASSWORD '{scram_verifier(password)}'"
    )
    await admin.execute(f"ALTER ROLE {role} SET search_path = {role}, {EXTENSIONS_SCHEMA}")
    await admin.execute(f"ALTER ROLE {role} SET statement_timeout = '{STATEMENT_TIMEOUT}'")


async def _prepare_schemas(inside: Admin, parts: tuple[str, ...]) -> None:
    await inside.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    await inside.execute(f"CREATE SCHEMA IF NOT EXISTS {EXTENSIONS_SCHEMA}")
    for extension in EXTENSIONS:
        await inside.execute(f"CREATE EXTENSION IF NOT EXISTS {extension} SCHEMA {EXTENSIONS_SCHEMA}")
    for part in parts:
        await inside.execute(f"CREATE SCHEMA IF NOT EXISTS {_name(part)} AUTHORIZATION {_name(part)}")
        await inside.execute(f"REVOKE ALL ON SCHEMA {_name(part)} FROM PUBLIC")
        await inside.execute(f"GRANT USAGE ON SCHEMA {EXTENSIONS_SCHEMA} TO {_name(part)}")


def scram_verifier(password: str) -> str:
    """What PostgreSQL stores of a password: RFC 5803, SCRAM-SHA-256. The password must be ASCII."""
    salt = os.urandom(SCRAM_SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, SCRAM_ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored = base64.b64encode(hashlib.sha256(client_key).digest()).decode()
    server = base64.b64encode(hmac.digest(salted, b"Server Key", "sha256")).decode()
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{base64.b64encode(salt).decode()}${stored}:{server}"


def _name(identifier: str) -> str:
    """An SQL identifier, quoted."""
    return '"' + identifier.replace('"', '""') + '"'
