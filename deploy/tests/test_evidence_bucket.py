"""A whole node that keeps evidence in a bucket, and what it says when there is none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.testing import NodeFailed, NodeProcess, write_node_toml
from deploy.testing_s3 import KEEPER, REGION, S3Server
from libs.config import EVIDENCE_KEYS
from libs.testing import eventually

BUCKET = "evidence"
# Longer than between two looks at the store.
NOTICED_S = 60.0


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    server = S3Server(tmp_path / "s3")
    server.folder.mkdir()
    server.start()
    yield server
    server.stop()


@pytest.mark.slow
async def test_a_node_works_without_its_bucket_and_says_so(s3: S3Server, tmp_path: Path) -> None:
    section = f'[evidence]\nendpoint = "{s3.url}"\nbucket = "{BUCKET}"\nregion = "{REGION}"\nca = "{s3.ca}"\n'
    write_node_toml(tmp_path, extra=section)
    node = NodeProcess(tmp_path)
    try:
        with pytest.raises(NodeFailed, match=EVIDENCE_KEYS[0]):
            node.start()
        for name, value in zip(EVIDENCE_KEYS, (KEEPER.access_key, KEEPER.secret_key), strict=True):
            node.config.secrets.set(name, value)
        node.start()
        await eventually(lambda: says(node, ready=False, remark="store_no_bucket"), within_s=NOTICED_S)
        s3.make_bucket(BUCKET)
        await eventually(lambda: says(node, ready=True, remark=""), within_s=NOTICED_S)
        async with node.client() as client:
            assert (await client.get("/readyz")).status_code == 200
        for secret in (KEEPER.access_key, KEEPER.secret_key):
            assert secret not in node.log
    finally:
        node.remove()


async def says(node: NodeProcess, *, ready: bool, remark: str) -> bool:
    """Tell whether the status page shows the bucket so."""
    async with node.client() as client:
        found: Any = (await client.get("/status.json")).json()
    return [(line["ready"], line["detail"]) for line in found["servers"] if line["name"] == "evidence_bucket"] == [
        (ready, remark)
    ]
