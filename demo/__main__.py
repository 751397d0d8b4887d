"""`make demo`: five nodes on this machine do the main job. See demo/README.md."""

import os
import sys

import uvloop
from rich.console import Console

from demo.run import Demo, until_interrupted
from demo.settings import read_settings

COLUMNS_WITHOUT_TERMINAL = 160


def main() -> int:
    """Run the demo; the exit code is 0 when everything reconciles."""
    # Where there is no terminal, tables are as wide as they need to be.
    console = Console() if sys.stdout.isatty() else Console(width=COLUMNS_WITHOUT_TERMINAL)
    demo = Demo(read_settings(os.environ), console)
    return uvloop.run(until_interrupted(demo.run))


if __name__ == "__main__":
    sys.exit(main())
