import json
import subprocess
from pathlib import Path
from typing import cast

from demo import try_it
from demo.hall import Hall
from demo.nodes import SPECS, Node
from demo.people import Accounts, Clients

KEY = {"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "k1", "alg": "EdDSA"}


def test_a_shell_reads_the_addresses_and_passwords_and_nobody_else_does(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "accounts.json")
    for node, login in (("sf", "resident.01"), ("sf", "data-steward.sf"), ("beijing", "duty-officer.bj")):
        accounts.keep(node, login, f"$(of) '{login}'")
    nodes = {spec.id: Node(spec, tmp_path / spec.id, f"http://{spec.id}.example") for spec in SPECS}
    hall = Hall(cast("Clients", None), {}, credential="a.b.c", issuer_keys=[KEY])

    try_it.write(tmp_path, nodes, accounts, hall)

    assert (tmp_path / "env.sh").stat().st_mode & 0o777 == 0o600
    script = '. ./env.sh; printf "%s\\n" "$CITY" "$BEIJING" "$RESIDENT" "$RESIDENT_PASSWORD" "$STEWARD_PASSWORD"'
    said = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [
        "http://sf.example",
        "http://beijing.example",
        "resident.01",
        "$(of) 'resident.01'",
        "$(of) 'data-steward.sf'",
    ]
    assert (tmp_path / "certificate.jws").read_text() == "a.b.c\n"
    assert json.loads((tmp_path / "certificate.json").read_text()) == {"credential": "a.b.c"}
    assert json.loads((tmp_path / "issuer-keys.json").read_text()) == {"keys": [KEY]}
