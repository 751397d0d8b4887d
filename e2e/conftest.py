"""The demo, started once for all tests of the folder, as a newcomer starts it: in build/demo, with a small sample."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import pytest

from demo.settings import ROOT
from e2e.federation import POLL_S, Federation

# These have nodes and a target of their own: they run only when they are asked for (`make e2e-faults`, ...).
APART = (ROOT / "e2e" / "faults", ROOT / "e2e" / "compose")
SAMPLE_REQUESTS = 200
START_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 120.0
TEST_TIMEOUT_S = 240
OUTPUT_TAIL_CHARS = 6_000
# The demo's last words before it waits for Ctrl-C.
UP = "Everything stays up until Ctrl-C."


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what is APART and was not asked for."""
    if collection_path in APART and not any(asked.is_relative_to(collection_path) for asked in _asked_for(config)):
        return True
    return None


def _asked_for(config: pytest.Config) -> list[Path]:
    return [(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test waits for the whole demo."""
    for item in items:
        if Path(item.path).is_relative_to(ROOT / "e2e"):
            item.add_marker(pytest.mark.timeout(START_TIMEOUT_S + TEST_TIMEOUT_S, func_only=False))


@pytest.fixture(scope="session")
def federation() -> Iterator[Federation]:
    """The five nodes, up, with the demo's work done. In the end Ctrl-C must stop the demo and leave nothing behind."""
    build = ROOT / "build" / "demo"
    output = ROOT / "build" / "e2e-demo.out"
    output.parent.mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name not in {"ONCE", "FULL", "KEEP"}}
    # The demo prints the passwords that it made.
    with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as log:
        demo = subprocess.Popen(
            [sys.executable, "-m", "demo"],
            cwd=ROOT,
            env=environment | {"QUINTET_SAMPLE": str(SAMPLE_REQUESTS)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    found = Federation(build)
    try:
        _wait_until_up(demo, output)
        yield found
    finally:
        family = _family(os.getpid())
        found.stop_restarted()
        code = _interrupt(demo)
    assert code == 0, f"the demo ended with {code}\n{_tail(output)}"
    assert not (left := family & _alive()), f"processes {sorted(left)} were left behind"


def _wait_until_up(demo: subprocess.Popen[bytes], output: Path) -> None:
    deadline = monotonic() + START_TIMEOUT_S
    while UP not in output.read_text(errors="replace"):
        if demo.poll() is not None or monotonic() > deadline:
            pytest.fail(f"the demo did not come up (exit code {demo.poll()})\n{_tail(output)}")
        sleep(POLL_S)


def _interrupt(demo: subprocess.Popen[bytes]) -> int:
    """Ctrl-C; returns the exit code."""
    demo.send_signal(signal.SIGINT)
    try:
        return demo.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        demo.kill()
        return demo.wait()


def _tail(output: Path) -> str:
    return output.read_text(errors="replace")[-OUTPUT_TAIL_CHARS:]


def _family(pid: int) -> set[tuple[int, str]]:
    """The live processes that descend from one, as number and time of start: a number alone may be given again."""
    found, new = set[tuple[int, str]](), {pid}
    alive = _alive_with_parents()
    while new:
        children = {process for process, parent in alive.items() if parent in new}
        new = {number for number, _ in children - found}
        found |= children
    return found


def _alive() -> set[tuple[int, str]]:
    return set(_alive_with_parents())


def _alive_with_parents() -> dict[tuple[int, str], int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # The name of a program may hold spaces and brackets; what follows its last bracket does not.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    found[int(entry.name), fields[19]] = int(fields[1])
    return found
