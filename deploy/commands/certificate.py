"""`quintet certificate verify`: nothing is asked of anybody."""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.commands.common import EXIT_DONE, EXIT_NO, Commands, UsageError, read_text

VERIFY = """Checks an electronic certificate offline: its form, its signature by one of the issuer's keys, its dates.
Whether it was revoked since, only the issuer knows. Prints what the certificate says."""


def add(commands: Commands) -> None:
    parser = commands.add_parser("certificate", help="check electronic certificates")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    verify = verbs.add_parser("verify", help="check one certificate offline", description=VERIFY, allow_abbrev=False)
    verify.add_argument("file", type=Path, metavar="FILE", help="the certificate, a compact JWS; - for standard input")
    verify.add_argument("--keys", type=Path, required=True, metavar="JWKS", help="the issuer's public keys (RFC 7517)")
    verify.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    from services.delivery.credential import CredentialError, verify_credential

    keys = _keys(read_text(options.keys), options.keys)
    try:
        claims = verify_credential(read_text(options.file).strip(), keys, datetime.now(UTC))
    except CredentialError as error:
        print(f"NOT VALID {error.fault}: {error}")
        return EXIT_NO
    print(f"VALID until {claims['validUntil']}, issued by {claims['issuer']}")
    print(json.dumps(claims["credentialSubject"], ensure_ascii=False, indent=2))
    return EXIT_DONE


def _keys(text: str, path: Path) -> list[dict[str, str]]:
    """The keys of a JWK set, those that are no keys left out. Raises UsageError when it is no set."""
    try:
        document: Any = json.loads(text)
        found = document["keys"]
        return [key for key in found if all(isinstance(value, str) for value in key.values())]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f'{path} is not a JWK set: {{"keys": [...]}}') from error
