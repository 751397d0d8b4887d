"""Roots, certificates and signatures."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from libs.config import Secrets
from libs.errors import Forbidden, Invalid
from quintet.federation.v1 import link_pb2
from services.federation import pki, signing
from services.federation.pki import Authority
from services.federation.signing import NodeSigner

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def signer_of(node: str) -> NodeSigner:
    key = Ed25519PrivateKey.generate()
    return NodeSigner(node, lambda: key)


def authority(folder: Path, node: str) -> Authority:
    return Authority.open(node, Secrets(folder / node), NOW)


def test_a_root_is_made_once(tmp_path: Path) -> None:
    assert authority(tmp_path, "sf").root_certificate == authority(tmp_path, "sf").root_certificate
    assert authority(tmp_path, "sf").root_certificate != authority(tmp_path, "d6").root_certificate


def test_a_certificate_is_good_for_one_issuer_and_one_peer(tmp_path: Path) -> None:
    sf, other = authority(tmp_path, "sf"), authority(tmp_path, "other")
    _, request = pki.request_certificate("sf-d6")
    certificate = sf.issue("sf-d6", request, NOW)
    pki.check_issued(certificate, sf.root_certificate, pki.spiffe_id("sf", "sf-d6"))
    with pytest.raises(Invalid):
        pki.check_issued(certificate, other.root_certificate, pki.spiffe_id("sf", "sf-d6"))
    with pytest.raises(Invalid):
        pki.check_issued(certificate, sf.root_certificate, pki.spiffe_id("sf", "sf-d10"))


@pytest.mark.parametrize("request_pem", ["", "nonsense", "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END X-----"])
def test_a_bad_request_is_refused_by_name(tmp_path: Path, request_pem: str) -> None:
    with pytest.raises(Invalid, match=r"card\.certificateRequest"):
        authority(tmp_path, "sf").issue("x", request_pem, NOW)


def test_a_changed_batch_does_not_open() -> None:
    signer = signer_of("sf")
    batch = link_pb2.Batch(sender="sf", receiver="d6", epoch="e")
    for number in range(500):
        batch.envelopes.append(link_pb2.Envelope(contract=f"contracts/{number}").SerializeToString())
    signed = signer.batch(batch)
    assert signed.compressed
    assert signing.open_batch(signed, signer.public_key) == batch
    signed.batch = signed.batch[:-1] + bytes([signed.batch[-1] ^ 1])
    with pytest.raises(Forbidden):
        signing.open_batch(signed, signer.public_key)


def test_a_receipt_is_no_batch() -> None:
    """The prefix keeps a signature from being used for something else."""
    signer = signer_of("sf")
    receipt = signer.receipt(link_pb2.Receipt(receiver="sf", sequence=5))
    assert signing.open_receipt(receipt, signer.public_key).sequence == 5
    forged = link_pb2.SignedBatch(batch=receipt.receipt, key_id=receipt.key_id, signature=receipt.signature)
    with pytest.raises(Forbidden):
        signing.open_batch(forged, signer.public_key)


def test_a_signed_bomb_is_refused_unread() -> None:
    key = Ed25519PrivateKey.generate()
    signer = NodeSigner("sf", lambda: key)
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(b"\0" * (signing.BATCH_UNPACKED_BYTES_MAX + 1))
    signed = link_pb2.SignedBatch(batch=bomb, compressed=True, signature=key.sign(signing.BATCH_PREFIX + bomb))
    with pytest.raises(Invalid):
        signing.open_batch(signed, signer.public_key)


def test_an_agreement_is_signed_over_its_bytes() -> None:
    signer = signer_of("sf")
    signature = signer.agreement(b'{"terms":1}')
    signing.check_agreement(signature, b'{"terms":1}', lambda _: signer.public_key)
    for canonical, key in (
        (b'{"terms":2}', signer.public_key),
        (b'{"terms":1}', signer_of("x").public_key),
    ):
        with pytest.raises(Forbidden):
            signing.check_agreement(signature, canonical, lambda _, key=key: key)  # type: ignore[misc]
    with pytest.raises(Forbidden):
        signing.check_agreement("not.a.jws", b"", lambda _: signer.public_key)
