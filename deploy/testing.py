"""A pytest plugin: a whole node as a process of its own, as an operator runs it. The root conftest.py loads it.

async def test_something(node: NodeProcess) -> None:
    async with node.signed_in() as client:
        await client.get("/v1/profile")
"""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from deploy.runtime import remove_state
from libs.config import NodeConfig, load_config

START_TIMEOUT_S = 100.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.05
# What a node answers that others on the machine keep from its work; whoever signs in tries again.
BUSY = (503, 504)
SIGN_INS_AGAIN_MAX = 4
LOG_TAIL_CHARS = 4_000
# Becomes another program that gets SIGTERM when the test's process ends, and no Ctrl-C before.
_WITH_US = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0); os.setpgid(0, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
ADMIN_LOGIN = "node-admin"
ADMIN_PASSWORD = "node-admin.password"
# The names of the programs that a node starts, as the kernel knows them.
SERVERS = ("postgres", "nats-server", "envoy")


class NodeFailed(AssertionError):
    """A process ended or hung where it should not have; the message ends with its log."""


@dataclass
class Daemon:
    """A process that is ended with the test's own, whatever becomes of that. log takes standard output and error.

    Start it from the main thread: the kernel ends it when the thread that started it ends.
    """

    command: Sequence[str]
    log: Path
    # Beside the test's own environment.
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise NodeFailed(f"{self.command} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _WITH_US, sys.executable, *self.command],
                cwd=Path(__file__).parents[1],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def kill(self) -> None:
        """SIGKILL, as a crash or the kernel's memory killer would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit code. Does nothing when it does not run."""
        return self._end(signal.SIGTERM)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-LOG_TAIL_CHARS:] if self.log.exists() else ""

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise NodeFailed(f"{self.command} did not stop within {STOP_TIMEOUT_S:.0f} s\n{self.tail()}") from None


@dataclass
class NodeProcess:
    """`quintet node` on a folder with a node.toml; started again it is the same node."""

    folder: Path
    services: str = "all"
    environment: Mapping[str, str] = field(default_factory=dict)
    _daemon: Daemon = field(init=False)

    def __post_init__(self) -> None:
        command = ("-m", "deploy.cli", "node", "--config", str(self.config_path), "--services", self.services)
        self._daemon = Daemon(command, self.folder / "node.out", self.environment)

    @property
    def config_path(self) -> Path:
        return self.folder / "node.toml"

    @property
    def config(self) -> NodeConfig:
        return load_config(self.config_path)

    @property
    def pid(self) -> int:
        return self._daemon.pid

    @property
    def running(self) -> bool:
        return self._daemon.running

    @property
    def starts(self) -> int:
        """How often the node has said that it is ready, in all of its runs."""
        return len(self._printed())

    @property
    def url(self) -> str:
        """The base URL of the API, which the node printed."""
        return self._printed()[-1]

    @property
    def log(self) -> str:
        """Everything that the node has written to its output so far, in all of its runs."""
        return self._daemon.log.read_text()

    def spawn(self) -> None:
        """Starts it without waiting for anything."""
        self._daemon.start()

    def start(self) -> "NodeProcess":
        """Returns when the node says that it is ready; NodeFailed with the end of its log when it does not."""
        before = len(self._printed())
        self.spawn()
        deadline = monotonic() + START_TIMEOUT_S
        while len(self._printed()) == before:
            if not self._daemon.running or monotonic() > deadline:
                self._daemon.kill()
                raise NodeFailed(f"the node did not become ready\n{self._daemon.tail()}")
            sleep(POLL_S)
        return self

    def stop(self) -> int:
        """Returns the exit code. Does nothing when the node does not run."""
        return self._daemon.stop()

    def kill(self) -> None:
        """SIGKILL to the node's own process; its servers end with it."""
        self._daemon.kill()

    def servers(self) -> Mapping[str, int]:
        """The pids of the node's servers by the name of their program."""
        return {program: pid for pid, program in children(self.pid).items() if program in SERVERS}

    def password(self) -> str:
        """The administrator's."""
        return self.config.secrets.read(ADMIN_PASSWORD)

    def client(self, **options: Any) -> httpx.AsyncClient:
        """A client of the public API, signed in as nobody."""
        return httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=30, **options)

    @asynccontextmanager
    async def signed_in(self, login: str = ADMIN_LOGIN, password: str = "") -> AsyncIterator[httpx.AsyncClient]:
        """A client of the public API, signed in; by default as the administrator."""
        async with self.client() as client:
            credentials = {"login": login, "password": password or self.password()}
            answer = await client.post("/v1/sessions:signIn", json=credentials)
            for _ in range(SIGN_INS_AGAIN_MAX):
                if answer.status_code not in BUSY:
                    break
                answer = await client.post("/v1/sessions:signIn", json=credentials)
            answer.raise_for_status()
            client.headers["authorization"] = f"Bearer {answer.json()['tokens']['accessToken']}"
            yield client

    def remove(self) -> None:
        """Stops the node and removes its state, also what PostgreSQL keeps elsewhere."""
        try:
            self.stop()
        finally:
            remove_state(self.folder / "state")

    def _printed(self) -> list[str]:
        """The URLs of all runs."""
        if not self._daemon.log.exists():
            return []
        return [line[6:] for line in self.log.splitlines() if line.startswith("ready ")]


def write_node_toml(folder: Path, *, extra: str = "", **node: str) -> Path:
    """Writes a node.toml for San Francisco, or with other words where `node` has them; extra is appended."""
    words = {
        "id": "sf",
        "name": "City of San Francisco",
        "zone": "us-ca-sf",
        "timezone": "America/Los_Angeles",
        "state": "state",
        **node,
    }
    lines = [f'{key} = "{value}"' for key, value in words.items()]
    path = folder / "node.toml"
    path.write_text("\n".join(["[node]", *lines, extra, ""]))
    return path


def children(pid: int) -> dict[int, str]:
    """The live children of a process, with the names of their programs."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                program, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
                state, parent = rest.split()[:2]
                if int(parent) == pid and state != "Z":
                    found[int(entry.name)] = program
    return found


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One whole node for the tests of a session that only use it; who kills or fills it starts one of their own."""
    folder = tmp_path_factory.mktemp("node")
    write_node_toml(folder)
    running = NodeProcess(folder)
    try:
        yield running.start()
    finally:
        running.remove()
