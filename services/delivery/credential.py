"""Electronic certificates as W3C Verifiable Credentials 2.0, signed as VC-JOSE-COSE says: pure, for use offline too.

A credential is a compact JWS (RFC 7515) of media type vc+jwt with EdDSA over Ed25519 (RFC 8037). Its payload is the
credential document itself. Whoever has the issuer's public keys can check it without asking anybody; whether it was
revoked since, only the issuer knows.
"""

import base64
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from libs import canonical

ALGORITHM = "EdDSA"
MEDIA_TYPE = "vc+jwt"
CREDENTIAL_CHARS_MAX = 16_384
# The second context lets verifiers of linked data read the claims that no published vocabulary defines.
CONTEXTS = ("https://www.w3.org/ns/credentials/v2", "https://www.w3.org/ns/credentials/undefined-terms/v2")
TYPES = ("VerifiableCredential", "ServiceItemCertificate")

_JWS = jwt.PyJWS(algorithms=[ALGORITHM])

Claims = Mapping[str, Any]
Jwk = Mapping[str, str]


class Fault(StrEnum):
    """Why a credential does not hold."""

    MALFORMED = "MALFORMED"  # no JWS, or its payload is no credential
    KEY_UNKNOWN = "KEY_UNKNOWN"  # signed with a key that is not among those given
    SIGNATURE_WRONG = "SIGNATURE_WRONG"  # altered, or signed with another key than it says
    NOT_YET_VALID = "NOT_YET_VALID"
    EXPIRED = "EXPIRED"


class CredentialError(Exception):
    """A credential does not hold; `fault` says why, the message in words."""

    def __init__(self, fault: Fault, message: str) -> None:
        self.fault = fault
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A key of the issuer; `kid` is its JWK thumbprint (RFC 7638)."""

    kid: str
    private: Ed25519PrivateKey

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> "IssuerKey":
        public = _public_members(private)
        digest = hashlib.sha256(canonical.dumps(public)).digest()
        return cls(_base64url(digest), private)

    def jwk(self) -> Jwk:
        """Return the public key (RFC 8037)."""
        return {**_public_members(self.private), "kid": self.kid, "alg": ALGORITHM}


def document(
    *, identifier: str, issuer: str, valid_from: datetime, valid_until: datetime, subject: Mapping[str, str]
) -> Claims:
    """Return the credential document. Times are kept to the second; `subject` holds no more than must be shown."""
    return {
        "@context": list(CONTEXTS),
        "id": identifier,
        "type": list(TYPES),
        "issuer": issuer,
        "validFrom": _written(valid_from),
        "validUntil": _written(valid_until),
        "credentialSubject": dict(subject),
    }


def issue_credential(claims: Claims, key: IssuerKey) -> str:
    """Return the signed credential, a compact JWS."""
    payload = json.dumps(claims, ensure_ascii=False, separators=(",", ":")).encode()
    return _JWS.encode(payload, key.private, ALGORITHM, headers={"typ": MEDIA_TYPE, "kid": key.kid})


def verify_credential(credential: str, jwks: Collection[Jwk], now: datetime) -> Claims:
    """Return the claims of a credential that one of the keys signed and that is valid at `now`.

    `jwks` are the public keys of the issuers that the verifier trusts. Raises CredentialError.
    """
    claims = read_credential(credential, jwks)
    check_validity(claims, now)
    return claims


def read_credential(credential: str, jwks: Collection[Jwk]) -> Claims:
    """Return the claims of a credential that one of the keys signed, valid or not. Raises CredentialError."""
    key = _find(jwks, _kid(credential))
    try:
        payload = _JWS.decode(credential, key, algorithms=[ALGORITHM])
    except jwt.InvalidSignatureError as error:
        raise CredentialError(Fault.SIGNATURE_WRONG, "the signature does not hold") from error
    except (jwt.PyJWTError, ValueError) as error:
        raise CredentialError(Fault.MALFORMED, "not a signed credential") from error
    return _parsed(payload)


def check_validity(claims: Claims, now: datetime) -> None:
    """Raise CredentialError when `now` lies outside of the credential's validity; its end is not within it."""
    if now < _read(claims, "validFrom"):
        raise CredentialError(Fault.NOT_YET_VALID, f"valid from {claims['validFrom']} on")
    if now >= _read(claims, "validUntil"):
        raise CredentialError(Fault.EXPIRED, f"expired at {claims['validUntil']}")


def _kid(credential: str) -> str:
    if len(credential) > CREDENTIAL_CHARS_MAX:
        raise CredentialError(Fault.MALFORMED, f"longer than {CREDENTIAL_CHARS_MAX} characters")
    try:
        header = _JWS.get_unverified_header(credential)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise CredentialError(Fault.MALFORMED, "not a compact JWS") from error
    kid = header.get("kid")
    if header.get("alg") != ALGORITHM or header.get("typ") != MEDIA_TYPE or not isinstance(kid, str):
        raise CredentialError(Fault.MALFORMED, f"not a JWS of type {MEDIA_TYPE} with {ALGORITHM} and a key id")
    return kid


def _find(jwks: Iterable[Jwk], kid: str) -> Ed25519PublicKey:
    for jwk in jwks:
        if jwk.get("kid") == kid and jwk.get("kty") == "OKP" and jwk.get("crv") == "Ed25519":
            x = jwk.get("x", "")
            try:
                return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "=" * (-len(x) % 4)))
            except ValueError as error:
                raise CredentialError(Fault.KEY_UNKNOWN, "the issuer's key is no key") from error
    raise CredentialError(Fault.KEY_UNKNOWN, "signed with a key that is not the issuer's")


def _parsed(payload: bytes) -> Claims:
    """Return the document when it has what makes it a credential; what is signed may still be something else."""
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise CredentialError(Fault.MALFORMED, "the content is not JSON") from error
    proper = (
        isinstance(claims, dict)
        and isinstance(claims.get("type"), list)
        and "VerifiableCredential" in claims["type"]
        and all(isinstance(claims.get(text), str) for text in ("id", "issuer"))
        and isinstance(claims.get("credentialSubject"), dict)
    )
    if not proper:
        raise CredentialError(Fault.MALFORMED, "the content is not a credential")
    _read(claims, "validFrom")
    _read(claims, "validUntil")
    return dict(claims)


def _read(claims: Claims, name: str) -> datetime:
    try:
        time = datetime.fromisoformat(claims[name])
    except (KeyError, TypeError, ValueError) as error:
        raise CredentialError(Fault.MALFORMED, f"{name} is not a time") from error
    if time.tzinfo is None:
        raise CredentialError(Fault.MALFORMED, f"{name} lacks a time zone")
    return time


def _written(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _public_members(private: Ed25519PrivateKey) -> dict[str, str]:
    return {"crv": "Ed25519", "kty": "OKP", "x": _base64url(private.public_key().public_bytes_raw())}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
