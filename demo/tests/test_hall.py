import csv
import gzip
import json
import time
from base64 import urlsafe_b64encode
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from demo.hall import verify_offline
from demo.items import COLUMNS, items_folder


def test_only_a_credential_of_a_known_key_verifies() -> None:
    private = Ed25519PrivateKey.generate()
    x = urlsafe_b64encode(private.public_key().public_bytes_raw()).rstrip(b"=").decode()
    payload = json.dumps({"issuer": "sf", "issued": time.time()}).encode()
    credential = jwt.PyJWS(algorithms=["EdDSA"]).encode(payload, private, "EdDSA", headers={"kid": "k1"})
    claims = verify_offline(credential, {"k1": x})
    assert claims is not None
    assert claims["issuer"] == "sf"
    assert verify_offline(credential, {"k2": x}) is None
    assert verify_offline(credential[:-4] + "AAAA", {"k1": x}) is None


def test_without_the_data_folder_the_items_are_generated(tmp_path: Path) -> None:
    with items_folder(tmp_path) as folder:
        table = gzip.decompress((folder / "guangan_service_items.csv.gz").read_bytes()).decode()
    rows = list(csv.DictReader(table.splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert len({row["item_code"] for row in rows}) == len(rows)
