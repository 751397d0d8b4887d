"""The configuration of one node: node.toml, parsed once into frozen dataclasses and passed on from there.

Every problem of the file is reported at once, each with its key and the rule it breaks. Keys that nobody knows are
problems too: a misspelt limit must not silently become the default.
"""

import ipaddress
import re
import tomllib
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from libs.settings_reader import ADDRESS, CODE, HOST, ORIGIN, ConfigError, SettingsReader
from libs.state import RuntimeInfo, Secrets, change_runtime, login_dsn, read_runtime, update_runtime

__all__ = [
    "EVIDENCE_KEYS",
    "GATEWAY",
    "PARTS",
    "BucketSection",
    "ConfigError",
    "EvidenceSection",
    "FederationSection",
    "GatewaySection",
    "NatsSection",
    "NodeConfig",
    "NodeSection",
    "PostgresSection",
    "RuntimeInfo",
    "Secrets",
    "TelemetrySection",
    "WebhooksSection",
    "change_runtime",
    "load_config",
    "login_dsn",
    "read_runtime",
    "update_runtime",
]

# The services of a node. Each has a PostgreSQL role and schema, and a NATS user, of its own name.
PARTS = ("identity", "perception", "sharing", "management", "collaboration", "delivery", "federation")
# What stands behind the edge besides them: it keeps nothing, but calls them under this name with a key of its own.
GATEWAY = "gateway"

# The secrets of the node that open its bucket of evidence: the id of the key, and the key.
EVIDENCE_KEYS = ("evidence-access-key", "evidence-secret-key")
_BUCKET_KEYS = ("endpoint", "bucket", "region", "prefix", "path_style", "tls", "ca")
ENDPOINT = rf"https?://(?:{HOST}|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?/?"
BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
PREFIX = r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,62}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,62}){0,3})?"

# The servers copy a request a few times while they handle it: more than this belongs in an upload of its own.
REQUEST_BYTES_MAX = 64 * 1024 * 1024
# Nothing between nodes may wait for people for more than a year.
WAIT_DAYS_MAX = 366


@dataclass(frozen=True, slots=True)
class NodeSection:
    """Who the node is. id names it in the federation; zone is what it is authoritative for."""

    id: str
    name: str
    zone: str
    timezone: str
    state: Path
    secrets: Path


@dataclass(frozen=True, slots=True)
class PostgresSection:
    """port None: Unix socket only; 0: also a free port on 127.0.0.1. A dsn (without password) means: not embedded."""

    port: int | None
    dsn: str | None


@dataclass(frozen=True, slots=True)
class NatsSection:
    """Ports on 127.0.0.1, 0 for a free one; mqtt_port None: no MQTT. A url (without password) means: not embedded."""

    port: int
    mqtt_port: int | None
    url: str | None


@dataclass(frozen=True, slots=True)
class GatewaySection:
    """The public edge. Rates are requests per second or minute; bursts of twice the rate pass.

    status says who may see how the node is doing (status page, metrics): "public" everybody who reaches the edge,
    "token" who knows the secret `status-token`, "local" these and who asks for it by a name of this machine. Without a
    word it is "local" on the loopback interface, else "token".
    """

    enabled: bool
    host: str
    port: int
    adapter_port: int
    tls_cert: Path | None
    tls_key: Path | None
    cors_origins: tuple[str, ...]
    requests_per_s: int
    client_requests_per_s: int
    sign_in_per_minute: int
    max_request_bytes: int
    max_connections: int
    status: str = "token"


@dataclass(frozen=True, slots=True)
class FederationSection:
    """host is what the two ports listen on, advertise the host name that peers are told to connect to.

    advertise_link is the host:port that peers are told for the link where something stands before the link port, such
    as a port forward; "" for advertise with the link port.

    backlog_max_mb may wait for one peer. What a peer has acknowledged is kept retain_hours, and retain_mb of each lane,
    so that a peer that is restored from a backup can be sent it again.
    """

    host: str
    join_port: int
    link_port: int
    advertise: str
    advertise_link: str = ""
    # How long a certificate issued to a peer, or to the own ports, is good.
    certificate_hours: float = 24.0
    # What becomes of an open stream when its certificate has ended and could not be renewed: "hold" ends it, "grace"
    # lets it live for grace_hours more, with an alarm.
    expired_policy: str = "grace"
    grace_hours: float = 72.0
    backlog_max_mb: int = 4096
    retain_hours: int = 24
    retain_mb: int = 256
    # How long a negotiation, an amendment that is due, and a transfer that was asked for or suspended, may wait for the
    # next step before this node ends it.
    negotiation_days: int = 14
    amendment_days: int = 14
    transfer_request_days: int = 14
    transfer_suspension_days: int = 90


@dataclass(frozen=True, slots=True)
class WebhooksSection:
    """private lets webhooks lead into private networks, and without TLS: for a city's own network, and for tests."""

    private: bool = False


@dataclass(frozen=True, slots=True)
class BucketSection:
    """A bucket of an S3-compatible store: its URL, without the bucket, and what is put before the names of objects.

    path_style: the bucket stands in the path of a URL, not in its host name. ca is a file of certificates, in PEM, that
    are trusted besides those of public authorities. The keys are secrets of the node: EVIDENCE_KEYS.
    """

    endpoint: str
    bucket: str
    region: str
    prefix: str
    path_style: bool
    ca: Path | None


@dataclass(frozen=True, slots=True)
class EvidenceSection:
    """Where the evidence of events is kept: the bucket, else a folder that all replicas of management see."""

    folder: Path
    bucket: BucketSection | None = None


@dataclass(frozen=True, slots=True)
class TelemetrySection:
    """otlp_endpoint None: traces are not exported. trace_ratio is the share of new traces that is kept, 0 to 1."""

    otlp_endpoint: str | None
    trace_ratio: float
    log_level: str


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One node.toml. services holds the addresses (host:port) that are fixed; the other services pick free ports."""

    path: Path
    node: NodeSection
    postgres: PostgresSection
    nats: NatsSection
    gateway: GatewaySection
    services: Mapping[str, str]
    federation: FederationSection
    telemetry: TelemetrySection
    evidence: EvidenceSection
    webhooks: WebhooksSection = WebhooksSection()

    @property
    def state(self) -> Path:
        return self.node.state

    @property
    def secrets(self) -> Secrets:
        return Secrets(self.node.secrets)

    def runtime(self) -> RuntimeInfo:
        """Where everything is: what the node wrote to its state folder, and above that what this file fixes."""
        found = read_runtime(self.state)
        return RuntimeInfo(
            node=self.node.id,
            postgres=self.postgres.dsn or found.postgres,
            nats=self.nats.url or found.nats,
            mqtt=found.mqtt,
            gateway=found.gateway,
            adapter=found.adapter,
            join=found.join,
            link=found.link,
            services={**found.services, **self.services},
            metrics=found.metrics,
        )

    def postgres_dsn(self, part: str) -> str:
        """The part's DSN with its password. FileNotFoundError when nobody has made the password yet."""
        return login_dsn(self.runtime().postgres, part, self.secrets.read(f"postgres-{part}"))

    def nats_password(self, part: str) -> str:
        return self.secrets.read(f"nats-{part}")


def _federation(reader: SettingsReader) -> FederationSection:
    return FederationSection(
        host=reader.host("federation.host"),
        join_port=reader.port("federation.join_port"),
        link_port=reader.port("federation.link_port"),
        advertise=reader.text("federation.advertise", default="127.0.0.1", pattern=HOST),
        advertise_link=reader.text("federation.advertise_link", default="", pattern=f"({ADDRESS})?"),
        certificate_hours=reader.hours("federation.certificate_hours", default=24.0),
        expired_policy=reader.text("federation.expired_policy", default="grace", pattern="hold|grace"),
        grace_hours=reader.hours("federation.grace_hours", default=72.0),
        backlog_max_mb=reader.integer("federation.backlog_max_mb", default=4096, low=16, high=1_048_576),
        retain_hours=reader.integer("federation.retain_hours", default=24, low=0, high=8_760),
        retain_mb=reader.integer("federation.retain_mb", default=256, low=0, high=1_048_576),
        negotiation_days=reader.integer("federation.negotiation_days", default=14, low=1, high=WAIT_DAYS_MAX),
        amendment_days=reader.integer("federation.amendment_days", default=14, low=1, high=WAIT_DAYS_MAX),
        transfer_request_days=reader.integer("federation.transfer_request_days", default=14, low=1, high=WAIT_DAYS_MAX),
        transfer_suspension_days=reader.integer(
            "federation.transfer_suspension_days", default=90, low=1, high=WAIT_DAYS_MAX
        ),
    )


def load_config(path: Path) -> NodeConfig:
    """Parses node.toml. Paths in it are relative to the file. ConfigError names every key that breaks a rule."""
    try:
        document = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, [str(error)]) from error
    reader = SettingsReader(document, path.resolve().parent)
    node = _node(reader)
    config = NodeConfig(
        path=path.resolve(),
        node=node,
        postgres=PostgresSection(
            port=reader.optional_port("postgres.port"), dsn=reader.url("postgres.dsn", ("postgresql", "postgres"))
        ),
        nats=NatsSection(
            port=reader.port("nats.port"),
            mqtt_port=reader.optional_port("nats.mqtt_port"),
            url=reader.url("nats.url", ("nats", "tls")),
        ),
        gateway=_gateway(reader),
        services=reader.addresses("services", PARTS),
        federation=_federation(reader),
        telemetry=TelemetrySection(
            otlp_endpoint=reader.url("telemetry.otlp_endpoint", ("http", "https")),
            trace_ratio=reader.ratio("telemetry.trace_ratio", default=0.1),
            log_level=reader.text("telemetry.log_level", default="info", pattern="debug|info|warning|error"),
        ),
        evidence=_evidence(reader, node),
        webhooks=WebhooksSection(private=reader.boolean("webhooks.private", default=False)),
    )
    reader.finish(path)
    return config


def _node(reader: SettingsReader) -> NodeSection:
    state = reader.path("node.state")
    timezone = reader.text("node.timezone", pattern=r"[A-Za-z0-9+_/-]{1,64}")
    try:
        zoneinfo.ZoneInfo(timezone or "UTC")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        reader.problem("node.timezone", f"must be a zone of the IANA time zone database, got {timezone!r}")
    return NodeSection(
        id=reader.text("node.id", pattern=CODE),
        name=reader.text("node.name", pattern=r".{1,200}"),
        zone=reader.text("node.zone", pattern=CODE),
        timezone=timezone,
        state=state or reader.folder,
        secrets=reader.path("node.secrets", required=False) or (state or reader.folder) / "secrets",
    )


def _evidence(reader: SettingsReader, node: NodeSection) -> EvidenceSection:
    in_folder, in_bucket = reader.has("evidence.folder"), any(reader.has(f"evidence.{key}") for key in _BUCKET_KEYS)
    folder = reader.path("evidence.folder", required=False) or node.state / "evidence"
    if not in_bucket:
        return EvidenceSection(folder)
    if in_folder:
        reader.problem("evidence.folder", "must not be given with a bucket: evidence is kept in one place")
    if not reader.has("evidence.endpoint"):
        reader.problem("evidence.endpoint", "is required with a bucket")
    tls = reader.boolean("evidence.tls", default=True)
    endpoint = reader.url("evidence.endpoint", ("https", "http")) or ""
    if endpoint.startswith("http:") == tls and endpoint:
        reader.problem("evidence.endpoint", "must be https, or http with evidence.tls = false")
    if endpoint and not re.fullmatch(ENDPOINT, endpoint):
        reader.problem("evidence.endpoint", "must be scheme, host and port alone")
    bucket = BucketSection(
        endpoint=endpoint.rstrip("/"),
        bucket=reader.text("evidence.bucket", pattern=BUCKET),
        region=reader.text("evidence.region", default="us-east-1", pattern=r"[a-z0-9-]{1,64}"),
        prefix=reader.text("evidence.prefix", default=node.id, pattern=PREFIX),
        path_style=reader.boolean("evidence.path_style", default=True),
        ca=reader.path("evidence.ca", required=False),
    )
    return EvidenceSection(folder, bucket)


def _gateway(reader: SettingsReader) -> GatewaySection:
    cert = reader.path("gateway.tls_cert", required=False)
    key = reader.path("gateway.tls_key", required=False)
    if (cert is None) != (key is None):
        reader.problem("gateway.tls_cert", "must be given together with gateway.tls_key")
    host = reader.host("gateway.host")
    status = "local" if ipaddress.ip_address(host).is_loopback else "token"
    return GatewaySection(
        enabled=reader.boolean("gateway.enabled", default=True),
        host=host,
        port=reader.port("gateway.port"),
        adapter_port=reader.port("gateway.adapter_port"),
        tls_cert=cert,
        tls_key=key,
        cors_origins=reader.texts("gateway.cors_origins", pattern=ORIGIN),
        requests_per_s=reader.integer("gateway.requests_per_s", default=2_000, low=1, high=1_000_000),
        client_requests_per_s=reader.integer("gateway.client_requests_per_s", default=500, low=1, high=1_000_000),
        sign_in_per_minute=reader.integer("gateway.sign_in_per_minute", default=60, low=1, high=1_000_000),
        max_request_bytes=reader.integer(
            "gateway.max_request_bytes", default=4 * 1024 * 1024, low=1_024, high=REQUEST_BYTES_MAX
        ),
        max_connections=reader.integer("gateway.max_connections", default=1_000, low=1, high=100_000),
        status=reader.text("gateway.status", default=status, pattern="public|local|token"),
    )
