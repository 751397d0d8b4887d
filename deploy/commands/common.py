"""What several commands share: exit codes, and how somebody signs in from a terminal."""

import argparse
import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from libs.config import NodeConfig

EXIT_DONE = 0
EXIT_NO = 1
EXIT_WRONG = 2
EXIT_FAULT = 70  # EX_SOFTWARE of sysexits
EXIT_RETRY = 75  # EX_TEMPFAIL of sysexits

# argparse keeps its own class for this private.
Commands = Any


class UsageError(Exception):
    """What was asked for cannot be done as asked; the message is for the person at the terminal."""


def add_config(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument("--config", type=Path, required=required, metavar="FILE", help="the node's node.toml")


def add_sign_in(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--url", required=required, help="base URL of the node's API, for example http://127.0.0.1:8080"
    )
    parser.add_argument("--login", required=required, help="who signs in")
    parser.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="file that holds the password, - for standard input; without it the password is asked for",
    )


def read_config(path: Path) -> "NodeConfig":
    """Raises UsageError with everything that is wrong with the file."""
    from libs.config import ConfigError, load_config

    try:
        return load_config(path)
    except (ConfigError, OSError) as error:
        raise UsageError(str(error)) from error


def read_password(path: Path | None) -> str:
    """The password of --password-file, or what a person types. Raises UsageError."""
    try:
        if path is None:
            if not sys.stdin.isatty():
                raise UsageError("--password-file is needed where nobody can type the password")
            return getpass.getpass("password: ")
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
    except OSError as error:
        raise UsageError(f"the password cannot be read: {error}") from error
    return text.strip("\r\n")


def read_text(path: Path) -> str:
    """The file, or standard input for `-`. Raises UsageError."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
