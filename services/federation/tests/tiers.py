"""A city over a district over a street, joined over real links, each with its own database."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from libs.clock import ManualClock
from libs.testing import eventually
from quintet.federation.v1 import federation_pb2 as pb
from services.federation.tests.world import Node, World

CITY, DISTRICT, STREET = "sf", "sf-d10", "sf-hill"


@dataclass
class Tiers:
    """The clock is the same for all."""

    world: World
    city: Node
    district: Node
    street: Node
    clock: ManualClock
    dials: dict[str, asyncio.Task[None]]

    async def cut(self, node: Node) -> None:
        """Let a node's own calls end, and with them its link to the tier above."""
        self.dials[node.id].cancel()
        with suppress(asyncio.CancelledError):
            await self.dials[node.id]

    async def join(self, node: Node) -> None:
        self.dials[node.id] = await self.world.dial(node)


async def three_tiers(world: World, clock: ManualClock, management: dict[str, Any] | None = None) -> Tiers:
    """Make the three; `management` has the stubs for evidence of some nodes."""
    stubs = management or {}
    city = await world.node(CITY, "city", management=stubs.get(CITY))
    district = await world.node(DISTRICT, "d10", management=stubs.get(DISTRICT))
    street = await world.node(STREET, "hill", management=stubs.get(STREET))
    found = Tiers(world, city, district, street, clock, {})
    for parent, child, zone in ((city, district, "d10"), (district, street, "hill")):
        await world.join(parent, child, zone)
        await found.join(child)
        await eventually(partial(in_force, child))
        await eventually(partial(in_force, parent))
    return found


async def in_force(node: Node) -> bool:
    """Tell whether all contracts of a node are in force."""
    states = {contract.state for contract in await node.contracts()}
    return states == {pb.CONTRACT_STATE_FINALIZED}
