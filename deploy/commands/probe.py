"""`quintet probe`: whether one process of a node answers; for health checks of containers."""

import argparse

from deploy.commands.common import EXIT_DONE, EXIT_NO, Commands, UsageError

PROBE = """Asks one process of a node whether it works, as any client may: a service (grpc://HOST:PORT) by its gRPC
health, PostgreSQL (postgresql://HOST:PORT) and NATS (nats://HOST:PORT) by their greeting, the edge by a page
(http://HOST:PORT/readyz). Ends with 0 when it does, with 1, and the reason, when not."""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "probe", help="ask one process whether it works", description=PROBE, allow_abbrev=False
    )
    parser.add_argument("url", metavar="URL", help="what to ask, and where")
    parser.set_defaults(run=_probe)


def _probe(options: argparse.Namespace) -> int:
    import asyncio

    from deploy.probes import probe

    try:
        asyncio.run(probe(options.url))
    except ValueError as error:
        raise UsageError(str(error)) from error
    except (OSError, RuntimeError) as error:
        print(f"{options.url}: {str(error) or type(error).__name__}")
        return EXIT_NO
    return EXIT_DONE
