"""Two nodes that have joined, what they state to one another, and what has come of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from libs import rows
from libs.ids import new_id
from libs.testing import eventually
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2 as pb
from quintet.management.v1 import facts_pb2 as management_facts
from quintet.sharing.v1 import facts_pb2 as sharing_facts
from services.federation import contracts_store, incoming_store, lanes_store, peers_store
from services.federation.tests.world import Node, World

if TYPE_CHECKING:
    from google.protobuf.message import Message


@dataclass
class Pair:
    """A city and its district, joined, with the charter in force and flowing. The district calls."""

    world: World
    city: Node
    district: Node
    dialling: asyncio.Task[None]

    @property
    def both(self) -> tuple[Node, Node]:
        return self.city, self.district

    async def dial(self) -> None:
        """Let the district call again, until the test ends or the link is cut."""
        self.dialling = await self.world.dial(self.district)

    async def cut(self) -> None:
        """Leave no stream open, and none to come before the district dials again."""
        self.dialling.cancel()
        await asyncio.gather(self.dialling, return_exceptions=True)

        async def gone() -> bool:
            return not self.city.hub.sessions() and not self.district.hub.sessions()

        await eventually(gone)


@dataclass
class Partners:
    """A city and its partner beijing, joined; what the partner queues goes once it has called."""

    world: World
    city: Node
    partner: Node

    async def queue(self, lane: lanes_store.Lane, *envelopes: bytes) -> None:
        queued = [lanes_store.Queued("contracts/x", envelope) for envelope in envelopes]
        await self.partner.transactions.run(lambda tx: peers_store.enqueue(tx.conn, "sf", queued, lane))
        self.partner.hub.wake("sf")

    async def received(self) -> dict[int, int]:
        """Return how far each lane from the partner is committed at the city."""
        found = await self.city.transactions.read(lambda conn: incoming_store.received(conn, "beijing"))
        return {lane: each.received for lane, each in found.items()}

    async def caught_up(self) -> bool:
        return await caught_up(self.partner, "sf")


async def linked(world: World) -> Pair:
    """Let a district join its city and call it, until the charter is in force and flows at both."""
    city, district = await world.city_and_district()
    pair = Pair(world, city, district, await world.dial(district))
    for node in pair.both:
        await eventually(partial(in_force, node))
        await node.pump()
    return pair


async def in_force(node: Node) -> bool:
    """Say whether the one contract of a node is."""
    return [contract.state for contract in await node.contracts()] == [pb.CONTRACT_STATE_FINALIZED]


async def state_is(node: Node, name: str, state: int) -> None:
    """Wait until a node sees a contract in a state."""

    async def reached() -> bool:
        found = await node.transactions.read(lambda conn: contracts_store.find(conn, name))
        return found is not None and found[0].state == state

    await eventually(reached)


async def backlog(node: Node, peer: str) -> int:
    """Return how many envelopes to a peer have no receipt."""
    lanes = await node.transactions.read(lambda conn: lanes_store.sent(conn, peer))
    return sum(lane.backlog for lane in lanes.values())


async def caught_up(node: Node, peer: str) -> bool:
    return not await backlog(node, peer)


def fact(node: str, zone: str, message: Message, time: datetime | None = None) -> Fact:
    """Return a fact as a node states it about a zone, now or at another time."""
    name = message.DESCRIPTOR.full_name
    made = Fact(id=new_id(), type=name, node=node, zone=zone, key=f"zones/{zone}", data=message.SerializeToString())
    made.time.FromDatetime(time or datetime.now(UTC))
    return made


def event(node: str, zone: str, number: int, time: datetime | None = None) -> Fact:
    opened = management_facts.EventOpened()
    opened.event.name = f"zones/{zone}/events/{number}"
    return fact(node, zone, opened, time)


async def names_at(node: Node) -> list[str]:
    """Return the events that a node heard of from peers, in order."""
    received = await node.received("EventOpened")
    return [management_facts.EventOpened.FromString(each.data).event.name for each in received]


def rows_fact(version: int, count: int, time: datetime | None = None) -> Fact:
    """Return rows of a version of the partner's product; the contract does not name the field "secret"."""
    written = sharing_facts.ProductRowsWritten(
        product="products/p",
        version=version,
        fields=["station", "secret", "day", "mean"],
        rows=rows.dumps((f"s{number}", "x", "2026-01-01", 1.5) for number in range(count)),
        count=count,
        key_fields=["station", "day"],
    )
    return fact("beijing", "d6", written, time)
