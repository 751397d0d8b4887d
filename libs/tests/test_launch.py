"""One service as a process of its own."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from libs.channel import channel
from libs.config import load_config
from libs.host import prepare
from libs.launch import EXIT_RETRY, EXIT_WRONG
from libs.testing import MakeDatabase, Nats, Postgres, eventually
from libs.tests import sample
from libs.tests.sample import Request

ROOT = Path(__file__).parents[2]
NODE = """
[node]
id = "sf"
name = "City"
zone = "us-ca-sf"
timezone = "UTC"
state = "state"
[postgres]
dsn = "{dsn}"
[nats]
url = "{url}"
"""


@pytest.fixture
async def config_path(tmp_path: Path, database: MakeDatabase, postgres: Postgres, nats: Nats) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(NODE.format(dsn=(await database()).dsn, url=nats.server.url))
    config = load_config(path)
    prepare(config)
    config.secrets.set("postgres-management", postgres.password("management"))
    config.secrets.set("nats-management", nats.server.password("management"))
    (tmp_path / "service" / "migrations").mkdir(parents=True)
    return path


def rewrite(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


async def launch(path: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "libs.tests.launched", "--config", str(path)),
        str(path.parent / "service" / "migrations"),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, list[dict[str, str]]]:
    """Return the exit code and the lines of the log."""
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, [json.loads(line) for line in errors.decode().splitlines() if line.startswith("{")]


async def test_a_process_serves_until_it_is_told_to_stop(config_path: Path) -> None:
    config = load_config(config_path)
    process = await launch(config_path)

    async def address() -> str:
        assert process.returncode is None
        return config.runtime().services.get("management", "")

    found = await eventually(address)
    async with channel(str(found)) as opened:
        assert (await sample.Stub(opened, sample.SAMPLE).Open(Request())).text == "open"
    process.send_signal(signal.SIGTERM)
    code, lines = await ended(process)
    assert code == 0
    events = [line["event"] for line in lines]
    assert events.index("part.started") < events.index("part.stopping")
    secrets = [path.read_text() for path in config.node.secrets.iterdir() if not path.is_dir()]
    assert not any(secret in json.dumps(lines) for secret in secrets)


async def test_what_cannot_start_says_why_and_whether_to_try_again(config_path: Path) -> None:
    rewrite(config_path, 'id = "sf"', 'id = "SF!"')
    code, _ = await ended(await launch(config_path))
    assert code == EXIT_WRONG
    rewrite(config_path, 'id = "SF!"', 'id = "sf"')
    (load_config(config_path).node.secrets / "node-key").unlink()
    code, lines = await ended(await launch(config_path))
    assert (code, lines[-1]["event"]) == (EXIT_WRONG, "part.cannot_start")
    prepare(load_config(config_path))
    rewrite(config_path, f'dsn = "{load_config(config_path).postgres.dsn}"', 'dsn = "postgresql://127.0.0.1:1/quintet"')
    code, lines = await ended(await launch(config_path))
    assert (code, lines[-1]["event"]) == (EXIT_RETRY, "part.cannot_start_now")
