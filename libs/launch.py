"""The entry point of one service as a process: `python -m services.<name> --config node.toml`."""

import argparse
import asyncio
import gc
import signal
import sys
from dataclasses import replace
from pathlib import Path

import structlog
import uvloop
from prometheus_client import start_http_server

from libs import telemetry
from libs.config import ConfigError, NodeConfig, load_config
from libs.errors import Away
from libs.host import Part, run_part
from libs.methods import PolicyError
from libs.migrate import MigrationError
from libs.state import RuntimeInfo, update_runtime

# Exit codes for whoever starts us: 2 is wrong for good, 75 (sysexits' EX_TEMPFAIL) is worth another attempt.
EXIT_WRONG = 2
EXIT_RETRY = 75

# Objects made and not given back before young garbage is looked for: one block of rows makes some thousands, none of
# which is garbage.
GARBAGE_OBJECTS = 5_000

log = structlog.get_logger()


def main(part: Part, arguments: list[str] | None = None) -> None:
    """Run a part until SIGTERM or SIGINT, then stop it in order; exits the process."""
    options = _options(part, arguments)
    try:
        config = load_config(options.config)
    except (ConfigError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - there are no logs yet
        raise SystemExit(EXIT_WRONG) from error
    setup(config, f"quintet-{part.name}")
    if options.metrics_port:
        _serve_metrics(part, config, options.metrics_host, options.metrics_port)
    try:
        uvloop.run(_serve(part, config, options.listen))
    except (MigrationError, PolicyError, FileNotFoundError, ValueError) as error:
        log.error("part.cannot_start", part=part.name, error=str(error))  # noqa: TRY400 - the message says all
        raise SystemExit(EXIT_WRONG) from error
    except (Away, RuntimeError) as error:
        log.error("part.cannot_start_now", part=part.name, error=str(error))  # noqa: TRY400
        raise SystemExit(EXIT_RETRY) from error
    finally:
        telemetry.shutdown()


def setup(config: NodeConfig, service: str) -> None:
    """Set up logs, traces and metrics of a process from the node's configuration."""
    telemetry.setup(
        service,
        otlp_endpoint=config.telemetry.otlp_endpoint,
        trace_ratio=config.telemetry.trace_ratio,
        log_level=config.telemetry.log_level,
    )


def settle() -> None:
    """Have the garbage collector leave alone what the process consists of now that it has started.

    A look at all of it stops everything for a tenth of a second and more.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, *gc.get_threshold()[1:])


def _serve_metrics(part: Part, config: NodeConfig, address: str, port: int) -> None:
    """Serve them from a thread, and tell the node's status page where."""
    start_http_server(port, address)

    def change(found: RuntimeInfo) -> RuntimeInfo:
        return replace(found, metrics={**found.metrics, part.name: f"{address}:{port}"})

    update_runtime(config.state, change)


async def _serve(part: Part, config: NodeConfig, listen: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with run_part(part, config, listen=listen):
        settle()
        await stop.wait()


def _options(part: Part, arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m services.{part.name}", description=f"Run {part.name} of a node.")
    parser.add_argument("--config", type=Path, required=True, help="the node's node.toml")
    parser.add_argument("--listen", default="", help="host:port to listen on, where it differs from what others call")
    parser.add_argument("--metrics-port", type=int, default=0, help="serve Prometheus metrics on this port")
    parser.add_argument("--metrics-host", default="127.0.0.1", help="address of the metrics port")
    return parser.parse_args(arguments)
