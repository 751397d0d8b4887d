"""`quintet import`: the history of a city out of another system's export, by a mapping file."""

import argparse
import asyncio
import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.commands.common import EXIT_DONE, EXIT_NO, EXIT_RETRY, Commands, UsageError, add_sign_in, read_password

if TYPE_CHECKING:
    from deploy.importing.sending import Export, ImportReport

IMPORT = """Takes in what another system has handled, with its true times, so that lateness and scorecards can be
reckoned from real history. The mapping file says which columns of the export mean what. Safe to repeat: what was taken
in before stays as it is. Rows that break a rule are written to a table of their own, with the field and the rule."""
REFUSED_SHOWN_MAX = 10


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "import", help="take in another system's history", description=IMPORT, allow_abbrev=False
    )
    add_sign_in(parser, required=True)
    parser.add_argument("--mapping", type=Path, required=True, metavar="FILE", help="the mapping file, YAML")
    parser.add_argument("--zone", required=True, metavar="CODE", help="the zone in which, or below which, it happened")
    parser.add_argument(
        "--refused", type=Path, metavar="FILE", help="where refused rows go; by default beside the export"
    )
    parser.add_argument("--events", type=Path, metavar="FILE", help="where to write which event stands for which row")
    parser.add_argument("export", type=Path, metavar="EXPORT", help="the table, .csv or .csv.gz")
    parser.set_defaults(run=_import)


def _import(options: argparse.Namespace) -> int:
    from deploy.importing.document import MappingError
    from deploy.importing.sending import read_export, write_events, write_refused
    from quintet_sdk import QuintetError

    password = read_password(options.password_file)
    try:
        export = read_export(options.mapping, options.export)
    except MappingError as error:
        raise UsageError(str(error)) from error
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{options.export}: {error}") from error
    try:
        report = asyncio.run(_send(options, password, export))
    except QuintetError as error:
        print(f"not imported: {error}", file=sys.stderr)
        return EXIT_RETRY if error.retryable else EXIT_NO
    print(report)
    if options.events:
        write_events(options.events, report.events)
    if not report.refused:
        return EXIT_DONE
    path = options.refused or options.export.with_name(options.export.name.partition(".")[0] + ".refused.csv")
    write_refused(path, report.refused)
    for each in report.refused[:REFUSED_SHOWN_MAX]:
        print(f"  row {each.number} refused: {each.field}: {each.rule}", file=sys.stderr)
    print(f"all refused rows are in {path}", file=sys.stderr)
    return EXIT_NO


async def _send(options: argparse.Namespace, password: str, export: "Export") -> "ImportReport":
    from deploy.importing.sending import send
    from quintet_sdk import Client

    async with Client(options.url) as client:
        await client.sign_in(options.login, password)
        return await send(client, options.zone, export)
