"""Beijing's sharing, with one product made from daily aggregates, and San Francisco's, which receives it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from libs import rows as blocks
from libs.access import Grant, Scope
from libs.clock import ManualClock
from libs.db import Connection, Record
from libs.ids import new_id
from libs.testing import MakeTransactions
from libs.tests.served import SERVICE, calling_as, served
from libs.tx import Transactions, Tx
from libs.zones import ZoneRecord, ZoneTree
from quintet.common.v1.common_pb2 import LocalText, Point
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2
from quintet.federation.v1.facts_pb2 import ContractChanged, TransferChanged
from quintet.perception.v1.facts_pb2 import DailyAggregateComputed
from quintet.sharing.v1 import sharing_pb2 as pb
from quintet.sharing.v1.facts_pb2 import ProductRowsWritten
from quintet.sharing.v1.sharing_pb2_grpc import SharingServiceStub, add_SharingServiceServicer_to_server
from services.sharing.facts import Facts
from services.sharing.publisher import RowPublisher
from services.sharing.service import SharingServicer

MIGRATIONS = Path(__file__).parent.parent / "migrations"
OWNER = "organisations/bjmemc"
# A row as Beijing gives it, what its product is called in San Francisco, and where a fact with it comes from.
ROW = {"device": "zones/beijing/devices/dongsi", "day": "2017-01-01", "mean": 100.0}
HELD = "products/beijing.daily-pm25"
FROM_BEIJING = {"received_from": "beijing", "contract": "contracts/c1", "zone": "beijing", "node": "beijing"}
SALT = b"salt of the node"

ADMIN = "people/node-admin"
STEWARD = "people/data-steward"  # up to internal, personal data masked
ANALYST = "people/analyst"  # up to important, personal data as it is
CORE = "people/chief-data-officer"
DISTRICT = "people/data-steward.dongcheng"  # of one district
STATION = "people/steward.bjmemc"  # of the organisation that owns the product
NOBODY = "people/resident.01"


def _grants(zone: str) -> dict[str, list[Grant]]:
    def held(*permissions: str, of: str = zone, scope: Scope = Scope.ZONE, organisation: str = "") -> list[Grant]:
        return [Grant(f"sharing.{permission}", scope, of, organisation) for permission in permissions]

    read = ("products.read", "rows.read")
    return {
        ADMIN: held("products.write", *read),
        STEWARD: held(*read),
        ANALYST: held(*read, "rows.read_important", "personal.read"),
        CORE: held(*read, "rows.read_core"),
        DISTRICT: held(*read, "products.write", of=f"{zone}-east"),
        STATION: held(*read, "products.write", scope=Scope.ORGANISATION, organisation=OWNER),
        SERVICE: held("terms.check", "rows.read_for_contract", "products.read"),
        NOBODY: [],
    }


def product(**changes: Any) -> pb.Product:
    """Return "daily PM2.5 by station" with some fields that not everybody may see."""
    made = pb.Product(
        name="products/daily-pm25",
        title=LocalText(zh="PM2.5日均值", en="Daily PM2.5 by station"),
        owner=OWNER,
        zone="beijing",
        version=1,
        update_frequency="P1D",
        offered=True,
        fields=[
            _field("device", pb.FIELD_TYPE_STRING, key=True),
            _field("day", pb.FIELD_TYPE_DATE, key=True),
            _field("station", pb.FIELD_TYPE_STRING),
            _field("mean", pb.FIELD_TYPE_NUMBER, unit="ug/m3"),
            _field("readings", pb.FIELD_TYPE_NUMBER, classification=pb.CLASSIFICATION_INTERNAL),
            _field("latitude", pb.FIELD_TYPE_NUMBER, classification=pb.CLASSIFICATION_IMPORTANT),
            _field("last_reading", pb.FIELD_TYPE_TIME, classification=pb.CLASSIFICATION_CORE),
            _field("keeper", pb.FIELD_TYPE_STRING, personal=True),
        ],
        source=pb.ProductSource(
            fact=DailyAggregateComputed.DESCRIPTOR.full_name,
            columns={
                "device": "device",
                "day": "day",
                "station": "title.en",
                "mean": "mean",
                "readings": "count",
                "latitude": "point.latitude",
                "last_reading": "last_reading",
                "keeper": "organisation",
            },
            where={"indicator": "pm25"},
        ),
    )
    for name, value in changes.items():
        if isinstance(value, Message):
            getattr(made, name).CopyFrom(value)
        else:
            setattr(made, name, value)
    return made


def _field(
    name: str,
    kind: pb.FieldType.ValueType,
    *,
    unit: str = "",
    classification: pb.Classification.ValueType = pb.CLASSIFICATION_PUBLIC,
    personal: bool = False,
    key: bool = False,
) -> pb.Field:
    return pb.Field(name=name, type=kind, unit=unit, classification=classification, personal=personal, key=key)


def aggregate(day: int = 1, mean: float = 100.0, *, station: str = "dongsi", indicator: str = "pm25") -> Any:
    return DailyAggregateComputed(
        device=f"zones/beijing/devices/{station}",
        title=LocalText(zh=station, en=station.title()),
        indicator=indicator,
        unit="ug/m3",
        day=f"2017-01-{day:02}",
        count=24,
        mean=mean,
        point=Point(latitude=39.929, longitude=116.417),
        organisation="organisations/keeper",
        revision=1,
        last_reading=Timestamp(seconds=1483228800),
    )


def contract(
    *fields: str, state: federation_pb2.ContractState.ValueType = federation_pb2.CONTRACT_STATE_FINALIZED, **terms: Any
) -> ContractChanged:
    return ContractChanged(
        contract=federation_pb2.Contract(
            name=terms.pop("name", "contracts/c1"),
            kind=federation_pb2.CONTRACT_KIND_EXCHANGE,
            provider="beijing",
            consumer=terms.pop("consumer", "sf"),
            state=state,
            terms=federation_pb2.Terms(
                product="products/daily-pm25",
                product_version=1,
                fields=[pb.FieldTerms(field=name) for name in fields],
                zone=terms.pop("zone", "beijing"),
                **terms,
            ),
        )
    )


def transfer(
    given: ContractChanged,
    state: federation_pb2.TransferState.ValueType = federation_pb2.TRANSFER_STATE_STARTED,
) -> TransferChanged:
    """Return what is stated of a transfer of Beijing's product to San Francisco under a contract."""
    stated = federation_pb2.Transfer(
        name="transfers/t1", contract=given.contract.name, state=state, provider="beijing", consumer="sf"
    )
    return TransferChanged(transfer=stated, contract=given.contract)


def rows_written(*rows: dict[str, Any], version: int = 1) -> ProductRowsWritten:
    return ProductRowsWritten(
        product="products/daily-pm25",
        version=version,
        fields=list(rows[0]),
        rows=blocks.dumps(list(row.values()) for row in rows),
        count=len(rows),
        key_fields=["device", "day"],
    )


def rows_of(fact: ProductRowsWritten) -> list[dict[str, Any]]:
    """Return the rows that a fact states, each as a JSON object."""
    found = [dict(zip(fact.fields, row, strict=True)) for row in blocks.loads(fact.rows, len(fact.fields))]
    assert len(found) == fact.count
    return found


@dataclass
class Node:
    """One node's sharing."""

    id: str
    transactions: Transactions
    facts: Facts
    stub: SharingServiceStub

    def fact(self, message: Message, **about: str) -> Fact:
        values: dict[str, Any] = {"node": self.id, "zone": self.id, "key": "k", "id": new_id()} | about
        return Fact(type=message.DESCRIPTOR.full_name, data=message.SerializeToString(), **values)

    async def hear(self, *messages: Message, **about: str) -> None:
        """Hand facts to their handlers, each in a transaction of its own."""
        for message in messages:
            await self.take_in(self.fact(message, **about))

    async def take_in(self, fact: Fact) -> None:
        handlers = {kind.DESCRIPTOR.full_name: (kind, handle) for kind, handle in self.facts.handlers().items()}
        kind, handle = handlers[fact.type]

        async def work(tx: Tx) -> None:
            await handle(tx, fact, kind.FromString(fact.data))

        await self.transactions.run(work)

    async def publish(self) -> list[ProductRowsWritten]:
        """Let the publisher state what it has to, and return what was stated since the last time."""
        before = await self.rows("SELECT coalesce(max(id), 0) AS id FROM outbox")
        while await RowPublisher(self.transactions, self.facts._zones).publish():
            pass
        stated = await self.rows("SELECT fact FROM outbox WHERE id > $1 ORDER BY id", before[0]["id"])
        return [ProductRowsWritten.FromString(Fact.FromString(row["fact"]).data) for row in stated]

    async def put(self, wanted: pb.Product | None = None) -> pb.PutProductResponse:
        with calling_as(ADMIN):
            return await self.stub.PutProduct(pb.PutProductRequest(product=wanted or product()))

    async def read(
        self, subject: str = STEWARD, *fields: str, name: str = "products/daily-pm25", **asked: Any
    ) -> pb.ReadProductResponse:
        request = pb.ReadProductRequest(name=name, fields=fields, purpose="test of the air", **asked)
        with calling_as(subject):
            return await self.stub.ReadProduct(request)

    async def rows(self, query: str, *values: object) -> list[Record]:
        async def read(conn: Connection) -> list[Record]:
            return await conn.fetch(query, *values)

        return await self.transactions.read(read)


MakeNode = Callable[[str], Awaitable[Node]]


@pytest.fixture
async def make_node(transactions: MakeTransactions, clock: ManualClock) -> AsyncIterator[MakeNode]:
    async with AsyncExitStack() as stack:

        async def make(node: str) -> Node:
            tree = ZoneTree([ZoneRecord(node), ZoneRecord(f"{node}-east", parent=node)], root=node)
            made = await transactions("sharing", MIGRATIONS, node=node)
            servicer = SharingServicer(made, lambda: tree, node=node, salt=SALT)
            service = pb.DESCRIPTOR.services_by_name["SharingService"]
            channel = await stack.enter_async_context(
                served(
                    "sharing",
                    add_SharingServiceServicer_to_server,
                    servicer,
                    service,
                    _grants(node),
                    lambda: tree,
                )
            )
            return Node(node, made, Facts(node, lambda: tree), SharingServiceStub(channel))

        yield make


@pytest.fixture
async def beijing(make_node: MakeNode) -> Node:
    return await make_node("beijing")


@pytest.fixture
async def sf(make_node: MakeNode) -> Node:
    return await make_node("sf")
