"""What hand-overs take in: those of other nodes under a tier charter, and decisions of the tier above by directive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from libs.errors import DomainError
from quintet.federation.v1 import directive_pb2
from services.management import store_events
from services.management.handover import store_handovers
from services.management.handover.convert_handovers import handover_of, state_of
from services.management.handover.model_turns import decide

if TYPE_CHECKING:
    from libs.tx import Tx
    from quintet.fact.v1.fact_pb2 import Fact
    from quintet.federation.v1.facts_pb2 import DirectiveChanged
    from quintet.management.v1.facts_pb2 import HandoverAcross, HandoverChanged
    from services.management.facts_mirrored import MirrorHandlers
    from services.management.handover.trail import Trail

_ACTED_UPON = frozenset((directive_pb2.DIRECTIVE_STATE_DELIVERED, directive_pb2.DIRECTIVE_STATE_ACKNOWLEDGED))

log = structlog.get_logger()


class HandoverHandlers:
    """Keeps the hand-overs of other nodes beside the own ones, and does what the tier above decides."""

    def __init__(self, node: str, mirrored: MirrorHandlers, trail: Trail) -> None:
        self._node = node
        self._mirrored = mirrored
        self._trail = trail

    async def handover_changed(self, tx: Tx, fact: Fact, message: HandoverChanged | HandoverAcross) -> None:
        """Store another node's hand-over as it is now. Raises Invalid for one that speaks for somebody else."""
        told = message.handover
        if not self._mirrored.is_mirrored(fact, told.event, told.zone, told.node):
            return
        if not await self._mirrored.is_home(tx, fact, told.event, told.revision):
            return
        state = state_of(told.state)
        if state is None:
            log.warning("management.handover_not_understood", handover=told.name, node=told.node)
            return
        await store_handovers.put(tx.conn, handover_of(told, state=state))

    async def directive_changed(self, tx: Tx, fact: Fact, message: DirectiveChanged) -> None:
        """Decide a dispute as the tier above says: the directive is about the hand-over and to one of the two.

        Federation has checked that it comes from above under a charter. What cannot be decided so any more is left as
        it is: the directive itself stays open, and somebody has to answer it.
        """
        directive = message.directive
        about = directive.subject
        if fact.received_from or directive.to_node != self._node or directive.from_node == self._node:
            return
        if "/handovers/" not in about or directive.state not in _ACTED_UPON:
            return
        event = await store_events.lock(tx.conn, about.rpartition("/handovers/")[0])
        handover = await store_handovers.get(tx.conn, about)
        if event is None or handover is None or event.node != self._node:
            return
        try:
            turn = decide(
                event,
                handover,
                directive.organisation,
                reason=directive.text or directive.title,
                actor=directive.issued_by or f"nodes/{directive.from_node}",
                now=tx.now,
                directive=(directive.from_node, directive.name),
            )
        except DomainError as error:
            log.info("management.handover_not_decided", handover=about, directive=directive.name, error=str(error))
            return
        await self._trail.take(tx, event, turn)
