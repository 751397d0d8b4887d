"""What the commands of the README read: addresses and passwords for a shell, a certificate, and its issuer's keys."""

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from demo.hall import Hall
from demo.nodes import Node
from demo.people import Accounts

# Name in the shell: node and login.
_PEOPLE = {
    "RESIDENT": ("sf", "resident.01"),
    "STEWARD": ("sf", "data-steward.sf"),
    "BEIJING_OFFICER": ("beijing", "duty-officer.bj"),
}
_NODES = {"CITY": "sf", "BEIJING": "beijing"}


def write(folder: Path, nodes: Mapping[str, Node], accounts: Accounts, hall: Hall) -> None:
    """Write env.sh, which only its owner reads, certificate.jws, certificate.json and issuer-keys.json (RFC 7517)."""
    handle = os.open(folder / "env.sh", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(shell_words(nodes, accounts))
    (folder / "certificate.jws").write_text(f"{hall.credential}\n")
    (folder / "certificate.json").write_text(json.dumps({"credential": hall.credential}) + "\n")
    (folder / "issuer-keys.json").write_text(json.dumps({"keys": hall.issuer_keys}, indent=1) + "\n")


def shell_words(nodes: Mapping[str, Node], accounts: Accounts) -> str:
    """Assignments for `. env.sh`."""
    words = {name: nodes[node].url for name, node in _NODES.items()}
    for name, (node, login) in _PEOPLE.items():
        words |= {name: login, f"{name}_PASSWORD": accounts.password(node, login)}
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in words.items())
