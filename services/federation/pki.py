"""A node's own root, and the certificates that it issues: to itself as a server, and to its peers as callers.

Peers' roots are pinned one by one and never trusted for anybody else. A certificate that this node issues to peer P
names `spiffe://<this node>/peers/<P>`: it opens this node's link port and nothing else.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from dataclasses import asdict, dataclass
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
# The root in the folder of secrets, and the one that takes its place once it is stated.
ROOT = "federation-root"
NEXT_ROOT = "federation-root-next"
# Roots back to which a server certificate leads: who was away for longer joins anew.
CROSSES_MAX = 8
HANDOVER_PREFIX = b"quintet-root-v1\0"


@dataclass(frozen=True)
class KeyAndCertificate:
    """PEM texts."""

    key: str
    certificate: str


@dataclass(frozen=True)
class Handover:
    """A root that took the place of the one before, whose key has signed it. `signature` is hex."""

    certificate: str
    signature: str


@dataclass(frozen=True)
class Former:
    """A root that was given up; what it has issued to callers is good until `until`, ISO 8601."""

    certificate: str
    until: str


@dataclass(frozen=True)
class Root:
    """What is kept of a root: PEM texts, and how it came to be.

    `crosses` lead from this root's key to the first root, each key certified by the root before: callers that have
    pinned one of these can follow.
    """

    key: str
    certificate: str
    crosses: tuple[str, ...] = ()
    former: tuple[Former, ...] = ()
    handovers: tuple[Handover, ...] = ()


class Authority:
    """The node's own root. Reads the file each time: another replica may have changed the root."""

    def __init__(
        self, node: str, secrets: Secrets, leaf_valid: timedelta = LEAF_VALID_DEFAULT, *, name: str = ROOT
    ) -> None:
        self.node = node
        self.leaf_valid = leaf_valid
        self._secrets = secrets
        self._name = name
        self._text = ""
        self._read: tuple[Root, ec.EllipticCurvePrivateKey, x509.Certificate] | None = None

    @classmethod
    def open(cls, node: str, secrets: Secrets, now: datetime, leaf_valid: timedelta = LEAF_VALID_DEFAULT) -> Authority:
        """Load the root from the node's secrets, made at the first start."""
        opened = cls(node, secrets, leaf_valid)
        try:
            secrets.read(ROOT)
        except FileNotFoundError:
            # Another replica may do the same at the same time: the first file counts.
            secrets.set(ROOT, _written(_new_root(node, now)), replace=False)
        return opened

    @property
    def root_certificate(self) -> str:
        """The present root, PEM."""
        return self._loaded()[0].certificate

    @property
    def handovers(self) -> tuple[Handover, ...]:
        """How the node came from its first root to the present one."""
        return self._loaded()[0].handovers

    def client_roots(self, now: datetime) -> str:
        """Return the roots whose certificates callers may show now, PEM."""
        root = self._loaded()[0]
        return "\n".join((root.certificate, *(each.certificate for each in _good(root.former, now))))

    def prepare(self, now: datetime) -> Authority:
        """Make another root and return its authority; it is not used before `adopt`."""
        root, key, certificate = self._loaded()
        made = _new_root(self.node, now)
        signature = self.sign(handover_message(self.node, made.certificate))
        until = now + self.leaf_valid + CLOCK_SKEW
        following = Root(
            key=made.key,
            certificate=made.certificate,
            crosses=(_cross(_load_key(made.key), made.certificate, certificate, key), *root.crosses)[:CROSSES_MAX],
            former=(*_good(root.former, now), Former(root.certificate, until.isoformat())),
            handovers=(*root.handovers, Handover(made.certificate, signature.hex())),
        )
        self._secrets.set(NEXT_ROOT, _written(following))
        return Authority(self.node, self._secrets, self.leaf_valid, name=NEXT_ROOT)

    def adopt(self, certificate: str) -> None:
        """Use the root that was prepared, if it is this one; the private key of the one before is gone."""
        try:
            text = self._secrets.read(NEXT_ROOT)
        except FileNotFoundError:
            return
        if json.loads(text)["certificate"] == certificate:
            self._secrets.set(ROOT, text)
            self._secrets.remove(NEXT_ROOT)

    def _loaded(self) -> tuple[Root, ec.EllipticCurvePrivateKey, x509.Certificate]:
        text = self._secrets.read(self._name)
        if self._read is None or text != self._text:
            found = json.loads(text)
            root = Root(
                found["key"],
                found["certificate"],
                tuple(found["crosses"]),
                tuple(Former(**each) for each in found["former"]),
                tuple(Handover(**each) for each in found["handovers"]),
            )
            certificate = x509.load_pem_x509_certificate(root.certificate.encode())
            self._read, self._text = (root, _load_key(root.key), certificate), text
        return self._read

    def server(self, hosts: list[str], now: datetime) -> KeyAndCertificate:
        """Return a new key and certificate for this node's ports; callers expect the node id as host name."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(self.node), *(_general_name(host) for host in hosts)]
        builder = self._leaf(self.node, key.public_key(), names, now)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        root, signer, _ = self._loaded()
        signed = builder.add_extension(usage, critical=False).sign(signer, hashes.SHA256())
        return KeyAndCertificate(_pem_key(key), "\n".join((_pem(signed), *root.crosses)))

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
        return _pem(builder.sign(self._loaded()[1], hashes.SHA256()))

    def sign(self, message: bytes) -> bytes:
        """Sign with the root's key (ECDSA, P-256, SHA-256, DER) a message that begins with the prefix of its kind."""
        return self._loaded()[1].sign(message, ec.ECDSA(hashes.SHA256()))

    def _leaf(
        self, name: str, key: ec.EllipticCurvePublicKey, names: list[x509.GeneralName], now: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self._loaded()[2].subject)
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


def handover_message(node: str, certificate: str) -> bytes:
    """Return what a root signs about the one that takes its place."""
    return HANDOVER_PREFIX + node.encode() + b"\0" + certificate.encode()


def _good(former: tuple[Former, ...], now: datetime) -> list[Former]:
    return [each for each in former if now < datetime.fromisoformat(each.until)]


def _written(root: Root) -> str:
    return json.dumps(asdict(root))


def _cross(
    key: ec.EllipticCurvePrivateKey,
    certificate_pem: str,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> str:
    """Return the certificate of a new root's key by the root before."""
    made = x509.load_pem_x509_certificate(certificate_pem.encode())
    return _pem(
        x509.CertificateBuilder()
        .subject_name(made.subject)
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(made.not_valid_before_utc)
        .not_valid_after(min(made.not_valid_after_utc, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def _new_root(node: str, now: datetime) -> Root:
    key = ec.generate_private_key(ec.SECP256R1())
    # Each root has a name of its own: chains are looked up by it.
    name = _name(f"{node} federation root {x509.random_serial_number():x}"[:64])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=ROOT_VALID_DAYS))
        # Below it stand, one under the other, the roots that take its place.
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Root(_pem_key(key), _pem(certificate))


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
