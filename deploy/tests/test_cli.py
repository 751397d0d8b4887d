"""What somebody at a terminal sees of `quintet`."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deploy import cli
from deploy.services import parse_services
from deploy.testing import write_node_toml
from libs.config import PARTS
from services.delivery.credential import IssuerKey, document, issue_credential

NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], ["node", "prepare", "server", "probe", "certificate", "audit", "load", "peer"]),
        (["node"], ["--config", "--services", "--log", "ready <url>", "python -m services.<name>"]),
        (["prepare"], ["--config", "postgres-admin-dsn"]),
        (["certificate", "verify"], ["--keys", "FILE"]),
        (["server"], ["postgres", "nats", "--config", "--listen HOST:PORT"]),
        (["probe"], ["grpc://HOST:PORT", "postgresql://", "nats://", "http://"]),
        (["audit", "check"], ["--config", "--url", "--login", "--password-file"]),
        (["audit", "export"], ["--config", "--url", "--login", "--password-file", "--out"]),
        (["audit", "verify"], ["FILE", "--keys"]),
        (["peer"], ["list", "show", "invite", "join", "approve", "suspend", "resume", "leave", "expel", "revoke"]),
        (["peer", "invite"], ["--url", "--login", "NODE", "--kind", "--zone", "rootFingerprint"]),
        (["peer", "join"], ["FILE", "--fingerprint"]),
        (["peer", "expel"], ["NODE", "--reason"]),
        (["load"], ["--url", "--login", "--password-file", "FOLDER"]),
    ],
)
def test_every_command_explains_itself(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run([*arguments, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    assert [word for word in told if word not in text] == []


def test_all_that_is_wrong_with_the_configuration_is_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_node_toml(tmp_path, extra='[gateway]\nstatus = "sometimes"\nport = "high"', zone="Not A Code")
    assert cli.run(["node", "--config", str(path)]) == 2
    told = capsys.readouterr().err
    for key in ("node.zone", "gateway.status", "gateway.port"):
        assert key in told


def test_a_configuration_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["prepare", "--config", str(tmp_path / "node.toml")]) == 2
    assert "node.toml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "names"),
    [("all", list(PARTS)), ("none", []), ("identity", ["identity"]), ("delivery, sharing", ["delivery", "sharing"])],
)
def test_services_are_named(text: str, names: list[str]) -> None:
    assert parse_services(text) == names


def test_an_unknown_service_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_node_toml(tmp_path)
    assert cli.run(["node", "--config", str(path), "--services", "identity,gateway"]) == 2
    assert "gateway: not a service" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


# --------------------------------------------------------------------------------------------------------- certificates


@pytest.fixture
def key() -> IssuerKey:
    return IssuerKey.of(Ed25519PrivateKey.generate())


@pytest.fixture
def keys(tmp_path: Path, key: IssuerKey) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [key.jwk()]}))
    return path


def certificate(folder: Path, key: IssuerKey, *, until: timedelta = timedelta(days=1)) -> Path:
    claims = document(
        identifier="urn:certificate:1",
        issuer="nodes/beijing",
        valid_from=NOW - timedelta(days=2),
        valid_until=NOW + until,
        subject={"title": "食品经营许可证"},
    )
    path = folder / "certificate.jws"
    path.write_text(issue_credential(claims, key) + "\n")
    return path


def verify(file: Path, keys: Path) -> int:
    return cli.run(["certificate", "verify", str(file), "--keys", str(keys)])


def test_a_certificate_is_verified_offline(
    tmp_path: Path, key: IssuerKey, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(certificate(tmp_path, key), keys) == 0
    told = capsys.readouterr().out
    assert told.startswith("VALID until ")
    assert "nodes/beijing" in told
    assert "食品经营许可证" in told


def test_a_certificate_that_does_not_hold_is_told_apart(
    tmp_path: Path, key: IssuerKey, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = certificate(tmp_path, key, until=timedelta(seconds=-1))
    assert verify(over, keys) == 1
    stranger = certificate(tmp_path, IssuerKey.of(Ed25519PrivateKey.generate()))
    assert verify(stranger, keys) == 1
    garbled = tmp_path / "garbled"
    garbled.write_text("nothing of the kind")
    assert verify(garbled, keys) == 1
    told = capsys.readouterr().out
    assert [line.split()[2].rstrip(":") for line in told.splitlines()] == ["EXPIRED", "KEY_UNKNOWN", "MALFORMED"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": 1}', '{"keys": [1]}'])
def test_keys_that_are_none_are_a_wrong_use(
    tmp_path: Path, key: IssuerKey, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "no-keys"
    keys.write_text(text)
    assert verify(certificate(tmp_path, key), keys) == 2
    assert "is not a JWK set" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------- audit and load


def test_the_audit_needs_somewhere_to_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["audit", "check"]) == 2
    assert cli.run(["audit", "check", "--config", str(write_node_toml(tmp_path))]) == 2
    told = capsys.readouterr().err
    assert "give --config, or --url and --login" in told
    assert "has not been started yet" in told


def test_a_node_that_is_away_is_worth_another_attempt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    password = tmp_path / "password"
    password.write_text("not asked for\n")
    asked = ["--url", "http://127.0.0.1:1", "--login", "auditor.01", "--password-file", str(password)]
    assert cli.run(["audit", "check", *asked]) == 75
    assert "not asked for" not in capsys.readouterr().out


@pytest.mark.parametrize("listen", ["5432", ":5432", "0.0.0.0:port", "0.0.0.0:"])
def test_a_server_listens_on_a_host_and_a_port(tmp_path: Path, capsys: pytest.CaptureFixture[str], listen: str) -> None:
    path = write_node_toml(tmp_path)
    assert cli.run(["server", "postgres", "--config", str(path), "--listen", listen]) == 2
    assert "must be HOST:PORT" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_passwords_are_never_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.run(["load", "--url", "http://127.0.0.1:1", "--login", "node-admin", "--password", "x", "folder"])
    assert "unrecognized arguments" in capsys.readouterr().err
