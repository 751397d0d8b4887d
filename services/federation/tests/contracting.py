"""Two nodes that make contracts: their steps by name, and what time does to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from libs.clock import ManualClock
from libs.testing import eventually
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1 import sharing_pb2
from services.federation import contracts_store, lanes_store, steps_store
from services.federation.deadlines import Deadlines
from services.federation.tests import pairs
from services.federation.tests.world import Node, World

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from libs.tx import Tx

Step = Callable[["Tx"], Awaitable[Any]]


@dataclass
class Two:
    """A consumer and a provider; in a charter the child and the parent."""

    world: World
    consumer: Node
    provider: Node
    clock: ManualClock

    @property
    def both(self) -> tuple[Node, Node]:
        return self.consumer, self.provider

    def other(self, node: Node) -> Node:
        return self.provider if node is self.consumer else self.consumer

    async def take(self, node: Node, step: Step) -> Any:
        """Take a step and let it go to the other node."""
        taken = await node.transactions.run(step)
        node.hub.wake(self.other(node).id)
        return taken

    async def request(self, terms: pb.Terms) -> str:
        peer = await self.consumer.peer(self.provider.id)
        contract = await self.take(self.consumer, lambda tx: self.consumer.negotiator.request(tx, peer, terms))
        return str(contract.name)

    async def offer(self, terms: pb.Terms) -> str:
        peer = await self.provider.peer(self.consumer.id)
        contract = await self.take(self.provider, lambda tx: self.provider.negotiator.offer(tx, peer, terms))
        return str(contract.name)

    async def agreed(self, name: str) -> None:
        """Let the provider agree to what stands, and the consumer verify it, until both have it in force."""
        await self.take(self.provider, lambda tx: self.provider.negotiator.agree(tx, name))
        await self.state_is(self.consumer, name, pb.CONTRACT_STATE_AGREED)
        await self.take(self.consumer, lambda tx: self.consumer.negotiator.verify(tx, name))
        for node in self.both:
            await self.state_is(node, name, pb.CONTRACT_STATE_FINALIZED)

    async def in_force(self, terms: pb.Terms) -> str:
        """Put an exchange in force whose rows flow."""
        name = await self.request(terms)
        await self.state_is(self.provider, name, pb.CONTRACT_STATE_REQUESTED)
        await self.agreed(name)
        for node in self.both:  # the consumer, too: until it has heard of the start it may take no step
            await eventually(partial(node.transfers, name, pb.TRANSFER_STATE_STARTED))
        await self.provider.pump()
        return name

    async def contract(self, node: Node, name: str) -> pb.Contract:
        return (await node.transactions.read(lambda conn: contracts_store.get(conn, name)))[0]

    async def state_is(self, node: Node, name: str, state: int) -> None:
        await pairs.state_is(node, name, state)

    async def ended_alike(self, name: str) -> pb.Contract:
        """Wait until both have ended a contract, for the same reason; return it as the consumer sees it."""
        for node in self.both:
            await self.state_is(node, name, pb.CONTRACT_STATE_TERMINATED)
        await self.idle()
        mine, theirs = [await self.contract(node, name) for node in self.both]
        assert (mine.reason, mine.terminated_by) == (theirs.reason, theirs.terminated_by)
        assert (mine.superseded_by, mine.terminates_at) == (theirs.superseded_by, theirs.terminates_at)
        return mine

    async def idle(self) -> None:
        """Wait until nothing waits for a receipt any more at either end."""

        async def still() -> bool:
            for node in self.both:
                if await node.transactions.read(partial(lanes_store.oldest_waiting, nodes=[self.other(node).id])):
                    return False
            return True

        await eventually(still)

    async def steps(self, node: Node, name: str) -> list[pb.ContractStep]:
        found = await node.transactions.read(lambda conn: steps_store.page(conn, name, 0, 100))
        return [step for _, step in found]

    async def pass_time(self, *, seconds: float = 0, **by: float) -> None:
        """Let time pass, and both nodes look at what is due."""
        self.clock.advance(timedelta(seconds=seconds, **by))
        for node in self.both:
            await self.look(node)

    async def look(self, node: Node) -> None:
        zone = node.transactions.zone
        deadlines = Deadlines(node.id, zone, node.transactions, node.negotiator, node.hub.wake)
        while await deadlines.round():
            pass

    async def stated(self, node: Node, kind: type[Message]) -> list[Any]:
        """Return the facts of a kind that a node has stated itself, in order."""
        name = kind.DESCRIPTOR.full_name
        facts = [each for each in await node.facts() if each.type == name and not each.received_from]
        return [kind.FromString(each.data) for each in facts]


def terms(**changes: Any) -> pb.Terms:
    fields = [sharing_pb2.FieldTerms(field=name) for name in ("station", "day", "mean")]
    plain: dict[str, Any] = {
        "product": "products/p",
        "product_version": 1,
        "purpose": "study",
        "fields": fields,
        "provider_contact": "people/bj",
        "consumer_contact": "people/sf",
    }
    return pb.Terms(**(plain | changes))
