"""Three nodes as deploy/compose runs them, each process in a container, seen from this machine.

The engine is whatever `docker` reaches. Projects, networks and volumes bear names of their own (PREFIX), so that a run
disturbs nothing else, and are removed at the end.
"""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

from demo.settings import ROOT
from deploy.loader import Loader
from e2e.federation import Gateway, until
from quintet_sdk import Client

FOLDER = ROOT / "deploy" / "compose"
DECLARED = ROOT / "deploy" / "demo"
PREFIX = "quintet-e2e"
IMAGE = PREFIX
WAN = f"{PREFIX}-wan"
ADMIN = "node-admin"
COMMAND_TIMEOUT_S = 1_200.0
READY_WITHIN_S = 240.0
LOG_LINES = 40


class EngineError(AssertionError):
    """A command of the engine failed; the message ends with what it printed."""


def run(*command: str, env: dict[str, str] | None = None, cwd: Path = FOLDER) -> str:
    """Run a command; return its standard output. Raises EngineError."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_TIMEOUT_S,
    )
    if done.returncode != 0:
        raise EngineError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def compose_command() -> tuple[str, ...]:
    """`docker compose` where the client has it, else the older program of its own."""
    with_plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if with_plugin.returncode == 0:
        return ("docker", "compose")
    if shutil.which("docker-compose"):
        return ("docker-compose",)
    raise EngineError("neither `docker compose` nor `docker-compose` is installed")


@dataclass(slots=True)
class ComposedNode:
    """One node in containers. `name` is its folder in deploy/compose, `declared` the one in deploy/demo."""

    name: str
    node: str
    declared: str
    port: int
    passwords: dict[str, str] = field(default_factory=dict)

    @property
    def project(self) -> str:
        return f"{PREFIX}-{self.name}"

    @property
    def gateway(self) -> Gateway:
        """The node's REST API."""
        return Gateway(self.node, f"http://127.0.0.1:{self.port}", self.passwords)

    def compose(self, *arguments: str) -> str:
        """Run a compose command on the node's project."""
        environment = {"NODE": self.name, "EDGE_PORT": str(self.port), "QUINTET_IMAGE": IMAGE, "QUINTET_WAN": WAN}
        command = (*compose_command(), "--project-name", self.project, "--file", "node.yaml", *arguments)
        return run(*command, env=environment)

    def start(self) -> None:
        """Start all containers, without waiting."""
        self.compose("up", "--detach")

    def until_ready(self) -> None:
        """Wait until every process of the node answers; then read the administrator's first password."""

        def ready() -> bool:
            with self.gateway.anonymous() as caller:
                try:
                    return caller.http.get("/readyz").is_success
                except OSError:
                    return False
                except Exception as error:
                    if type(error).__module__.startswith("httpx"):
                        return False
                    raise

        try:
            until(f"{self.name} ready", ready, READY_WITHIN_S)
        except AssertionError as late:
            raise EngineError(f"{late}\n{self.logs()}") from None
        self.passwords[ADMIN] = self.compose("exec", "-T", "edge", "cat", "/secrets/node-admin.password").strip()

    def logs(self) -> str:
        """The last lines of every container."""
        return self.compose("logs", "--no-color", "--tail", str(LOG_LINES))

    def load(self) -> None:
        """Load what the node declares, with passwords for its people."""

        async def work() -> None:
            async with Client(self.gateway.url) as client:
                await client.sign_in(ADMIN, self.passwords[ADMIN])
                loader = Loader(client, passwords=self._password, take_secret=_forget)
                await loader.load(declared)

        with tempfile.TemporaryDirectory() as folder:
            # Without the service items: their table is not part of the repository.
            leave = shutil.ignore_patterns("service-items.yaml")
            declared = Path(shutil.copytree(DECLARED, folder, ignore=leave, dirs_exist_ok=True)) / self.declared
            asyncio.run(work())

    def _password(self, person: str) -> str:
        return self.passwords.setdefault(person.removeprefix("people/"), token_hex(16))

    def containers(self) -> list[str]:
        """The names of the containers that run."""
        listed = run(
            "docker", "ps", "--filter", f"label=com.docker.compose.project={self.project}", "--format", "{{.Names}}"
        )
        return listed.split()

    def inspected(self) -> list[Any]:
        """What the engine says of each container that runs."""
        found: list[Any] = json.loads(run("docker", "inspect", *self.containers()))
        return found

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """The node without the network between the nodes, for the length of the block."""
        container = next(name for name in self.containers() if "federation" in name)
        run("docker", "network", "disconnect", WAN, container)
        try:
            yield
        finally:
            run("docker", "network", "connect", "--alias", f"{self.name}.federation", WAN, container)

    def kill(self, service: str) -> None:
        """SIGKILL for one container."""
        self.compose("kill", "--signal", "SIGKILL", service)

    def remove(self) -> None:
        """Stop and remove everything of the node, its data too."""
        self.compose("down", "--volumes", "--timeout", "30")


def _forget(_account: str, _secret: str) -> None:
    """No service account calls these nodes."""


def build_image() -> None:
    """Build the image from what the folder holds now."""
    run("bash", "deploy/compose/image.sh", IMAGE, cwd=ROOT)


@contextmanager
def network_between() -> Iterator[None]:
    """The network that the nodes share. One that an earlier run left is made anew."""
    if run("docker", "network", "ls", "--filter", f"name=^{WAN}$", "--format", "{{.Name}}").split():
        run("docker", "network", "rm", WAN)
    run("docker", "network", "create", "--internal", WAN)
    try:
        yield
    finally:
        run("docker", "network", "rm", WAN)
