"""Signing keys in the secrets folder."""

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import jwt
import pytest

from libs.clock import ManualClock
from libs.errors import WrongState
from libs.state import Secrets
from libs.tokens import ACCESS_TOKEN_LIFE_S, CLOCK_SKEW_MAX_S, TokenVerifier
from services.identity.keys import KEY_LEAD_S, SECRET_NAME, SigningKeys, access_token


def kids(keys: SigningKeys) -> list[str]:
    return [jwk["kid"] for jwk in keys.published()]


def test_the_first_key_is_made_once_and_is_secret(tmp_path: Path, clock: ManualClock) -> None:
    secrets = Secrets(tmp_path / "secrets")
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: SigningKeys(secrets, clock).current().kid, range(8)))
    assert len(set(made)) == 1
    assert stat.S_IMODE((tmp_path / "secrets" / SECRET_NAME).stat().st_mode) == 0o600


def test_public_keys_hold_nothing_private(tmp_path: Path, clock: ManualClock) -> None:
    jwk = SigningKeys(Secrets(tmp_path), clock).published()[0]
    assert jwk.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (jwk["kty"], jwk["crv"], jwk["use"], jwk["alg"]) == ("EC", "P-256", "sig", "ES256")


def test_a_new_key_is_published_before_it_signs_and_the_old_one_after(tmp_path: Path, clock: ManualClock) -> None:
    secrets = Secrets(tmp_path)
    keys = SigningKeys(secrets, clock)
    old = keys.current().kid
    new = SigningKeys(secrets, clock).rotate().kid
    assert kids(keys) == [old, new]
    assert keys.current().kid == old
    with pytest.raises(WrongState):
        keys.rotate()
    clock.advance(timedelta(seconds=KEY_LEAD_S))
    assert keys.current().kid == new
    clock.advance(timedelta(seconds=ACCESS_TOKEN_LIFE_S + CLOCK_SKEW_MAX_S))
    assert kids(keys) == [old, new]
    clock.advance(timedelta(seconds=1))
    assert kids(keys) == [new]
    newest = keys.rotate().kid
    assert kids(keys) == [new, newest]
    assert old not in secrets.read(SECRET_NAME) or kids(SigningKeys(secrets, clock)) == [new, newest]


def test_a_clock_set_back_does_not_stop_signing(tmp_path: Path, clock: ManualClock) -> None:
    keys = SigningKeys(Secrets(tmp_path), clock)
    clock.set(clock.now() - timedelta(days=1))
    assert keys.current().kid == kids(keys)[0]


async def test_tokens_verify_with_the_published_keys(tmp_path: Path, clock: ManualClock) -> None:
    keys = SigningKeys(Secrets(tmp_path), clock)

    async def jwks() -> dict[str, object]:
        return {"keys": keys.published()}

    verifier = TokenVerifier("sf", jwks, {}, clock=lambda: clock.now().timestamp())
    token, expires_at = access_token(keys.current(), "sf", "people/1", "s1", clock.now())
    claims = await verifier.verify(token)
    assert (claims.subject, claims.session) == ("people/1", "s1")
    assert claims.expires_s == expires_at.timestamp() == clock.now().timestamp() + ACCESS_TOKEN_LIFE_S
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT", "kid": kids(keys)[0]}
