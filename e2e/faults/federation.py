"""A small federation: a city, a district of it with the tier charter, and a partner with an exchange contract.

This is the one place that knows how nodes are joined and contracts are made.
"""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.joining import join
from deploy.tests.filing import EVENT_TYPE, declare_event_type
from e2e.faults.nodes import FaultNode, patiently
from libs.testing import eventually
from quintet.common.v1.common_pb2 import LocalText
from quintet.federation.v1 import federation_pb2 as pb
from quintet.identity.v1 import directory_pb2 as directory
from quintet.sharing.v1 import sharing_pb2 as sharing
from quintet_sdk import Client, QuintetError, new_request_id

# Of two partners that call each other the call of the smaller id stays: here the city calls.
CITY, DISTRICT, PARTNER = "sf", "sf-d10", "tianjin"
NODES = (CITY, DISTRICT, PARTNER)
CITY_ZONE, DISTRICT_ZONE, PARTNER_ZONE = "us-ca-sf", "us-ca-sf-d10", "cn-120000"
DISTRICT_HINT = "10"
# Of a district that joins in one scenario only, and turns hostile.
HOSTILE_ZONE = "us-ca-sf-d6"
PRODUCT = "products/daily"
OWNER = "organisations/monitoring"
HELD_PRODUCT = f"products/{PARTNER}.daily"
SOURCE_FACT = "quintet.perception.v1.DailyAggregateComputed"
INDICATOR = "pm25"
# What the contract gives of the product's fields: one of them only in part, the last not at all.
STATION_KEPT_CHARS = 6
FIELDS_GIVEN = ("device", "day", "mean", "station")
FIELDS_KEPT_BACK = ("maximum",)
STEWARD = "data-steward"
PASSWORD_BYTES = 12
JOIN_TIMEOUT_S = 240.0


@dataclass
class Federation:
    """The nodes, up and joined. contract is the exchange that the city has with the partner."""

    city: FaultNode
    district: FaultNode
    partner: FaultNode
    contract: str = ""
    event_type: str = EVENT_TYPE
    nodes: tuple[FaultNode, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.nodes = (self.city, self.district, self.partner)

    def node(self, name: str) -> FaultNode:
        return next(node for node in self.nodes if node.id == name)

    def mend(self) -> None:
        """Good networks everywhere."""
        for node in self.nodes:
            node.proxy.mend()


@asynccontextmanager
async def run_federation(folder: Path, chance: random.Random) -> AsyncIterator[Federation]:
    """Start, join and keep the nodes for the length of the block."""
    async with AsyncExitStack() as stack:
        city = FaultNode(CITY, CITY_ZONE, folder / CITY, chance)
        district = FaultNode(DISTRICT, DISTRICT_ZONE, folder / DISTRICT, chance)
        partner = FaultNode(PARTNER, PARTNER_ZONE, folder / PARTNER, chance, whole=True)
        found = Federation(city, district, partner)
        for node in found.nodes:
            stack.callback(node.remove)
            await node.proxy.start()
            stack.push_async_callback(node.proxy.stop)
        await asyncio.gather(*(node.start() for node in found.nodes))
        keepers = [asyncio.create_task(node.keep(), name=f"keep {node.id}") for node in found.nodes]
        stack.push_async_callback(_cancel, keepers)
        await _declare(found)
        await _join(district, city, pb.PEER_KIND_CHILD)
        await _join(partner, city, pb.PEER_KIND_PARTNER)
        found.contract = await exchange(city, partner)
        yield found


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# ------------------------------------------------------------------------------------------------------------ declared


async def _declare(federation: Federation) -> None:
    async with federation.city.client() as city:
        await _put_zone(city, CITY_ZONE, kind="city")
        await _put_zone(city, DISTRICT_ZONE, parent=CITY_ZONE, kind="district", aliases=[DISTRICT_HINT])
        await _put_zone(city, HOSTILE_ZONE, parent=CITY_ZONE, kind="district")
    async with federation.district.client() as district:
        await _put_zone(district, DISTRICT_ZONE, kind="district", aliases=[DISTRICT_HINT])
    await offer_product(federation.partner, kind="city")
    for node in (federation.city, federation.district):
        async with node.process.signed_in() as http:
            await declare_event_type(http)


async def offer_product(node: FaultNode, *, kind: str) -> None:
    """Declare a node's own zone, of this kind, and a product of rows about it."""
    async with node.client() as client:
        await _put_zone(client, node.zone, kind=kind)
        owner = directory.Organisation(name=OWNER, title=LocalText(en="Monitoring", zh="监测"), zone=node.zone)
        await client.directory.PutOrganisation(directory.PutOrganisationRequest(organisation=owner))
        await client.sharing.PutProduct(sharing.PutProductRequest(product=_product(node.zone)))


async def _put_zone(
    client: Client, code: str, *, kind: str, parent: str = "", aliases: list[str] | None = None
) -> None:
    zone = directory.Zone(
        name=f"zones/{code}",
        parent=f"zones/{parent}" if parent else "",
        kind=directory.ZoneKind.Value(f"ZONE_KIND_{kind.upper()}"),
        title=LocalText(en=code, zh=code),
        aliases=aliases or [],
    )
    await client.directory.PutZone(directory.PutZoneRequest(zone=zone))


def _product(zone: str) -> sharing.Product:
    def field_(name: str, kind: sharing.FieldType.ValueType, *, key: bool = False) -> sharing.Field:
        return sharing.Field(
            name=name,
            type=kind,
            title=LocalText(en=name, zh=name),
            classification=sharing.CLASSIFICATION_PUBLIC,
            key=key,
        )

    return sharing.Product(
        name=PRODUCT,
        title=LocalText(en="Daily means", zh="日均值"),
        owner=OWNER,
        zone=zone,
        version=1,
        offered=True,
        fields=[
            field_("device", sharing.FIELD_TYPE_STRING, key=True),
            field_("day", sharing.FIELD_TYPE_DATE, key=True),
            field_("mean", sharing.FIELD_TYPE_NUMBER),
            field_("maximum", sharing.FIELD_TYPE_NUMBER),
            field_("station", sharing.FIELD_TYPE_STRING),
        ],
        source=sharing.ProductSource(
            fact=SOURCE_FACT,
            columns={"device": "device", "day": "day", "mean": "mean", "maximum": "maximum", "station": "title.en"},
            where={"indicator": INDICATOR},
        ),
    )


# -------------------------------------------------------------------------------------------------------------- joined


async def join_child(joiner: FaultNode, above: FaultNode) -> None:
    """Join a node to the one above, and wait for its charter."""
    await _join(joiner, above, pb.PEER_KIND_CHILD)
    for node, other in ((joiner, above), (above, joiner)):
        async with node.client() as client:
            request = pb.ListContractsRequest(peer=f"peers/{other.id}")
            name = (await client.federation.ListContracts(request)).contracts[0].name
            await until_contract(client, name, pb.CONTRACT_STATE_FINALIZED)


async def _join(joiner: FaultNode, above: FaultNode, kind: pb.PeerKind.ValueType) -> None:
    """Invited, asked, admitted by two people, linked."""
    async with above.client() as inviting, joiner.client() as joining, _steward(above, inviting) as steward:
        request = pb.CreateInvitationRequest(
            node=joiner.id, kind=kind, zone=joiner.zone if kind == pb.PEER_KIND_CHILD else ""
        )
        await join(inviting, [inviting, steward], joining, request, lambda call, asked: patiently(lambda: call(asked)))
        for client, other in ((inviting, joiner.id), (joining, above.id)):
            await until_linked(client, other)


async def approve_again(node: FaultNode, peer: str) -> None:
    """Two people approve a peer whose certificates were revoked."""
    async with node.client() as admin, _steward(node, admin) as steward:
        found = await patiently(lambda: admin.federation.GetPeer(pb.GetPeerRequest(name=f"peers/{peer}")))
        approval = pb.ApprovePeerRequest(
            name=f"peers/{peer}", root_fingerprint=found.peer.root_fingerprint, request_id=new_request_id()
        )
        for client in (admin, steward):
            await patiently(lambda client=client: client.federation.ApprovePeer(approval))  # type: ignore[misc]


@asynccontextmanager
async def _steward(node: FaultNode, admin: Client) -> AsyncIterator[Client]:
    """The second of the two people who let a node in."""
    post = directory.Post(role="roles/data_steward", zone=node.zone)
    person = directory.Person(name=f"people/{STEWARD}", login=STEWARD, posts=[post])
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    await patiently(lambda: admin.directory.PutPerson(directory.PutPersonRequest(person=person, password=password)))
    async with node.client(STEWARD, password) as client:
        yield client


async def until_linked(client: Client, peer: str, within_s: float = JOIN_TIMEOUT_S) -> None:
    """Return when a stream with the peer is open."""

    async def linked() -> bool:
        request = pb.GetPeerRequest(name=f"peers/{peer}")
        return (await patiently(lambda: client.federation.GetPeer(request))).peer.connected

    await eventually(linked, within_s=within_s)


async def exchange(consumer: FaultNode, provider: FaultNode, *, quota_rows_per_day: int = 0) -> str:
    """An exchange contract on the provider's product: asked by the consumer, agreed, verified, final."""
    async with consumer.client() as asking, provider.client() as giving:
        terms = pb.Terms(
            product=PRODUCT,
            product_version=1,
            fields=[
                sharing.FieldTerms(field="device"),
                sharing.FieldTerms(field="day"),
                sharing.FieldTerms(field="mean"),
                sharing.FieldTerms(field="station", masking=sharing.MASKING_TRUNCATE, keep=STATION_KEPT_CHARS),
            ],
            zone=provider.zone,
            purpose="Comparison of means",
            quota_rows_per_day=quota_rows_per_day,
            provider_contact="people/node-admin",
            consumer_contact="people/node-admin",
        )
        ask = pb.RequestContractRequest(peer=f"peers/{provider.id}", terms=terms, request_id=new_request_id())
        name = (await patiently(lambda: asking.federation.RequestContract(ask))).contract.name
        await until_contract(giving, name, pb.CONTRACT_STATE_REQUESTED)
        agree = pb.AgreeContractRequest(name=name, request_id=new_request_id())
        await patiently(lambda: giving.federation.AgreeContract(agree))
        await until_contract(asking, name, pb.CONTRACT_STATE_AGREED)
        verify = pb.VerifyContractRequest(name=name, request_id=new_request_id())
        await patiently(lambda: asking.federation.VerifyContract(verify))
        for client in (asking, giving):
            await until_contract(client, name, pb.CONTRACT_STATE_FINALIZED)
    return name


async def until_contract(client: Client, name: str, state: pb.ContractState.ValueType) -> None:
    """Return when a node has the contract in this state."""

    async def there() -> bool:
        try:
            found = await client.federation.GetContract(pb.GetContractRequest(name=name))
        except QuintetError as error:
            if error.retryable or error.code.name == "NOT_FOUND":
                return False
            raise
        return found.contract.state == state

    await eventually(there, within_s=JOIN_TIMEOUT_S)
