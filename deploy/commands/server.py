"""`quintet server`: one of a node's servers in a process, or a container, of its own."""

import argparse

from deploy.commands.common import Commands, UsageError, add_config, read_config

SERVER = """Runs PostgreSQL or NATS from the wheels for a node whose node.toml says that it is elsewhere, until SIGTERM
or SIGINT. Prints "ready HOST:PORT". Its data is in the state folder; its passwords, made when missing, are in the
secrets folder, which the node's other processes share. Everybody who reaches the address may try a password: keep it
inside the node's own network."""


def add(commands: Commands) -> None:
    parser = commands.add_parser("server", help="run one server of a node", description=SERVER, allow_abbrev=False)
    parser.add_argument("kind", choices=("postgres", "nats"))
    add_config(parser)
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="where it listens")
    parser.add_argument("--mqtt-port", type=int, metavar="PORT", help="nats only: where devices reach it over MQTT")
    parser.set_defaults(run=_server)


def _server(options: argparse.Namespace) -> int:
    from deploy.process import serve_server

    host, _, port = options.listen.rpartition(":")
    if not (host and port.isdigit()):
        raise UsageError(f"--listen {options.listen}: must be HOST:PORT")
    return serve_server(read_config(options.config), options.kind, host, int(port), options.mqtt_port)
