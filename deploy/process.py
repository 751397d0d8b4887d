"""A node as a process: signals, logs, exit codes."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog
import uvloop

from deploy.commands.common import EXIT_DONE, EXIT_FAULT, EXIT_RETRY, EXIT_WRONG
from deploy.node import run_node
from deploy.preparation import prepare_node
from deploy.runtime import AlreadyRunning, ServerFailed
from deploy.runtime.nats import ADMIN as NATS_ADMIN
from deploy.runtime.nats import NatsServer
from deploy.runtime.postgres import PostgresServer
from deploy.runtime.process import rotate
from deploy.runtime.streams import keep_swept, prepare_streams
from deploy.services import parse_services
from libs import telemetry
from libs.config import NodeConfig
from libs.errors import Away
from libs.launch import settle, setup
from libs.methods import PolicyError
from libs.migrate import MigrationError

LOG_FILE = "node.log"
LOG_CHECK_S = 60.0

log = structlog.get_logger(__name__)


def serve(config: NodeConfig, services: str, *, log_to_file: bool = False) -> int:
    """Runs a node until SIGTERM or SIGINT; returns the exit code."""
    try:
        names = parse_services(services)
    except ValueError as error:
        print(f"--services: {error}", file=sys.stderr)
        return EXIT_WRONG
    log_path = _log_to_file(config.state / "log") if log_to_file else None
    return _run(config, lambda: _until_stopped(config, names, log_path))


def prepare(config: NodeConfig) -> int:
    """Prepares a node; returns the exit code."""
    return _run(config, lambda: prepare_node(config))


def serve_server(config: NodeConfig, kind: str, host: str, port: int, mqtt_port: int | None) -> int:
    """Runs PostgreSQL or NATS alone until SIGTERM or SIGINT; returns the exit code."""
    config.state.mkdir(mode=0o711, parents=True, exist_ok=True)
    server: PostgresServer | NatsServer
    if kind == "postgres":
        server = PostgresServer(config.state, config.secrets, port=port, host=host)
    else:
        server = NatsServer(config.node.id, config.state, config.secrets, port=port, mqtt_port=mqtt_port, host=host)
    return _run(config, lambda: _server_until_stopped(server, f"{host}:{port}"))


async def _server_until_stopped(server: PostgresServer | NatsServer, address: str) -> None:
    await server.start()
    try:
        work: Awaitable[object] = asyncio.Event().wait()
        if isinstance(server, NatsServer):
            password = server.password(NATS_ADMIN)
            await prepare_streams(server.url, password)
            work = keep_swept(server.url, password)
        print(f"ready {address}", flush=True)
        await work
    finally:
        await server.stop()


def _run(config: NodeConfig, work: Callable[[], Awaitable[None]]) -> int:
    setup(config, f"quintet-{config.node.id}")
    try:
        uvloop.run(_stoppable(work))
    except (MigrationError, PolicyError, FileNotFoundError, ValueError) as error:
        log.error("node.cannot_run", error=str(error))  # noqa: TRY400 - the message says all
        return EXIT_WRONG
    except (AlreadyRunning, ServerFailed, Away, OSError, RuntimeError) as error:
        # TimeoutError is an OSError: what is late may be there the next time.
        log.error("node.cannot_run_now", error=str(error))  # noqa: TRY400
        return EXIT_RETRY
    except Exception:
        log.exception("node.failed")
        return EXIT_FAULT
    finally:
        telemetry.shutdown()
    return EXIT_DONE


async def _stoppable(work: Callable[[], Awaitable[None]]) -> None:
    """Cancels the work, wherever it is, on the first SIGTERM or SIGINT; later ones change nothing."""
    stopping = False
    task = asyncio.ensure_future(work())

    def stop() -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopping:
            raise


async def _until_stopped(config: NodeConfig, names: Sequence[str], log_path: Path | None) -> None:
    async with run_node(config, names) as node:
        settle()
        print(f"ready {node.url}", flush=True)
        while True:
            await asyncio.sleep(LOG_CHECK_S)
            if log_path is not None:
                with suppress(OSError):  # a full disk must not stop the node
                    rotate(log_path)


def _log_to_file(folder: Path) -> Path:
    """Sends everything that would go to standard error, of libraries too, to the file."""
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    path = folder / LOG_FILE
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(handle, sys.stderr.fileno())
    os.close(handle)
    return path
