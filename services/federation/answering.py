"""The answering end of questions: under contract, within the asker's time, only as fast as the asker reads."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from itertools import count
from typing import TYPE_CHECKING

import structlog

from libs import telemetry
from libs.context import caller_subject, deadline
from libs.errors import Away, DomainError, Exhausted, Forbidden, Invalid, Reason, TooLate, WrongState
from quintet.federation.v1 import link_pb2
from quintet.sharing.v1 import sharing_pb2
from services.federation import contracts_store, query_log, rows
from services.federation.query_log import Asked
from services.federation.query_rules import (
    ACTOR_CHARS_MAX,
    ANSWER_TIMEOUT_MAX_S,
    STREAM_TIMEOUT_MAX_S,
    check_query,
    page_rows,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from libs.tx import Transactions
    from quintet.sharing.v1 import sharing_pb2_grpc
    from services.federation.asking import Post, Session
    from services.federation.disclosures import Disclosures

    GiveEvidence = Callable[[str, link_pb2.Query], AsyncGenerator[link_pb2.Answer, None]]

# Questions of one peer that are worked on at a time; further ones are turned away, not queued.
ANSWERING_MAX = 8
PRODUCTS_MAX = 1000

log = structlog.get_logger()


class Work:
    """One question that is being answered; `credit` is the number of answers that may be sent now."""

    def __init__(self, credit: int) -> None:
        self.task: asyncio.Task[None] | None = None
        self._credit = credit
        self._changed = asyncio.Event()

    def more(self, credit: int) -> None:
        """Let further answers go."""
        self._credit += max(0, credit)
        self._changed.set()

    async def spend(self) -> None:
        """Wait until an answer may go."""
        while self._credit < 1:
            self._changed.clear()
            await self._changed.wait()
        self._credit -= 1


class Answering:
    """Answers what peers ask of this node."""

    def __init__(
        self,
        node: str,
        transactions: Transactions,
        sharing: sharing_pb2_grpc.SharingServiceStub,
        post: Post,
        disclosures: Disclosures,
    ) -> None:
        self._node = node
        self._transactions = transactions
        self._sharing = sharing
        self._post = post
        self._disclosures = disclosures
        # Answers questions for photos and files of events; set when the service is wired.
        self.give_evidence: GiveEvidence | None = None
        self._work: dict[Session, dict[str, Work]] = {}

    async def take(self, session: Session, query: link_pb2.Query) -> None:
        """Begin to answer a question, or go on with one that is under way; the session goes on meanwhile."""
        at_work = self._work.setdefault(session, {})
        if query.id in at_work:
            at_work[query.id].more(query.credit)
            return
        if query.WhichOneof("body") is None and query.credit and not query.stream:
            return  # credit for a stream that has ended
        if len(at_work) >= ANSWERING_MAX:
            busy = Exhausted(Reason.TOO_BUSY, f"{ANSWERING_MAX} questions are being answered already")
            with suppress(Away):
                await self._post.send(session, link_pb2.Frame(answer=refused(query, busy)))
            return
        work = at_work[query.id] = Work(max(1, query.credit))
        work.task = asyncio.create_task(self._answer(session, query, work), name=f"answer-{session.peer}")
        work.task.add_done_callback(lambda _: at_work.pop(query.id, None))

    def cancelled(self, session: Session, query: str) -> None:
        """The asker does not wait any more: stop, with all that was begun for it."""
        work = self._work.get(session, {}).get(query)
        if work is not None and work.task is not None:
            work.task.cancel()

    def lost(self, session: Session) -> None:
        """The link broke: nobody would hear the answers."""
        for work in self._work.pop(session, {}).values():
            if work.task is not None:
                work.task.cancel()

    async def _answer(self, session: Session, query: link_pb2.Query, work: Work) -> None:
        telemetry.extract(query.traceparent)
        caller_subject.set(f"nodes/{session.peer}")
        most_s = STREAM_TIMEOUT_MAX_S if query.stream else ANSWER_TIMEOUT_MAX_S
        timeout_s = min(query.remaining_ms / 1000, most_s)
        deadline.set(asyncio.get_running_loop().time() + timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                await self._give(session, query, work)
        except TimeoutError:
            last = refused(query, TooLate(Reason.DEADLINE, "the question's time ran out"))
        except DomainError as error:
            last = refused(query, error)
        except Exception:
            log.exception("link.query_failed", peer=session.peer)
            last = refused(query, Away(Reason.DEPENDENCY_AWAY, "the question could not be answered"))
        else:
            return
        with suppress(Away):
            await self._post.send(session, link_pb2.Frame(answer=last))

    async def _give(self, session: Session, query: link_pb2.Query, work: Work) -> None:
        """Send the answer, or one answer after another until the end; each is worked out when it may go."""
        more = True
        async with aclosing(self._answers(session.peer, query)) as answers:
            while more:
                await work.spend()
                answer = await anext(answers)
                answer.id = query.id
                more = answer.more
                await self._post.send(session, link_pb2.Frame(answer=answer))

    async def _answers(self, peer: str, query: link_pb2.Query) -> AsyncGenerator[link_pb2.Answer, None]:
        match query.WhichOneof("body"):
            case "products":
                request = sharing_pb2.ListProductsRequest(offered_only=True, page_size=PRODUCTS_MAX)
                page = await self._sharing.ListProducts(request, timeout=ANSWER_TIMEOUT_MAX_S)
                yield link_pb2.Answer(products=page.products)
            case "rows":
                for number in count():
                    answer = await self._rows(peer, query, number)
                    answer.more = query.stream and bool(answer.next_page_token)
                    yield answer
                    query.rows.page_token = answer.next_page_token
            case "event_evidence" if self.give_evidence is not None and query.stream:
                async with aclosing(self.give_evidence(peer, query)) as parts:
                    async for part in parts:
                        yield part
            case _:
                raise WrongState(Reason.WRONG_STATE, "this node does not know the question")

    async def _rows(self, peer: str, query: link_pb2.Query, number: int) -> link_pb2.Answer:
        """Read one page. The contract is looked at for every page: when it ends, a stream under it ends too."""
        asked = query.rows
        actor = (query.actor or f"nodes/{peer}")[:ACTOR_CHARS_MAX]
        contracts = await self._transactions.read(lambda conn: contracts_store.active_with(conn, peer))
        try:
            active = check_query(contracts.get(asked.name), asked, self._transactions.clock.now(), provider=self._node)
            page = await self._sharing.ReadForContract(
                rows.reading(active.terms, asked, page_rows(asked)), timeout=ANSWER_TIMEOUT_MAX_S
            )
            kept = Asked(query.id, number, actor, peer, active.terms.purpose, tuple(asked.fields))
            disclosed = self._disclosures.of_rows(active, page.subjects, asked=asked.fields, on_request=True)
            await query_log.give(self._transactions, active, kept, len(page.rows), disclosed)
        except (Exhausted, Forbidden, Invalid, WrongState) as error:
            await query_log.refuse(self._transactions, asked.name, error, actor=actor, node=self._node)
            raise
        return link_pb2.Answer(rows=page.rows, next_page_token=page.next_page_token)
