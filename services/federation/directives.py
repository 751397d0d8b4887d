"""Directives on their way: given here, passed down to the node that has to act, and what became of them passed up.

A directive comes from the parent only, under the tier charter, and news of it only from where it was passed to. Each
hop keeps its own record in the transaction that takes the message.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from libs import names, rules
from libs.context import caller_subject
from libs.duty import on_duty
from libs.errors import Exhausted, Forbidden, NotFound, Reason, WrongState
from libs.ids import new_id
from quintet.federation.v1 import directive_pb2 as pb
from quintet.federation.v1 import facts_pb2, federation_pb2, link_pb2
from services.federation import (
    alarms,
    contracts_store,
    directive_rules,
    directives_store,
    membership_store,
    peers_store,
)
from services.federation.directives_store import Kept

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.federation.control import Refusal
    from services.federation.peers_store import Peer

NAME = "directives/{directive}"
# Directives of one node that are not over; more are turned away.
OPEN_MAX = 10_000
LOOK_BATCH = 100
LOOK_POLL_S = 5.0
UNANSWERED = "DIRECTIVE_UNANSWERED"

log = structlog.get_logger()


class Directives:
    """Takes and applies the steps of directives for one node."""

    def __init__(self, node: str, zones: Callable[[], ZoneTree], wake: Callable[[str], None]) -> None:
        """`wake` is told the peers that have something waiting."""
        self._node = node
        self._zones = zones
        self._wake = wake

    # ----------------------------------------------------------------------------------------------- our own steps

    async def send(self, tx: Tx, asked: pb.Directive, person: str) -> pb.Directive:
        """Give a directive to a zone of this node or below it.

        Raises Invalid, NotFound for a zone that is not ours, WrongState without a charter, and Exhausted.
        """
        name = names.build(NAME, directive=new_id())
        directive = directive_rules.issued(asked, name=name, node=self._node, person=person, now=tx.now)
        kept = await self._begin(tx, directive, upper="")
        tx.audit("federation.directives.send", name, zone=directive.zone, organisation=directive.organisation)
        return kept.directive

    async def acknowledge(self, tx: Tx, name: str, person: str) -> pb.Directive:
        """Say that somebody of this node has taken it up. Raises NotFound and WrongState."""
        kept = await self.ours(tx.conn, name)
        after = directive_rules.acknowledged(kept.directive, person=person, now=tx.now)
        return await self._step(tx, kept, after, "acknowledge")

    async def answer(self, tx: Tx, name: str, answer: str, person: str) -> pb.Directive:
        """Answer it for this node. Raises NotFound and WrongState."""
        kept = await self.ours(tx.conn, name)
        after = directive_rules.answered(kept.directive, answer, person=person, now=tx.now)
        return await self._step(tx, kept, after, "answer")

    async def cancel(self, tx: Tx, name: str, reason: str) -> pb.Directive:
        """Take one of this node's back. Raises NotFound and WrongState."""
        kept = await directives_store.get(tx.conn, name, lock=True)
        if kept.upper:
            raise WrongState(Reason.DIRECTIVE_NOT_OURS, f"{kept.directive.from_node} gave {name}", name=name)
        return await self._step(tx, kept, directive_rules.cancelled(kept.directive, reason), "cancel")

    async def ours(self, conn: Connection, name: str) -> Kept:
        """Return and lock a directive upon which this node has to act. Raises NotFound and WrongState."""
        kept = await directives_store.get(conn, name, lock=True)
        if not kept.here:
            raise WrongState(Reason.DIRECTIVE_NOT_OURS, f"{name} is for {kept.directive.to_node}", name=name)
        return kept

    # --------------------------------------------------------------------------------------------- from other nodes

    async def handle(self, tx: Tx, peer: Peer, envelope: link_pb2.Envelope) -> Refusal | None:
        """Apply a peer's message; what was applied before changes nothing. Raises a DomainError when it may not be."""
        told = envelope.directive_message.directive
        rules.validate(told)
        names.parse(told.name, NAME, field="directive.name")
        kept = await directives_store.find(tx.conn, told.name, lock=True)
        if kept is None:
            await self._receive(tx, peer, told)
        elif peer.node == kept.upper:
            await self._step(tx, kept, directive_rules.told_from_above(kept.directive, told), "told", peer.node)
        elif peer.node == kept.lower:
            await self._step(tx, kept, directive_rules.told_from_below(kept.directive, told), "told", peer.node)
        else:
            raise Forbidden(Reason.NOT_PERMITTED, f"{told.name} is nothing of {peer.node}'s", directive=told.name)
        return None

    async def _receive(self, tx: Tx, peer: Peer, told: pb.Directive) -> None:
        if peer.kind != federation_pb2.PEER_KIND_PARENT:
            raise Forbidden(Reason.NOT_PERMITTED, f"{peer.node} is not above this node", directive=told.name)
        if not await _charter(tx, peer.node, provider=peer.node):
            raise _no_charter(peer.node)
        directive = directive_rules.received(told, node=self._node)
        kept = await self._begin(tx, directive, upper=peer.node)
        state = pb.DirectiveState.Name(kept.directive.state)
        tx.audit("federation.directives.receive", directive.name, zone=directive.zone, state=state, lower=kept.lower)

    async def _begin(self, tx: Tx, directive: pb.Directive, upper: str) -> Kept:
        """Keep a new directive here, or pass it on to the child that its zone is delegated to."""
        if await directives_store.open_count(tx.conn) >= OPEN_MAX:
            raise Exhausted(Reason.TOO_BUSY, f"more than {OPEN_MAX} directives are open")
        lower = await self._below(tx.conn, directive.zone)
        if lower:
            directive.to_node = lower
        else:
            directive = directive_rules.delivered(directive, node=self._node, now=tx.now)
        kept = Kept(directive, upper, lower, self._look_at(directive, upper, lower))
        await directives_store.insert(tx.conn, kept)
        if lower and not await self._tell(tx, lower, directive, down=True):
            raise _no_charter(lower)
        if upper and not lower and directive.state != directive_rules.CANCELLED:
            await self._tell(tx, upper, directive, down=False)
        self._state(tx, directive)
        return kept

    async def _below(self, conn: Connection, zone: str) -> str:
        """Return the child that the zone is delegated to, "" when this node serves it. Raises NotFound."""
        tree = self._zones()
        if zone not in tree or not tree.covers(tree.root, zone):
            raise NotFound(Reason.ZONE_NOT_FOUND, f"zones/{zone} is not a zone of this node", zone=zone)
        for code in reversed(tree.path(zone)):
            record = tree.record(code)
            # A delegation may still stand under the code that the zone had before it was renamed.
            for known in (code, *(record.aliases if record else ())):
                if node := await membership_store.delegation(conn, known):
                    return node
        return ""

    # ------------------------------------------------------------------------------------------------------- common

    async def _step(self, tx: Tx, kept: Kept, after: pb.Directive, action: str, told_by: str = "") -> pb.Directive:
        """Keep a change, state it, and tell the nodes above and below that do not know it yet."""
        if after == kept.directive:
            return after
        state = pb.DirectiveState.Name(after.state)
        changed = kept.after(after, self._look_at(after, kept.upper, kept.lower))
        await directives_store.update(tx.conn, changed)
        down = after.state == directive_rules.CANCELLED
        if (peer := kept.lower if down else kept.upper) not in {"", told_by}:
            await self._tell(tx, peer, after, down=down)
        if not kept.upper and after.escalations:
            await self._settle(tx, changed)
        self._state(tx, after)
        tx.audit(f"federation.directives.{action}", after.name, state=state, reason=after.reason, peer=told_by)
        return after

    async def _settle(self, tx: Tx, kept: Kept) -> None:
        if not await directives_store.unsettled(tx.conn, kept.lower, self._node):
            await alarms.clear_alarm(tx, peer=kept.lower, name=UNANSWERED)

    def _look_at(self, directive: pb.Directive, upper: str, lower: str) -> datetime | None:
        return directive_rules.look_at(directive, escalates=_escalates(upper, lower))

    def _state(self, tx: Tx, directive: pb.Directive) -> None:
        tx.publish(facts_pb2.DirectiveChanged(directive=directive), zone=directive.zone, key=directive.name)

    async def _tell(self, tx: Tx, peer: str, directive: pb.Directive, *, down: bool) -> bool:
        """Queue the directive for a peer under the charter; False, and nothing leaves, when there is none in force."""
        contract = await _charter(tx, peer, provider=self._node if down else peer)
        if not contract:
            return False
        message = link_pb2.DirectiveMessage(id=new_id(), directive=directive)
        message.time.FromDatetime(tx.now)
        envelope = link_pb2.Envelope(lane=link_pb2.LANE_CONTROL, contract=contract, directive_message=message)
        queued = [(contract, envelope.SerializeToString())]
        await peers_store.enqueue(tx.conn, peer, queued, link_pb2.LANE_CONTROL)
        tx.after_commit(partial(self._wake, peer))
        return True

    # --------------------------------------------------------------------------------------------------- what is due

    async def look(self, tx: Tx) -> int:
        """Escalate and expire what is due; return how many directives were looked at."""
        found = await directives_store.due(tx.conn, tx.now, LOOK_BATCH)
        for kept in found:
            await self._look(tx, kept)
        return len(found)

    async def _look(self, tx: Tx, kept: Kept) -> None:
        escalates = _escalates(kept.upper, kept.lower)
        after, reason = directive_rules.looked(kept.directive, tx.now, escalates=escalates)
        changed = kept.after(after, self._look_at(after, kept.upper, kept.lower))
        await directives_store.update(tx.conn, changed)
        if after.state != kept.directive.state:
            self._state(tx, after)
            if kept.here and kept.upper:
                await self._tell(tx, kept.upper, after, down=False)
        if not reason:
            return
        told = after.organisation if kept.upper else after.escalate_to or after.issued_by
        escalated = facts_pb2.DirectiveEscalated(directive=after, reason=reason, told=told)
        tx.publish(escalated, zone=after.zone, key=after.name)
        tx.audit("federation.directives.escalate", after.name, reason=reason, told=told, number=after.escalations)
        if not kept.upper:
            await alarms.set_alarm(tx, peer=kept.lower, name=UNANSWERED, text=f"{after.name}: {reason}")
        log.warning("directive.escalated", directive=after.name, reason=reason, zone=after.zone)


async def watch(transactions: Transactions, directives: Directives) -> None:
    """Look at what is due, again and again; one replica does."""
    caller_subject.set("services/federation")  # who escalates, in the audit log
    async with on_duty(transactions.pool, "directives") as duty:
        while True:
            while await transactions.run(directives.look) == LOOK_BATCH:
                duty.check()
            await duty.wait(LOOK_POLL_S)


def _escalates(upper: str, lower: str) -> bool:
    """The node that gave it and the one that has to act escalate; those between only pass it on."""
    return not (upper and lower)


async def _charter(tx: Tx, peer: str, *, provider: str) -> str:
    """Return the name of the charter in force with a peer, "" for none."""
    for contract in (await contracts_store.active_with(tx.conn, peer)).values():
        charter = contract.kind == federation_pb2.CONTRACT_KIND_CHARTER and contract.provider == provider
        if charter and contract.in_time(tx.now):
            return contract.name
    return ""


def _no_charter(peer: str) -> WrongState:
    return WrongState(Reason.CONTRACT_NOT_ACTIVE, f"no charter with {peer} is in force", peer=peer)
