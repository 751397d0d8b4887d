"""The servers that a node runs by itself, from Python wheels."""

from deploy.runtime.database import create_database, prepare_database
from deploy.runtime.embedded import EmbeddedServers, remove_state, start_nats, start_postgres
from deploy.runtime.envoy import EnvoyServer
from deploy.runtime.leftovers import AlreadyRunning
from deploy.runtime.nats import NatsServer, part_passwords
from deploy.runtime.postgres import PostgresServer
from deploy.runtime.process import ServerFailed, ServerStatus, State
from deploy.runtime.streams import prepare_streams

__all__ = [
    "AlreadyRunning",
    "EmbeddedServers",
    "EnvoyServer",
    "NatsServer",
    "PostgresServer",
    "ServerFailed",
    "ServerStatus",
    "State",
    "create_database",
    "part_passwords",
    "prepare_database",
    "prepare_streams",
    "remove_state",
    "start_nats",
    "start_postgres",
]
