"""Callers for tests: real tokens, verified by the real verifier, and grants held in a dict."""

import time
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from libs.access import Grant, Grants
from libs.tokens import ALGORITHM, AUDIENCE, TokenVerifier
from libs.zones import ZoneRecord, ZoneTree

NODE = "sf"
KEY = ec.generate_private_key(ec.SECP256R1())
SERVICE_KEYS = {part: ec.generate_private_key(ec.SECP256R1()) for part in ("management", "identity")}

TREE = ZoneTree(
    [
        ZoneRecord("us-ca-sf"),
        ZoneRecord("us-ca-sf-d6", parent="us-ca-sf", aliases=("6",)),
        ZoneRecord("us-ca-sf-d10", parent="us-ca-sf", aliases=("10", "us-ca-sf-district-10")),
        ZoneRecord("us-ca-sf-d10-potrero-hill", parent="us-ca-sf-d10", names=("Potrero Hill",)),
    ],
    root="us-ca-sf",
)


def jwk(key: ec.EllipticCurvePrivateKey = KEY, kid: str = "k1") -> dict[str, Any]:
    made = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).to_jwk(key.public_key(), as_dict=True)
    return {**made, "kid": kid, "alg": ALGORITHM, "use": "sig"}


def token(subject: str, *, key: ec.EllipticCurvePrivateKey = KEY, kid: str | None = "k1", **claims: Any) -> str:
    """Return an access token as identity makes them; `claims` replace its own, None leaves one out."""
    now = int(time.time())
    payload = {"iss": f"nodes/{NODE}", "sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + 900, "sid": "s1"}
    kept = {name: value for name, value in (payload | claims).items() if value is not None}
    return jwt.encode(kept, key, ALGORITHM, headers={"kid": kid} if kid else {})


def grants(subject: str, *held: Grant, active: bool = True) -> Grants:
    return Grants(subject, held, lambda: TREE, active=active)


class StaticGrants:
    """A GrantSource; subjects that are not listed are unknown."""

    def __init__(self, held: Mapping[str, Grants]) -> None:
        self.held = dict(held)

    async def grants(self, subject: str, session: str = "") -> Grants:
        return self.held.get(subject) or grants(subject, active=False)


def verifier() -> TokenVerifier:
    async def jwks() -> Mapping[str, Any]:
        return {"keys": [jwk()]}

    return TokenVerifier(NODE, jwks, {part: key.public_key() for part, key in SERVICE_KEYS.items()})
