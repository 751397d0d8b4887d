"""Devices over MQTT: a real client, the node's NATS server, the stream, the consumer."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from deploy.runtime.nats import MQTT_USER, NatsServer
from deploy.runtime.streams import prepare_streams
from libs.bus import Bus
from libs.config import Secrets
from libs.errors import Away, Reason
from libs.subscription import Received
from libs.testing import eventually, running
from services.perception import store_deadletters
from services.perception.model import Outcome, Reading
from services.perception.mqtt import DeviceConsumer, UnreadableError, device_id, parse_payload
from services.perception.store_deadletters import DeadLetter
from services.perception.tests.conftest import DONGSI, START, TIANTAN, City

GOOD = {"indicator": "pm25", "time": "2017-02-28T15:00:00Z", "value": 12.3}


def payload(*readings: Any) -> bytes:
    return json.dumps({"readings": list(readings)}).encode()


# ------------------------------------------------------------------------------------------------------------- payloads


def test_a_payload_is_read() -> None:
    found = parse_payload("dongsi", payload(GOOD, {**GOOD, "time": "2017-02-28T23:00:00.5+08:00", "value": 5}))
    assert found == (
        Reading("dongsi", "pm25", datetime(2017, 2, 28, 15, tzinfo=UTC), 12.3),
        Reading("dongsi", "pm25", datetime(2017, 2, 28, 15, 0, 0, 500_000, UTC), 5),
    )


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"9" * 10_000, "is not JSON"),
        (b"[]", "readings: must be a list"),
        (b'{"readings": []}', "readings: must be a list"),
        (payload(*[GOOD] * 1001), "readings: must be a list"),
        (payload("x"), r"readings\[0\]: must be an object"),
        (payload(GOOD, {**GOOD, "indicator": "PM2.5"}), r"readings\[1\]\.indicator"),
        (payload({**GOOD, "indicator": None}), r"readings\[0\]\.indicator"),
        (payload({**GOOD, "time": "2017-02-28T15:00:00"}), r"readings\[0\]\.time"),
        (payload({**GOOD, "time": "yesterday"}), r"readings\[0\]\.time"),
        (payload({**GOOD, "time": 1488294000}), r"readings\[0\]\.time"),
        (payload({**GOOD, "time": "0001-01-01T00:00:00+14:00"}), r"readings\[0\]\.time"),
        (payload({**GOOD, "value": "12"}), r"readings\[0\]\.value"),
        (payload({**GOOD, "value": True}), r"readings\[0\]\.value"),
        (payload({**GOOD, "value": float("nan")}), r"readings\[0\]\.value"),
        (payload({**GOOD, "value": 10**400}), r"readings\[0\]\.value"),
    ],
)
def test_payloads_of_another_form_are_refused_with_the_place(data: bytes, fault: str) -> None:
    with pytest.raises(UnreadableError, match=fault):
        parse_payload("dongsi", data)


def test_nats_writes_dots_of_a_topic_in_its_own_way() -> None:
    assert device_id("devices.dongsi.readings") == "dongsi"
    assert device_id("devices.a//b.readings") == "a.b"


# ------------------------------------------------------------------------------------------------------------- messages


class Stub(DeviceConsumer):
    """A consumer that is handed its messages."""

    def __init__(self, city: City) -> None:
        self._transactions = city.transactions
        self._ingest = city.ingest


def received(*payloads: bytes, device: str = "dongsi", first: int = 1) -> list[Received]:
    return [Received(data, first + place, f"devices.{device}.readings") for place, data in enumerate(payloads)]


async def letters(city: City) -> list[DeadLetter]:
    return (await city.transactions.read(lambda conn: store_deadletters.newest(conn, 100)))[::-1]


async def test_good_messages_are_stored_around_bad_ones_which_are_kept(city: City) -> None:
    later = {**GOOD, "time": "2017-02-28T16:00:00Z"}
    consumer = Stub(city)
    batch = [
        *received(payload(GOOD), b"rubbish", payload({**GOOD, "indicator": "noise"}, later)),
        *received(payload(GOOD), device="nowhere", first=4),
    ]
    await consumer.take_in(batch)
    await consumer.take_in(batch)  # what was not acknowledged comes again
    assert len(await city.rows("SELECT FROM readings")) == 2
    assert [(one.stream_sequence, one.payload[:7], one.error) for one in await letters(city)] == [
        (2, b"rubbish", "is not JSON"),
        (4, b'{"readi', "is not of a device of this node"),
        (3, b'{"readi', "readings[0].indicator: must be a code of the device's model"),
    ]


async def test_a_message_that_breaks_the_code_does_not_stop_the_others(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_in = city.ingest.take_in

    async def fragile(readings: list[Reading], may_write: Callable[[str, str], bool]) -> Outcome:
        if any(reading.value == 666 for reading in readings):
            raise KeyError("a bug")
        return await take_in(readings, may_write)

    monkeypatch.setattr(city.ingest, "take_in", fragile)
    times = [{**GOOD, "time": f"2017-02-28T1{hour}:00:00Z"} for hour in range(3)]
    await Stub(city).take_in(received(payload(times[0]), payload({**times[1], "value": 666}), payload(times[2])))
    assert len(await city.rows("SELECT FROM readings")) == 2
    assert [(one.stream_sequence, one.error) for one in await letters(city)] == [(2, "KeyError('a bug')")]


async def test_while_the_database_is_away_nothing_is_given_up(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> Outcome:
        raise Away(Reason.DEPENDENCY_AWAY)

    monkeypatch.setattr(city.ingest, "take_in", away)
    with pytest.raises(Away):
        await Stub(city).take_in(received(payload(GOOD)))
    assert await letters(city) == []


# ------------------------------------------------------------------------------------------------------- the real thing


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    nats = NatsServer("beijing", tmp_path, Secrets(tmp_path / "secrets"), mqtt_port=0, durable=False)
    await nats.start()
    await prepare_streams(nats.url, nats.password("admin"))
    yield nats
    await nats.stop()


class Station:
    """A device's client; its calls wait for the broker's acknowledgement."""

    def __init__(self, server: NatsServer) -> None:
        host, _, port = server.mqtt.rpartition(":")
        make: Any = mqtt.Client  # the published stubs are of paho's version 1
        self.client = make(CallbackAPIVersion.VERSION2, client_id="dongsi", protocol=mqtt.MQTTv311)
        self.client.username_pw_set(MQTT_USER, server.password(MQTT_USER))
        self.client.connect(host, int(port))
        self.client.loop_start()

    def publish(self, topic: str, data: bytes) -> None:
        self.client.publish(topic, data, qos=1).wait_for_publish(timeout=10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


async def test_a_device_that_speaks_mqtt_is_heard(city: City, server: NatsServer) -> None:
    dotted = replace(TIANTAN, name="zones/cn-110000/devices/tiantan.2", id="tiantan.2")
    await city.put(dotted)
    bus = await Bus.connect(server.url, "perception", server.password("perception"), "perception")
    station = await asyncio.to_thread(Station, server)

    def send() -> None:
        for hour in range(30):
            time = (START + timedelta(hours=hour)).isoformat()
            station.publish("devices/dongsi/readings", payload({**GOOD, "time": time, "value": hour}))
            if hour == 10:
                station.publish("devices/dongsi/readings", b"rubbish")
        station.publish("devices/tiantan.2/readings", payload(GOOD))

    async def stored() -> bool:
        return len(await city.rows("SELECT FROM readings")) == 31

    try:
        async with running(DeviceConsumer(city.transactions, bus, city.ingest).run()):
            await asyncio.to_thread(send)
            await eventually(stored)
        # A consumer that starts again goes on where the last one stopped.
        later = payload({**GOOD, "time": "2017-03-01T00:00:00Z"})
        await asyncio.to_thread(station.publish, "devices/dongsi/readings", later)
        async with running(DeviceConsumer(city.transactions, bus, city.ingest).run()):

            async def heard() -> bool:
                return len(await city.rows("SELECT FROM readings")) == 32

            await eventually(heard)
    finally:
        await asyncio.to_thread(station.close)
        await bus.close()
    assert [(one.payload, one.error) for one in await letters(city)] == [(b"rubbish", "is not JSON")]
    latest = await city.rows(
        """SELECT latest_value FROM series s JOIN devices d ON d.number = s.device
        WHERE d.name = $1 AND indicator = 'pm25'""",
        DONGSI.name,
    )
    assert latest[0]["latest_value"] == 12.3
