"""docs/joining.md on two real nodes: every command in it, as it stands there."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.testing import NodeProcess, write_node_toml

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the page needs curl and jq"),
]
PAGE = Path(__file__).parents[2] / "docs" / "joining.md"
WITHIN_S = 90


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """A city that invites, and one that joins."""
    inviting, joining = tmp_path_factory.mktemp("inviting"), tmp_path_factory.mktemp("joining")
    write_node_toml(inviting)
    write_node_toml(joining, id="beijing", name="Beijing", zone="cn-110000", timezone="Asia/Shanghai")
    nodes = (NodeProcess(inviting), NodeProcess(joining))
    try:
        yield nodes[0].start(), nodes[1].start()
    finally:
        for node in nodes:
            node.remove()


def test_the_page_joins_two_cities(pair: tuple[NodeProcess, NodeProcess]) -> None:
    inviting, joining = pair
    commands = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    given = {
        "A": inviting.url,
        "B": joining.url,
        "ADMIN_PASSWORD_A": inviting.password(),
        "ADMIN_PASSWORD_B": joining.password(),
        "ZONE_A": "us-ca-sf",
        "NODE_B": "beijing",
        "STEWARD_PASSWORD": "only for this test 42",
        "no_proxy": "*",
    }
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "true", "the stream is open at the end"
