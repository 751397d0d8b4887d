"""A city with two stations, set up in a real database."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.message import Message

from libs.db import Connection, Record
from libs.testing import MakeTransactions
from libs.tx import Transactions, Tx
from libs.zones import ZoneRecord, ZoneTree
from quintet.fact.v1.fact_pb2 import Fact
from quintet.perception.v1 import facts_pb2
from services.perception import store
from services.perception.ingest import Ingest
from services.perception.model import (
    Comparison,
    Device,
    DeviceModel,
    Indicator,
    Outcome,
    Point,
    Reading,
    Rule,
    Text,
    Thresholds,
)

MIGRATIONS = Path(__file__).parent.parent / "migrations"
START = datetime(2017, 1, 1, tzinfo=UTC)
BEIJING = ZoneInfo("Asia/Shanghai")
TREE = ZoneTree(
    [
        ZoneRecord("cn-110000"),
        ZoneRecord("cn-110101", parent="cn-110000"),
        ZoneRecord("cn-110114", parent="cn-110000", delegated_to="bj-changping"),
    ],
    root="cn-110000",
)
MODEL = DeviceModel(
    "deviceModels/air",
    Text("空气站", "Air station"),
    (
        Indicator("pm25", Text("PM2.5", "PM2.5"), "ug/m3", 0, 1000),
        Indicator("o3", Text("臭氧", "Ozone"), "ug/m3"),
    ),
)
DONGSI = Device(
    "zones/cn-110101/devices/dongsi",
    "cn-110101",
    "dongsi",
    MODEL.name,
    Text("东四", "Dongsi"),
    Point(39.929, 116.417),
    "organisations/bjmemc",
)
TIANTAN = replace(DONGSI, name="zones/cn-110000/devices/tiantan", zone="cn-110000", id="tiantan", point=None)
RULE = Rule(
    "rules/heavy",
    Text("重度污染", "Heavy pollution"),
    "cn-110000",
    "pm25",
    Thresholds(Comparison.ABOVE, 150, 115, timedelta(hours=3)),
    2,
    "eventTypes/air",
    disabled=False,
)


@dataclass
class City:
    """What the tests do things with."""

    transactions: Transactions
    ingest: Ingest

    async def put(self, *things: DeviceModel | Device | Rule) -> None:
        async def put(tx: Tx) -> None:
            for thing in things:
                if isinstance(thing, DeviceModel):
                    await store.put_model(tx.conn, thing)
                elif isinstance(thing, Device):
                    await store.put_device(tx.conn, thing)
                else:
                    await store.put_rule(tx.conn, thing)

        await self.transactions.run(put)

    async def hourly(
        self, *values: float, start: float = 0, device: Device = DONGSI, indicator: str = "pm25"
    ) -> Outcome:
        """Take in one value for each hour, `start` hours after START."""
        return await self.take_in(
            [
                Reading(device.name, indicator, START + timedelta(hours=start + hour), value)
                for hour, value in enumerate(values)
            ]
        )

    async def take_in(self, readings: Sequence[Reading]) -> Outcome:
        return await self.ingest.take_in(readings, lambda _zone, _organisation: True)

    async def facts(self) -> list[Message]:
        """Return everything stated so far, in its order."""
        rows = await self.rows("SELECT fact FROM outbox ORDER BY id")
        stated = [Fact.FromString(row["fact"]) for row in rows]
        return [getattr(facts_pb2, fact.type.rpartition(".")[2]).FromString(fact.data) for fact in stated]

    async def rows(self, query: str, *values: object) -> list[Record]:
        async def read(conn: Connection) -> list[Record]:
            return await conn.fetch(query, *values)

        return await self.transactions.read(read)


async def make_city(transactions: Transactions) -> City:
    city = City(transactions, Ingest(transactions, lambda: TREE, BEIJING))
    await city.put(MODEL, DONGSI, TIANTAN)
    return city


@pytest.fixture
async def city(transactions: MakeTransactions) -> City:
    return await make_city(await transactions("perception", MIGRATIONS, node="beijing"))
