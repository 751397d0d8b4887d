"""node.toml: what is right is read, what is wrong is named, all of it at once."""

import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from libs.config import BucketSection, ConfigError, EvidenceSection, load_config
from libs.state import RuntimeInfo, Secrets, login_dsn, read_runtime, update_runtime

NODE = """
[node]
id = "sf"
name = "City of San Francisco"
zone = "us-ca-sf"
timezone = "America/Los_Angeles"
state = "state/sf"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text)
    return path


def test_smallest_file_gets_the_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, NODE))
    assert config.node.id == "sf"
    assert config.state == tmp_path / "state" / "sf"
    assert config.node.secrets == tmp_path / "state" / "sf" / "secrets"
    assert config.postgres.port is None
    assert config.nats.port == 0
    assert config.nats.mqtt_port is None
    assert config.gateway.host == "127.0.0.1"
    assert config.gateway.tls_cert is None
    assert config.services == {}
    assert config.telemetry.otlp_endpoint is None


def test_everything_can_be_given(tmp_path: Path) -> None:
    text = f"""{NODE}secrets = "/run/secrets"
    [postgres]
    dsn = "postgresql://db:5432/quintet?sslmode=verify-full"
    [nats]
    url = "tls://bus:4222"
    [gateway]
    host = "0.0.0.0"
    port = 8443
    adapter_port = 8081
    tls_cert = "tls/cert.pem"
    tls_key = "tls/key.pem"
    cors_origins = ["https://console.example", "http://127.0.0.1:5173"]
    requests_per_s = 10
    client_requests_per_s = 5
    sign_in_per_minute = 3
    max_request_bytes = 2048
    max_connections = 7
    [services]
    identity = "identity.node.svc:9001"
    [federation]
    join_port = 7001
    link_port = 7002
    advertise = "sf.example"
    advertise_link = "edge.example:7443"
    backlog_max_mb = 100
    retain_hours = 1
    negotiation_days = 30
    [telemetry]
    otlp_endpoint = "http://collector:4317"
    trace_ratio = 1
    log_level = "debug"
    """
    config = load_config(write(tmp_path, text))
    assert config.node.secrets == Path("/run/secrets")
    assert config.gateway.tls_key == tmp_path / "tls" / "key.pem"
    assert config.gateway.cors_origins == ("https://console.example", "http://127.0.0.1:5173")
    assert config.services == {"identity": "identity.node.svc:9001"}
    assert config.federation.advertise == "sf.example"
    assert config.federation.advertise_link == "edge.example:7443"
    assert (config.federation.backlog_max_mb, config.federation.retain_hours) == (100, 1)
    assert config.federation.retain_mb == 256
    assert (config.federation.negotiation_days, config.federation.transfer_suspension_days) == (30, 90)
    assert config.telemetry.trace_ratio == 1.0


def test_every_problem_is_named(tmp_path: Path) -> None:
    text = """
    stray = 1
    [node]
    id = "San Francisco"
    zone = "us-ca-sf"
    timezone = "Pacific/Atlantis"
    state = "."
    [postgres]
    dsn = "postgresql://admin:hunter2@db/quintet"
    [gateway]
    port = 70000
    tls_cert = "cert.pem"
    cors_origins = ["*"]
    max_request_bytes = "4 MB"
    requests_per_sec = 10
    enabled = 1
    host = "localhost"
    [services]
    billing = "127.0.0.1:1"
    identity = "9001"
    [federation]
    backlog_max_mb = 1
    negotiation_days = 0
    amendment_days = 367
    transfer_request_days = 1.5
    transfer_suspension_days = "P1M"
    [telemetry]
    trace_ratio = 2.0
    """
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    named = {problem.partition(":")[0] for problem in caught.value.problems}
    assert named == {
        "stray",
        "node.id",
        "node.name",
        "node.timezone",
        "postgres.dsn",
        "gateway.port",
        "gateway.tls_cert",
        "gateway.cors_origins",
        "gateway.max_request_bytes",
        "gateway.requests_per_sec",
        "gateway.enabled",
        "gateway.host",
        "services.billing",
        "services.identity",
        "federation.backlog_max_mb",
        "federation.negotiation_days",
        "federation.amendment_days",
        "federation.transfer_request_days",
        "federation.transfer_suspension_days",
        "telemetry.trace_ratio",
    }
    assert "hunter2" not in str(caught.value)
    assert "node.name: is required" in caught.value.problems
    assert "federation.negotiation_days: must be a whole number from 1 to 366, got 0" in caught.value.problems
    assert "gateway.port: must be a whole number from 0 to 65535, got 70000" in caught.value.problems


def test_evidence_is_kept_in_a_folder_unless_a_bucket_is_given(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, NODE)).evidence == EvidenceSection(tmp_path / "state" / "sf" / "evidence")
    bucket = '[evidence]\nendpoint = "https://s3.example:9000/"\nbucket = "evidence"\n'
    found = load_config(write(tmp_path, NODE + bucket)).evidence.bucket
    assert found == BucketSection("https://s3.example:9000", "evidence", "us-east-1", "sf", path_style=True, ca=None)
    more = 'region = "cn-north-1"\nprefix = "city/sf"\npath_style = false\nca = "tls/ca.pem"\n'
    found = load_config(write(tmp_path, NODE + bucket + more)).evidence.bucket
    ca = tmp_path / "tls" / "ca.pem"
    assert found == BucketSection(
        "https://s3.example:9000", "evidence", "cn-north-1", "city/sf", path_style=False, ca=ca
    )


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('endpoint = "http://s3.example"\nbucket = "evidence"', "evidence.endpoint: must be https, or http with"),
        ('endpoint = "https://s3.example"\nbucket = "evidence"\ntls = false', "evidence.endpoint: must be https, or"),
        ('endpoint = "https://key:secret@s3.example"\nbucket = "evidence"', "evidence.endpoint: must be a URL of"),
        ('endpoint = "https://s3.example/bucket"\nbucket = "evidence"', "evidence.endpoint: must be scheme, host"),
        ('endpoint = "https://s3.example"', "evidence.bucket: is required"),
        ('bucket = "evidence"', "evidence.endpoint: is required with a bucket"),
        ('endpoint = "https://s3.example"\nbucket = "My Evidence"', "evidence.bucket: must be text matching"),
        ('endpoint = "https://s3.example"\nbucket = "evidence"\nprefix = "../x"', "evidence.prefix: must be text"),
        ('endpoint = "https://s3.example"\nbucket = "evidence"\nfolder = "x"', "evidence.folder: must not be given"),
        ('endpoint = "https://s3.example"\nbucket = "evidence"\nsecret_key = "k"', "evidence.secret_key: is not a"),
    ],
)
def test_a_bucket_that_cannot_be_is_named(tmp_path: Path, lines: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, f"{NODE}[evidence]\n{lines}\n"))
    (found,) = caught.value.problems
    assert found.startswith(problem)
    assert "secret@" not in found


def test_plain_http_must_be_asked_for(tmp_path: Path) -> None:
    lines = '[evidence]\nendpoint = "http://127.0.0.1:8333"\nbucket = "evidence"\ntls = false\n'
    found = load_config(write(tmp_path, NODE + lines)).evidence.bucket
    assert found is not None
    assert found.endpoint == "http://127.0.0.1:8333"


def test_file_that_is_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"node\.toml"):
        load_config(write(tmp_path, "node = {"))


def test_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets")
    with pytest.raises(FileNotFoundError):
        secrets.read("postgres-identity")
    value = secrets.get("postgres-identity")
    assert len(value) >= 40
    assert secrets.get("postgres-identity") == Secrets(tmp_path / "secrets").read("postgres-identity") == value
    assert secrets.get("nats-identity") != value
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "secrets" / "postgres-identity").stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / "secrets").iterdir()) == ["nats-identity", "postgres-identity"]


@pytest.mark.parametrize("name", ["", "../runtime", "a/b", "A", ".hidden"])
def test_secret_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="secret name"):
        Secrets(tmp_path).get(name)


def test_all_who_ask_at_once_get_the_same_secret(tmp_path: Path) -> None:
    found: list[str] = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        found.append(Secrets(tmp_path / "secrets").get("nats-admin"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_processes_add_their_addresses_without_losing_others(tmp_path: Path) -> None:
    assert read_runtime(tmp_path) == RuntimeInfo()

    def add(part: str) -> None:
        update_runtime(tmp_path, lambda found: replace(found, services={**found.services, part: "127.0.0.1:1"}))

    threads = [threading.Thread(target=add, args=(f"part-{number}",)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_runtime(tmp_path).services) == 20


def test_file_of_a_newer_version_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "runtime.json").write_text('{"node": "sf", "invented_later": 1}')
    assert read_runtime(tmp_path).node == "sf"


def test_fixed_addresses_win_over_written_ones(tmp_path: Path) -> None:
    path = write(tmp_path, NODE + '[services]\nidentity = "127.0.0.1:9001"\n')
    config = load_config(path)
    written = RuntimeInfo(nats="nats://127.0.0.1:4222", services={"identity": "127.0.0.1:1", "sharing": "127.0.0.1:2"})
    update_runtime(config.state, lambda _found: written)
    assert config.runtime().services == {"identity": "127.0.0.1:9001", "sharing": "127.0.0.1:2"}
    assert config.runtime().nats == "nats://127.0.0.1:4222"


def test_login_goes_into_every_kind_of_dsn() -> None:
    socket = "postgresql:///quintet?host=/run/q&port=5432"
    assert login_dsn(socket, "identity", "a/b:c@d") == (
        "postgresql://identity:a%2Fb%3Ac%40d@/quintet?host=/run/q&port=5432"
    )
    assert login_dsn("postgresql://db:5433/quintet", "identity", "x") == "postgresql://identity:x@db:5433/quintet"
