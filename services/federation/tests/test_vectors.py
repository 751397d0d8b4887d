"""The test vectors of docs/protocol.md: what another team's node can check itself against holds here, too."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from libs.errors import Forbidden
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2, trust_pb2
from services.federation import lanes_store, signing, terms, trust_list
from services.federation.signing import NodeSigner
from services.federation.tests.test_metering import VECTOR as SETTLEMENT_VECTOR

VECTORS: dict[str, str] = json.loads((Path(__file__).parents[3] / "docs" / "protocol-vectors.json").read_text())


def raw(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name])


def signed_by(key: str, signature: str, message: bytes) -> None:
    """Check with nothing of the product: the key, the prefix and the bytes as the page describes them."""
    Ed25519PublicKey.from_public_bytes(raw(key)).verify(raw(signature), message)


def test_signatures_are_over_the_bytes_that_the_page_names() -> None:
    assert hashlib.sha256(raw("public_key")).hexdigest()[:16] == VECTORS["key_id"]
    signed_by("public_key", "batch_signature", b"quintet-batch-v1\0" + raw("batch"))
    signed_by("peer_public_key", "receipt_signature", b"quintet-receipt-v1\0" + raw("receipt"))
    signed_by("peer_public_key", "deletion_signature", b"quintet-deletion-v1\0" + raw("deletion_proof"))
    signed_by("peer_public_key", "cosignature", b"quintet-cosign-v1\0" + VECTORS["checkpoint"].encode())
    header, _, signature = VECTORS["agreement_signature"].split(".")
    payload = base64.urlsafe_b64encode(VECTORS["agreement"].encode()).rstrip(b"=")
    message = header.encode() + b"." + payload
    key = Ed25519PublicKey.from_public_bytes(raw("public_key"))
    key.verify(base64.urlsafe_b64decode(signature + "=="), message)
    with pytest.raises(InvalidSignature):
        signed_by("public_key", "receipt_signature", b"quintet-receipt-v1\0" + raw("receipt"))


def test_digests_and_the_chain_are_what_the_page_says() -> None:
    assert hashlib.sha256(VECTORS["agreement"].encode()).digest() == raw("agreement_hash")
    assert hashlib.sha256(raw("batch")).digest() == raw("batch_digest")
    link = hashlib.sha256(bytes(32) + hashlib.sha256(raw("envelope")).digest()).digest()
    assert link == raw("chain") == lanes_store.extend(bytes(32), [raw("envelope")])[-1]


def test_this_node_reads_them() -> None:
    signed = link_pb2.SignedBatch(
        batch=raw("batch"), key_id=VECTORS["key_id"], signature=raw("batch_signature"), compressed=False
    )
    batch = signing.open_batch(signed, raw("public_key"))
    assert (batch.sender, batch.receiver, batch.first_sequence) == ("district", "city", 1)
    envelope = link_pb2.Envelope.FromString(batch.envelopes[0])
    assert (envelope.agreement_hash, envelope.fact.key) == (raw("agreement_hash"), "things/1")
    receipt = signing.open_receipt(
        link_pb2.SignedReceipt(receipt=raw("receipt"), signature=raw("receipt_signature")), raw("peer_public_key")
    )
    assert (receipt.batch_digest, receipt.chain) == (raw("batch_digest"), raw("chain"))
    proof = link_pb2.SignedDeletionProof(proof=raw("deletion_proof"), signature=raw("deletion_signature"))
    deleted = signing.open_deletion(proof, raw("peer_public_key"))
    assert (deleted.rows, [(day.facts, day.digest.hex()) for day in deleted.days]) == (2, [(2, SETTLEMENT_VECTOR)])
    keys = {VECTORS["key_id"]: raw("public_key")}
    signing.check_agreement(VECTORS["agreement_signature"], VECTORS["agreement"].encode(), keys.__getitem__)
    with pytest.raises(Forbidden):
        signing.check_agreement(VECTORS["agreement_signature"], b"{}", keys.__getitem__)


def test_the_root_binds_the_list_and_the_card() -> None:
    root = x509.load_pem_x509_certificate(VECTORS["root_certificate"].encode()).public_key()
    assert isinstance(root, ec.EllipticCurvePublicKey)
    for name, prefix in (("trust_list", b"quintet-trust-v1\0"), ("card", b"quintet-card-v1\0")):
        root.verify(raw(f"{name}_signature"), prefix + raw(name), ec.ECDSA(hashes.SHA256()))
    first = x509.load_pem_x509_certificate(VECTORS["first_root_certificate"].encode()).public_key()
    assert isinstance(first, ec.EllipticCurvePublicKey)
    handover = trust_pb2.TrustList.FromString(raw("trust_list")).handovers[0]
    assert handover.root_certificate == VECTORS["root_certificate"]
    message = b"quintet-root-v1\0district\0" + VECTORS["root_certificate"].encode()
    first.verify(handover.signature, message, ec.ECDSA(hashes.SHA256()))
    signed = link_pb2.SignedNodeCard(card=raw("card"), root_signature=raw("card_signature"))
    card = trust_list.opened_card(signed, "city")
    assert (card.node, card.trust_list.list) == ("district", raw("trust_list"))
    assert card.trust_list.root_signature == raw("trust_list_signature")
    listed = trust_list.opened(card.trust_list, VECTORS["root_certificate"], "district")
    assert trust_list.opened(card.trust_list, VECTORS["first_root_certificate"], "district") == listed
    assert [(key.key_id, key.key) for key in listed.keys] == [(VECTORS["key_id"], raw("public_key"))]


def test_this_node_writes_them() -> None:
    key = Ed25519PrivateKey.from_private_bytes(raw("seed"))
    signer = NodeSigner("district", lambda: key)
    assert (signer.public_key, signer.key_id) == (raw("public_key"), VECTORS["key_id"])
    stated = json.loads(VECTORS["agreement"])
    contract = pb.Contract(
        name=stated["name"],
        kind=pb.CONTRACT_KIND_EXCHANGE,
        provider=stated["provider"],
        consumer=stated["consumer"],
        version=stated["version"],
    )
    contract.terms.product = stated["terms"]["product"]
    contract.terms.product_version = stated["terms"]["productVersion"]
    contract.terms.purpose, contract.terms.zone = stated["terms"]["purpose"], stated["terms"]["zone"]
    contract.terms.retention_days = stated["terms"]["retentionDays"]
    contract.terms.salt = base64.b64decode(stated["terms"]["salt"])
    for one in stated["terms"]["fields"]:
        contract.terms.fields.add(field=one["field"], masking=one.get("masking"))
    assert terms.agreement(contract).decode() == VECTORS["agreement"]
    assert terms.agreement_hash(contract) == raw("agreement_hash")
    assert signer.agreement(terms.agreement(contract)) == VECTORS["agreement_signature"]
    assert signer.batch(link_pb2.Batch.FromString(raw("batch"))).signature == raw("batch_signature")
