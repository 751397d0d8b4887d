"""Questions on demand: asked of a peer over its link, with the caller's deadline; answered for peers under contract."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import grpc
import structlog

from libs import telemetry
from libs.errors import Away, DomainError, Exhausted, Forbidden, NotFound, Reason, TooLate, WrongState
from libs.ids import new_id
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from quintet.sharing.v1 import sharing_pb2
from services.federation import contracts_store
from services.federation.contracts_store import NewRefusal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from libs.tx import Transactions
    from quintet.sharing.v1 import sharing_pb2_grpc
    from services.federation.terms import ActiveContract

# Questions of one peer that are worked on at a time; further ones are turned away, not queued.
ANSWERING_MAX = 8
ASKING_MAX = 64
ANSWER_TIMEOUT_MAX_S = 30.0
PRODUCTS_MAX = 1000
ROWS_MAX = 1000

log = structlog.get_logger()


class Asker(Protocol):
    """The session over which a question goes."""

    peer: str

    async def send(self, frame: link_pb2.Frame) -> None:
        """Send one frame."""
        ...


class Questions:
    """Keeps track of what was asked, and answers what is asked of this node."""

    def __init__(self, node: str, transactions: Transactions, sharing: sharing_pb2_grpc.SharingServiceStub) -> None:
        self._node = node
        self._transactions = transactions
        self._sharing = sharing
        self._open: dict[str, tuple[str, asyncio.Future[link_pb2.Answer]]] = {}
        self._answering: dict[str, set[asyncio.Task[None]]] = {}

    # ---------------------------------------------------------------------------------------------- asking

    async def ask(self, session: Asker, query: link_pb2.Query, timeout_s: float) -> link_pb2.Answer:
        """Ask the peer; return its answer. Raises what the peer refused with, TooLate, or Away when the link breaks."""
        if len(self._open) >= ASKING_MAX:
            raise Exhausted(Reason.TOO_BUSY, f"more than {ASKING_MAX} questions are open")
        timeout_s = min(timeout_s, ANSWER_TIMEOUT_MAX_S)
        query.id = new_id()
        query.remaining_ms = int(timeout_s * 1000)
        query.traceparent = telemetry.traceparent()
        future: asyncio.Future[link_pb2.Answer] = asyncio.get_running_loop().create_future()
        self._open[query.id] = (session.peer, future)
        try:
            async with asyncio.timeout(timeout_s):
                await session.send(link_pb2.Frame(query=query))
                answer = await future
        except TimeoutError as error:
            raise TooLate(Reason.DEADLINE, f"{session.peer} did not answer in time", peer=session.peer) from error
        finally:
            del self._open[query.id]
        if answer.code:
            raise _error(answer)
        return answer

    def answered(self, peer: str, answer: link_pb2.Answer) -> None:
        """Hand an answer to who waits for it; nobody may wait any more."""
        asked, future = self._open.get(answer.id, ("", None))
        if future is not None and asked == peer and not future.done():
            future.set_result(answer)

    def lost(self, peer: str) -> None:
        """The link broke: nobody will answer."""
        for asked, future in list(self._open.values()):
            if asked == peer and not future.done():
                future.set_exception(Away(Reason.PEER_AWAY, f"the link to {peer} broke", peer=peer))
        for task in self._answering.pop(peer, set()):
            task.cancel()

    # ------------------------------------------------------------------------------------------- answering

    async def take(self, session: Asker, query: link_pb2.Query) -> None:
        """Begin to answer a question; the session goes on meanwhile."""
        tasks = self._answering.setdefault(session.peer, set())
        if len(tasks) >= ANSWERING_MAX:
            busy = Exhausted(Reason.TOO_BUSY, f"{ANSWERING_MAX} questions are being answered already")
            await session.send(link_pb2.Frame(answer=_refused(query, busy)))
            return
        task = asyncio.create_task(self._answer(session, query), name=f"answer-{session.peer}")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _answer(self, session: Asker, query: link_pb2.Query) -> None:
        telemetry.extract(query.traceparent)
        timeout_s = min(query.remaining_ms / 1000, ANSWER_TIMEOUT_MAX_S)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._work_out(session.peer, query, timeout_s)
        except TimeoutError:
            answer = _refused(query, TooLate(Reason.DEADLINE, "the question's time ran out"))
        except DomainError as error:
            answer = _refused(query, error)
        except Exception:
            log.exception("link.query_failed", peer=session.peer)
            answer = _refused(query, Away(Reason.DEPENDENCY_AWAY, "the question could not be answered"))
        answer.id = query.id
        await session.send(link_pb2.Frame(answer=answer))

    async def _work_out(self, peer: str, query: link_pb2.Query, timeout_s: float) -> link_pb2.Answer:
        match query.WhichOneof("body"):
            case "products":
                request = sharing_pb2.ListProductsRequest(offered_only=True, page_size=PRODUCTS_MAX)
                page = await self._sharing.ListProducts(request, timeout=timeout_s)
                return link_pb2.Answer(products=page.products)
            case "rows":
                return await self._rows(peer, query, timeout_s)
            case _:
                raise WrongState(Reason.WRONG_STATE, "this node does not know the question")

    async def _rows(self, peer: str, query: link_pb2.Query, timeout_s: float) -> link_pb2.Answer:
        asked = query.rows
        contracts = await self._transactions.read(lambda conn: contracts_store.active_with(conn, peer))
        contract = contracts.get(asked.name)
        try:
            active = check_query(contract, asked, self._transactions.clock.now(), provider=self._node)
        except DomainError as error:
            await self.refuse(asked.name, error, query.actor or f"nodes/{peer}")
            raise
        request = sharing_pb2.ReadForContractRequest(
            product=active.terms.product,
            version=active.terms.product_version,
            fields=[terms for terms in active.terms.fields if not asked.fields or terms.field in asked.fields],
            salt=active.terms.salt,
            where=asked.where,
            page_size=asked.page_size or 100,
            page_token=asked.page_token,
        )
        page = await self._sharing.ReadForContract(request, timeout=timeout_s)
        return link_pb2.Answer(rows=page.rows, next_page_token=page.next_page_token)

    async def refuse(self, contract: str, error: DomainError, actor: str) -> None:
        """Keep and count a refusal, so that both stewards can see it."""
        refusal = NewRefusal(contract, error.reason, error.message, actor, self._node)
        await self._transactions.run(lambda tx: contracts_store.refuse(tx.conn, [refusal], tx.now))


def check_query(
    contract: ActiveContract | None, asked: pb.QueryContractRequest, now: datetime, *, provider: str
) -> ActiveContract:
    """Hold a question against its contract, at either end. Raises Forbidden or WrongState with the reason."""
    if contract is None or not contract.in_time(now):
        raise WrongState(Reason.CONTRACT_NOT_ACTIVE, f"{asked.name} is not in force", contract=asked.name)
    if contract.provider != provider or contract.kind != pb.CONTRACT_KIND_EXCHANGE:
        raise WrongState(Reason.CONTRACT_NOT_ACTIVE, f"{asked.name} gives no rows of {provider}", contract=asked.name)
    visible = contract.fields()
    extra = _first_outside([*asked.fields, *asked.where], visible)
    if extra:
        text = f"field {extra} is not in {asked.name}; it gives {', '.join(sorted(visible))}"
        raise Forbidden(Reason.FIELD_NOT_IN_CONTRACT, text, field=extra, contract=asked.name)
    if asked.purpose and asked.purpose != contract.terms.purpose:
        text = f"the purpose is not that of {asked.name}"
        raise Forbidden("PURPOSE_NOT_IN_CONTRACT", text, contract=asked.name)
    return contract


def _first_outside(names: Iterable[str], visible: frozenset[str]) -> str:
    return next((name for name in names if name not in visible), "")


def _refused(query: link_pb2.Query, error: DomainError) -> link_pb2.Answer:
    return link_pb2.Answer(id=query.id, code=error.code.value[0], reason=error.reason, message=error.message)


_ERRORS: dict[int, type[DomainError]] = {
    kind.code.value[0]: kind for kind in (Forbidden, NotFound, WrongState, Exhausted, Away, TooLate)
}


def _error(answer: link_pb2.Answer) -> DomainError:
    kind = _ERRORS.get(answer.code, Away)
    return kind(answer.reason or grpc.StatusCode.UNKNOWN.name, answer.message)
