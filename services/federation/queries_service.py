"""FederationService, the half about questions: rows of a contract's provider, now, a page or all of them."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from libs.errors import DomainError, Forbidden, Reason
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import contracts_store, query_log
from services.federation.link import LinkSession
from services.federation.query_log import Asked
from services.federation.query_rules import (
    ANSWER_TIMEOUT_MAX_S,
    PAGE_ROWS_MAX,
    STREAM_TIMEOUT_MAX_S,
    check_answer,
    check_query,
)
from services.federation.terms import ActiveContract

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from libs.tx import Transactions
    from services.federation.hub import Hub
    from services.federation.queries import Questions


@dataclass(frozen=True)
class _Question:
    """What is asked, by whom, and the contract that allows it."""

    contract: ActiveContract
    rows: pb.QueryContractRequest
    actor: str
    session: LinkSession

    def query(self) -> link_pb2.Query:
        return link_pb2.Query(actor=self.actor, rows=self.rows)


class QueriesHandler:
    """What the methods that ask under contracts do. The question is held against the contract here and again at the
    provider, the answer here again.
    """

    def __init__(self, node: str, transactions: Transactions, hub: Hub, questions: Questions) -> None:
        self._node = node
        self._transactions = transactions
        self._hub = hub
        self._questions = questions

    async def query(self, request: pb.QueryContractRequest, actor: str) -> pb.QueryContractResponse:
        """Return one page."""
        question = await self._question(request, actor)
        query = question.query()
        answer = await self._questions.ask(question.session, query, ANSWER_TIMEOUT_MAX_S)
        await self._take(question, query.id, 0, answer)
        return pb.QueryContractResponse(rows=answer.rows, next_page_token=answer.next_page_token)

    async def stream(
        self, request: pb.StreamContractRequest, actor: str
    ) -> AsyncGenerator[pb.StreamContractResponse, None]:
        """Yield page after page until the last; the provider reads on only as fast as they are taken."""
        rows = pb.QueryContractRequest(
            name=request.name,
            fields=request.fields,
            purpose=request.purpose,
            where=request.where,
            page_size=request.page_size or PAGE_ROWS_MAX,
            page_token=request.page_token,
        )
        question = await self._question(rows, actor)
        while True:
            query = question.query()
            token = ""
            async with aclosing(self._questions.stream(question.session, query, STREAM_TIMEOUT_MAX_S)) as answers:
                number = 0
                async for answer in answers:
                    await self._take(question, query.id, number, answer)
                    number += 1
                    token = answer.next_page_token
                    yield pb.StreamContractResponse(rows=answer.rows, next_page_token=token)
            if not token:
                return
            # A provider that is a release behind answers with one page at a time.
            question.rows.page_token = token

    async def _question(self, rows: pb.QueryContractRequest, actor: str) -> _Question:
        """Check what is asked. Raises what the contract says against it, and Away when the provider is away."""
        contract, peer = await self._transactions.read(lambda conn: contracts_store.get(conn, rows.name))
        active = await self._transactions.read(lambda conn: contracts_store.active_with(conn, peer))
        try:
            now = self._transactions.clock.now()
            found = check_query(active.get(rows.name), rows, now, provider=contract.provider)
            if contract.consumer != self._node:
                raise Forbidden(Reason.NOT_PERMITTED, f"only {contract.consumer} may ask under {rows.name}")
        except DomainError as error:
            await self._refuse(rows.name, error, actor)
            raise
        told = pb.QueryContractRequest()
        told.CopyFrom(rows)
        told.purpose = found.terms.purpose  # both ends keep the same
        return _Question(found, told, f"{actor}@{self._node}", await self._hub.reach(peer))

    async def _take(self, question: _Question, query: str, number: int, answer: link_pb2.Answer) -> None:
        """Check and count an answer before anybody gets to see it."""
        try:
            check_answer(question.contract, question.rows, answer)
            fields = tuple(question.rows.fields)
            kept = Asked(query, number, question.actor, self._node, question.rows.purpose, fields)
            await query_log.take(self._transactions, question.contract, kept, len(answer.rows))
        except DomainError as error:
            await self._refuse(question.rows.name, error, question.actor)
            raise

    async def _refuse(self, contract: str, error: DomainError, actor: str) -> None:
        await query_log.refuse(self._transactions, contract, error, actor=actor, node=self._node)
