"""`quintet audit verify`: the node recomputes the hash chains of all its services."""

import argparse
import asyncio
from typing import TYPE_CHECKING

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
)

if TYPE_CHECKING:
    from quintet.identity.v1.identity_pb2 import VerifyAuditResponse

VERIFY = """Asks a running node to recompute the hash chains of all its services and to check their signed checkpoints.
On the node's own machine --config is enough: the administrator's password is in the secrets folder. From elsewhere give
--url, --login and --password-file of somebody who may query the audit."""
VERIFY_TIMEOUT_S = 120.0
ADMIN_LOGIN = "node-admin"
ADMIN_PASSWORD = "node-admin.password"  # noqa: S105 - the name of a file


def add(commands: Commands) -> None:
    parser = commands.add_parser("audit", help="check the audit logs of a node")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    verify = verbs.add_parser("verify", help="recompute the hash chains", description=VERIFY, allow_abbrev=False)
    add_config(verify, required=False)
    add_sign_in(verify, required=False)
    verify.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
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
