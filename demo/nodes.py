"""The five nodes of the demo: their folders, ports and processes."""

import asyncio
import os
import random
import shutil
import signal
import socket
import string
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from demo.settings import ROOT
from deploy.runtime import remove_state
from libs.state import RuntimeInfo, Secrets, read_runtime

DECLARED = ROOT / "deploy" / "demo"
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0
READY_POLL_S = 0.1
LOG_TAIL_BYTES = 2_000
PORTS_TAKEN_FROM = range(20_000, 32_000)
PORTS = ("gateway_port", "join_port", "link_port", "mqtt_port")


@dataclass(frozen=True, slots=True)
class Spec:
    """One node of the demo. suffix ends the logins of its staff, above is the node that it joins and as what."""

    id: str
    zone: str
    suffix: str
    above: str = ""
    partner: bool = False


SPECS = (
    Spec("sf", "us-ca-sf", "sf"),
    Spec("sf-d6", "us-ca-sf-d6", "d6", above="sf"),
    Spec("sf-d10", "us-ca-sf-d10", "d10", above="sf"),
    Spec("sf-potrero-hill", "us-ca-sf-d10-potrero-hill", "potrero-hill", above="sf-d10"),
    Spec("beijing", "cn-110000", "bj", above="sf", partner=True),
)
CITY_NODES = tuple(spec for spec in SPECS if not spec.partner)


class NodeFailed(RuntimeError):
    """A node did not start; the message ends with the last lines of its log."""


@dataclass(slots=True)
class Node:
    """One node on this machine. Its folder holds node.toml, the log and the state."""

    spec: Spec
    folder: Path
    url: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def secrets(self) -> Secrets:
        return Secrets(self.state / "secrets")

    def runtime(self) -> RuntimeInfo:
        """Where the parts of the node are found."""
        return read_runtime(self.state)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def configure(self, ports: dict[str, int]) -> None:
        """Writes node.toml from the declared one. Ports stay the same over restarts: peers know them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        template = string.Template((DECLARED / self.spec.id / "node.toml").read_text().replace("In $ the", "In $$ the"))
        (self.folder / "node.toml").write_text(template.substitute({name: str(port) for name, port in ports.items()}))

    async def start(self) -> None:
        """Starts the process in a group of its own and waits until the node is ready. NodeFailed when it is not."""
        self._spawn()
        deadline = time.monotonic() + START_TIMEOUT_S
        while b"ready " not in (self.folder / "node.out").read_bytes():
            if not self.running or time.monotonic() > deadline:
                raise NodeFailed(f"{self.spec.id} did not start\n{self._tail()}")
            await asyncio.sleep(READY_POLL_S)
        self.url = self.runtime().gateway

    def _spawn(self) -> None:
        with (self.folder / "node.out").open("wb") as output, (self.folder / "node.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deploy.cli", "node", "--config", str(self.folder / "node.toml")],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'sdk/python/src'}"},
            )
        (self.folder / "pid").write_text(f"{self._process.pid}\n")

    async def stop(self) -> None:
        """Asks the node to stop, and kills what is left of it when it does not."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
        (self.folder / "pid").unlink(missing_ok=True)

    def kill(self) -> int:
        """SIGKILL for the node and all that it started, servers of their own groups and sessions too; how many.

        Everything is stopped first, so that nobody restarts or ends in order what is about to be killed.
        """
        process = self._process
        if process is None or process.poll() is not None:
            return 0
        killed = kill_tree(process.pid)
        process.wait(STOP_TIMEOUT_S)
        return killed

    def _tail(self) -> str:
        data = (self.folder / "node.log").read_bytes()[-LOG_TAIL_BYTES:]
        return data.decode(errors="replace").strip()


def kill_tree(pid: int) -> int:
    """Kills a process and all its descendants at once. Returns how many there were."""
    stopped: dict[int, None] = {}
    while found := [each for each in _tree(pid) if each not in stopped]:
        for each in found:
            stopped[each] = None
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGSTOP)
    for each in stopped:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    return len(stopped)


def _tree(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # The name of a program may hold spaces and brackets; what follows its last bracket does not.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def make_nodes(folder: Path) -> dict[str, Node]:
    """The nodes by id, configured; those that were configured before keep their ports."""
    nodes = {spec.id: Node(spec, folder / spec.id) for spec in SPECS}
    fresh = [node for node in nodes.values() if not (node.folder / "node.toml").exists()]
    ports = free_ports(len(PORTS) * len(fresh))
    for node in fresh:
        node.configure({name: ports.pop() for name in PORTS})
    return nodes


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now, all different.

    They lie below the range from which the kernel gives ports to connections: those of the nodes that start first
    must not take the port of one that starts last.
    """
    ports: list[int] = []
    candidates = random.sample(PORTS_TAKEN_FROM, len(PORTS_TAKEN_FROM))
    while len(ports) < count:
        with socket.socket() as each, suppress(OSError):
            each.bind(("127.0.0.1", candidates.pop()))
            ports.append(each.getsockname()[1])
    return ports


def end_leftovers(folder: Path) -> None:
    """Ends nodes of an earlier run that was killed before it could stop them."""
    for path in folder.glob("*/pid"):
        with suppress(ValueError, OSError):
            pid = int(path.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if str(path.parent / "node.toml").encode() in command:
                kill_tree(pid)
        path.unlink(missing_ok=True)


def remove_nodes(folder: Path) -> None:
    """Removes the data of an earlier run."""
    end_leftovers(folder)
    for spec in SPECS:
        remove_state(folder / spec.id / "state")
    shutil.rmtree(folder, ignore_errors=True)
