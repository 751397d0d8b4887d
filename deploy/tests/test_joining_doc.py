"""docs/joining.md on two real nodes: every command in it, as it stands there."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.testing import NodeProcess, write_node_toml

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the page needs curl and jq"),
]
PAGE = Path(__file__).parents[2] / "docs" / "joining.md"
WITHIN_S = 180


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


def test_the_page_takes_two_cities_to_the_first_row(pair: tuple[NodeProcess, NodeProcess], tmp_path: Path) -> None:
    inviting, joining = pair
    commands = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    given = {
        "A": inviting.url,
        "B": joining.url,
        "ADMIN_PASSWORD_A": inviting.password(),
        "ADMIN_PASSWORD_B": joining.password(),
        "NODE_A": "sf",
        "NODE_B": "beijing",
        "ZONE_A": "us-ca-sf",
        "ZONE_B": "cn-110000",
        "STEWARD_PASSWORD_A": "only for this test 42",
        "STEWARD_PASSWORD_B": "only for this test 43",
        "no_proxy": "*",
        # Where `quintet` is, beside the Python that runs this.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
        cwd=tmp_path,
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    row = json.loads(ran.stdout.splitlines()[-1])
    assert row == {"station": "First station", "day": "2016-12-01", "pm25_mean": 42}, "the mean of the first day"
