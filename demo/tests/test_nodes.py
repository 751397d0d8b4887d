import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from demo.nodes import SPECS, end_leftovers, free_ports, kill_tree, make_nodes
from libs.config import load_config

# A parent with a child in its own session, as PostgreSQL's backends are; both report their process and wait.
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


def test_every_node_is_configured_once_and_keeps_its_ports(tmp_path: Path) -> None:
    nodes = make_nodes(tmp_path)
    configs = {name: load_config(node.folder / "node.toml") for name, node in nodes.items()}
    assert list(configs) == [spec.id for spec in SPECS]
    for spec in SPECS:
        config = configs[spec.id]
        assert (config.node.id, config.node.zone) == (spec.id, spec.zone)
        assert config.state == tmp_path / spec.id / "state"
    ports = [
        port for c in configs.values() for port in (c.gateway.port, c.federation.join_port, c.federation.link_port)
    ]
    assert len(set(ports)) == len(ports)
    before = (tmp_path / "sf" / "node.toml").read_text()
    make_nodes(tmp_path)
    assert (tmp_path / "sf" / "node.toml").read_text() == before


def test_ports_are_all_different() -> None:
    assert len(set(free_ports(20))) == 20


def test_a_killed_tree_leaves_nobody_behind_also_in_another_session(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    assert kill_tree(parent.pid) == 2
    assert parent.wait(10) == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _lives(child)


def test_a_number_in_a_file_is_no_proof_that_a_process_is_ours(tmp_path: Path) -> None:
    (tmp_path / "sf").mkdir()
    (tmp_path / "sf" / "pid").write_text(f"{os.getpid()}\n")
    end_leftovers(tmp_path)
    assert not (tmp_path / "sf" / "pid").exists()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
