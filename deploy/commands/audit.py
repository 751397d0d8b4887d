"""`quintet audit`: a node checks its own logs; its evidence goes into a file, which anybody can check offline."""

import argparse
import asyncio
import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

from deploy.commands.common import (
    EXIT_DONE,
    EXIT_NO,
    EXIT_RETRY,
    Commands,
    UsageError,
    add_config,
    add_sign_in,
    read_config,
    read_password,
    read_text,
)

if TYPE_CHECKING:
    from libs.audit_export import Summary
    from quintet.identity.v1.identity_pb2 import VerifyAuditResponse

SIGN_IN = """On the node's own machine --config is enough: the administrator's password is in the secrets folder. From
elsewhere give --url, --login and --password-file of somebody who may query the audit."""
CHECK = f"""Asks a running node to recompute the hash chains and Merkle trees of all its services and to check their
signed checkpoints. {SIGN_IN}"""
EXPORT = f"""Writes the audit logs of all services, their checkpoints, the peers' cosignatures and receipts, and the
public keys into one file for a third party. {SIGN_IN}"""
VERIFY = """Checks an export and asks nobody: hash chains, Merkle roots, signatures of checkpoints, cosignatures and
receipts, and that not one byte was changed since the node sealed it. Names the first fault. Without --keys the public
keys in the export itself are used: it then proves only that the file holds together."""
KEYS = """file with a line for each key that is known from elsewhere: node id and SHA-256 of the public key in hex, as
verify prints them; a node named there may have used no other"""
VERIFY_TIMEOUT_S = 120.0
ADMIN_LOGIN = "node-admin"
ADMIN_PASSWORD = "node-admin.password"  # noqa: S105 - the name of a file


def add(commands: Commands) -> None:
    parser = commands.add_parser("audit", help="check, export and verify the audit logs of a node")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    check = verbs.add_parser("check", help="have a node check its logs", description=CHECK, allow_abbrev=False)
    export = verbs.add_parser("export", help="write the evidence to a file", description=EXPORT, allow_abbrev=False)
    for asking in (check, export):
        add_config(asking, required=False)
        add_sign_in(asking, required=False)
    export.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the file to write, - for standard output"
    )
    verify = verbs.add_parser("verify", help="check an export offline", description=VERIFY, allow_abbrev=False)
    verify.add_argument("file", type=Path, metavar="FILE", help="the export, - for standard input")
    verify.add_argument("--keys", type=Path, metavar="FILE", help=KEYS)
    check.set_defaults(run=_check)
    export.set_defaults(run=_export)
    verify.set_defaults(run=_verify)


def _check(options: argparse.Namespace) -> int:
    from quintet_sdk import QuintetError

    address, login, password = _who(options)
    try:
        answer = asyncio.run(_ask(address, login, password))
    except QuintetError as error:
        print(f"not verified: {error}")
        return EXIT_RETRY if error.retryable else EXIT_NO
    for log in answer.logs:
        verdict = "holds" if log.verified else f"DOES NOT HOLD: {log.fault}"
        print(f"{log.part:<14} {log.entries:>9} entries, {log.unsealed} not yet sealed: {verdict}")
    print(f"{'all':<14} {answer.entries:>9} entries: {'hold' if answer.verified else 'DO NOT HOLD'}")
    return EXIT_DONE if answer.verified else EXIT_NO


def _export(options: argparse.Namespace) -> int:
    from quintet_sdk import QuintetError

    who = _who(options)
    federation = options.url or read_config(options.config).runtime().services.get("federation", "")
    if not federation:
        raise UsageError("federation does not run on this node")
    try:
        if str(options.out) == "-":
            entries = asyncio.run(_collect(*who, federation, sys.stdout.buffer))
        else:
            # Nobody reads half a file: it takes its name when it is whole.
            partial = options.out.with_name(f"{options.out.name}.partial")
            with partial.open("wb") as out:
                entries = asyncio.run(_collect(*who, federation, out))
            partial.replace(options.out)
    except QuintetError as error:
        print(f"not exported: {error}", file=sys.stderr)
        return EXIT_RETRY if error.retryable else EXIT_NO
    except OSError as error:
        raise UsageError(f"{options.out} cannot be written: {error}") from error
    print(f"{entries} entries exported", file=sys.stderr)
    return EXIT_DONE


async def _collect(address: str, login: str, password: str, federation: str, out: IO[bytes]) -> int:
    from deploy.commands.audit_export import Services, export
    from quintet.identity.v1.identity_pb2 import SignInRequest, SignOutRequest
    from quintet_sdk import Client

    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(address))
        other = await stack.enter_async_context(Client(federation))
        answer = await client.identity.SignIn(SignInRequest(login=login, password=password))
        # One session for both addresses: on the node's own machine there may be no edge before the services.
        metadata = (("authorization", f"Bearer {answer.tokens.access_token}"),)
        try:
            return await export(Services(client.identity, other.federation, metadata), out)
        finally:
            await client.identity.SignOut(SignOutRequest(), metadata=metadata)


def _verify(options: argparse.Namespace) -> int:
    from libs.audit_export import Fault, lines, verify

    pins = _pins(options.keys)
    try:
        if str(options.file) == "-":
            summary = verify(lines(sys.stdin.buffer), pins)
        else:
            with options.file.open("rb") as file:
                summary = verify(lines(file), pins)
    except OSError as error:
        raise UsageError(f"{options.file} cannot be read: {error}") from error
    except Fault as fault:
        print(f"DOES NOT HOLD: {fault}")
        return EXIT_NO
    _print(summary)
    return EXIT_DONE


def _print(summary: "Summary") -> None:
    print(f"{summary.node}: exported by {summary.exported_by} at {summary.time}")
    for part, entries in summary.entries.items():
        print(f"{part:<14} {entries:>9} entries hold")
    print(f"{summary.checkpoints} checkpoints, {summary.peer_checkpoints} checkpoints of peers")
    for word, found in (("cosignatures", summary.cosignatures), ("receipts", summary.receipts)):
        for node, count in sorted(found.items()):
            print(f"{count} {word} of {node}")
    for node, fingerprints in sorted(summary.keys.items()):
        known = "NOT PINNED, taken from the export" if node in summary.unpinned else "pinned"
        for fingerprint in fingerprints:
            print(f"key of {node} {fingerprint} ({known})")
    print("HOLDS" if summary.node not in summary.unpinned else "HOLDS, if the key of the node above is the right one")


def _pins(path: Path | None) -> dict[str, frozenset[str]]:
    """The keys of --keys by node. Raises UsageError."""
    pins: dict[str, frozenset[str]] = {}
    for number, text in enumerate(read_text(path).splitlines() if path else [], start=1):
        if text.strip() and not text.startswith("#"):
            found = re.fullmatch(r"([a-z0-9][a-z0-9-]{0,62})\s+([0-9a-f]{64})\s*", text)
            if found is None:
                raise UsageError(f"{path}, line {number}: must be a node id and 64 hex digits")
            pins[found[1]] = pins.get(found[1], frozenset()) | {found[2]}
    return pins


def _who(options: argparse.Namespace) -> tuple[str, str, str]:
    """Where to ask and as whom: address, login, password. Raises UsageError."""
    if options.config is None:
        if not (options.url and options.login):
            raise UsageError("give --config, or --url and --login")
        return options.url, options.login, read_password(options.password_file)
    config = read_config(options.config)
    # identity itself, so that it works without an edge, whatever certificate that shows.
    address = options.url or config.runtime().services.get("identity", "")
    if not address:
        raise UsageError(f"the node of {options.config} has not been started yet")
    if options.login:
        return address, options.login, read_password(options.password_file)
    try:
        return address, ADMIN_LOGIN, config.secrets.read(ADMIN_PASSWORD)
    except OSError as error:
        raise UsageError(f"the administrator's password cannot be read: {error}") from error


async def _ask(address: str, login: str, password: str) -> "VerifyAuditResponse":
    from quintet.identity.v1.identity_pb2 import VerifyAuditRequest
    from quintet_sdk import Client

    async with Client(address) as client:
        await client.sign_in(login, password)
        try:
            return await client.identity.VerifyAudit(VerifyAuditRequest(), timeout=VERIFY_TIMEOUT_S)
        finally:
            await client.sign_out()
