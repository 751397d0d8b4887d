"""What a third party can hold against a city: its logs, exported, with what the districts have signed of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from demo.settings import ROOT
from e2e.federation import Federation, until

AUDITOR = "auditor.sf"


@pytest.fixture
def exported(federation: Federation, tmp_path: Path) -> Path:
    """An export of the city, once a peer has cosigned its log of events."""
    city = federation.node("sf")
    with city.signed_in(AUDITOR) as auditor:

        def cosigned() -> bool:
            answers = auditor.get("/v1/cosignatures", part="management")["cosignatures"]
            return any(answer["signature"] for answer in answers)

        until("a cosignature", cosigned)
    out, password = tmp_path / "evidence.jsonl", tmp_path / "password"
    password.write_text(city.passwords[AUDITOR])
    asking = ("--url", city.url, "--login", AUDITOR, "--password-file", str(password))
    made = quintet("export", *asking, "--out", str(out))
    assert made.returncode == 0, made.stderr
    return out


def quintet(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.cli", "audit", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_an_export_of_the_demo_verifies_and_fails_with_one_changed_byte(exported: Path) -> None:
    good = quintet("verify", str(exported))
    assert good.returncode == 0, good.stdout
    assert "cosignatures of sf-d" in good.stdout
    whole = exported.read_bytes()
    for position in (0, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        changed = bytearray(whole)
        changed[position] ^= 1
        exported.write_bytes(changed)
        bad = quintet("verify", str(exported))
        assert bad.returncode == 1, position
        assert bad.stdout.startswith("DOES NOT HOLD: line ")
