"""What the tiers take in: askings and offers, their answers, events that move, and supervision by directive."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from libs import names
from libs.errors import DomainError, Invalid, Reason, WrongState
from quintet.federation.v1 import directive_pb2
from quintet.management.v1 import facts_pb2
from services.management import store_events
from services.management.catalogue import store_loops
from services.management.deadlines import store_exceptions
from services.management.deadlines.model_exceptions import Kind
from services.management.handover import store_handovers
from services.management.handover.model_turns import accept, refuse
from services.management.model import EVENT_NAME
from services.management.tiers import store_moves, store_take_overs, texts
from services.management.tiers.convert_tiers import asked_of, state_of, take_over_pb
from services.management.tiers.model import (
    TAKE_OVER_NAME,
    Refusal,
    State,
    TakeOver,
    following,
    handing_over,
    moved,
    objection,
    refusal,
    refused,
)

if TYPE_CHECKING:
    from libs.tx import Tx
    from quintet.fact.v1.fact_pb2 import Fact
    from quintet.federation.v1.facts_pb2 import DirectiveChanged
    from services.management.deadlines.ledger import Ledger
    from services.management.facts_mirrored import MirrorHandlers
    from services.management.handover.model_turns import Turn
    from services.management.handover.trail import Trail
    from services.management.model import Event
    from services.management.tiers.model import Move
    from services.management.tiers.moving import Moving

_ACTED_UPON = frozenset((directive_pb2.DIRECTIVE_STATE_DELIVERED, directive_pb2.DIRECTIVE_STATE_ACKNOWLEDGED))

log = structlog.get_logger()


class TierHandlers:
    """Answers what the tier above asks for, and follows where events go."""

    def __init__(self, node: str, mirrored: MirrorHandlers, moving: Moving, ledger: Ledger, trail: Trail) -> None:
        self._node = node
        self._trail = trail
        self._mirrored = mirrored
        self._moving = moving
        self._ledger = ledger

    async def take_over_asked(self, tx: Tx, fact: Fact, message: facts_pb2.TakeOverAsked) -> None:
        """Give an event up to the node above that asks for it, or refuse. What was answered stays as it is.

        Raises Invalid for an asking that does not come from above, or in another's name.
        """
        told = message.take_over
        await self._learn(tx, fact)
        if not fact.received_from or told.from_node != self._node:
            return
        if told.to_node != fact.node or await store_moves.is_below(tx.conn, fact.received_from):
            raise Invalid("takeOver.toNode", f"{told.name} is not of the tier above, but of {fact.node}")
        parts = names.parse(told.name, TAKE_OVER_NAME, field="takeOver.name")
        if (parts["zone"], told.name.rpartition("/takeOvers/")[0]) != (told.zone, told.event):
            raise Invalid("takeOver.event", f"{told.name} is not of {told.event} in {told.zone}")
        event = await store_events.lock(tx.conn, told.event)
        if await store_take_overs.get(tx.conn, told.name) is not None:
            return
        asked = asked_of(told)
        why = objection(event, asked, node=self._node, now=tx.now)
        loop = await _loop(tx, event) if event is not None else ""
        if event is not None and why is None and not loop:
            why = refusal(Reason.LOOP_NOT_FOUND, texts.LOOP_LOST, loop=event.loop)
        if event is None or why is not None:
            await self._refuse(tx, asked, why or refusal(Reason.EVENT_NOT_FOUND, texts.UNKNOWN))
            return
        after = await self._moving.give_up(tx, event, following(asked), loop, above=True)
        await store_take_overs.insert(tx.conn, moved(asked, after.revision, tx.now))

    async def _refuse(self, tx: Tx, asked: TakeOver, why: Refusal) -> None:
        answer = refused(asked, why, tx.now)
        await store_take_overs.insert(tx.conn, answer)
        message = facts_pb2.TakeOverRefused(take_over=take_over_pb(answer, tx.now))
        tx.publish(message, zone=asked.zone, key=asked.event)
        tx.audit("management.take_overs.refuse", asked.name, reason=why.reason)

    async def take_over_refused(self, tx: Tx, fact: Fact, message: facts_pb2.TakeOverRefused) -> None:
        """Note that the node below keeps its event. What has moved meanwhile stays moved."""
        told = message.take_over
        asked = await self._own_asking(tx, fact, told.name)
        if asked is None or asked.state is not State.ASKED or state_of(told.state) is not State.REFUSED:
            return
        why = Refusal(told.refusal, told.refusal_text.zh, told.refusal_text.en)
        await store_take_overs.answer(tx.conn, refused(asked, why, tx.now))

    async def event_moved(self, tx: Tx, fact: Fact, message: facts_pb2.EventMoved) -> None:
        """Follow an event to its new home, and go on with it when that is this node.

        Raises Invalid for an event that this node never asked for: nobody makes it the home of what it does not want.
        """
        told = message.event
        if not fact.received_from or fact.node == self._node:
            return
        ours = message.to_node == self._node
        wanted = await self._wanted(tx, fact, message) if ours else None
        if message.to_node != told.node or (ours and wanted is None):
            raise Invalid("toNode", f"{told.name} was not asked for by {message.to_node or 'anybody'}")
        event = await self._mirrored.event_moved(tx, fact, message)
        if event is None:
            return
        above = not ours and await store_moves.is_above(tx.conn, message.to_node)
        await store_moves.move(tx.conn, replace(event, revision=told.revision), message.to_node, above=above)
        asked = await self._own_asking(tx, fact, message.take_over)
        if ours and asked is not None:
            await store_take_overs.answer(tx.conn, moved(asked, told.revision, tx.now))
        if wanted is not None:
            await self._moving.take_up(tx, message, wanted)

    async def _wanted(self, tx: Tx, fact: Fact, message: facts_pb2.EventMoved) -> Move | None:
        """Return the move that this node asked for, or that its people accepted; None when nobody here did."""
        asked = await self._own_asking(tx, fact, message.take_over)
        if asked is not None and asked.event == message.event.name:
            return following(asked)
        handover = await store_handovers.get(tx.conn, message.handover) if message.handover else None
        if handover is None or (handover.event, handover.to_node) != (message.event.name, self._node):
            return None
        actor = await store_handovers.accepted_by(tx.conn, handover.name)
        return handing_over(handover, message.from_node, actor) if actor is not None else None

    async def handover_answered(self, tx: Tx, fact: Fact, message: facts_pb2.HandoverAnswered) -> None:
        """Do what the organisation of another tier says to an offer of this node: the event moves, or stays.

        What cannot be done any more is left as it is: the offer lapses, or has lapsed, and the other node hears of it.
        Raises Invalid for an answer in another's name.
        """
        await self._learn(tx, fact)
        event = await store_events.lock(tx.conn, message.handover.rpartition("/handovers/")[0])
        handover = await store_handovers.get(tx.conn, message.handover)
        if not fact.received_from or event is None or handover is None or event.node != self._node:
            return
        below = await store_moves.is_below(tx.conn, fact.received_from)
        if handover.to_node != fact.node or (below and fact.received_from != fact.node):
            raise Invalid("handover", f"{handover.name} is not for {fact.node} to answer")
        try:
            if not message.accepted:
                turn = refuse(event, handover, reason=message.note, actor=message.answered_by, now=tx.now)
                await self._trail.take(tx, event, turn)
                return
            turn = accept(event, handover, note=message.note, actor=message.answered_by, now=tx.now)
        except DomainError as error:
            log.info("management.handover_not_answered", handover=handover.name, error=str(error))
            return
        await self._hand_over(tx, event, turn, above=not below)

    async def _hand_over(self, tx: Tx, event: Event, turn: Turn, *, above: bool) -> None:
        loop = await _loop(tx, event)
        if not loop:
            log.warning("management.handover_without_loop", handover=turn.handover.name, loop=event.loop)
            return
        await self._trail.take(tx, event, turn)
        left = await store_events.lock(tx.conn, event.name)
        if left is not None:
            actor = turn.handover.answered_by
            await self._moving.give_up(tx, left, handing_over(turn.handover, self._node, actor), loop, above=above)

    async def _learn(self, tx: Tx, fact: Fact) -> None:
        """Remember who is above: an event that moves there is told of from there. Whoever may get one speaks first."""
        if fact.received_from and not await store_moves.is_below(tx.conn, fact.received_from):
            await store_moves.learn_above(tx.conn, fact.node)

    async def _own_asking(self, tx: Tx, fact: Fact, name: str) -> TakeOver | None:
        """Return an asking of this node that the fact's node has answered."""
        asked = await store_take_overs.get(tx.conn, name)
        known = asked is not None and (asked.to_node, asked.from_node) == (self._node, fact.node)
        return asked if known and fact.received_from else None

    async def directive_changed(self, tx: Tx, fact: Fact, message: DirectiveChanged) -> None:
        """Note in the ledger that the tier above supervises an event (督办): a directive whose subject is the event.

        Federation has checked that it comes from above under a charter. The directive itself is answered by people.
        """
        directive = message.directive
        if fact.received_from or directive.to_node != self._node or directive.from_node == self._node:
            return
        if directive.state not in _ACTED_UPON or not _is_event(directive.subject):
            return
        event = await store_events.lock(tx.conn, directive.subject)
        if event is None or event.node != self._node or await self._is_noted(tx, event, directive.name):
            return
        said = directive.text or directive.title
        zh, en = texts.SUPERVISED.fill(node=directive.from_node, directive=directive.name, text=said)
        actor = directive.issued_by or f"nodes/{directive.from_node}"
        try:
            await self._ledger.record(tx, event, Kind.SUPERVISION, f"{zh}\n{en}", actor=actor)
        except WrongState as error:
            log.info("management.not_supervised", about=event.name, directive=directive.name, error=str(error))

    async def _is_noted(self, tx: Tx, event: Event, directive: str) -> bool:
        entries = await store_exceptions.effects(tx.conn, event.name)
        return any(entry.kind is Kind.SUPERVISION and directive in entry.reason for entry in entries)


async def _loop(tx: Tx, event: Event) -> str:
    """Return the text of the loop by which an event goes; "" when this node lost it."""
    found = await store_loops.get(tx.conn, event.loop, event.loop_version)
    return found.definition if found else ""


def _is_event(subject: str) -> bool:
    try:
        names.parse(subject, EVENT_NAME, field="subject")
    except Invalid:
        return False
    return True
