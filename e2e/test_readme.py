"""The commands of the README, run as written, do what the words around them promise."""

import json
import re
import subprocess
from typing import Any

from demo.settings import ROOT
from e2e.federation import Federation

BLOCK_TIMEOUT_S = 120
TRY_IT = re.compile(r"^## Try it\n.*?^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_commands_to_try_work_as_written(federation: Federation) -> None:
    block = TRY_IT.search((ROOT / "README.md").read_text())
    assert block
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block[1]],
        cwd=ROOT,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BLOCK_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (asked, warned, listed, verified), offline = _documents(done.stdout)

    request = asked["request"]
    assert request["name"].startswith("zones/us-ca-sf-d10-potrero-hill/requests/")
    assert request["status"] in {"REQUEST_STATUS_RECEIVED", "REQUEST_STATUS_ACCEPTED"}
    (warning,) = warned["warnings"]
    assert warning["rule"] in warning["reason"]["rule"]
    assert warning["reason"]["text"]["en"]
    assert warning["reason"]["text"]["zh"]
    assert {contract["kind"] for contract in listed["contracts"]} == {
        "CONTRACT_KIND_CHARTER",
        "CONTRACT_KIND_EXCHANGE",
    }
    assert verified["verified"] is True
    assert verified["state"] == "CERTIFICATE_STATE_VALID"
    assert offline.startswith("VALID until ")


def _documents(text: str) -> tuple[list[Any], str]:
    """The JSON documents that stand one after the other at the beginning of a text, and what follows them."""
    found = []
    decoder = json.JSONDecoder()
    while (text := text.lstrip()).startswith("{"):
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found, text
