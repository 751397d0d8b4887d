"""Starting the nodes, loading what they declare, and joining them into a federation."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from demo.calls import ask, first_failure, until
from demo.nodes import DECLARED, Node
from demo.people import Accounts, Clients
from deploy.joining import join
from deploy.loader import Loader, LoadReport
from quintet.federation.v1 import federation_pb2 as federation

STARTED_AT_ONCE_MAX = 2


async def start_all(nodes: Mapping[str, Node], tell: Callable[[str], None]) -> None:
    """Start all nodes, as many at a time as the machine has patience for."""
    turns = asyncio.Semaphore(STARTED_AT_ONCE_MAX)

    async def start(node: Node) -> None:
        async with turns:
            await node.start()
            tell(f"{node.spec.id} is ready at {node.url}")

    try:
        async with asyncio.TaskGroup() as group:
            for node in nodes.values():
                group.create_task(start(node))
    except BaseExceptionGroup as failures:
        raise first_failure(failures) from None


async def load_all(
    nodes: Mapping[str, Node], clients: Clients, accounts: Accounts, data: Path
) -> dict[str, LoadReport]:
    """Load each node's declarative files; repeating it changes nothing."""

    async def load(name: str) -> LoadReport:
        loader = Loader(
            await clients.admin(name),
            passwords=lambda person: accounts.create(name, person),
            take_secret=lambda account, secret: accounts.keep(name, account, secret),
        )
        return await loader.load(DECLARED / name, data=data)

    found = await asyncio.gather(*(load(name) for name in nodes))
    return dict(zip(nodes, found, strict=True))


async def join_all(nodes: Mapping[str, Node], clients: Clients) -> None:
    """Each node joins the one above it with a one-time invitation: children are given their zone, partners are not.

    Two people of the node above compare its fingerprint and let it in: the administrator and the data steward.
    """
    for node in nodes.values():
        if node.spec.above:
            await _join(node, clients)
    for node in nodes.values():
        if node.spec.above:
            await _until_linked(node, clients)


async def _join(node: Node, clients: Clients) -> None:
    spec = node.spec
    joiner = await clients.admin(spec.id)
    peers = await ask(joiner.federation.ListPeers, federation.ListPeersRequest())
    if any(peer.node == spec.above and peer.state == federation.PEER_STATE_ACTIVE for peer in peers.peers):
        return
    request = federation.CreateInvitationRequest(
        node=spec.id,
        kind=federation.PEER_KIND_PARTNER if spec.partner else federation.PEER_KIND_CHILD,
        zone="" if spec.partner else spec.zone,
    )
    above = await clients.admin(spec.above)
    await join(above, [above, await clients.staff(spec.above, "data-steward")], joiner, request, ask)


async def _until_linked(node: Node, clients: Clients) -> None:
    spec = node.spec

    async def linked() -> bool:
        for name, other in ((spec.id, spec.above), (spec.above, spec.id)):
            client = await clients.admin(name)
            request = federation.GetPeerRequest(name=f"peers/{other}")
            answer = await ask(client.federation.GetPeer, request)
            if not answer.peer.connected:
                return False
        return True

    await until(f"the link between {spec.id} and {spec.above}", linked)
