"""Photos and files of events across the tiers: asked for one at a time, passed on as they come, kept by nobody else.

They stay at the node where they were uploaded, wherever their event is at home. A node that a person asks asks the
tiers below it and then the one above; a node that is asked by a peer and does not keep the file asks on in the same
direction, so that nothing is asked in a circle. Both ends of each link hold that against the charter between them.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from libs.errors import Away, Exhausted, Forbidden, NotFound, Reason, WrongState
from libs.rules import most
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from quintet.management.v1 import evidence_pb2
from services.federation import contracts_store, query_log
from services.federation.answering import ANSWERING_MAX
from services.federation.query_rules import ACTOR_CHARS_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
    from datetime import datetime

    from libs.errors import DomainError
    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from quintet.management.v1.evidence_pb2_grpc import EvidenceServiceStub
    from services.federation.hub import Hub
    from services.federation.queries import Questions
    from services.federation.terms import ActiveContract

    Parts = AsyncGenerator[link_pb2.EventEvidencePart, None]

# Facts and directives share the link: they wait for one part at most.
PART_BYTES_MAX = 256 * 1024
FILE_BYTES_MAX = most(evidence_pb2.StartUploadRequest.DESCRIPTOR, "size_bytes")
FETCH_TIMEOUT_S = 60.0
# A page may show many photos. A peer answers ANSWERING_MAX questions of ours at a time: half of them for the people of
# this node, and half for those of the node on its other side.
FETCHES_AT_ONCE = ANSWERING_MAX // 2
FETCHES_WAITING_MAX = 200
GIVEN, FETCHED = "federation.event_evidence.give", "federation.event_evidence.fetch"


class EventEvidence:
    """Fetches evidence for the people of this node, and gives it to peers."""

    def __init__(
        self,
        transactions: Transactions,
        zones: Callable[[], ZoneTree],
        management: EvidenceServiceStub,
        hub: Hub,
        questions: Questions,
    ) -> None:
        self._transactions = transactions
        self._zones = zones
        self._management = management
        self._hub = hub
        self._questions = questions
        self._turns = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._fetches = 0

    async def fetch(self, request: pb.FetchEventEvidenceRequest) -> AsyncGenerator[pb.FetchEventEvidenceResponse, None]:
        """Yield what another node keeps, once it is written down who asked.

        Raises NotFound, Away when a node that may keep it is away, Exhausted when FETCHES_WAITING_MAX wait already, and
        what a peer refused with.
        """
        actor = f"{request.actor}@{self._transactions.node}"
        charters = asked_first(self._charters(await self._in_force(), request.name), request.keeper)
        async with self._turn(), aclosing(self._ask(request.name, actor, charters)) as parts:
            async for part in parts:
                found = pb.FetchEventEvidenceResponse(content=part.content)
                if part.HasField("evidence"):
                    found.evidence.CopyFrom(part.evidence)
                    await self._note(FETCHED, request.name, request.actor)
                yield found

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for room at the peers, as long as the caller's time lasts."""
        if self._fetches >= FETCHES_AT_ONCE + FETCHES_WAITING_MAX:
            raise Exhausted(Reason.TOO_BUSY, f"{FETCHES_WAITING_MAX} fetches of evidence wait already")
        self._fetches += 1
        try:
            async with self._turns:
                yield
        finally:
            self._fetches -= 1

    async def give(self, peer: str, query: link_pb2.Query) -> AsyncGenerator[link_pb2.Answer, None]:
        """Yield the answers to a question of a peer, once it is written down who asked.

        Raises Forbidden and WrongState for what no charter with the peer allows, else like `fetch`.
        """
        name = query.event_evidence.name
        actor = (query.actor or f"nodes/{peer}")[:ACTOR_CHARS_MAX]
        in_force = await self._in_force()
        charter = await self._allowing(in_force, peer, name, actor)
        onward = [each for each in self._charters(in_force, name) if is_onward(charter, each)]
        sent = size = 0
        async with aclosing(self._kept_or_asked(name, actor, onward)) as parts:
            async for part in parts:
                if part.HasField("evidence"):
                    size = part.evidence.size_bytes
                    await self._note(GIVEN, name, actor, peer=peer, contract=charter.name, size_bytes=size)
                sent += len(part.content)
                yield link_pb2.Answer(event_evidence=part, more=sent < size)

    async def _in_force(self) -> Sequence[ActiveContract]:
        return await self._transactions.read(contracts_store.in_force)

    def _charters(self, in_force: Iterable[ActiveContract], name: str) -> list[ActiveContract]:
        now, zones = self._transactions.clock.now(), self._zones()
        return [each for each in in_force if allows(each, zones, name, now)]

    async def _allowing(self, in_force: Iterable[ActiveContract], peer: str, name: str, actor: str) -> ActiveContract:
        """Return the charter by which a peer may have it; a refusal is kept, so that both stewards can see it."""
        now = self._transactions.clock.now()
        found = next((each for each in in_force if each.peer == peer and is_charter(each, now)), None)
        if found is None:
            raise WrongState(Reason.CONTRACT_NOT_ACTIVE, f"no charter with {peer} is in force", peer=peer)
        if not (found.terms.event_evidence and found.may_give(self._zones(), zone_of(name), self._transactions.node)):
            text = f"{found.name} does not let {name} be asked for"
            refusal = Forbidden(Reason.NOT_PERMITTED, text, contract=found.name)
            await query_log.refuse(self._transactions, found.name, refusal, actor=actor, node=self._transactions.node)
            raise refusal
        return found

    async def _kept_or_asked(self, name: str, actor: str, onward: Sequence[ActiveContract]) -> Parts:
        """Yield what this node keeps, or else what the others have of it."""
        try:
            async with aclosing(self._kept(name)) as parts:
                async for part in parts:
                    yield part
        except NotFound:
            async with aclosing(self._ask(name, actor, onward)) as parts:
                async for part in parts:
                    yield part

    async def _kept(self, name: str) -> Parts:
        request = evidence_pb2.ReadForPeerRequest(name=name)
        async for read in self._management.ReadForPeer(request, timeout=FETCH_TIMEOUT_S):
            for start in range(0, len(read.content), PART_BYTES_MAX):
                described = read.evidence if read.HasField("evidence") and not start else None
                content = read.content[start : start + PART_BYTES_MAX]
                yield link_pb2.EventEvidencePart(evidence=described, content=content)

    async def _ask(self, name: str, actor: str, charters: Sequence[ActiveContract]) -> Parts:
        """Ask one peer after another until one has it."""
        failed: DomainError | None = None
        for charter in charters:
            began = False
            query = link_pb2.Query(actor=actor, event_evidence=link_pb2.EventEvidenceQuery(name=name))
            try:
                session = await self._hub.reach(charter.peer)
                answers = self._questions.stream(session, query, FETCH_TIMEOUT_S)
                async with aclosing(answers), aclosing(checked(charter.peer, name, answers)) as parts:
                    async for part in parts:
                        began = True
                        yield part
            except NotFound:
                continue
            except (Away, Forbidden, WrongState) as error:
                if began:
                    raise
                failed = failed or error
            else:
                return
        raise failed or NotFound(Reason.EVIDENCE_NOT_FOUND, f"{name} does not exist", name=name)

    async def _note(self, action: str, name: str, actor: str, **about: str | int) -> None:
        async def write(tx: Tx) -> None:
            tx.audit(action, name, actor=actor, **about)

        await self._transactions.run(write)


# ------------------------------------------------------------------------------------------------------------- rules


def is_charter(contract: ActiveContract, now: datetime) -> bool:
    """Tell whether a contract is a tier charter that is valid now."""
    return contract.kind == pb.CONTRACT_KIND_CHARTER and contract.in_time(now)


def allows(contract: ActiveContract, zones: ZoneTree, name: str, now: datetime) -> bool:
    """Tell whether evidence may be asked for under a contract."""
    return is_charter(contract, now) and contract.terms.event_evidence and contract.covers(zones, zone_of(name))


def zone_of(name: str) -> str:
    """Return the zone in the name of evidence, "zones/{zone}/events/..."; "" for what is no such name."""
    return name.split("/")[1] if name.startswith("zones/") else ""


def is_onward(asked_under: ActiveContract, other: ActiveContract) -> bool:
    """Tell whether another charter leads on in the direction of a question: both up the tiers, or both down."""
    from_above = asked_under.provider == asked_under.peer
    to_below = other.consumer == other.peer
    return other.peer != asked_under.peer and from_above == to_below


def asked_first(charters: Iterable[ActiveContract], keeper: str) -> list[ActiveContract]:
    """Return charters in the order in which their peers are asked: the likeliest, those below, the one above."""
    return sorted(charters, key=lambda each: (each.peer != keeper, each.consumer != each.peer, each.peer))


async def checked(peer: str, name: str, answers: AsyncIterable[link_pb2.Answer]) -> Parts:
    """Yield the parts of one file out of a peer's answers.

    Raises WrongState(EVIDENCE_DAMAGED) when they are something else than what was asked for.
    """
    size = received = 0
    async for answer in answers:
        part = answer.event_evidence
        if not received:
            size = part.evidence.size_bytes
        received += len(part.content)
        described = part.HasField("evidence") == (received == len(part.content))
        right = part.evidence.name == name if part.HasField("evidence") else True
        fits = 0 < len(part.content) <= PART_BYTES_MAX and received <= size <= FILE_BYTES_MAX
        if not (described and right and fits and answer.more == (received < size)):
            raise WrongState(Reason.EVIDENCE_DAMAGED, f"{peer} sent something else than {name}", peer=peer, name=name)
        yield part
