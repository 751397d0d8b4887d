"""Credentials verify with the issuer's public keys alone, and with nothing else."""

import base64
import json
from datetime import timedelta
from pathlib import Path
from stat import S_IMODE
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OKPKey

from libs.state import Secrets
from services.delivery.credential import (
    CredentialError,
    Fault,
    IssuerKey,
    document,
    issue_credential,
    read_credential,
    verify_credential,
)
from services.delivery.issuer import SECRET, Issuer, load_keys
from services.delivery.tests.samples import START

KEY = IssuerKey.of(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = IssuerKey.of(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
CLAIMS = document(
    identifier="urn:quintet:node:sf:certificates:c1",
    issuer="urn:quintet:node:sf",
    valid_from=START,
    valid_until=START + timedelta(days=365),
    subject={"name": "张三", "serviceItem": "serviceItems/x"},
)
CREDENTIAL = issue_credential(CLAIMS, KEY)


JWKS = [KEY.jwk()]


def fault(credential: str, *, days: int = 1, jwks: Any = JWKS) -> Fault | None:
    try:
        verify_credential(credential, jwks, START + timedelta(days=days))
    except CredentialError as error:
        return error.fault
    return None


def part(index: int) -> Any:
    text = CREDENTIAL.split(".")[index]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def signed(payload: Any, **header: Any) -> str:
    """What another implementation would sign with our key."""
    key = OKPKey.import_key(KEY.private)
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    protected = {"alg": "EdDSA", "typ": "vc+jwt", "kid": KEY.kid, **header}
    with pytest.warns(UserWarning, match="RFC 9864"):
        return jws.serialize_compact(protected, content, key, algorithms=["EdDSA"])


def test_a_credential_is_a_verifiable_credential_2() -> None:
    assert part(0) == {"alg": "EdDSA", "typ": "vc+jwt", "kid": KEY.kid}
    assert part(1) == CLAIMS
    assert CLAIMS["@context"][0] == "https://www.w3.org/ns/credentials/v2", "the first context must be this one"
    assert CLAIMS["type"][0] == "VerifiableCredential"
    assert CLAIMS["validFrom"] == "2026-01-05T08:00:00Z"


def test_it_verifies_with_the_public_key_alone() -> None:
    assert verify_credential(CREDENTIAL, [OTHER.jwk(), KEY.jwk()], START) == CLAIMS


def test_another_implementation_verifies_it() -> None:
    key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": KEY.jwk()["x"]})
    with pytest.warns(UserWarning, match="RFC 9864"):
        found = jws.deserialize_compact(CREDENTIAL, key, algorithms=["EdDSA"])
    assert json.loads(found.payload) == CLAIMS
    assert key.thumbprint() == KEY.kid, "the key id is the thumbprint of RFC 7638"


def test_it_holds_from_its_start_until_before_its_end() -> None:
    assert fault(CREDENTIAL, days=0) is None
    assert fault(CREDENTIAL, days=-1) is Fault.NOT_YET_VALID
    assert fault(CREDENTIAL, days=365) is Fault.EXPIRED
    assert read_credential(CREDENTIAL, JWKS) == CLAIMS, "reading does not ask for the time"


def test_a_key_that_is_not_the_issuers() -> None:
    assert fault(CREDENTIAL, jwks=[OTHER.jwk()]) is Fault.KEY_UNKNOWN
    assert fault(CREDENTIAL, jwks=[]) is Fault.KEY_UNKNOWN
    for x in ("short", "", "密钥"):
        assert fault(CREDENTIAL, jwks=[{**KEY.jwk(), "x": x}]) is Fault.KEY_UNKNOWN
    assert fault(CREDENTIAL, jwks=[{"kty": "OKP", "crv": "Ed25519", "kid": KEY.kid}]) is Fault.KEY_UNKNOWN
    assert fault(CREDENTIAL, jwks=[{**OTHER.jwk(), "kid": KEY.kid}]) is Fault.SIGNATURE_WRONG


def test_altered_claims_do_not_hold() -> None:
    header, payload, signature = CREDENTIAL.split(".")
    forged = json.dumps({**CLAIMS, "credentialSubject": {"name": "somebody else"}}).encode()
    other = base64.urlsafe_b64encode(forged).rstrip(b"=").decode()
    assert fault(f"{header}.{other}.{signature}") is Fault.SIGNATURE_WRONG
    assert fault(f"{header}.{payload}.") is Fault.SIGNATURE_WRONG


def test_no_other_algorithm_is_believed() -> None:
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "vc+jwt", "kid": KEY.kid}).encode()).decode()
    payload = CREDENTIAL.split(".")[1]
    assert fault(f"{header.rstrip('=')}.{payload}.") is Fault.MALFORMED


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b"[" * 10_000,
        [],
        {},
        {**CLAIMS, "type": ["Something"]},
        {**CLAIMS, "credentialSubject": "x"},
        {**CLAIMS, "validUntil": "tomorrow"},
        {**CLAIMS, "validUntil": "2026-01-05T08:00:00"},
        {key: value for key, value in CLAIMS.items() if key != "validFrom"},
    ],
)
def test_what_is_signed_must_be_a_credential(payload: Any) -> None:
    assert fault(signed(payload)) is Fault.MALFORMED


def test_a_token_of_another_kind_is_not_a_credential() -> None:
    assert fault(signed(CLAIMS, typ="JWT")) is Fault.MALFORMED


UNSIGNED = st.binary(max_size=300).map(lambda data: base64.urlsafe_b64encode(data).decode() + ".e30.")


@settings(deadline=None)
@given(st.text(max_size=300) | UNSIGNED)
def test_anything_at_all_is_answered_with_a_fault(text: str) -> None:
    assert fault(text) is not None


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=len(CREDENTIAL) - 1), st.sampled_from("Az09-_."))
def test_no_changed_character_passes(place: int, character: str) -> None:
    changed = CREDENTIAL[:place] + character + CREDENTIAL[place + 1 :]
    if changed != CREDENTIAL and fault(changed) is None:
        # Base64 has spare bits at the end of a part: the same bytes may be spelt in several ways.
        assert verify_credential(changed, JWKS, START) == CLAIMS


def test_the_key_is_made_once_and_kept_secret(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets")
    first = load_keys(secrets)
    assert [key.kid for key in load_keys(secrets)] == [key.kid for key in first]
    assert S_IMODE((tmp_path / "secrets" / SECRET).stat().st_mode) == 0o600


def test_after_a_rotation_old_credentials_still_verify(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    before = Issuer("sf", load_keys(secrets))
    end = START + timedelta(days=1)
    old = before.issue("certificates/c1", START, end, {"name": "x"})
    kept = json.loads(secrets.read(SECRET))
    secrets.set(SECRET, json.dumps([base64.b64encode(bytes(range(32))).decode(), *kept]))
    after = Issuer("sf", load_keys(secrets))
    new = after.issue("certificates/c2", START, end, {"name": "x"})
    assert after.certificate_id(after.read(old)) == "c1"
    assert after.certificate_id(after.read(new)) == "c2"
    with pytest.raises(CredentialError) as caught:
        before.read(new)
    assert caught.value.fault is Fault.KEY_UNKNOWN
    assert "d" not in after.jwks[0]
