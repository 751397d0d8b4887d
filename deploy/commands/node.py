"""`quintet node` and `quintet prepare`."""

import argparse

from deploy.commands.common import Commands, add_config, read_config

NODE = """Runs a whole node until SIGTERM or SIGINT: PostgreSQL and NATS unless node.toml says they are elsewhere, the
services in this process, the pages behind the edge, and the edge (Envoy). Prints "ready <url>" when all that runs here
is ready; logs are JSON lines on standard error."""
SERVICES = """which services run in this process: all (default), none, or names with commas between. The others are
started with `python -m services.<name> --config FILE` once this one is ready; the edge follows them to the port they
pick, or to the address that [services] in node.toml fixes"""
PREPARE = """Makes what a node needs and does not have yet: keys, passwords, database roles, schemas, streams. Safe to
repeat; the node itself does the same when it starts. Servers that node.toml says are elsewhere are prepared when the
secrets folder holds postgres-admin-dsn or nats-admin, and otherwise left alone."""


def add_node(commands: Commands) -> None:
    parser = commands.add_parser("node", help="run a node", description=NODE, allow_abbrev=False)
    add_config(parser)
    parser.add_argument("--services", default="all", metavar="NAMES", help=SERVICES)
    parser.add_argument(
        "--log", action="store_true", help="log to <state>/log/node.log, kept below a limit, not to standard error"
    )
    parser.set_defaults(run=_node)


def add_prepare(commands: Commands) -> None:
    parser = commands.add_parser(
        "prepare", help="make a node's keys, schemas and streams", description=PREPARE, allow_abbrev=False
    )
    add_config(parser)
    parser.set_defaults(run=_prepare)


def _node(options: argparse.Namespace) -> int:
    from deploy.process import serve

    return serve(read_config(options.config), options.services, log_to_file=options.log)


def _prepare(options: argparse.Namespace) -> int:
    from deploy.process import prepare

    return prepare(read_config(options.config))
