import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from libs import tokens
from libs.errors import Away, Reason, Unauthenticated
from libs.state import Secrets
from libs.tests import callers
from libs.tests.callers import SERVICE_KEYS, jwk, token
from libs.tokens import Claims, ServiceSigner, TokenVerifier

ME = "people/me"
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


class Identity:
    """Publishes keys, or is away."""

    def __init__(self) -> None:
        self.keys = [jwk()]
        self.away = False
        self.asked = 0

    async def jwks(self) -> Mapping[str, Any]:
        self.asked += 1
        if self.away:
            raise Away(Reason.DEPENDENCY_AWAY)
        return {"keys": self.keys}


class Now:
    def __init__(self) -> None:
        self.seconds = time.time()

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def identity() -> Identity:
    return Identity()


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def verifier(identity: Identity, now: Now) -> TokenVerifier:
    keys = {part: key.public_key() for part, key in SERVICE_KEYS.items()}
    return TokenVerifier(callers.NODE, identity.jwks, keys, clock=now)


async def refused(verifier: TokenVerifier, text: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(text)
    return caught.value.reason


async def test_an_access_token_holds_until_it_ends(verifier: TokenVerifier, now: Now) -> None:
    text = token(ME, exp=int(now()) + 60)
    assert await verifier.verify(text) == Claims(ME, "s1", float(int(now()) + 60))
    now.seconds += 66
    assert await refused(verifier, text) == Reason.TOKEN_EXPIRED
    assert await refused(verifier, text) == Reason.TOKEN_EXPIRED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "a.b.c",
        "unreadable",
        "é",
        "\ud800",
        "x" * 5000,
        token(ME, kid=None),
        token(ME, aud="other"),
        token(ME, iss="nodes/beijing"),
        token(ME, iss=None),
        token(ME, exp=None),
        token(ME, exp="soon"),
        token(ME, sub=None),
        token(ME, iat=int(time.time()) + 3600),
        token(ME, sid=["s1"]),
        token(ME, key=OTHER_KEY),
        token(ME, kid="unknown"),
        token("services/management"),
        token("services/management", iss="services/management"),
        token("roles/admin"),
        jwt.encode({"sub": ME}, "", "none", headers={"kid": "k1"}),
        jwt.encode({"sub": ME}, "secret-of-at-least-thirty-two-bytes", "HS256", headers={"kid": "k1"}),
    ],
)
async def test_other_tokens_are_refused(verifier: TokenVerifier, text: str) -> None:
    assert await refused(verifier, text) == Reason.TOKEN_INVALID


async def test_a_service_speaks_for_itself_only(verifier: TokenVerifier, now: Now) -> None:
    signer = ServiceSigner("management", SERVICE_KEYS["management"], clock=now)
    claims = await verifier.verify(signer.token())
    assert claims.subject == "services/management"
    assert claims.is_service

    def forged(**changed: str) -> str:
        life = {"iat": int(now()), "exp": int(now()) + 60}
        payload = {"iss": "services/management", "sub": "services/management", "aud": "quintet", **life, **changed}
        return jwt.encode(payload, SERVICE_KEYS["management"], "ES256", headers={"kid": "services/management"})

    await verifier.verify(forged())
    for changed in ({"sub": ME}, {"sub": "services/identity"}, {"iss": f"nodes/{callers.NODE}"}):
        assert await refused(verifier, forged(**changed)) == Reason.TOKEN_INVALID
    stranger = ServiceSigner("stranger", OTHER_KEY, clock=now).token()
    assert await refused(verifier, stranger) == Reason.TOKEN_INVALID


def test_a_service_makes_a_new_token_before_the_old_one_ends(now: Now) -> None:
    signer = ServiceSigner("management", SERVICE_KEYS["management"], clock=now)
    first = signer.token()
    now.seconds += tokens.SERVICE_TOKEN_LIFE_S - tokens.SERVICE_TOKEN_RENEW_S - 1
    assert signer.token() == first
    now.seconds += 2
    assert signer.token() != first


async def test_a_new_key_is_fetched_when_its_kid_comes(verifier: TokenVerifier, identity: Identity, now: Now) -> None:
    await verifier.verify(token(ME))
    new = token(ME, key=OTHER_KEY, kid="k2")
    identity.keys.append(jwk(OTHER_KEY, "k2"))
    now.seconds += 10
    await verifier.verify(new)
    assert identity.asked == 2


async def test_unknown_kids_do_not_flood_identity(verifier: TokenVerifier, identity: Identity) -> None:
    for number in range(20):
        await refused(verifier, token(ME, kid=f"unknown{number}"))
    assert identity.asked == 1


async def test_known_keys_count_a_while_without_identity(verifier: TokenVerifier, identity: Identity, now: Now) -> None:
    await verifier.verify(token(ME))
    identity.away = True
    now.seconds += tokens.JWKS_STALE_MAX_S - 10
    await verifier.verify(token(ME, exp=int(now()) + 60))
    with pytest.raises(Away):
        await verifier.verify(token(ME, kid="k2"))
    now.seconds += 20
    with pytest.raises(Away):
        await verifier.verify(token(ME, exp=int(now()) + 60))
    identity.away = False
    now.seconds += 1
    await verifier.verify(token(ME, exp=int(now()) + 60))


async def test_a_jwks_that_is_none_leaves_the_last_one(verifier: TokenVerifier, identity: Identity, now: Now) -> None:
    await verifier.verify(token(ME))
    for broken in ({}, {**jwk(), "x": "!"}, {**jwk(), "kty": "RSA"}):
        identity.keys = [broken | {"alg": "ES256"}]
        now.seconds += tokens.JWKS_REFRESH_S + 1
        await verifier.verify(token(ME, exp=int(now()) + 60))


def test_keys_are_made_once(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets")
    tokens.ensure_service_keys(secrets, ["management"])
    first = tokens.load_service_key(secrets, "management")
    tokens.ensure_service_keys(secrets, ["management", "identity"])
    assert tokens.load_service_key(secrets, "management").private_numbers() == first.private_numbers()
    public = tokens.load_service_keys(secrets)
    assert set(public) == {"management", "identity"}
    assert public["management"].public_numbers() == first.public_key().public_numbers()
    assert "PRIVATE" not in secrets.read(tokens.SERVICE_KEYS)
    for secret in (tmp_path / "secrets").iterdir():
        assert secret.stat().st_mode & 0o077 == 0
    with pytest.raises(FileNotFoundError):
        tokens.load_service_key(secrets, "delivery")
