"""Directives that other services of this node want: a step of a plan for a zone that another node handles.

They say so by a fact, as nobody waits for the answer: it comes as the facts about the directive, which have the same
subject. Whether a person may act on another node's zone was checked where they activated the plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from libs.errors import DomainError, Exhausted, Invalid, NotFound, WrongState
from quintet.federation.v1 import directive_pb2 as pb
from quintet.federation.v1.facts_pb2 import DirectiveNotGiven
from quintet.management.v1.facts_pb2 import DirectiveUnwanted, DirectiveWanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.tx import Tx
    from quintet.fact.v1.fact_pb2 import Fact
    from services.federation.directives import Directives

WANTED = DirectiveWanted.DESCRIPTOR.full_name
UNWANTED = DirectiveUnwanted.DESCRIPTOR.full_name
# Trying again changes nothing about these; all else is tried again with the fact.
_REFUSALS = (Exhausted, Invalid, NotFound, WrongState)

log = structlog.get_logger()


class WantedDirectives:
    """Gives and takes back what the other services of one node want."""

    def __init__(self, node: str, directives: Directives) -> None:
        self._node = node
        self._directives = directives

    async def hear(self, tx: Tx, facts: Sequence[Fact]) -> None:
        """Runs in the transaction that marks the facts as taken, so that each directive is given once."""
        for fact in facts:
            if fact.node != self._node or fact.received_from:
                continue
            if fact.type == WANTED:
                await self._give(tx, DirectiveWanted.FromString(fact.data))
            elif fact.type == UNWANTED:
                await self._take_back(tx, DirectiveUnwanted.FromString(fact.data))

    async def _give(self, tx: Tx, wanted: DirectiveWanted) -> None:
        asked = pb.Directive(
            zone=wanted.zone,
            organisation=wanted.organisation,
            title=wanted.title,
            text=wanted.text,
            subject=wanted.subject,
            acknowledge_by=wanted.acknowledge_by,
            expires_at=wanted.expires_at,
        )
        try:
            async with tx.conn.transaction():  # what was written of a directive that cannot be given is undone
                await self._directives.send(tx, asked, wanted.issued_by)
        except _REFUSALS as error:
            self._refuse(tx, wanted, error)

    def _refuse(self, tx: Tx, wanted: DirectiveWanted, error: DomainError) -> None:
        log.warning("directive.not_given", subject=wanted.subject, zone=wanted.zone, reason=str(error.reason))
        told = DirectiveNotGiven(subject=wanted.subject, reason=str(error.reason), text=str(error))
        tx.publish(told, zone=wanted.zone, key=wanted.subject)

    async def _take_back(self, tx: Tx, unwanted: DirectiveUnwanted) -> None:
        try:
            await self._directives.cancel(tx, unwanted.directive, unwanted.reason)
        except (NotFound, WrongState) as error:
            # It was answered meanwhile, or has been taken back already.
            log.info("directive.not_taken_back", directive=unwanted.directive, reason=str(error))
