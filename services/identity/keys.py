"""The keys with which access tokens are signed: in the node's secrets folder, never in the database.

A new key is published KEY_LEAD_S before it signs, so that whoever caches the public keys (the gateway does) knows it in
time, and an old one stays published until the last token it signed has ended.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from libs.clock import Clock
from libs.errors import Reason, WrongState
from libs.state import Secrets
from libs.tokens import ACCESS_TOKEN_LIFE_S, ALGORITHM, AUDIENCE, CLOCK_SKEW_MAX_S

SECRET_NAME = "identity-signing-keys"  # noqa: S105 - the name of a file
KEY_LEAD_S = 10 * 60
COORDINATE_BYTES = 32


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key. `kid` is its thumbprint (RFC 7638); it signs from `signs_from` until the next key does."""

    kid: str
    private: ec.EllipticCurvePrivateKey
    signs_from: datetime

    def public(self) -> dict[str, str]:
        """Return the public half as a JWK (RFC 7517)."""
        return {**_coordinates(self.private), "kid": self.kid, "use": "sig", "alg": ALGORITHM}


class SigningKeys:
    """The node's signing keys, the same for all replicas. Reads the file each time: it changes without notice."""

    def __init__(self, secrets: Secrets, clock: Clock) -> None:
        """Make the first key when there is none."""
        self._secrets = secrets
        self._clock = clock
        self._text = ""
        self._keys: list[SigningKey] = []
        try:
            self._read()
        except FileNotFoundError:
            # Another replica may do the same at the same time: the first file counts.
            secrets.set(SECRET_NAME, _written([_new_key(clock.now())]), replace=False)
            self._read()

    def current(self) -> SigningKey:
        """Return the key that signs now."""
        now = self._clock.now()
        keys = self._read()
        signing = [key for key in keys if key.signs_from <= now]
        # A clock that was set back must not keep everybody out.
        return signing[-1] if signing else keys[0]

    def published(self) -> list[dict[str, str]]:
        """Return the JWKs of the key that signs, of those before whose tokens may still be in use, and of the next."""
        return [key.public() for key in self._in_use()]

    def rotate(self) -> SigningKey:
        """Make a new key, which signs from KEY_LEAD_S seconds on. Raises WrongState while the one before waits."""
        keys = self._in_use()
        now = self._clock.now()
        if keys[-1].signs_from > now:
            text = f"the key made before signs only from {keys[-1].signs_from.isoformat()}"
            raise WrongState(Reason.WRONG_STATE, text, kid=keys[-1].kid)
        made = _new_key(now + timedelta(seconds=KEY_LEAD_S))
        self._secrets.set(SECRET_NAME, _written([*keys, made]))
        return made

    def _in_use(self) -> list[SigningKey]:
        keys = self._read()
        last = timedelta(seconds=ACCESS_TOKEN_LIFE_S + CLOCK_SKEW_MAX_S)
        now = self._clock.now()
        return [*(key for key, following in pairwise(keys) if now <= following.signs_from + last), keys[-1]]

    def _read(self) -> list[SigningKey]:
        text = self._secrets.read(SECRET_NAME)
        if text != self._text:
            found = [_key(item["key"], datetime.fromisoformat(item["signs_from"])) for item in json.loads(text)]
            self._keys = sorted(found, key=lambda key: key.signs_from)
            self._text = text
        return self._keys


def access_token(key: SigningKey, node: str, subject: str, session: str, now: datetime) -> tuple[str, datetime]:
    """Return a signed access token and when it ends."""
    issued = int(now.timestamp())
    expires = issued + ACCESS_TOKEN_LIFE_S
    claims: dict[str, Any] = {
        "iss": f"nodes/{node}",
        "aud": AUDIENCE,
        "sub": subject,
        "sid": session,
        "iat": issued,
        "exp": expires,
    }
    token = jwt.encode(claims, key.private, ALGORITHM, headers={"kid": key.kid})
    return token, datetime.fromtimestamp(expires, now.tzinfo)


def _new_key(signs_from: datetime) -> SigningKey:
    private = ec.generate_private_key(ec.SECP256R1())
    return SigningKey(_thumbprint(private), private, signs_from)


def _key(encoded: str, signs_from: datetime) -> SigningKey:
    private = serialization.load_der_private_key(base64.b64decode(encoded), password=None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise TypeError("a signing key must be an EC key")
    return SigningKey(_thumbprint(private), private, signs_from)


def _written(keys: list[SigningKey]) -> str:
    def der(key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    items = [
        {"key": base64.b64encode(der(key.private)).decode(), "signs_from": key.signs_from.isoformat()} for key in keys
    ]
    return json.dumps(items)


def _coordinates(private: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = private.public_key().public_numbers()
    return {"crv": "P-256", "kty": "EC", "x": _coordinate(numbers.x), "y": _coordinate(numbers.y)}


def _coordinate(number: int) -> str:
    return _base64url(number.to_bytes(COORDINATE_BYTES, "big"))


def _thumbprint(private: ec.EllipticCurvePrivateKey) -> str:
    canonical = json.dumps(_coordinates(private), sort_keys=True, separators=(",", ":"))
    return _base64url(hashlib.sha256(canonical.encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
