"""Servers as child processes: started, watched until they are ready, restarted when they die, stopped in order."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import structlog

from deploy.runtime.account import Account
from deploy.runtime.leftovers import wait_exit

LAUNCHER = Path(__file__).with_name("launch.py")
START_TIMEOUT_S = 60.0
READY_POLL_S = 0.02
RESTART_DELAY_MIN_S = 0.1
RESTART_DELAY_MAX_S = 10.0
# A server that ran this long before it died was healthy: the next failure starts with the shortest delay again.
HEALTHY_AFTER_S = 60.0
KILL_TIMEOUT_S = 5.0
LOG_CHECK_S = 60.0
LOG_BYTES_MAX = 10 * 1024 * 1024
LOG_TAIL_BYTES = 3_000
# Servers inherit nothing of the node's environment: it may hold what they need not know.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}

log = structlog.get_logger(__name__)


class ServerFailed(RuntimeError):
    """A server did not start, or a program of it failed; the message ends with the last lines of its log."""

    def __init__(self, name: str, reason: str, tail: str) -> None:
        super().__init__(f"{name}: {reason}" + (f"\n{tail}" if tail else ""))
        self.reason = reason
        self.tail = tail


class State(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server as the status page shows it. failure is the last one, kept after a successful restart."""

    name: str
    state: State
    pid: int | None
    restarts: int
    failure: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. folder is its working directory, by which leftovers of it are recognised; log takes its output, and
    other_logs are files that it writes by itself.

    death_signal is what it gets when the node dies, stop_signal what asks it to stop; past stop_timeout_s it is killed.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    log: Path
    account: Account | None = None
    other_logs: tuple[Path, ...] = ()
    death_signal: signal.Signals = signal.SIGKILL
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0


class Child:
    """One run of a program. The kernel kills it when the thread that spawned it ends: spawn from the main thread."""

    def __init__(self, program: Program) -> None:
        self.program = program
        program.log.parent.mkdir(parents=True, exist_ok=True)
        account = program.account
        launcher = [
            # -I -S: neither the environment nor installed packages have a say in a program that starts as root.
            *(sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(program.death_signal))),
            *((str(account.uid), str(account.gid)) if account else ("-1", "-1")),
            str(int(_owns_terminal())),
        ]
        with os.fdopen(os.open(program.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                [*launcher, *program.command],
                cwd=program.folder,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.started = time.monotonic()
        self._handle = os.pidfd_open(self._process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self, timeout_s: float | None = None) -> int | None:
        """The exit code (negative: the signal), or None when it still runs after timeout_s."""
        if self._process.returncode is None and await wait_exit(self._handle, timeout_s):
            self._process.wait()
            os.close(self._handle)
        return self._process.returncode

    def end(self) -> None:
        """Asks it to stop, without waiting."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, self.program.stop_signal)

    async def stop(self) -> None:
        """Asks, waits, and kills what does not listen."""
        for number, timeout_s in (
            (self.program.stop_signal, self.program.stop_timeout_s),
            (signal.SIGKILL, KILL_TIMEOUT_S),
        ):
            if self._process.returncode is not None:
                return
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)
            await self.wait(timeout_s)

    def tail(self) -> str:
        """The end of what this run wrote to its log."""
        with self.program.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(min(self._log_start, size), size - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").strip()


async def run_to_end(program: Program, timeout_s: float) -> None:
    """Runs a program that ends by itself; ServerFailed when it takes too long or exits with another code than 0."""
    child = Child(program)
    try:
        code = await child.wait(timeout_s)
    finally:
        await child.stop()
    if code != 0:
        reason = f"did not end within {timeout_s:.0f} s" if code is None else _describe(code)
        raise ServerFailed(program.name, reason, child.tail())


class Supervised:
    """A server that is kept running. plan is asked for the program before every start, and prepares what it needs.

    ready tells whether the process with the given pid serves.
    """

    def __init__(
        self, name: str, plan: Callable[[], Awaitable[Program]], ready: Callable[[int], Awaitable[bool]]
    ) -> None:
        self.name = name
        self._plan = plan
        self._ready = ready
        self._child: Child | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._status = ServerStatus(name, State.STOPPED, None, 0, "", _now())

    def status(self) -> ServerStatus:
        return self._status

    async def start(self) -> None:
        """Returns when the server is ready, and from then on restarts it when it dies; ServerFailed if it is not."""
        if self._watcher is not None:
            raise RuntimeError(f"{self.name} is already started")
        self._set(State.STARTING)
        try:
            child = await self._spawn()
        except BaseException:
            self._set(State.STOPPED)
            raise
        self._watcher = asyncio.create_task(self._watch(child), name=f"watch {self.name}")

    def tail(self) -> str:
        """The end of what the present run wrote to its log; empty when there is none."""
        return self._child.tail() if self._child is not None else ""

    def restart(self) -> None:
        """Has the running server stop; whoever watches it starts it again."""
        if self._child is not None and self._status.state is State.RUNNING:
            self._child.end()

    async def stop(self) -> None:
        """Stops watching, then the server. Safe to call twice, and in another event loop than start's."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None and watcher.get_loop() is asyncio.get_running_loop():
            watcher.cancel()
            await asyncio.wait({watcher})
        child, self._child = self._child, None
        if child is not None:
            await child.stop()
            log.info("server_stopped", server=self.name)
        self._set(State.STOPPED)

    async def _spawn(self) -> Child:
        program = await self._plan()
        child = self._child = Child(program)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._until_ready(child)
        except TimeoutError as error:
            await child.stop()
            raise ServerFailed(self.name, f"was not ready within {START_TIMEOUT_S:.0f} s", child.tail()) from error
        except BaseException:
            await child.stop()
            raise
        log.info("server_ready", server=self.name, pid=child.pid, seconds=round(time.monotonic() - child.started, 3))
        self._set(State.RUNNING, pid=child.pid)
        return child

    async def _until_ready(self, child: Child) -> None:
        while not await self._ready(child.pid):
            code = await child.wait(READY_POLL_S)
            if code is not None:
                raise ServerFailed(self.name, _describe(code), child.tail())

    async def _watch(self, child: Child) -> None:
        delay_s = RESTART_DELAY_MIN_S
        while True:
            code = await child.wait(LOG_CHECK_S)
            if code is None:
                for path in (child.program.log, *child.program.other_logs):
                    _limit_log(path)
                continue
            if time.monotonic() - child.started > HEALTHY_AFTER_S:
                delay_s = RESTART_DELAY_MIN_S
            failure = _describe(code)
            log.error("server_died", server=self.name, pid=child.pid, failure=failure, tail=child.tail())
            self._set(State.RESTARTING, failure=failure)
            child, delay_s = await self._respawn(delay_s)

    async def _respawn(self, delay_s: float) -> tuple[Child, float]:
        """Tries until the server runs again. Returns it with the delay before the next try, should it die at once."""
        while True:
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RESTART_DELAY_MAX_S)
            self._status = replace(self._status, restarts=self._status.restarts + 1)
            try:
                return await self._spawn(), delay_s
            except Exception as error:  # whatever is in the way (a full disk, a taken port) may go away
                log.exception("server_restart_failed", server=self.name, next_try_s=delay_s)
                self._set(State.RESTARTING, failure=str(error).partition("\n")[0])

    def _set(self, state: State, *, pid: int | None = None, failure: str | None = None) -> None:
        failure = self._status.failure if failure is None else failure
        self._status = replace(self._status, state=state, pid=pid, failure=failure, since=_now())


def rotate(path: Path, limit_bytes: int = LOG_BYTES_MAX) -> None:
    """Keeps a log below the limit by copying it to `<name>.1` and emptying it: its writers hold it open for appending.

    Lines written between the copy and the emptying are lost.
    """
    with suppress(FileNotFoundError):
        if path.stat().st_size > limit_bytes:
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
            os.truncate(path, 0)


def _limit_log(path: Path) -> None:
    try:
        rotate(path)
    except OSError:
        log.exception("log_rotation_failed", path=str(path))  # a log must not stop a server


def _owns_terminal() -> bool:
    """Whether Ctrl-C at the terminal would reach the servers too, and end them before the node can stop in order.

    Then, and only then, they get a process group of their own.
    """
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False  # standard input is no terminal


def _describe(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def _now() -> datetime:
    return datetime.now(UTC)
