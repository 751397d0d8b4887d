"""`quintet peer` against two running nodes: from the invitation to the stream, and to the end of the membership."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from deploy import cli
from deploy.commands.common import EXIT_DONE, EXIT_NO, EXIT_WRONG
from deploy.testing import ADMIN_LOGIN, NodeProcess, write_node_toml
from libs.testing import eventually

pytestmark = pytest.mark.slow
STEWARD, STEWARD_PASSWORD = "data-steward", "nothing to see here 42"


@pytest.fixture
def partner(tmp_path: Path) -> Iterator[NodeProcess]:
    write_node_toml(tmp_path, id="beijing", name="Beijing", zone="cn-110000", timezone="Asia/Shanghai")
    running = NodeProcess(tmp_path)
    try:
        yield running.start()
    finally:
        running.remove()


class Terminal:
    """Somebody at a terminal, who works on one node."""

    def __init__(self, node: NodeProcess, folder: Path, output: pytest.CaptureFixture[str]) -> None:
        self._node, self._folder, self._output = node, folder, output

    def peer(self, verb: str, *arguments: str, login: str = ADMIN_LOGIN, password: str = "") -> tuple[int, str]:
        """Return the exit code, and what was printed."""
        file = self._folder / f"{login}.password"
        file.write_text(password or self._node.password())
        who = ("--url", self._node.url, "--login", login, "--password-file", str(file))
        self._output.readouterr()
        code = cli.run(["peer", verb, *who, *arguments])
        printed = self._output.readouterr()
        return code, printed.out + printed.err


def add_steward(node: NodeProcess) -> None:
    with httpx.Client(base_url=node.url, trust_env=False, timeout=30) as client:
        credentials = {"login": ADMIN_LOGIN, "password": node.password()}
        answer = client.post("/v1/sessions:signIn", json=credentials).raise_for_status().json()
        client.headers["authorization"] = f"Bearer {answer['tokens']['accessToken']}"
        post = {"role": "roles/data_steward", "zone": node.config.node.zone}
        body = {"person": {"login": STEWARD, "posts": [post]}, "password": STEWARD_PASSWORD}
        client.put(f"/v1/people/{STEWARD}", json=body).raise_for_status()


def test_two_nodes_join_and_part_by_commands(
    node: NodeProcess, partner: NodeProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    city, other = Terminal(node, tmp_path, capsys), Terminal(partner, tmp_path, capsys)
    run = city.peer
    code, text = run("show", "beijing")
    assert (code, "PEER_NOT_FOUND" in text) == (EXIT_NO, True)
    add_steward(node)

    code, text = run("invite", "beijing", "--kind", "partner")
    assert code == EXIT_DONE
    invitation = tmp_path / "invitation.json"
    invitation.write_text(text)
    fingerprint = json.loads(text)["rootFingerprint"]
    code, text = other.peer("join", str(invitation), "--fingerprint", "0" * 64)
    assert (code, run("list")[1]) == (EXIT_NO, "")
    code, own = other.peer("join", str(invitation), "--fingerprint", fingerprint)
    assert code == EXIT_DONE
    code, text = run("list")
    assert (code, text.split()[:3]) == (EXIT_DONE, ["beijing", "partner", "requested"])

    approval = ("approve", "beijing", "--fingerprint", own.strip())
    assert run(*approval)[0] == EXIT_DONE
    steward = {"login": STEWARD, "password": STEWARD_PASSWORD}
    code, text = run(*approval, **steward)
    assert (code, text.split()[:3]) == (EXIT_DONE, ["beijing", "partner", "active"])

    async def connected() -> bool:
        # A command has an event loop of its own: here it needs a thread without one.
        return "connected" in (await asyncio.to_thread(run, "list"))[1]

    asyncio.run(_within_a_minute(connected))
    assert json.loads(run("show", "beijing")[1])["connected"] is True
    for verb, state in (("suspend", "suspended"), ("resume", "active"), ("revoke", "requested")):
        code, text = run(verb, "beijing", "--reason", "an exercise")
        assert (code, text.split()[:3]) == (EXIT_DONE, ["beijing", "partner", state])
    assert run("expel", "beijing", "--reason", "the exercise is over")[0] == EXIT_NO  # not active
    for approver in ({"login": ADMIN_LOGIN}, steward):
        assert run(*approval, **approver)[0] == EXIT_DONE
    code, text = run("expel", "beijing", "--reason", "the exercise is over")
    assert (code, text.split()[:3]) == (EXIT_DONE, ["beijing", "partner", "expelled"])


async def _within_a_minute(condition: Callable[[], Awaitable[bool]]) -> None:
    await eventually(condition, within_s=60)


def test_what_is_no_invitation_is_told(node: NodeProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "invitation.json"
    file.write_text('{"token": 7')
    code, text = Terminal(node, tmp_path, capsys).peer("join", str(file), "--fingerprint", "0" * 64)
    assert (code, "holds no invitation" in text) == (EXIT_WRONG, True)
