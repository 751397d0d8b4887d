# ruff: noqa: ASYNC220 - a test has nothing else to do while it looks at files and starts processes
"""Children die with their parent, come back when they die alone, and only our own are ever ended."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.runtime import process as processes
from deploy.runtime.account import server_account
from deploy.runtime.leftovers import AlreadyRunning, FolderLock, end_leftovers
from deploy.runtime.ports import free_port, listens
from deploy.runtime.process import Child, Program, ServerFailed, State, Supervised, rotate, run_to_end
from deploy.runtime.tests.support import alive, as_root, node_process, read_line, until

SPAWN = """
import sys, time
from pathlib import Path
from deploy.runtime.account import server_account
from deploy.runtime.process import Child, Program
folder = Path(sys.argv[1])
account = server_account(folder) if sys.argv[2] == "dropped" else None
child = Child(Program("sleep", ("/usr/bin/sleep", "1000"), Path("/"), folder / "log", account))
while Path(f"/proc/{child.pid}/comm").read_text().strip() != "sleep":
    time.sleep(0.01)
print("READY", child.pid, flush=True)
time.sleep(1000)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path.resolve()


@pytest.fixture
def sleeper(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else."""
    process = subprocess.Popen(["/usr/bin/sleep", "1000"], cwd=folder)
    yield process
    process.kill()
    process.wait()


def program(folder: Path, *command: str) -> Program:
    return Program("test", command or ("/usr/bin/sleep", "1000"), folder, folder / "log", stop_timeout_s=0.2)


async def always(pid: int) -> bool:
    return True


@pytest.mark.parametrize("kind", ["own", pytest.param("dropped", marks=as_root)])
async def test_child_dies_with_its_parent(folder: Path, kind: str) -> None:
    async with node_process(SPAWN, str(folder), kind) as parent:
        pid = int(await read_line(parent))
        assert os.getpgid(pid) == parent.pid
        parent.kill()  # the parent alone, not its group
        await until(lambda: not alive(pid), "the child ended")


async def test_ctrl_c_at_the_terminal_reaches_the_node_only(folder: Path) -> None:
    """Where the node owns the terminal; else its servers stay in its process group, and end with it at one signal."""
    terminal, other_end = os.openpty()
    # Who runs these tests as a background job of a script hands SIGINT down as ignored; a terminal does not.
    own_terminal = f"""
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
os.dup2(os.open({os.ttyname(other_end)!r}, os.O_RDWR), 0)
"""
    async with node_process(own_terminal + SPAWN, str(folder), "own") as parent:
        pid = int(await read_line(parent))
        assert os.getpgid(pid) == pid
        os.write(terminal, b"\x03")
        await until(lambda: parent.poll() is not None, "the node was interrupted")
        await until(lambda: not alive(pid), "the child ended with the node")
    os.close(terminal)
    os.close(other_end)


@as_root
async def test_account_is_taken_before_the_program_runs(folder: Path) -> None:
    account = server_account(folder)
    assert account is not None
    output = folder / "log"
    await run_to_end(Program("id", ("/usr/bin/id", "-un"), Path("/"), output, account), 5)
    assert output.read_text().strip() == account.name


async def test_environment_is_not_inherited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTET_TEST_SECRET", "hidden")
    await run_to_end(program(folder, "/usr/bin/env"), 5)
    assert "hidden" not in (folder / "log").read_text()
    assert (folder / "log").stat().st_mode & 0o777 == 0o600


async def test_program_that_fails_says_why(folder: Path) -> None:
    with pytest.raises(ServerFailed, match=r"exited with code 3\nbad luck"):
        await run_to_end(program(folder, "/bin/sh", "-c", "echo bad luck; exit 3"), 5)


async def test_program_that_hangs_is_killed(folder: Path) -> None:
    with pytest.raises(ServerFailed, match="did not end within 0 s"):
        await run_to_end(program(folder), 0.05)


async def test_missing_program_is_a_failure(folder: Path) -> None:
    with pytest.raises(ServerFailed, match="cannot run /nowhere/server"):
        await run_to_end(program(folder, "/nowhere/server"), 5)


async def test_dead_server_is_restarted_and_it_shows(folder: Path) -> None:
    async def plan() -> Program:
        return program(folder)

    server = Supervised("test", plan, always)
    await server.start()
    first = server.status()
    assert first.state is State.RUNNING
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    await until(lambda: server.status().restarts == 1 and server.status().state is State.RUNNING, "restarted")
    again = server.status()
    assert again.pid not in {None, first.pid}
    assert again.failure == "was ended by SIGKILL"
    await server.stop()
    assert server.status().state is State.STOPPED
    assert again.pid is not None
    assert not alive(again.pid)


async def test_restart_waits_longer_after_each_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []
    sleep = asyncio.sleep
    starts = 0

    async def remember(delay_s: float) -> None:
        delays.append(delay_s)
        await sleep(0)

    async def plan() -> Program:
        nonlocal starts
        starts += 1
        if starts == 1:
            return program(folder)
        if starts < 9:
            raise OSError("disk full")
        return program(folder)

    monkeypatch.setattr("asyncio.sleep", remember)
    server = Supervised("test", plan, always)
    await server.start()
    pid = server.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while server.status().state is not State.RUNNING or server.status().restarts < 8:
        await sleep(0.01)
    await server.stop()
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0]
    assert server.status().failure == "disk full"


async def test_server_that_exits_at_once_fails_the_start(folder: Path) -> None:
    async def plan() -> Program:
        return program(folder, "/bin/sh", "-c", "echo no such option; exit 1")

    async def never(pid: int) -> bool:
        return False

    server = Supervised("test", plan, never)
    with pytest.raises(ServerFailed, match="no such option"):
        await server.start()
    assert server.status().state is State.STOPPED


async def test_server_that_is_never_ready_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "START_TIMEOUT_S", 0.1)
    pids = []

    async def plan() -> Program:
        return program(folder)

    async def never(pid: int) -> bool:
        pids.append(pid)
        return False

    with pytest.raises(ServerFailed, match="was not ready"):
        await Supervised("test", plan, never).start()
    assert not alive(pids[0])


async def test_server_that_ignores_the_signal_is_killed(folder: Path) -> None:
    child = Child(program(folder, "/bin/sh", "-c", "trap '' TERM; echo on; while :; do sleep 0.1; done"))
    await until(lambda: "on" in child.tail(), "the trap is set")
    await child.stop()
    assert await child.wait() == -signal.SIGKILL


async def test_leftovers_end_and_strangers_do_not(folder: Path, sleeper: subprocess.Popen[bytes]) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    assert await end_leftovers(elsewhere, "sleep", signal.SIGTERM) == 0
    assert await end_leftovers(folder, "postgres", signal.SIGTERM) == 0
    assert sleeper.poll() is None
    assert await end_leftovers(folder, "sleep", signal.SIGTERM) == 1
    assert sleeper.wait() == -signal.SIGTERM


async def test_stubborn_leftover_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.runtime.leftovers.END_TIMEOUT_S", 0.2)
    stubborn = subprocess.Popen(["/usr/bin/env", "--ignore-signal=TERM", "/usr/bin/sleep", "1000"], cwd=folder)
    await until(lambda: Path(f"/proc/{stubborn.pid}/comm").read_text() == "sleep\n", "sleeping")
    assert await end_leftovers(folder, "sleep", signal.SIGTERM) == 1
    assert stubborn.wait() == -signal.SIGKILL


async def test_folder_has_one_holder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.runtime.leftovers.LOCK_TRIES", 2)
    lock = await FolderLock.take(folder)
    with pytest.raises(AlreadyRunning):
        await FolderLock.take(folder)
    lock.release()
    (await FolderLock.take(folder)).release()


async def test_only_the_listener_is_ready(folder: Path) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert listens(os.getpid(), port)
        assert not listens(os.getppid(), port)
        assert free_port(port) != port
    assert free_port(port) == port


def test_log_is_kept_below_its_limit(folder: Path) -> None:
    log = folder / "server.log"
    with log.open("a") as writer:
        writer.write("x" * 100)
        writer.flush()
        rotate(log, limit_bytes=50)
        writer.write("after")
        writer.flush()
    assert log.read_text() == "after"
    assert (folder / "server.log.1").read_text() == "x" * 100
    rotate(folder / "missing.log")
