"""Signatures of one node and of its peers: over batches, receipts and agreements. docs/protocol.md has the bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import zstandard
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.message import DecodeError
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from libs.errors import Forbidden, Invalid, Reason
from quintet.federation.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from joserfc.jwk import GuestProtocol

BATCH_PREFIX = b"quintet-batch-v1\0"
RENEW_PREFIX = b"quintet-renew-v1\0"
RECEIPT_PREFIX = b"quintet-receipt-v1\0"
COSIGN_PREFIX = b"quintet-cosign-v1\0"
DELETION_PREFIX = b"quintet-deletion-v1\0"
ALGORITHM = "Ed25519"  # RFC 9864
SIGNING_KEY_BYTES = 32
# A batch below this gains nothing from compression; one that unpacks to more than the limit is refused unread.
COMPRESS_BYTES_MIN = 4 * 1024
BATCH_UNPACKED_BYTES_MAX = 16 * 1024 * 1024
COMPRESSION_LEVEL = 3


def key_id(public_key: bytes) -> str:
    """Return the id of a signing key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


class NodeSigner:
    """Signs for this node."""

    def __init__(self, node: str, key: Callable[[], Ed25519PrivateKey]) -> None:
        """`key` gives the node's present key; each signature names the one that has made it."""
        self.node = node
        self._key = key

    @property
    def public_key(self) -> bytes:
        """The public half of the present key, 32 bytes."""
        return self._key().public_key().public_bytes_raw()

    @property
    def key_id(self) -> str:
        """The id of the present key."""
        return key_id(self.public_key)

    def _sign(self, message: bytes) -> tuple[str, bytes]:
        """Return the id of the key and the signature."""
        key = self._key()
        return key_id(key.public_key().public_bytes_raw()), key.sign(message)

    def batch(self, batch: link_pb2.Batch) -> link_pb2.SignedBatch:
        """Serialise, compress when it pays, and sign."""
        data = batch.SerializeToString()
        compressed = len(data) >= COMPRESS_BYTES_MIN
        if compressed:
            data = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress(data)
        key, signature = self._sign(BATCH_PREFIX + data)
        return link_pb2.SignedBatch(batch=data, key_id=key, signature=signature, compressed=compressed)

    def receipt(self, receipt: link_pb2.Receipt) -> link_pb2.SignedReceipt:
        data = receipt.SerializeToString()
        key, signature = self._sign(RECEIPT_PREFIX + data)
        return link_pb2.SignedReceipt(receipt=data, key_id=key, signature=signature)

    def deletion(self, proof: link_pb2.DeletionProof) -> link_pb2.SignedDeletionProof:
        data = proof.SerializeToString()
        key, signature = self._sign(DELETION_PREFIX + data)
        return link_pb2.SignedDeletionProof(proof=data, key_id=key, signature=signature)

    def cosignature(self, statement: str) -> tuple[str, bytes]:
        """Vouch for a peer's checkpoint, given as it was signed; return the id of the key and the signature."""
        return self._sign(COSIGN_PREFIX + statement.encode())

    def renewal(self, asked: str, certificate_request: str) -> link_pb2.RenewCertificateRequest:
        """Return a request to the node `asked` for this node's next certificate."""
        key, signature = self._sign(_renewal(asked, certificate_request))
        return link_pb2.RenewCertificateRequest(
            node=self.node, certificate_request=certificate_request, key_id=key, signature=signature
        )

    def agreement(self, canonical: bytes) -> str:
        """Return a compact JWS with detached payload over the canonical agreement."""
        private = self._key()
        kid = key_id(private.public_key().public_bytes_raw())
        key = OKPKey.import_key(private)
        whole = jws.serialize_compact({"alg": ALGORITHM, "kid": kid}, canonical, key, algorithms=[ALGORITHM])
        return jws.detach_content(whole)


def open_batch(signed: link_pb2.SignedBatch, public_key: bytes) -> link_pb2.Batch:
    """Return the batch. Raises Forbidden(SIGNATURE_INVALID) for a bad signature, and Invalid for bad bytes."""
    _verify(public_key, BATCH_PREFIX + signed.batch, signed.signature)
    data = signed.batch
    try:
        if signed.compressed:
            data = zstandard.ZstdDecompressor().decompress(data, max_output_size=BATCH_UNPACKED_BYTES_MAX)
        return link_pb2.Batch.FromString(data)
    except (zstandard.ZstdError, DecodeError) as error:
        raise Invalid("batch", "must unpack to a Batch within the size limit") from error


def open_receipt(signed: link_pb2.SignedReceipt, public_key: bytes) -> link_pb2.Receipt:
    """Return the receipt. Raises like `open_batch`."""
    _verify(public_key, RECEIPT_PREFIX + signed.receipt, signed.signature)
    try:
        return link_pb2.Receipt.FromString(signed.receipt)
    except DecodeError as error:
        raise Invalid("receipt", "must be a Receipt") from error


def check_renewal(request: link_pb2.RenewCertificateRequest, asked: str, public_key: bytes) -> None:
    """Check that a peer has signed its request to the node `asked`. Raises Forbidden(SIGNATURE_INVALID)."""
    _verify(public_key, _renewal(asked, request.certificate_request), request.signature)


def _renewal(asked: str, certificate_request: str) -> bytes:
    return RENEW_PREFIX + asked.encode() + b"\0" + certificate_request.encode()


def open_deletion(signed: link_pb2.SignedDeletionProof, public_key: bytes) -> link_pb2.DeletionProof:
    """Return the proof. Raises like `open_batch`."""
    _verify(public_key, DELETION_PREFIX + signed.proof, signed.signature)
    try:
        return link_pb2.DeletionProof.FromString(signed.proof)
    except DecodeError as error:
        raise Invalid("proof", "must be a DeletionProof") from error


def check_agreement(signature: str, canonical: bytes, keys: Callable[[str], bytes]) -> None:
    """Check a detached JWS over the canonical agreement. Raises Forbidden(SIGNATURE_INVALID).

    `keys` gives the key by its id, the `kid` of the header, or raises.
    """

    def key(signed: GuestProtocol) -> OKPKey:
        public_key = keys(str(signed.headers().get("kid")))
        return OKPKey.import_key(Ed25519PublicKey.from_public_bytes(public_key))

    try:
        jws.deserialize_compact(signature, key, algorithms=[ALGORITHM], payload=canonical)
    except (JoseError, ValueError) as error:
        raise Forbidden(Reason.SIGNATURE_INVALID, "the agreement is not signed by the peer's key") from error


def digest(signed: link_pb2.SignedBatch) -> bytes:
    """Return what a receipt names the batch by: SHA-256 of its bytes, 32 bytes."""
    return hashlib.sha256(signed.batch).digest()


def _verify(public_key: bytes, message: bytes, signature: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise Forbidden(Reason.SIGNATURE_INVALID, "the signature is not of the peer's pinned key") from error
