# ruff: noqa: ASYNC220 - a test has nothing else to do while it looks at files and starts processes
"""Conditions to wait for, and foreign processes, for the tests of the real servers."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WAIT_S = 20.0

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another account")


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]], what: str) -> None:
    """Waits for a condition, and fails naming it after WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while True:
        result = condition()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextlib.asynccontextmanager
async def node_process(script: str, *arguments: str, user: int | None = None) -> AsyncIterator[subprocess.Popen[str]]:
    """Another Python process in a group of its own, as a node is. It prints READY and more; it is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": "/"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def command_lines() -> str:
    """What everybody on the machine can read of everybody's processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(found)


async def read_line(process: subprocess.Popen[str]) -> str:
    """The next line that the process prints and that is no log line."""
    assert process.stdout is not None
    while True:
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), WAIT_S)
        assert line, "the process ended before it was ready"
        if line.startswith("READY"):
            return line.removeprefix("READY").strip()
