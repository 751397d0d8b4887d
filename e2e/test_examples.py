"""The examples in the SDK folders do what they say, in both languages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from demo.settings import ROOT
from e2e.federation import Federation

EXAMPLE_TIMEOUT_S = 120
TYPESCRIPT = ROOT / "sdk" / "typescript"
FILED = re.compile(r"people/resident\.01 filed (\S+) \((zones/us-ca-sf-d10-potrero-hill/requests/\S+)\)")
TAKEN = re.compile(r"(ACCEPTED|IN_PROGRESS) (zones/us-ca-sf-d10-potrero-hill/events/\S+)$")

EXAMPLES = {
    "python": ([sys.executable, "examples/file_request.py"], ROOT / "sdk" / "python"),
    # gRPC-Web: the edge turns it into gRPC.
    "typescript": (["npm", "run", "--silent", "example"], TYPESCRIPT),
}


@pytest.mark.parametrize("language", EXAMPLES)
def test_an_example_files_a_request_and_follows_it(federation: Federation, language: str) -> None:
    command, folder = EXAMPLES[language]
    lines = _run(federation, command, folder).splitlines()

    filed = FILED.fullmatch(lines[0])
    assert filed, lines
    assert TAKEN.search(lines[-1]), lines
    with federation.node("sf").signed_in("resident.01") as resident:
        request = resident.get(f"/v1/{filed[2]}")["request"]
    assert request["number"] == filed[1]
    assert request["description"] == "Broken glass on the pavement"


def _run(federation: Federation, command: list[str], folder: Path) -> str:
    """Runs an example as its own comment says; returns what it printed."""
    city = federation.node("sf")
    account = {
        "QUINTET_URL": city.url,
        "QUINTET_LOGIN": "resident.01",
        "QUINTET_PASSWORD": city.passwords["resident.01"],
    }
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | account | {"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        timeout=EXAMPLE_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
