"""`python -m bench [names]`: run benchmarks, one line of JSON each on standard output, and keep them in build/bench."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bench.record import Measured

# Each is `async def run(folder: Path) -> Measured` in the module of its name; the folder is its own, and empty.
BENCHMARKS = (
    "federation_latency",
    "federation_throughput",
    "federation_catchup",
    "contract_bulk",
    "work_list",
    "merge_candidates",
    "event_lifecycle",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], help="all by default")
    names = parser.parse_args().names or BENCHMARKS
    missed = []
    for name in names:
        run: Callable[[Path], Awaitable[Measured]] = importlib.import_module(f"bench.{name}").run
        with tempfile.TemporaryDirectory(prefix="quintet-bench-") as folder:
            found = asyncio.run(_run(run, Path(folder)))
        print(found.line(), flush=True)
        found.write()
        if not found.met:
            missed.append(name)
    if missed:
        print(f"missed their aims: {', '.join(missed)}", file=sys.stderr)
    return 0


async def _run(run: Callable[[Path], Awaitable[Measured]], folder: Path) -> Measured:
    return await run(folder)


if __name__ == "__main__":
    sys.exit(main())
