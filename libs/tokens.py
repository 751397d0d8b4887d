"""Tokens: JWTs signed with ES256, of people (made by identity) and of the services of one node (made by each itself).

- access token: iss `nodes/<node>`, sub `people/..` or `serviceAccounts/..`, sid the session, kid a key of identity's
  JWKS;
- service token: iss, sub and kid `services/<part>`, signed with that part's own key. A service can thus speak for
  itself only; the public keys of all parts lie beside them.
"""

import asyncio
import base64
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from libs.errors import Away, DomainError, Reason, Unauthenticated
from libs.state import Secrets

ALGORITHM = "ES256"
AUDIENCE = "quintet"
ACCESS_TOKEN_LIFE_S = 15 * 60
SERVICE_TOKEN_LIFE_S = 5 * 60
SERVICE_TOKEN_RENEW_S = 60  # before its end
CLOCK_SKEW_MAX_S = 5  # all on one node, or on machines that keep time
TOKEN_CHARS_MAX = 4096
VERIFIED_CACHE_MAX = 20_000
JWKS_REFRESH_S = 300
JWKS_UNKNOWN_RETRY_S = 3  # an unknown kid asks identity at most this often
JWKS_FAILED_RETRY_S = 0.5  # and so does any kid while identity does not answer
JWKS_STALE_MAX_S = 3600  # how long the last keys count while identity is away
SERVICE_KEYS = "service-keys"  # the name of the file with the public halves
SERVICE = "services/"

_PEOPLE = ("people/", "serviceAccounts/")

log = structlog.get_logger()

PublicKeys = Mapping[str, ec.EllipticCurvePublicKey]
# Returns identity's JWK set as {"keys": [...]}; raises Away when it cannot be had.
JwksSource = Callable[[], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. Times are seconds since 1970."""

    subject: str
    session: str
    expires_s: float

    @property
    def is_service(self) -> bool:
        return self.subject.startswith(SERVICE)


# ---------------------------------------------------------------------------------------------------------------- keys


def ensure_service_keys(secrets: Secrets, parts: Collection[str]) -> None:
    """Make the key of every part that has none, and write the public halves beside them."""
    public = {}
    for part in parts:
        secret = _secret_name(part)
        try:
            key = _private_key(secrets.read(secret))
        except FileNotFoundError:
            secrets.set(secret, _encoded(ec.generate_private_key(ec.SECP256R1())), replace=False)
            key = _private_key(secrets.read(secret))
        pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        public[part] = pem.decode()
    text = json.dumps(public, sort_keys=True)
    try:
        known = secrets.read(SERVICE_KEYS)
    except FileNotFoundError:
        known = ""
    if known != text:
        secrets.set(SERVICE_KEYS, text)


def load_service_keys(secrets: Secrets) -> PublicKeys:
    """Return the public key of every part. Raises FileNotFoundError when the node was never prepared."""
    found = json.loads(secrets.read(SERVICE_KEYS))
    return {part: _public_key(pem) for part, pem in found.items()}


def load_service_key(secrets: Secrets, part: str) -> ec.EllipticCurvePrivateKey:
    """Return the part's own signing key. Raises FileNotFoundError when the node was never prepared."""
    return _private_key(secrets.read(_secret_name(part)))


def _secret_name(part: str) -> str:
    return f"service-key-{part}"


def _encoded(key: ec.EllipticCurvePrivateKey) -> str:
    # One line, as Secrets keeps them.
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return base64.b64encode(der).decode()


def _private_key(encoded: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_der_private_key(base64.b64decode(encoded), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("a service key must be an EC key")
    return key


def _public_key(pem: str) -> ec.EllipticCurvePublicKey:
    key = serialization.load_pem_public_key(pem.encode())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TypeError("a service key must be an EC key")
    return key


# -------------------------------------------------------------------------------------------------------------- signing


class ServiceSigner:
    """Makes the tokens with which one service calls the others; one token serves until shortly before its end."""

    def __init__(self, part: str, key: ec.EllipticCurvePrivateKey, *, clock: Callable[[], float] = time.time) -> None:
        self.subject = f"{SERVICE}{part}"
        self._key = key
        self._clock = clock
        self._token = ""
        self._renew_at = 0.0

    def token(self) -> str:
        now = self._clock()
        if now >= self._renew_at:
            life = now + SERVICE_TOKEN_LIFE_S
            claims = {"iss": self.subject, "sub": self.subject, "aud": AUDIENCE, "iat": int(now), "exp": int(life)}
            self._token = jwt.encode(claims, self._key, ALGORITHM, headers={"kid": self.subject})
            self._renew_at = life - SERVICE_TOKEN_RENEW_S
        return self._token


# ------------------------------------------------------------------------------------------------------------ verifying


class TokenVerifier:
    """Verifies tokens and remembers the verdict until they expire (a verification costs 170 us, a look-up 2 us)."""

    def __init__(
        self, node: str, jwks: JwksSource, service_keys: PublicKeys, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._issuer = f"nodes/{node}"
        self._keys = KeyCache(jwks, clock=clock)
        self._service_keys = {f"{SERVICE}{part}": key for part, key in service_keys.items()}
        self._clock = clock
        self._verified: OrderedDict[bytes, Claims] = OrderedDict()

    async def verify(self, token: str) -> Claims:
        """Return the claims of a token that holds.

        Raises Unauthenticated (TOKEN_EXPIRED, TOKEN_INVALID), or Away when identity's keys cannot be had.
        """
        # A digest, so that a dump of the process holds no list of live tokens.
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        claims = self._verified.get(digest)
        if claims is not None:
            if claims.expires_s > self._clock() - CLOCK_SKEW_MAX_S:
                self._verified.move_to_end(digest)
                return claims
            del self._verified[digest]
            raise Unauthenticated(Reason.TOKEN_EXPIRED, "the token has expired")
        claims = await self._verify(token)
        self._verified[digest] = claims
        if len(self._verified) > VERIFIED_CACHE_MAX:
            self._verified.popitem(last=False)
        return claims

    async def _verify(self, token: str) -> Claims:
        kid = _kid(token)
        if kid.startswith(SERVICE):
            key, issuer = self._service_keys.get(kid), kid
        else:
            key, issuer = await self._keys.get(kid), self._issuer
        if key is None:
            raise Unauthenticated(Reason.TOKEN_INVALID, "the token is signed with a key that is not in use")
        payload = _decoded(token, key, issuer, self._clock())
        subject, session = payload["sub"], payload.get("sid", "")
        proper = subject == kid if kid.startswith(SERVICE) else subject.startswith(_PEOPLE)
        if not proper or not isinstance(session, str):
            raise Unauthenticated(Reason.TOKEN_INVALID, "the token names a subject that its issuer cannot speak for")
        return Claims(subject, session, float(payload["exp"]))


class KeyCache:
    """Identity's public keys by kid: refreshed when old or a kid is unknown, kept a while when identity is away."""

    def __init__(self, jwks: JwksSource, *, clock: Callable[[], float] = time.time) -> None:
        self._jwks = jwks
        self._clock = clock
        self._keys: dict[str, ec.EllipticCurvePublicKey] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._refreshing = asyncio.Lock()

    async def get(self, kid: str) -> ec.EllipticCurvePublicKey | None:
        """Return the key, or None when identity has no such key. Raises Away when that cannot be known."""
        if self._wants_refresh(kid) and not (kid in self._keys and self._refreshing.locked()):
            async with self._refreshing:
                if self._wants_refresh(kid):
                    await self._refresh()
        away = self._tried_at > self._fetched_at
        if (away and kid not in self._keys) or self._clock() - self._fetched_at > JWKS_STALE_MAX_S:
            raise Away(Reason.DEPENDENCY_AWAY, "identity's keys cannot be had", dependency="identity")
        return self._keys.get(kid)

    def _wants_refresh(self, kid: str) -> bool:
        now = self._clock()
        old = kid not in self._keys or now - self._fetched_at > JWKS_REFRESH_S
        pause_s = JWKS_FAILED_RETRY_S if self._tried_at > self._fetched_at else JWKS_UNKNOWN_RETRY_S
        return old and now - self._tried_at >= pause_s

    async def _refresh(self) -> None:
        self._tried_at = self._clock()
        try:
            found = await self._jwks()
            self._keys = {jwk["kid"]: _jwk_key(jwk) for jwk in found["keys"] if jwk.get("alg") == ALGORITHM}
        except (DomainError, jwt.PyJWTError, KeyError, TypeError) as error:
            log.warning("tokens.jwks_refresh_failed", error=str(error), keys=len(self._keys))
        else:
            self._fetched_at = self._tried_at


def _jwk_key(jwk: Mapping[str, Any]) -> ec.EllipticCurvePublicKey:
    key = jwt.PyJWK(dict(jwk)).key
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TypeError("an access key must be a public EC key")
    return key


def _kid(token: str) -> str:
    if len(token) > TOKEN_CHARS_MAX:
        raise Unauthenticated(Reason.TOKEN_INVALID, f"the token is longer than {TOKEN_CHARS_MAX} characters")
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise Unauthenticated(Reason.TOKEN_INVALID, "the token is not a JWT") from error
    if not isinstance(kid, str):
        raise Unauthenticated(Reason.TOKEN_INVALID, "the token names no key")
    return kid


def _decoded(token: str, key: ec.EllipticCurvePublicKey, issuer: str, now: float) -> dict[str, Any]:
    required = ["exp", "iat", "sub", "iss", "aud"]
    try:
        # Times are compared here, by our clock; everything else by the library.
        options: Any = {"require": required, "verify_exp": False, "verify_iat": False, "verify_nbf": False}
        payload = jwt.decode(token, key, [ALGORITHM], audience=AUDIENCE, issuer=issuer, options=options)
        expires, issued = float(payload["exp"]), float(payload["iat"])
    except (jwt.PyJWTError, TypeError, ValueError, RecursionError) as error:
        raise Unauthenticated(Reason.TOKEN_INVALID, "the token does not hold") from error
    # Written so that a time that is not a number does not pass.
    if not now <= expires + CLOCK_SKEW_MAX_S:
        raise Unauthenticated(Reason.TOKEN_EXPIRED, "the token has expired")
    if not issued <= now + CLOCK_SKEW_MAX_S:
        raise Unauthenticated(Reason.TOKEN_INVALID, "the token is from the future")
    return dict(payload)
