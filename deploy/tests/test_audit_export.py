"""quintet audit, on a running node: check, export, and verify what was exported."""

import asyncio
import json
import random
from pathlib import Path

import asyncpg
import pytest

from deploy.cli import run
from deploy.runtime.postgres import ADMIN
from deploy.testing import ADMIN_LOGIN, NodeProcess
from libs.state import login_dsn

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(node: NodeProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "evidence.jsonl"
    assert run(["audit", "export", "--config", str(node.config_path), "--out", str(out)]) == 0
    return out


def test_an_export_verifies_offline(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "verify", str(exported)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("sf: exported by people/node-admin at 20")
    assert "NOT PINNED" in printed
    assert printed.endswith("HOLDS, if the key of the node above is the right one\n")
    assert json.loads(exported.read_text().splitlines()[0])["parts"]["identity"] > 1


def test_one_changed_byte_is_found(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = exported.read_bytes()
    chance = random.Random(3)
    for position in [0, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(30))]:
        changed = bytearray(whole)
        changed[position] ^= 1 << chance.randrange(8)
        copy = tmp_path / "copy.jsonl"
        copy.write_bytes(changed)
        assert run(["audit", "verify", str(copy)]) == 1, position
        assert capsys.readouterr().out.startswith("DOES NOT HOLD: line ")


def test_keys_from_elsewhere(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["audit", "verify", str(exported)])
    shown = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("key of ")]
    keys = tmp_path / "keys"
    # All that the node ever had: other tests may have had it change its key.
    known = "\n".join(f"{line[2]} {line[3]}" for line in shown)
    keys.write_text(f"# read to us over the telephone\n{known}\n")
    assert run(["audit", "verify", str(exported), "--keys", str(keys)]) == 0
    assert capsys.readouterr().out.endswith("(pinned)\nHOLDS\n")
    keys.write_text(f"sf {'0' * 64}\n")
    assert run(["audit", "verify", str(exported), "--keys", str(keys)]) == 1
    assert "which is none of those that were given" in capsys.readouterr().out
    keys.write_text("nonsense\n")
    assert run(["audit", "verify", str(exported), "--keys", str(keys)]) == 2


def test_from_elsewhere(node: NodeProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    password, out = tmp_path / "password", tmp_path / "evidence.jsonl"
    password.write_text(node.password())
    asking = ["--url", node.url, "--login", ADMIN_LOGIN, "--password-file", str(password)]
    assert run(["audit", "export", *asking, "--out", str(out)]) == 0
    assert run(["audit", "verify", str(out)]) == 0
    assert run(["audit", "check", *asking]) == 0
    password.write_text("wrong")
    assert run(["audit", "export", *asking, "--out", str(tmp_path / "none")]) == 1
    assert not (tmp_path / "none").exists()
    assert "entries: hold" in capsys.readouterr().out


# What is altered in the first entry of identity's log, how it is put right again, and what is said of it.
TAMPERINGS = [
    ("actor = actor || 'x'", "actor = left(actor, -1)", "entry 1 was altered"),
    ("time = time + interval '1 us'", "time = time - interval '1 us'", "entry 1 was altered"),
    ("trace_id = 'x' || trace_id", "trace_id = substr(trace_id, 2)", "entry 1 was altered"),
    ("hash = hash || hash", "hash = substr(hash, 1, 32)", "entry 1 was altered"),
    ("sequence = -sequence", "sequence = -sequence", "entry 1 is missing"),
]


@pytest.mark.parametrize(("statement", "remedy", "fault"), TAMPERINGS)
async def test_what_the_owner_of_the_database_alters_is_named(
    node: NodeProcess, tmp_path: Path, statement: str, remedy: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dsn = login_dsn(node.config.runtime().postgres, ADMIN, node.config.secrets.read("postgres-admin"))
    out = tmp_path / "evidence.jsonl"
    owner = await asyncpg.connect(dsn, server_settings={"search_path": "identity"})
    try:
        await owner.execute("SET session_replication_role = replica")  # no triggers
        assert await owner.execute(f"UPDATE audit_entries SET {statement} WHERE sequence = 1") == "UPDATE 1"
        exported = await asyncio.to_thread(
            run, ["audit", "export", "--config", str(node.config_path), "--out", str(out)]
        )
        checked = await asyncio.to_thread(run, ["audit", "check", "--config", str(node.config_path)])
    finally:
        assert await owner.execute(f"UPDATE audit_entries SET {remedy} WHERE abs(sequence) = 1") == "UPDATE 1"
        await owner.close()
    assert (exported, checked) == (0, 1)
    assert f"DOES NOT HOLD: {fault}" in capsys.readouterr().out
    assert run(["audit", "verify", str(out)]) == 1
    assert f"identity: {fault}" in capsys.readouterr().out
