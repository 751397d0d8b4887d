"""`quintet load`: a folder of declarative files goes into a node through its public API."""

import argparse
from pathlib import Path

from deploy.commands.common import Commands, add_sign_in, read_password

LOAD = """Loads zones, organisations, people, roles, event types, device models, rules, products, scorecards and service
items from a folder of declarative files into a node, through its public API. Safe to repeat: what is there already
stays."""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "load", help="load declarative files into a node", description=LOAD, allow_abbrev=False
    )
    add_sign_in(parser, required=True)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the folder with the files")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="where tables are that the files name; else there")
    parser.set_defaults(run=_load)


def _load(options: argparse.Namespace) -> int:
    from deploy import loader

    password = read_password(options.password_file)
    return loader.load(options.url, options.login, password, options.folder, options.data)
