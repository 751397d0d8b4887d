"""Nodes of a federation in one process: each with its own database, keys and TLS ports; only the bus is left out.

Facts are given to the exporter as the bus would give them; what the acceptor puts on the bus is read from the outbox.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from libs.audit import AuditServicer
from libs.clock import SystemClock
from libs.config import Secrets
from libs.node_key import NodeKeys, ensure_node_key
from libs.tx import Transactions
from libs.zones import ZoneRecord, ZoneTree
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import contracts_store, peers_store, transfers_store
from services.federation.accept import Acceptor
from services.federation.control import ControlHandler
from services.federation.cosign import Cosigning
from services.federation.directives import Directives
from services.federation.disclosures import Disclosures
from services.federation.event_evidence import EventEvidence
from services.federation.export import Exporter
from services.federation.hub import Hub
from services.federation.link import LinkParts
from services.federation.members import Basis, Members
from services.federation.negotiation import Negotiator
from services.federation.objectives import Objectives
from services.federation.pki import LEAF_VALID_DEFAULT, Authority
from services.federation.queries import Questions
from services.federation.settlement import Settler
from services.federation.signing import NodeSigner
from services.federation.trust import Trust
from services.federation.waiting import WaitDays

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from libs.clock import Clock
    from libs.testing import MakeTransactions
    from services.federation.joining import Joiner
    from services.federation.link import FrameHandler
    from services.federation.membership import Membership

MIGRATIONS = Path(__file__).parent.parent / "migrations"
PEOPLE = ("people/node-admin", "people/data-steward")
RECORDS = [ZoneRecord("city"), ZoneRecord("d10", "city"), ZoneRecord("d6", "city"), ZoneRecord("hill", "d10")]


class LocalLog:
    """The audit service of a part without a channel in between."""

    def __init__(self, servicer: AuditServicer) -> None:
        self._servicer = servicer

    def __getattr__(self, method: str) -> Any:
        async def call(request: Any, **_options: Any) -> Any:
            return await getattr(self._servicer, method)(request, None)

        return call


def local_logs(servicer: AuditServicer) -> Any:
    return {"federation": LocalLog(servicer)}


class Places:
    """The zones of a node, which may be renamed."""

    def __init__(self, tree: ZoneTree, records: list[ZoneRecord]) -> None:
        self.now = tree
        self._records = records

    def tree(self) -> ZoneTree:
        return self.now

    def rename(self, code: str, to: str) -> None:
        """Give a zone another code; the one before stays an alias, also in the node's own file."""
        for index, record in enumerate(self._records):
            if record.code == code:
                self._records[index] = replace(record, code=to, aliases=(*record.aliases, code))
            elif record.parent == code:
                self._records[index] = replace(record, parent=to)
        self.now = ZoneTree(self._records, root=self.now.root)


@dataclass
class Node:
    """One node. `seen` are the facts that were handed to the exporter; a test may add handlers to `control`."""

    id: str
    transactions: Transactions
    members: Members
    negotiator: Negotiator
    exporter: Exporter
    hub: Hub
    secrets: Secrets
    questions: Questions
    settler: Settler
    keys: NodeKeys
    cosigning: Cosigning
    control: dict[str, ControlHandler]
    directives: Directives
    places: Places
    acceptor: Acceptor
    disclosures: Disclosures
    objectives: Objectives
    trust: Trust
    signer: NodeSigner
    log: AuditServicer
    event_evidence: EventEvidence
    seen: set[str] = field(default_factory=set)

    @property
    def membership(self) -> Membership:
        return self.members.membership

    @property
    def joiner(self) -> Joiner:
        return self.members.joiner

    @property
    def tree(self) -> ZoneTree:
        return self.places.tree()

    @property
    def key(self) -> Ed25519PrivateKey:
        """The key that signs now."""
        return self.keys.present()

    async def facts(self) -> list[Fact]:
        """Return all facts on the node's way to the bus, in order."""
        rows = await self.transactions.read(lambda conn: conn.fetch("SELECT fact FROM outbox ORDER BY id"))
        return [Fact.FromString(row["fact"]) for row in rows]

    async def pump(self) -> list[Fact]:
        """Let the exporter see what is new on the bus, and return it."""
        new = [fact for fact in await self.facts() if fact.id not in self.seen]
        self.seen.update(fact.id for fact in new)
        await self.transactions.run(lambda tx: self.exporter.handle(tx, new))
        return new

    async def state(self, fact: Fact) -> None:
        """Put a fact on the node's bus."""

        async def work(tx: Any) -> None:
            tx.forward(fact)

        await self.transactions.run(work)

    async def received(self, kind: str) -> list[Fact]:
        """Return the facts of a type that came from peers."""
        return [fact for fact in await self.facts() if fact.received_from and fact.type.endswith(kind)]

    async def approve(self, joiner: Node, person: str) -> None:
        """Let one person approve a node that has asked to join."""
        fingerprint = joiner.membership.root_fingerprint
        await self.transactions.run(lambda tx: self.membership.approve(tx, joiner.id, fingerprint, person))

    async def peer(self, node: str) -> peers_store.Peer:
        return await self.transactions.read(lambda conn: peers_store.get(conn, node))

    async def contracts(self) -> list[pb.Contract]:
        return await self.transactions.read(lambda conn: contracts_store.page(conn, limit=100))

    async def transfers(self, contract: str, state: int = 0) -> list[pb.Transfer]:
        """Return the transfers of a contract, newest first; in one state, or all."""
        return await self.transactions.read(
            lambda conn: transfers_store.page(conn, contract=contract, peer="", state=state, after=None, limit=100)
        )


class World:
    """Makes nodes and runs them."""

    def __init__(self, folder: Path, transactions: MakeTransactions, clock: Clock, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._transactions = transactions
        self._clock = clock
        self._stack = stack
        # What differs from the defaults in the nodes made from now on, by the names of `Basis`, and `leaf_valid`.
        self.terms: dict[str, Any] = {}

    async def node(self, name: str, zone: str, sharing: Any = None, management: Any = None) -> Node:
        """Make a node. `sharing` is the stub that answers questions about rows, `management` that for evidence."""
        transactions = await self._transactions("federation", MIGRATIONS, node=name, clock=self._clock)
        secrets = Secrets(self._folder / name)
        ensure_node_key(secrets)
        keys = NodeKeys(secrets)
        signer = NodeSigner(name, keys.present)
        log = AuditServicer(transactions, keys.public, keys.present)
        cosigning = Cosigning(name, transactions, signer, local_logs(log))
        known = [record for record in RECORDS if zone == "city" or record.code != "city"]
        places = Places(ZoneTree(known, root=zone), known)
        disclosures = Disclosures(f"a secret of {name}".encode())
        terms = dict(self.terms)
        negotiator = Negotiator(name, zone, signer, places.tree, terms.pop("wait_days", WaitDays()))
        questions = Questions(name, transactions, sharing, disclosures)
        control: dict[str, ControlHandler] = {**negotiator.handlers, **cosigning.handlers()}
        acceptor = Acceptor(name, transactions, places.tree, control)
        frames: dict[str, FrameHandler] = {}
        authority = Authority.open(name, secrets, transactions.clock.now(), terms.pop("leaf_valid", LEAF_VALID_DEFAULT))
        trust = Trust(name, authority, signer, transactions)
        hub = Hub(LinkParts(name, transactions, signer, acceptor, questions, trust, frames), secrets)
        event_evidence = EventEvidence(transactions, places.tree, management, hub, questions)
        questions.answer_evidence_by(event_evidence.give)
        settler = Settler(name, hub.wake)
        control["settlement"] = settler.handle
        directives = Directives(name, places.tree, hub.wake)
        control["directive_message"] = directives.handle
        objectives = Objectives(name, hub.wake)
        control["flow"] = objectives.handle
        basis = Basis(name, name, zone, transactions, secrets, keys, signer, trust, negotiator, places.tree, hub)
        members = Members(replace(basis, **terms))
        control.update(members.control)
        frames.update(members.frames)
        exporter = Exporter(name, places.tree, hub.wake, negotiator.switches, disclosures)
        node = Node(
            name,
            transactions,
            members,
            negotiator,
            exporter,
            hub,
            secrets,
            questions,
            settler,
            keys,
            cosigning,
            control,
            directives,
            places,
            acceptor,
            disclosures,
            objectives,
            trust,
            signer,
            log,
            event_evidence,
        )
        await self._serve(node)
        return node

    async def _serve(self, node: Node) -> None:
        join, link = node.members.servers()
        own = node.members.server_certificate(["127.0.0.1"])
        join_port = await join.start("127.0.0.1:0", own.credentials())
        link_port = await link.start("127.0.0.1:0", own.credentials(mutual=True))
        node.membership.join_address = f"127.0.0.1:{join_port}"
        node.membership.link_address = f"127.0.0.1:{link_port}"
        self._stack.push_async_callback(join.stop, 0)
        self._stack.push_async_callback(link.stop, 0)

    async def join(self, inviter: Node, joiner: Node, zone: str = "") -> None:
        """Let a node join another, as the child for `zone` or as a partner: invited, asked, approved by two people."""
        kind = pb.PEER_KIND_CHILD if zone else pb.PEER_KIND_PARTNER
        request = pb.CreateInvitationRequest(node=joiner.id, kind=kind, zone=zone)
        invitation = await inviter.membership.invite(request)
        await joiner.joiner.join(invitation, inviter.membership.root_fingerprint)
        for person in PEOPLE:
            await inviter.approve(joiner, person)
        await joiner.joiner.ask_all()

    async def city_and_district(self) -> tuple[Node, Node]:
        """Make a city and its district, which joins it."""
        city, district = await self.node("sf", "city"), await self.node("sf-d10", "d10")
        await self.join(city, district, "d10")
        return city, district

    async def city_and_partner(self) -> tuple[Node, Node]:
        """Make a city and its partner beijing, which joins it."""
        city, partner = await self.node("sf", "city"), await self.node("beijing", "d6")
        await self.join(city, partner)
        return city, partner

    async def dial(self, node: Node) -> asyncio.Task[None]:
        """Let a node call its peers, until the test ends or the task is cancelled."""
        return self.work(node.hub.run())

    def look_after(self, node: Node) -> None:
        """Let a node renew its certificates, keep its keys and lists, and end streams that may not go on."""
        self.work(node.members.trust_link.run())
        self.work(node.members.rotation.run())
        self.work(node.members.renewer.run())
        self.work(node.members.warden.run())

    def work(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something until the test ends."""
        task = asyncio.create_task(work)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(end)
        return task


@asynccontextmanager
async def world(folder: Path, transactions: MakeTransactions, clock: Clock | None = None) -> AsyncIterator[World]:
    """`clock` is that of all its nodes, by default the machine's."""
    async with AsyncExitStack() as stack:
        yield World(folder, transactions, clock or SystemClock(), stack)
