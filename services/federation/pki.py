"""A node's own root, and the certificates that it issues: to itself as a server, and to its peers as callers.

Peers' roots are pinned one by one and never trusted for anybody else. A certificate that this node issues to peer P
names `spiffe://<this node>/peers/<P>`: it opens this node's link port and nothing else.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from libs.errors import Forbidden, Invalid, Reason

if TYPE_CHECKING:
    from libs.config import Secrets

ROOT_VALID_DAYS = 3650
LEAF_VALID_DEFAULT = timedelta(hours=24)
# Clocks of two nodes may differ by this much without a new certificate being refused.
CLOCK_SKEW = timedelta(hours=1)
ROOT_KEY = "federation-root-key"
ROOT_CERTIFICATE = "federation-root-certificate"


@dataclass(frozen=True)
class KeyAndCertificate:
    """PEM texts."""

    key: str
    certificate: str


class Authority:
    """The node's own root."""

    def __init__(self, node: str, root: KeyAndCertificate, leaf_valid: timedelta = LEAF_VALID_DEFAULT) -> None:
        self.node = node
        self.leaf_valid = leaf_valid
        self.root_certificate = root.certificate
        self._key = _load_key(root.key)
        self._root = x509.load_pem_x509_certificate(root.certificate.encode())

    @classmethod
    def open(cls, node: str, secrets: Secrets, now: datetime, leaf_valid: timedelta = LEAF_VALID_DEFAULT) -> Authority:
        """Load the root from the node's secrets, made at the first start."""
        try:
            root = KeyAndCertificate(secrets.read(ROOT_KEY), secrets.read(ROOT_CERTIFICATE))
        except FileNotFoundError:
            root = _new_root(node, now)
            secrets.set(ROOT_KEY, root.key)
            secrets.set(ROOT_CERTIFICATE, root.certificate)
        return cls(node, root, leaf_valid)

    def server(self, hosts: list[str], now: datetime) -> KeyAndCertificate:
        """Return a new key and certificate for this node's ports; callers expect the node id as host name."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(self.node), *(_general_name(host) for host in hosts)]
        builder = self._leaf(self.node, key.public_key(), names, now)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        signed = builder.add_extension(usage, critical=False).sign(self._key, hashes.SHA256())
        return KeyAndCertificate(_pem_key(key), _pem(signed))

    def issue(self, peer: str, request_pem: str, now: datetime) -> str:
        """Return the certificate with which `peer` may call this node. Raises Invalid for a bad request."""
        try:
            request = x509.load_pem_x509_csr(request_pem.encode())
        except ValueError as error:
            raise Invalid("card.certificateRequest", "must be a PKCS #10 request in PEM") from error
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not request.is_signature_valid:
            raise Invalid("card.certificateRequest", "must be signed by its own P-256 key")
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(spiffe_id(self.node, peer))]
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = self._leaf(peer, key, names, now).add_extension(usage, critical=False)
        return _pem(builder.sign(self._key, hashes.SHA256()))

    def sign(self, message: bytes) -> bytes:
        """Sign with the root's key (ECDSA, P-256, SHA-256, DER) a message that begins with the prefix of its kind."""
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))

    def _leaf(
        self, name: str, key: ec.EllipticCurvePublicKey, names: list[x509.GeneralName], now: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self._root.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + self.leaf_valid)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )


def spiffe_id(issuer: str, peer: str) -> str:
    """Return the name of `peer` in the trust domain of `issuer`."""
    return f"spiffe://{issuer}/peers/{peer}"


def request_certificate(node: str) -> tuple[str, str]:
    """Return a new private key and a PKCS #10 request for it, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(_name(node)).sign(key, hashes.SHA256())
    return _pem_key(key), request.public_bytes(serialization.Encoding.PEM).decode().strip()


def key_name(pem: str) -> str:
    """Return the name of the secret that holds the private key of a certificate or of a request for one."""
    signed: x509.Certificate | x509.CertificateSigningRequest
    if "REQUEST" in pem.partition("\n")[0]:
        signed = x509.load_pem_x509_csr(pem.encode())
    else:
        signed = x509.load_pem_x509_certificate(pem.encode())
    key = signed.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"peer-key-{hashlib.sha256(key).hexdigest()[:32]}"


def fingerprint(certificate_pem: str, *, field: str = "rootCertificate") -> str:
    """Return SHA-256 of the certificate in hex, as people compare it. Raises Invalid when it is no certificate."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    except ValueError as error:
        raise Invalid(field, "must be a certificate in PEM") from error
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def expires_at(certificate_pem: str) -> datetime | None:
    """Return when a certificate ends, UTC; None for none."""
    if not certificate_pem:
        return None
    return x509.load_pem_x509_certificate(certificate_pem.encode()).not_valid_after_utc


def lifetime(certificate_pem: str) -> tuple[datetime, datetime]:
    """Return when a certificate was issued and when it ends, UTC."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return certificate.not_valid_before_utc + CLOCK_SKEW, certificate.not_valid_after_utc


def serial(certificate_pem: str) -> str:
    """Return the serial number of a certificate, in hex."""
    return f"{x509.load_pem_x509_certificate(certificate_pem.encode()).serial_number:x}"


def check_issued(certificate_pem: str, root_pem: str, name: str) -> None:
    """Check that `root_pem` issued the certificate to the SPIFFE id `name`. Raises Invalid."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(root_pem.encode()))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        raise Invalid("certificate", "must be issued by the pinned root") from error
    if name not in names.get_values_for_type(x509.UniformResourceIdentifier):
        raise Invalid("certificate", f"must name {name}")


def check_signature(root_pem: str, message: bytes, signature: bytes) -> None:
    """Check a signature of the key of a root. Raises Forbidden(SIGNATURE_INVALID), also for a root of another kind."""
    try:
        key = x509.load_pem_x509_certificate(root_pem.encode()).public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("not a key of P-256")  # noqa: TRY301, TRY004 - ends like a signature that does not hold
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise Forbidden(Reason.SIGNATURE_INVALID, "the signature is not of the pinned root") from error


def _new_root(node: str, now: datetime) -> KeyAndCertificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{node} federation root")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=ROOT_VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return KeyAndCertificate(_pem_key(key), _pem(certificate))


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _load_key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the federation root must have an elliptic curve key")
    return key


def _pem(certificate: x509.Certificate) -> str:
    # Without the line end, as the folder of secrets keeps it: texts of one certificate are equal.
    return certificate.public_bytes(serialization.Encoding.PEM).decode().strip()


def _pem_key(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
