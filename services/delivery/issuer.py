"""The node as an issuer of credentials: its keys, and its name in them."""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from libs.state import Secrets
from services.delivery.credential import Claims, IssuerKey, Jwk, document, issue_credential, read_credential

SECRET = "delivery-issuer"  # noqa: S105 - the name of one


class Issuer:
    """Signs with the newest key; credentials signed with the ones before keep verifying."""

    def __init__(self, node: str, keys: Sequence[IssuerKey]) -> None:
        """`keys` are newest first, at least one."""
        self.name = f"urn:quintet:node:{node}"
        self._keys = tuple(keys)
        self.jwks: tuple[Jwk, ...] = tuple(key.jwk() for key in keys)

    def issue(self, certificate: str, valid_from: datetime, valid_until: datetime, subject: Mapping[str, str]) -> str:
        """Return the credential of `certificates/{id}`."""
        claims = document(
            identifier=self.identifier(certificate),
            issuer=self.name,
            valid_from=valid_from,
            valid_until=valid_until,
            subject=subject,
        )
        return issue_credential(claims, self._keys[0])

    def read(self, credential: str) -> Claims:
        """Return the claims when this node signed them, whether valid or not. Raises CredentialError."""
        return read_credential(credential, self.jwks)

    def identifier(self, certificate: str) -> str:
        return f"{self.name}:{certificate.replace('/', ':')}"

    def certificate_id(self, claims: Claims) -> str:
        """Return the last part of the certificate's name that a credential of this node stands for."""
        return str(claims["id"]).rpartition(":")[2]


def load_keys(secrets: Secrets) -> list[IssuerKey]:
    """Return the issuer's keys, newest first, making the first one when there is none.

    The secret is one line of JSON, a list of private keys in base64: to rotate, put a new key in front.
    """
    try:
        text = secrets.read(SECRET)
    except FileNotFoundError:
        secrets.set(SECRET, json.dumps([_encoded(Ed25519PrivateKey.generate())]), replace=False)
        text = secrets.read(SECRET)  # another replica may have been first
    return [IssuerKey.of(Ed25519PrivateKey.from_private_bytes(base64.b64decode(key))) for key in json.loads(text)]


def _encoded(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.private_bytes_raw()).decode()
