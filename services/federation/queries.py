"""Questions on demand between nodes, both ends: what a session hands its frames of questions and answers to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.federation.answering import Answering
from services.federation.asking import Asking, Post

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from libs.tx import Transactions
    from quintet.federation.v1 import link_pb2
    from quintet.sharing.v1 import sharing_pb2_grpc
    from services.federation.answering import GiveEvidence
    from services.federation.asking import Session
    from services.federation.disclosures import Disclosures


class Questions:
    """Asks peers, and answers them."""

    def __init__(
        self,
        node: str,
        transactions: Transactions,
        sharing: sharing_pb2_grpc.SharingServiceStub,
        disclosures: Disclosures,
    ) -> None:
        post = Post()
        self._asking = Asking(post)
        self._answering = Answering(node, transactions, sharing, post, disclosures)

    async def ask(self, session: Session, query: link_pb2.Query, timeout_s: float) -> link_pb2.Answer:
        """See Asking.ask."""
        return await self._asking.ask(session, query, timeout_s)

    def stream(
        self, session: Session, query: link_pb2.Query, timeout_s: float
    ) -> AsyncGenerator[link_pb2.Answer, None]:
        """See Asking.stream."""
        return self._asking.stream(session, query, timeout_s)

    def answer_evidence_by(self, give: GiveEvidence) -> None:
        """Answer questions for photos and files of events, too."""
        self._answering.give_evidence = give

    async def take(self, session: Session, query: link_pb2.Query) -> None:
        """Take a question of the peer, or more credit for one."""
        await self._answering.take(session, query)

    def cancelled(self, session: Session, cancel: link_pb2.CancelQuery) -> None:
        """Take a question of the peer back."""
        self._answering.cancelled(session, cancel.id)

    def answered(self, session: Session, answer: link_pb2.Answer) -> None:
        """Take an answer of the peer."""
        self._asking.answered(session, answer)

    def lost(self, session: Session) -> None:
        """The link broke: nobody will answer, and nobody waits for answers."""
        self._asking.lost(session)
        self._answering.lost(session)
