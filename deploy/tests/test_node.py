"""A whole node in one process, from its start to its end."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.testing import NodeProcess, children, write_node_toml
from deploy.tests.collector import Collector, collecting
from deploy.tests.filing import Filer, assert_consistent, declare_event_type
from libs.config import PARTS
from libs.testing import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]
ROOT = Path(__file__).parents[2]
# Long enough that no secret is found by chance.
SECRET_CHARS_MIN = 16


@dataclass
class Traced:
    node: NodeProcess
    collector: Collector


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def traced(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Traced]:
    """A node whose traces are collected when a caller asks for it, and only then."""
    folder = tmp_path_factory.mktemp("traced")
    async with collecting() as collector:
        extra = f'[telemetry]\notlp_endpoint = "{collector.endpoint}"\ntrace_ratio = 0\n[gateway]\nstatus = "token"'
        write_node_toml(folder, extra=extra)
        node = NodeProcess(folder)
        try:
            yield Traced(node.start(), collector)
        finally:
            node.remove()


async def test_it_is_ready_with_all_its_parts(traced: Traced) -> None:
    async with traced.node.client() as client:
        answer = await client.get("/readyz")
        assert (await client.get("/healthz")).json() == {"alive": True}
    assert answer.status_code == 200
    assert list(answer.json()["parts"]) == [*PARTS, "postgres", "nats", "disk", "envoy"]


async def test_the_administrator_signs_in_through_the_edge(traced: Traced) -> None:
    async with traced.node.signed_in() as client:
        profile = (await client.get("/v1/profile")).json()
        assert profile["subject"] == "people/node-admin"
        assert (await client.get("/v1/zones/us-ca-sf")).json()["zone"]["name"] == "zones/us-ca-sf"
        await client.post("/v1/sessions:signOut", json={})
        assert (await client.get("/v1/profile")).status_code == 401


async def test_who_has_no_token_or_a_forged_one_gets_nothing(traced: Traced) -> None:
    async with traced.node.client() as client:
        assert (await client.get("/v1/requests")).status_code == 401
        forged = await client.get("/v1/requests", headers={"authorization": "Bearer e30.e30.e30"})
        assert forged.status_code == 401


async def test_it_describes_its_api(traced: Traced) -> None:
    async with traced.node.client() as client:
        served = (await client.get("/openapi.json")).json()
        assert "swagger-ui" in (await client.get("/docs")).text
    assert served == json.loads((ROOT / "gateway" / "openapi.json").read_text())


async def test_its_status_is_for_those_who_know_the_token(traced: Traced) -> None:
    token = traced.node.config.secrets.read("status-token")
    async with traced.node.client() as client:
        assert (await client.get("/")).status_code == 401
        page = await client.get("/?lang=zh-CN", auth=("status", token))
        status = (await client.get("/status.json", auth=("status", token))).json()
    assert "就绪" in page.text
    assert status["ready"] is True
    assert {line["name"]: line["state"] for line in status["services"]} == dict.fromkeys(PARTS, "running")
    servers = dict.fromkeys(("postgres", "nats", "envoy"), "running")
    assert {line["name"]: line["state"] for line in status["servers"]} == servers | {"disk": "", "evidence_folder": ""}
    assert status["peers"] == []
    assert status["contracts"] == {"active": 0, "more": False}
    assert status["counters"]["total"]["zone"] == "us-ca-sf"


async def test_one_trace_runs_from_the_edge_to_the_services_that_take_the_fact_in(traced: Traced) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with traced.node.signed_in() as client:
        await declare_event_type(client)
        filed = await Filer(client).file(traceparent=f"00-{trace}-00f067aa0ba902b7-01")

        async def accepted() -> bool:
            return bool((await client.get(f"/v1/{filed}")).json()["request"]["event"])

        await eventually(accepted)

    async def spans() -> set[str]:
        names = {span.name for span in traced.collector.of(trace)}
        return names if {"delivery", "management"} <= {part for part in PARTS if _mentions(names, part)} else set()

    names = await eventually(spans)
    assert "quintet.delivery.v1.RequestService/FileRequest" in str(names)
    mine = {span.id: span for span in traced.collector.of(trace)}
    assert [span.name for span in mine.values() if span.parent == "00f067aa0ba902b7"] == [
        "quintet.delivery.v1.RequestService/FileRequest"
    ]
    # The fact that went out leads to one that came back: management's work hangs below delivery's, and not beside it.
    assert all(span.parent in mine or span.parent == "00f067aa0ba902b7" for span in mine.values())
    # Nobody asked for the other traces.
    assert {span.trace for span in traced.collector.spans} == {trace}


async def test_its_metrics_tell_of_calls_and_queues(traced: Traced) -> None:
    token = traced.node.config.secrets.read("status-token")
    async with traced.node.client() as client:
        text = (await client.get("/metrics", auth=("status", token))).text
    for line in (
        'quintet_rpc_seconds_count{code="OK",method="quintet.identity.v1.IdentityService/SignIn",part="identity"}',
        'quintet_outbox_backlog{part="delivery"} 0.0',
        'quintet_inbox_facts_total{part="management"}',
        'quintet_ready{part="postgres"} 1.0',
    ):
        assert line in text


async def test_no_secret_is_in_its_logs_or_in_the_list_of_processes(traced: Traced) -> None:
    node = traced.node
    secrets = {path.name: path.read_text().strip() for path in (node.folder / "state" / "secrets").iterdir()}
    assert {"node-admin.password", "postgres-admin", "nats-identity", "node-key"} <= secrets.keys()
    assert min(map(len, secrets.values())) >= SECRET_CHARS_MIN
    logs = [node.folder / "node.out", *(node.folder / "state" / "log").glob("*")]
    assert {"node.out", "postgres.log", "nats.log", "envoy.log", "access.log"} <= {path.name for path in logs}
    places = {path.name: path.read_text(errors="replace") for path in logs}
    for pid in (node.pid, *children(node.pid)):
        for kind in ("cmdline", "environ"):
            places[f"{kind} of {pid}"] = _proc(pid, kind).read_text(errors="replace")
    found = [(name, place) for name, secret in secrets.items() for place, text in places.items() if secret in text]
    assert found == []
    assert "eyJ" not in "".join(places.values()), "a token stands in a log"


async def test_a_second_node_on_the_same_state_is_refused(traced: Traced) -> None:
    done = _quintet("node", "--config", str(traced.node.config_path))
    assert done.returncode == 75
    assert "another process runs in" in done.stderr
    async with traced.node.client() as client:
        assert (await client.get("/readyz")).status_code == 200


async def test_its_audit_logs_are_verified_from_the_command_line(traced: Traced) -> None:
    done = _quintet("audit", "check", "--config", str(traced.node.config_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(part in done.stdout for part in PARTS)
    assert "entries: hold" in done.stdout


async def test_it_stops_clean_and_comes_back_as_the_same_node(traced: Traced) -> None:
    node = traced.node
    async with node.signed_in() as client:
        filer = Filer(client)
        await filer.file()
    url, running = node.url, [node.pid, *children(node.pid)]
    assert node.stop() == 0
    assert [pid for pid in running if _proc(pid).exists()] == []
    assert _processes_in(node.folder / "state") == []
    node.start()
    assert node.url == url
    async with node.signed_in() as client:
        requests = (await client.get("/v1/requests")).json()["requests"]
        assert filer.answered[0] in {request["name"] for request in requests}
        await assert_consistent(client, [request["name"] for request in requests])


def _proc(pid: int, name: str = "") -> Path:
    return Path("/proc") / str(pid) / name


def _mentions(names: set[str], part: str) -> bool:
    return any(part in name.split(".") or part in name.split() for name in names)


def _quintet(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def _processes_in(folder: Path) -> list[int]:
    """Live processes that work in the folder or below it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                place = (entry / "cwd").readlink()
            except OSError:
                continue
            if place.is_relative_to(folder):
                found.append(int(entry.name))
    return found
