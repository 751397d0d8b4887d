"""Hand-overs to an organisation of another tier: its people answer at their node, and the event's home hears of it.

The home alone changes the event and the hand-over. An acceptance moves the event to the node that answered; one that
comes after the home let the offer lapse changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from libs.errors import Invalid, Reason, WrongState
from quintet.management.v1 import facts_pb2
from services.management.convert import time_pb
from services.management.handover import store_handovers
from services.management.handover.model import Handover, State

if TYPE_CHECKING:
    from libs.tx import Tx
    from services.management.model import Event


def check_here(handover: Handover, node: str) -> None:
    """Raise WrongState for a hand-over between tiers that is answered at another node than this one."""
    if handover.to_node and handover.to_node != node:
        text = f"{handover.name} is answered at node {handover.to_node}"
        raise WrongState(Reason.NOT_AUTHORITATIVE, text, name=handover.name, node=handover.to_node)


async def answer(tx: Tx, event: Event, handover: Handover, *, accepted: bool, note: str, actor: str) -> Handover:
    """Tell the home of an event what this node's organisation says; return the hand-over as far as it is known here.

    Raises WrongState for one that is not offered any more, or whose event this node was not told of from the beginning;
    Invalid for a refusal without a reason.
    """
    about = {"name": handover.name, "state": str(handover.state)}
    if handover.state is not State.OFFERED or tx.now >= handover.answer_due_at:
        raise WrongState(Reason.WRONG_STATE, f"{handover.name} cannot be answered any more", **about)
    if not accepted and not note.strip():
        raise Invalid("reason", "is required to refuse")
    if accepted:
        if event.partial:
            text = f"{event.name} was opened before this node was told of it"
            raise WrongState(Reason.HISTORY_MISSING, text, **about)
        await store_handovers.accept_across(tx.conn, handover.name, actor, tx.now)
    message = facts_pb2.HandoverAnswered(
        handover=handover.name, accepted=accepted, note=note, answered_by=actor, answered_at=time_pb(tx.now)
    )
    tx.publish(message, zone=event.zone, key=event.name)
    tx.audit("management.handovers.answer", handover.name, accepted=accepted)
    return replace(handover, answered_by=actor, answered_at=tx.now, answer=note)
