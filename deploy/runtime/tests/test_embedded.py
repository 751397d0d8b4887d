"""A node's servers together: found by other processes, alone on their state, back on their ports after a SIGKILL."""

import os
import signal
import socket
import textwrap
from dataclasses import replace
from pathlib import Path

import asyncpg
import httpx
import nats
import pytest

from deploy.runtime import AlreadyRunning, EmbeddedServers, ServerFailed, State
from deploy.runtime.tests.support import alive, as_root, node_process, read_line, until
from libs.config import NodeConfig, load_config

NODE = """
[node]
id = "sf"
name = "City of San Francisco"
zone = "us-ca-sf"
timezone = "America/Los_Angeles"
state = "."

[postgres]
port = 0

[nats]
mqtt_port = 0
"""
RUN = """
import asyncio, sys
from pathlib import Path
import uvloop
from deploy.runtime import EmbeddedServers
from libs.config import load_config
async def main():
    servers = EmbeddedServers()
    await servers.start(load_config(Path(sys.argv[1])))
    await servers.start_gateway({}, "127.0.0.1:1")
    print("READY", *(status.pid for status in servers.status()), flush=True)
    await asyncio.sleep(1000)
uvloop.run(main())
"""


@pytest.fixture
def config(state: Path) -> NodeConfig:
    state.mkdir()
    (state / "node.toml").write_text(textwrap.dedent(NODE))
    return load_config(state / "node.toml")


async def check(config: NodeConfig) -> None:
    """What a service of the node does with nothing but the configuration."""
    connection = await asyncpg.connect(config.postgres_dsn("management"))
    assert await connection.fetchval("SELECT current_schema()") == "management"
    await connection.close()
    client = await nats.connect(
        config.runtime().nats,
        user="management",
        password=config.nats_password("management"),
        inbox_prefix="_INBOX.management",
    )
    await client.jetstream().publish("facts.management.EventOpened", b"1")
    await client.close()


async def test_servers_start_and_are_found(config: NodeConfig) -> None:
    servers = EmbeddedServers()
    runtime = await servers.start(config)
    try:
        assert runtime == config.runtime()
        assert runtime.mqtt
        await check(config)
        await servers.start_gateway({}, "127.0.0.1:1")
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{config.runtime().gateway}/v1/profile")).status_code == 503
        assert [(status.name, status.state) for status in servers.status()] == [
            ("postgres", State.RUNNING),
            ("nats", State.RUNNING),
            ("envoy", State.RUNNING),
        ]
        await servers.start_gateway({"identity": "127.0.0.1:2"}, "127.0.0.1:1")  # new addresses, same edge
    finally:
        await servers.stop()
    assert {status.state for status in servers.status()} == {State.STOPPED}
    await servers.stop()


@pytest.mark.parametrize("user", [None, pytest.param(65534, marks=as_root)])
async def test_killed_node_starts_again_on_its_ports(config: NodeConfig, user: int | None) -> None:
    if user is not None:
        os.chown(config.state, user, user)
    path = str(config.state / "node.toml")
    async with node_process(RUN, path, user=user) as node:
        pids = [int(pid) for pid in (await read_line(node)).split()]
        before = config.runtime()
        await check(config)
        os.killpg(node.pid, signal.SIGKILL)
    async with node_process(RUN, path, user=user) as node:  # at once: the old servers may still be dying
        await read_line(node)
        assert not any(alive(pid) for pid in pids)
        assert config.runtime() == before
        await check(config)


async def test_node_alone_is_killed(config: NodeConfig) -> None:
    async with node_process(RUN, str(config.state / "node.toml")) as node:
        pids = [int(pid) for pid in (await read_line(node)).split()]
        node.kill()  # not its group
        await until(lambda: not any(alive(pid) for pid in pids), "its servers died with it")


async def test_second_node_on_the_same_state_is_refused(config: NodeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.runtime.leftovers.LOCK_TRIES", 2)
    first, second = EmbeddedServers(), EmbeddedServers()
    await first.start(config)
    try:
        with pytest.raises(AlreadyRunning):
            await second.start(config)
        await check(config)
    finally:
        await first.stop()


async def test_failed_start_leaves_nothing_running(config: NodeConfig) -> None:
    servers = EmbeddedServers()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        fixed = replace(config, nats=replace(config.nats, port=taken.getsockname()[1]))
        with pytest.raises(ServerFailed, match="address already in use"):
            await servers.start(fixed)
    assert {status.state for status in servers.status()} == {State.STOPPED}
    await servers.start(config)  # nothing holds the state
    await servers.stop()


async def test_what_is_elsewhere_is_not_started(config: NodeConfig) -> None:
    servers = EmbeddedServers()
    outside = replace(
        config,
        postgres=replace(config.postgres, dsn="postgresql://db/quintet"),
        nats=replace(config.nats, url="nats://bus:4222"),
        gateway=replace(config.gateway, enabled=False),
    )
    runtime = await servers.start(outside)
    assert (runtime.postgres, runtime.nats) == ("postgresql://db/quintet", "nats://bus:4222")
    await servers.start_gateway({}, "127.0.0.1:1")
    assert servers.status() == ()
    await servers.stop()
