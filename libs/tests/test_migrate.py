"""Migrations: applied once, in order, shared tables first; what does not fit is refused."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from libs.migrate import SHARED_MIGRATIONS, MigrationError, SchemaChanged, SchemaTooNew, migrate
from libs.testing import MakeDatabase


def folder(tmp_path: Path, **files: str) -> Path:
    directory = tmp_path / "collaboration" / "migrations"
    directory.mkdir(parents=True, exist_ok=True)
    for name, sql in files.items():
        (directory / f"{name.removeprefix('m')}.sql").write_text(sql)
    return directory


async def test_applies_shared_tables_and_then_the_part_s_own_once(database: MakeDatabase, tmp_path: Path) -> None:
    own = folder(tmp_path, m0001_things="CREATE TABLE things (outbox_id bigint REFERENCES outbox (id))")
    made = await database(management=[])
    assert await made.migrate("collaboration", [own]) == len(list(SHARED_MIGRATIONS.glob("*.sql"))) + 1
    assert await made.migrate("collaboration", [own]) == 0
    async with made.admin() as admin:
        rows = await admin.fetch(
            "SELECT component, version FROM collaboration.schema_migrations ORDER BY applied_at, version"
        )
    components = [row["component"] for row in rows]
    assert components == ["libs"] * (len(rows) - 1) + ["collaboration"]


async def test_adds_what_is_new(database: MakeDatabase, tmp_path: Path) -> None:
    own = folder(tmp_path, m0001_things="CREATE TABLE things (id text)")
    made = await database(collaboration=[own])
    folder(tmp_path, m0002_colour="ALTER TABLE things ADD colour text")
    assert await made.migrate("collaboration", [own]) == 1
    async with made.admin() as admin:
        await admin.execute("INSERT INTO collaboration.things (id, colour) VALUES ('a', 'red')")


async def test_refuses_a_newer_schema(database: MakeDatabase, tmp_path: Path) -> None:
    own = folder(tmp_path, m0001_things="CREATE TABLE things (id text)", m0002_more="CREATE TABLE more (id text)")
    made = await database(collaboration=[own])
    (own / "0002_more.sql").unlink()
    with pytest.raises(SchemaTooNew, match="collaboration is at version 2; this software knows 1"):
        await made.migrate("collaboration", [own])


async def test_refuses_a_changed_file(database: MakeDatabase, tmp_path: Path) -> None:
    own = folder(tmp_path, m0001_things="CREATE TABLE things (id text)")
    made = await database(collaboration=[own])
    folder(tmp_path, m0001_things="CREATE TABLE things (id uuid)")
    with pytest.raises(SchemaChanged, match="0001_things"):
        await made.migrate("collaboration", [own])


async def test_a_failing_file_leaves_nothing_behind_and_can_be_mended(database: MakeDatabase, tmp_path: Path) -> None:
    own = folder(tmp_path, m0001_things="CREATE TABLE things (id text); SELECT 1 / 0")
    made = await database(management=[])
    with pytest.raises(asyncpg.DivisionByZeroError):
        await made.migrate("collaboration", [own])
    folder(tmp_path, m0001_things="CREATE TABLE things (id text)")
    assert await made.migrate("collaboration", [own]) == 1


@pytest.mark.parametrize("name", ["m0002_gap", "m1_short", "m0001-dash"])
async def test_refuses_files_that_are_not_numbered(database: MakeDatabase, tmp_path: Path, name: str) -> None:
    own = folder(tmp_path, **{name: "SELECT 1"})
    made = await database(management=[])
    with pytest.raises(MigrationError):
        await made.migrate("collaboration", [own])


async def test_processes_that_start_together_take_turns(database: MakeDatabase, tmp_path: Path) -> None:
    own = folder(tmp_path, m0001_things="SELECT pg_sleep(0.2); CREATE TABLE things (id text)")
    made = await database(management=[])
    counts = await asyncio.gather(*(made.migrate("collaboration", [own]) for _ in range(3)))
    assert sorted(counts)[:2] == [0, 0]
    assert max(counts) > 0


async def test_refuses_a_schema_name_that_is_not_one(database: MakeDatabase) -> None:
    made = await database(management=[])
    async with made.admin() as admin:
        with pytest.raises(MigrationError):
            await migrate(admin, 'x"; DROP SCHEMA management', [])
