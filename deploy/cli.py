"""The command line, `quintet`.

Exit codes: 0 done; 1 the answer is no (a certificate or a log does not hold, a load was refused); 2 wrong use or
configuration; 70 (EX_SOFTWARE of sysexits) a fault of ours; 75 (EX_TEMPFAIL) worth another attempt.
"""

import argparse
import sys
from collections.abc import Sequence

from deploy.commands import audit, certificate, import_history, load, node, peer, probe, server
from deploy.commands.common import EXIT_WRONG, UsageError


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits the process with its code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. SystemExit for wrong arguments and for --help."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except UsageError as error:
        print(error, file=sys.stderr)
        return EXIT_WRONG
    return code


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="quintet", description="A node of the Quintet federation, and tools for it.")
    commands = top.add_subparsers(required=True, metavar="COMMAND", title="commands")
    node.add_node(commands)
    node.add_prepare(commands)
    server.add(commands)
    probe.add(commands)
    certificate.add(commands)
    audit.add(commands)
    load.add(commands)
    peer.add(commands)
    import_history.add(commands)
    return top


if __name__ == "__main__":
    main()
