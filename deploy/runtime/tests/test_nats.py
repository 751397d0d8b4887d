"""NATS: a part states its own facts only, devices their readings only, and what was acknowledged is kept."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DiscardPolicy
from nats.js.errors import APIError
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from deploy.runtime import NatsServer, ServerFailed, State, prepare_streams, start_nats, streams
from deploy.runtime import nats as nats_server
from deploy.runtime.nats import MQTT_USER
from deploy.runtime.streams import DEVICES, FACTS, connect_admin, sweep_facts
from deploy.runtime.tests.support import alive, command_lines, node_process, read_line, until
from libs.state import Secrets

RUN = """
import asyncio, sys
from pathlib import Path
import nats
from deploy.runtime import prepare_streams, start_nats
async def main():
    server = await start_nats(Path(sys.argv[1]))
    await prepare_streams(server.url, server.password("admin"))
    client = await nats.connect(server.url, user="identity", password=server.password("identity"),
                                inbox_prefix="_INBOX.identity")
    for number in range(100):
        await client.jetstream().publish("facts.identity.PersonChanged", str(number).encode())
    print("READY", server.status().pid, flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""
REFUSED = "permissions violation"


@pytest.fixture
async def server(state: Path) -> AsyncIterator[NatsServer]:
    server = await start_nats(state)
    await prepare_streams(server.url, server.password("admin"))
    yield server
    await server.stop()


class Part:
    """A connection of a part, with what the server refused."""

    def __init__(self, client: Client, refused: list[str]) -> None:
        self.client = client
        self.refused = refused

    @property
    def js(self) -> JetStreamContext:
        return self.client.jetstream(timeout=1)

    async def until_refused(self, subject: str) -> None:
        await until(lambda: any(REFUSED in item for item in self.refused), f"{subject} refused")
        self.refused.clear()


async def connect(server: NatsServer, user: str) -> Part:
    refused: list[str] = []

    async def note(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(
        server.url, user=user, password=server.password(user), inbox_prefix=f"_INBOX.{user}", error_cb=note
    )
    return Part(client, refused)


async def test_part_states_its_own_facts_only(server: NatsServer) -> None:
    management = await connect(server, "management")
    ack = await management.js.publish("facts.management.EventOpened", b"1")
    assert (ack.stream, ack.seq) == (FACTS, 1)
    for subject in (
        "facts.identity.PersonChanged",
        "facts.managementx.EventOpened",
        "devices.d1.readings",
        "anything",
        "$JS.API.STREAM.CREATE.MINE",
        f"$JS.API.STREAM.DELETE.{FACTS}",
        f"$JS.API.STREAM.PURGE.{FACTS}",
        f"$JS.API.STREAM.MSG.GET.{FACTS}",
        f"$JS.API.CONSUMER.DELETE.{FACTS}.identity",
        f"$JS.API.CONSUMER.MSG.NEXT.{FACTS}.identity",
        f"$JS.API.CONSUMER.CREATE.{DEVICES}.management",
    ):
        await management.client.publish(subject, b"{}")
        await management.until_refused(subject)
    federation = await connect(server, "federation")
    await federation.js.publish("facts.management.EventOpened", b"from a peer")
    await management.client.close()
    await federation.client.close()


async def test_part_hears_nothing_but_its_own_replies(server: NatsServer) -> None:
    delivery = await connect(server, "delivery")
    for subject in ("facts.>", ">", "_INBOX.>", "_INBOX.identity.>", "$JS.API.>", "devices.>"):
        await delivery.client.subscribe(subject)
        await delivery.until_refused(subject)
    await delivery.client.close()


async def test_part_reads_facts_through_its_consumer(server: NatsServer) -> None:
    identity, delivery = await connect(server, "identity"), await connect(server, "delivery")
    await identity.js.publish("facts.identity.PersonChanged", b"1")
    await identity.js.publish("facts.identity.RoleChanged", b"2")
    config = ConsumerConfig(name="delivery", durable_name="delivery", filter_subjects=["facts.identity.RoleChanged"])
    await delivery.js.add_consumer(FACTS, config)
    subscription = await delivery.js.pull_subscribe_bind("delivery", stream=FACTS)
    (message,) = await subscription.fetch(1, timeout=2)
    assert message.data == b"2"
    await message.ack_sync()
    assert (await delivery.js.consumer_info(FACTS, "delivery")).num_ack_pending == 0
    assert not delivery.refused
    await identity.client.close()
    await delivery.client.close()


async def test_same_fact_is_stored_once(server: NatsServer) -> None:
    identity = await connect(server, "identity")
    acks = [
        await identity.js.publish("facts.identity.PersonChanged", b"1", headers={"Nats-Msg-Id": "fact-1"})
        for _ in range(2)
    ]
    assert [ack.duplicate for ack in acks] == [None, True]
    assert (await identity.js.stream_info(FACTS)).state.messages == 1
    await identity.client.close()


@pytest.mark.parametrize("login", ["none", "wrong", "device"])
async def test_nobody_enters_without_the_right_password(server: NatsServer, login: str) -> None:
    device = {"user": MQTT_USER, "pass": server.password(MQTT_USER)}
    sent = {"none": {}, "wrong": {"user": "identity", "pass": "wrong"}, "device": device}[login]
    host, _, port = server.url.removeprefix("nats://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    assert (await reader.readline()).startswith(b"INFO ")
    writer.write(b"CONNECT " + json.dumps(sent).encode() + b"\r\nPING\r\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert answer == b"-ERR 'Authorization Violation'\r\n"


async def test_passwords_are_seen_nowhere(server: NatsServer, state: Path) -> None:
    secrets = [path.read_text() for path in (state / "secrets").iterdir()]
    listing = command_lines()
    assert str(state) in listing
    log = (state / "log" / "nats.log").read_text()
    assert not [secret for secret in secrets if secret in listing or secret in log]
    assert (state / "nats" / "nats.json").stat().st_mode & 0o777 == 0o600


async def test_full_stream_refuses_facts_and_loses_none(server: NatsServer) -> None:
    admin = await connect_admin(server.url, server.password("admin"))
    js = admin.jetstream()
    config = (await js.stream_info(FACTS)).config
    assert config.discard == DiscardPolicy.NEW
    assert not config.max_age
    await js.update_stream(config.evolve(max_bytes=2_000))
    identity = await connect(server, "identity")
    stored = 0
    refusal = ""
    while not refusal:
        try:
            await identity.js.publish("facts.identity.PersonChanged", b"x" * 200)
            stored += 1
        except APIError as error:
            refusal = str(error)
    assert "maximum bytes exceeded" in refusal
    assert stored > 5
    assert (await js.stream_info(FACTS)).state.messages == stored
    await admin.close()
    await identity.client.close()


async def test_sweep_keeps_what_somebody_has_not_read(server: NatsServer) -> None:
    identity, delivery = await connect(server, "identity"), await connect(server, "delivery")
    for _ in range(10):
        await identity.js.publish("facts.identity.PersonChanged", b"x" * 100)
    admin = await connect_admin(server.url, server.password("admin"))
    js = admin.jetstream()
    now, later = datetime.now(UTC), datetime.now(UTC) + timedelta(days=streams.FACTS_AGE_DAYS + 1)
    assert await sweep_facts(js, later) == 0  # nobody reads yet
    for part in (identity, delivery):
        name = "identity" if part is identity else "delivery"
        await part.js.add_consumer(FACTS, ConsumerConfig(name=name, durable_name=name))
    subscription = await delivery.js.pull_subscribe_bind("delivery", stream=FACTS)
    for message in await subscription.fetch(10, timeout=2):
        await message.ack_sync()
    assert await sweep_facts(js, later) == 0  # identity has read none
    subscription = await identity.js.pull_subscribe_bind("identity", stream=FACTS)
    for message in await subscription.fetch(4, timeout=2):
        await message.ack_sync()
    assert await sweep_facts(js, now) == 0  # young
    assert await sweep_facts(js, now, bytes_max=100) == 4  # full
    assert (await js.stream_info(FACTS)).state.first_seq == 5
    for message in await subscription.fetch(6, timeout=2):
        await message.ack_sync()
    assert await sweep_facts(js, later) == 6
    assert (await js.stream_info(FACTS)).state.messages == 0
    for client in (admin, identity.client, delivery.client):
        await client.close()


async def test_sweep_finds_the_first_young_fact(server: NatsServer) -> None:
    identity = await connect(server, "identity")
    await identity.js.add_consumer(
        FACTS, ConsumerConfig(name="identity", durable_name="identity", filter_subject="facts.sharing.>")
    )
    for _ in range(5):
        await identity.js.publish("facts.identity.PersonChanged", b"old")
    await asyncio.sleep(0.05)
    border = datetime.now(UTC)
    for _ in range(3):
        await identity.js.publish("facts.identity.PersonChanged", b"young")
    admin = await connect_admin(server.url, server.password("admin"))
    assert await sweep_facts(admin.jetstream(), border + timedelta(days=streams.FACTS_AGE_DAYS)) == 5
    await admin.close()
    await identity.client.close()


async def test_everything_killed_and_started_again(state: Path) -> None:
    async with node_process(RUN, str(state)) as node:
        pid = int(await read_line(node))
        os.killpg(node.pid, signal.SIGKILL)
        await until(lambda: not alive(pid), "the server died with the node")
    server = await start_nats(state)
    await prepare_streams(server.url, server.password("admin"))
    identity = await connect(server, "identity")
    assert (await identity.js.stream_info(FACTS)).state.messages == 100
    await identity.client.close()
    await server.stop()


async def test_server_that_could_not_write_starts_again_once_there_is_room(
    server: NatsServer, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream whose write failed refuses everything for the rest of its server's life, whatever room there is."""
    monkeypatch.setattr(nats_server, "WRITE_CHECK_S", 0.01)
    pid = server.status().pid
    keeping = asyncio.create_task(server.keep_writing())
    with (state / "log" / "nats.log").open("a") as log:
        log.write("[ERR] JetStream failed to store a msg on stream '$G > FACTS': no space left on device\n")
    await until(lambda: server.status().pid not in {pid, None}, "started again")
    again = server.status().pid
    await asyncio.sleep(0.1)  # what it wrote before is not held against it
    assert server.status().pid == again
    keeping.cancel()


async def test_killed_server_comes_back_on_its_port(server: NatsServer) -> None:
    identity = await connect(server, "identity")
    pid = server.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: server.status().restarts == 1 and server.status().state is State.RUNNING, "restarted")
    await until(lambda: identity.client.is_connected, "the client is back")
    await identity.js.publish("facts.identity.PersonChanged", b"1")
    await identity.client.close()


async def test_taken_port_is_picked_again(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        picks = iter([taken.getsockname()[1], 0, 0, 0])
        with socket.create_server(("127.0.0.1", 0)) as probe:
            free = probe.getsockname()[1]
        monkeypatch.setattr("deploy.runtime.nats.free_port", lambda _preferred=0: next(picks) or free)
        server = await start_nats(state, mqtt=False)
        assert server.url.endswith(f":{free}")
        await server.stop()


async def test_fixed_port_that_is_taken_fails_at_once(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = NatsServer("sf", state, Secrets(state / "secrets"), port=taken.getsockname()[1])
        with pytest.raises(ServerFailed, match="address already in use"):
            await server.start()


class Device:
    """An MQTT client, as a device has."""

    def __init__(self, server: NatsServer, password: str) -> None:
        self.codes: list[str] = []
        self.messages: list[bytes] = []
        options: dict[str, Any] = {"callback_api_version": CallbackAPIVersion.VERSION2, "client_id": "station-1"}
        self.client = mqtt.Client(**options, protocol=mqtt.MQTTv311)
        self.client.username_pw_set(MQTT_USER, password)
        self.client.on_connect = lambda _client, _data, _flags, code, _props: self.codes.append(str(code))
        self.client.on_message = lambda _client, _data, message: self.messages.append(bytes(message.payload))
        host, _, port = server.mqtt.rpartition(":")
        self.client.connect(host, int(port))
        self.client.loop_start()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


async def test_device_publishes_readings_and_nothing_else(server: NatsServer) -> None:
    perception = await connect(server, "perception")
    await perception.js.add_consumer(DEVICES, ConsumerConfig(name="perception", durable_name="perception"))
    device = Device(server, server.password(MQTT_USER))
    await until(lambda: device.codes == ["Success"], "connected")
    for topic in (
        "facts/perception/WarningRaised",
        "devices/d1/commands",
        "devices/d1/x/readings",
        "devices/d1/readings",
    ):
        device.client.publish(topic, b"17", qos=1)
    device.client.subscribe("facts/#", qos=1)
    device.client.subscribe("devices/+/readings", qos=0)
    subscription = await perception.js.pull_subscribe_bind("perception", stream=DEVICES)
    (message,) = await subscription.fetch(1, timeout=5)
    assert (message.subject, message.data) == ("devices.d1.readings", b"17")
    await message.ack_sync()
    assert (await perception.js.stream_info(DEVICES)).state.messages == 1
    assert (await perception.js.stream_info(FACTS)).state.messages == 0
    assert not device.messages
    device.close()
    await perception.client.close()


async def test_only_perception_reads_what_devices_say(server: NatsServer) -> None:
    sharing = await connect(server, "sharing")
    for subject in (f"$JS.API.CONSUMER.CREATE.{DEVICES}.sharing", f"$JS.API.CONSUMER.MSG.NEXT.{DEVICES}.perception"):
        await sharing.client.publish(subject, b'{"batch": 1}')
        await sharing.until_refused(subject)
    await sharing.client.close()


async def test_device_with_a_wrong_password_is_refused(server: NatsServer) -> None:
    device = Device(server, "wrong")
    await until(lambda: bool(device.codes), "answered")
    assert "Success" not in device.codes
    device.close()
