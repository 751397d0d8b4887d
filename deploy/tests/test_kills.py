"""Any one process of a node dies, at any moment, while requests are filed: nothing that was answered is lost."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.testing import Daemon, NodeProcess, write_node_toml
from deploy.tests.filing import Filer, assert_consistent, declare_event_type, ready
from libs.config import PARTS

pytestmark = pytest.mark.slow
# Filed before the blow, and after it.
REQUESTS = 5


@dataclass
class Whole:
    """A node in one process, or with every service in a process of its own; and all that it was told so far."""

    node: NodeProcess
    services: dict[str, Daemon] = field(default_factory=dict)
    answered: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.node.start()
        for service in self.services.values():
            service.start()

    def remove(self) -> None:
        for service in self.services.values():
            service.stop()
        self.node.remove()

    def kill(self, victim: str) -> None:
        """Kills one process, and starts it again where nobody else does: the node restarts its servers by itself."""
        if victim == "node":
            self.node.kill()
            self.node.spawn()
        elif victim in self.services:
            self.services[victim].kill()
            self.services[victim].start()
        else:
            os.kill(self.node.servers()[victim], signal.SIGKILL)

    @asynccontextmanager
    async def filing(self) -> AsyncIterator[Filer]:
        """Requests are filed for the length of the block."""
        stop = asyncio.Event()
        async with self.node.signed_in() as client:
            await declare_event_type(client)
            filer = Filer(client, self.answered)
            async with asyncio.TaskGroup() as group:
                group.create_task(filer.run(stop))
                try:
                    yield filer
                finally:
                    stop.set()


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("one")
    write_node_toml(folder)
    yield from _kept(Whole(NodeProcess(folder)))


@pytest.fixture(scope="module")
def many_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("many")
    path = write_node_toml(folder)
    services = {part: _service(part, path) for part in PARTS}
    yield from _kept(Whole(NodeProcess(folder, services="none"), services))


def _kept(whole: Whole) -> Iterator[Whole]:
    try:
        whole.start()
        yield whole
    finally:
        whole.remove()


def _service(part: str, config: Path) -> Daemon:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ("-m", f"services.{part}", "--config", str(config), "--metrics-port", str(port))
    return Daemon(command, config.with_name(f"{part}.out"))


@pytest.mark.parametrize("victim", ["postgres", "nats-server", "envoy", "node"])
async def test_a_node_in_one_process_survives(one_process: Whole, victim: str) -> None:
    await _survives(one_process, victim)


@pytest.mark.parametrize("victim", ["delivery", "management", "identity", "postgres", "node"])
async def test_a_node_in_many_processes_survives(many_processes: Whole, victim: str) -> None:
    await _survives(many_processes, victim)


async def test_the_status_page_knows_of_services_in_other_processes(many_processes: Whole) -> None:
    await ready(many_processes.node)
    async with many_processes.node.client() as client:
        status = (await client.get("/status.json")).json()
    assert {line["name"]: (line["ready"], line["state"]) for line in status["services"]} == dict.fromkeys(
        PARTS, (True, "")
    )
    assert {line["part"] for line in status["queues"]} == set(PARTS)


async def _survives(whole: Whole, victim: str) -> None:
    await ready(whole.node)
    async with whole.filing() as filer:
        await filer.until(REQUESTS)
        whole.kill(victim)
        await filer.until(REQUESTS)
        await ready(whole.node)
    async with whole.node.signed_in() as client:
        await assert_consistent(client, whole.answered)
