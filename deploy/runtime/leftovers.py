"""Processes that an earlier run of the same state folder left behind, and the lock that says there is no other run.

A process belongs to a folder when it runs the expected program and works in that folder: both are read from the kernel,
while a handle (pidfd) keeps the number from coming to mean another one. A name, or a number in a file, proves nothing.
"""

import asyncio
import fcntl
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import structlog

LOCK_TRIES = 20
LOCK_DELAY_S = 0.25
END_TIMEOUT_S = 5.0
KILL_TIMEOUT_S = 5.0
DELETED = " (deleted)"

log = structlog.get_logger(__name__)


class AlreadyRunning(RuntimeError):
    """Another live process holds the folder."""


@dataclass(slots=True)
class FolderLock:
    """Held for as long as a server may run in the folder; the kernel lets go of it when its holder dies."""

    _file: IO[str]

    @classmethod
    async def take(cls, folder: Path) -> "FolderLock":
        """Takes the lock; AlreadyRunning when its holder does not let go within LOCK_TRIES tries."""
        file = _lock_file(folder)
        for _ in range(LOCK_TRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(LOCK_DELAY_S)  # a killed holder may still be dying
            else:
                return cls(file)
        file.close()
        raise AlreadyRunning(f"another process runs in {folder}")

    def release(self) -> None:
        self._file.close()


def _lock_file(folder: Path) -> IO[str]:
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / "lock").open("w")


async def end_leftovers(folder: Path, program: str, stop_signal: signal.Signals) -> int:
    """Ends the processes of the program that work in the folder, first politely; returns how many there were.

    The caller holds the folder's lock, so that none of them can be wanted. RuntimeError when one survives SIGKILL.
    """
    first = _find(folder, program)
    if not first:
        return 0
    log.warning("leftover_processes", folder=str(folder), program=program, pids=sorted(first))
    await _signal_all(first, folder, program, stop_signal, END_TIMEOUT_S)
    await _signal_all(_find(folder, program), folder, program, signal.SIGKILL, KILL_TIMEOUT_S)
    if left := _find(folder, program):
        raise RuntimeError(f"processes {sorted(left)} of {program} in {folder} cannot be ended")
    return len(first)


async def wait_exit(handle: int, timeout_s: float | None) -> bool:
    """Whether the process behind the pidfd has ended, after waiting at most timeout_s (None: for ever)."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(timeout_s):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(handle)
    return True


async def _signal_all(pids: set[int], folder: Path, program: str, number: signal.Signals, timeout_s: float) -> None:
    handles = []
    try:
        for pid in pids:
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                if not _belongs(pid, folder, program):  # another one by now: the handle pins what is asked about
                    os.close(handle)
                    continue
                handles.append(handle)
                signal.pidfd_send_signal(handle, number)
        await asyncio.gather(*(wait_exit(handle, timeout_s) for handle in handles))
    finally:
        for handle in handles:
            os.close(handle)


def _find(folder: Path, program: str) -> set[int]:
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return {pid for pid in pids if _belongs(pid, folder, program)}


def _belongs(pid: int, folder: Path, program: str) -> bool:
    try:
        works_in = str(Path(f"/proc/{pid}/cwd").readlink())
        runs = str(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return False  # gone, or somebody else's
    # The folder or the program may have been replaced since: the kernel then adds a mark to the path it knew.
    return works_in.removesuffix(DELETED) == str(folder) and Path(runs.removesuffix(DELETED)).name == program
