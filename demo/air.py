"""Beijing's air: hourly PM2.5 of ten stations, streamed over gRPC, and for one station over MQTT."""

import asyncio
import csv
import gzip
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import paho.mqtt.client as mqtt
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from demo.calls import PATIENCE_S, ask, patiently, until
from demo.generated import generated_hours
from demo.nodes import DECLARED
from quintet.perception.v1 import perception_pb2 as pb
from quintet_sdk import Client

FOLDER = "beijing_air"
ZONE = "cn-110000"
BEIJING = ZoneInfo("Asia/Shanghai")
INDICATOR = "pm25"
# Two months with the episodes of December 2016 and of the new year.
FIRST_DAY = date(2016, 12, 1)
DAYS = 60
MQTT_STATION = "Tiantan"
MQTT_USER = "devices"
MQTT_SECRET = "mqtt"  # noqa: S105 - the name of a file
BATCH_READINGS = 500
MQTT_MESSAGE_READINGS = 24
MQTT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Hour:
    """One hourly value in ug/m3."""

    station: str
    time: datetime
    value: float

    @property
    def device(self) -> str:
        return f"zones/{ZONE}/devices/{self.station.lower()}"


@dataclass(slots=True)
class AirTally:
    """What was sent. gaps are hours without a value."""

    streamed: int = 0
    published: int = 0
    gaps: int = 0
    duplicates: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Air:
    """All hours in the order of time; real is False for generated ones."""

    hours: tuple[Hour, ...]
    gaps: int
    real: bool

    def between(self, first: int, last: int) -> tuple[Hour, ...]:
        """The hours of days number `first` up to, not including, `last`, counted from 0 in local time."""
        start = FIRST_DAY + timedelta(days=first)
        end = FIRST_DAY + timedelta(days=last)
        return tuple(hour for hour in self.hours if start <= hour.time.astimezone(BEIJING).date() < end)


def stations() -> list[str]:
    """The names of the declared stations, as in the data."""
    declared = yaml.safe_load((DECLARED / "beijing" / "devices.yaml").read_text())
    return [device["title"]["en"] for device in declared["devices"]]


def read_air(data: Path) -> Air:
    """The real hours of the declared stations, or generated ones where the folder does not hold them."""
    real = (data / FOLDER).is_dir()
    hours: list[Hour] = []
    gaps = 0
    for number, station in enumerate(stations()):
        for time, value in _read(data, station) if real else _generated(number):
            if value is None:
                gaps += 1
            else:
                hours.append(Hour(station, time, value))
    return Air(tuple(sorted(hours, key=lambda hour: (hour.time, hour.station))), gaps, real)


def _read(data: Path, station: str) -> Iterator[tuple[datetime, float | None]]:
    last_day = FIRST_DAY + timedelta(days=DAYS)
    with gzip.open(data / FOLDER / f"{station}.csv.gz", "rt", encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            day = date(int(row["year"]), int(row["month"]), int(row["day"]))
            if FIRST_DAY <= day < last_day:
                text = row["PM2.5"].strip()
                time = datetime(day.year, day.month, day.day, int(row["hour"]), tzinfo=BEIJING)
                yield time, None if text in {"", "NA"} else float(text)


def _generated(number: int) -> Iterator[tuple[datetime, float | None]]:
    start = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=BEIJING)
    for hour, value in enumerate(generated_hours(number, DAYS * 24)):
        yield start + timedelta(hours=hour), value


@dataclass(slots=True)
class AirStream:
    """Brings hours in. `gateway` is signed in as the stations' service account, `steward` may read what is there."""

    gateway: Client
    steward: Client
    mqtt_address: str
    mqtt_password: str
    tally: AirTally = field(default_factory=AirTally)

    async def send(self, hours: Sequence[Hour]) -> None:
        """Send the hours and wait until all are stored; sending them again changes nothing."""
        over_mqtt = [hour for hour in hours if hour.station == MQTT_STATION]
        await asyncio.gather(
            patiently(lambda: self._stream([hour for hour in hours if hour.station != MQTT_STATION])),
            asyncio.to_thread(self._publish, over_mqtt),
        )
        if over_mqtt:
            await self._until_stored(over_mqtt[-1])

    async def _stream(self, hours: Sequence[Hour]) -> None:
        async def batches() -> AsyncIterator[pb.StreamReadingsRequest]:
            for start in range(0, len(hours), BATCH_READINGS):
                yield pb.StreamReadingsRequest(readings=map(_reading, hours[start : start + BATCH_READINGS]))

        async for answer in self.gateway.perception.StreamReadings(batches()):
            self.tally.streamed += answer.accepted
            self.tally.duplicates += answer.duplicates
            self.tally.refused += len(answer.refused)

    def _publish(self, hours: Sequence[Hour]) -> None:
        """Publish over MQTT with quality of service 1, as a station would."""
        host, _, port = self.mqtt_address.rpartition(":")
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"station-{MQTT_STATION.lower()}")
        client.username_pw_set(MQTT_USER, self.mqtt_password)
        client.connect(host, int(port))
        client.loop_start()
        try:
            for start in range(0, len(hours), MQTT_MESSAGE_READINGS):
                part = hours[start : start + MQTT_MESSAGE_READINGS]
                sent = client.publish(f"devices/{MQTT_STATION.lower()}/readings", _payload(part), qos=1)
                sent.wait_for_publish(MQTT_TIMEOUT_S)
                self.tally.published += len(part)
        finally:
            client.disconnect()
            client.loop_stop()

    async def _until_stored(self, last: Hour) -> None:
        """An acknowledgement over MQTT says that the broker has a message, not that perception has stored it."""
        request = pb.ListLatestReadingsRequest(device=last.device)

        async def stored() -> bool:
            answer = await ask(self.steward.perception.ListLatestReadings, request)
            return any(reading.time.ToDatetime(last.time.tzinfo) >= last.time for reading in answer.readings)

        await until(f"the readings of {MQTT_STATION} over MQTT", stored, PATIENCE_S)


def _reading(hour: Hour) -> pb.Reading:
    reading = pb.Reading(device=hour.device, indicator=INDICATOR, value=hour.value)
    reading.time.FromDatetime(hour.time)
    return reading


def _payload(hours: Sequence[Hour]) -> bytes:
    readings: list[Mapping[str, object]] = [
        {"indicator": INDICATOR, "time": hour.time.isoformat(), "value": hour.value} for hour in hours
    ]
    return json.dumps({"readings": readings}).encode()
