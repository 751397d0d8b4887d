"""What becomes of a membership after joining: suspended, resumed, left, expelled, and zones that are taken back.

Each change is decided here in one transaction and told to the peer in the control lane. A suspension is this node's
own: what the peer has decided about this node is shown as an alarm, and the peer enforces it.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from libs.errors import NotFound, Reason, WrongState
from libs.ids import new_id
from quintet.federation.v1 import facts_pb2, link_pb2
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import (
    alarms,
    certificates_store,
    contracts_store,
    lanes_store,
    membership_store,
    peers_store,
    returns_store,
)
from services.federation.control import control_envelope
from services.federation.membership import OVER, state_peer
from services.federation.membership_store import Requested
from services.federation.terms import HANDING_OVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.errors import DomainError
    from libs.tx import Tx
    from libs.zones import ZoneTree
    from services.federation.negotiation import Negotiator
    from services.federation.peers_store import Peer
    from services.federation.trust import Trust

SUSPENDED, RESUMED, LEFT, EXPELLED, ZONE_WITHDRAWN = "SUSPENDED", "RESUMED", "LEFT", "EXPELLED", "ZONE_WITHDRAWN"
# Alarms: what a peer has decided about this node.
MEMBERSHIP_ENDED = "MEMBERSHIP_ENDED"
ZONE_TAKEN_BACK = "ZONE_TAKEN_BACK"
CONTRACTS_MAX = 10_000
RETURNED_AT_ONCE_MAX = 500
# How long the end of a membership waits to be told: on the open stream, and by a node that has left and calls for it.
FAREWELL = timedelta(minutes=1)
FAREWELL_LEFT = timedelta(days=7)


class Standing:
    """Changes where the membership of a peer stands."""

    def __init__(
        self,
        node: str,
        negotiator: Negotiator,
        trust: Trust,
        zones: Callable[[], ZoneTree],
        changed: Callable[[str], None],
    ) -> None:
        """`changed` is told each peer whose standing changed, after the commit."""
        self._node = node
        self._negotiator = negotiator
        self._trust = trust
        self._zones = zones
        self._changed = changed

    # --------------------------------------------------------------------------------------- decided here

    async def suspend(self, tx: Tx, node: str, reason: str) -> None:
        """Stop the exchange with a peer; repeating it changes nothing. Raises WrongState unless it is active."""
        peer = await peers_store.get(tx.conn, node, lock=True)
        if peer.state == pb.PEER_STATE_SUSPENDED:
            return
        _require(peer, pb.PEER_STATE_ACTIVE)
        await self._set(tx, node, pb.PEER_STATE_SUSPENDED, reason)
        await self._tell(tx, node, SUSPENDED, reason)
        tx.audit("federation.peers.suspend", f"peers/{node}", reason=reason)

    async def resume(self, tx: Tx, node: str, reason: str) -> None:
        """Go on with a peer that was suspended; repeating it changes nothing."""
        peer = await peers_store.get(tx.conn, node, lock=True)
        if peer.state == pb.PEER_STATE_ACTIVE:
            return
        _require(peer, pb.PEER_STATE_SUSPENDED)
        await self._set(tx, node, pb.PEER_STATE_ACTIVE, "")
        await self._tell(tx, node, RESUMED, reason)
        tx.audit("federation.peers.resume", f"peers/{node}", reason=reason)

    async def leave(self, tx: Tx, node: str, reason: str) -> None:
        """End this node's own membership with its parent or a partner; repeating it changes nothing."""
        peer = await peers_store.get(tx.conn, node, lock=True)
        if peer.state == pb.PEER_STATE_LEFT:
            return
        if peer.kind == pb.PEER_KIND_CHILD:
            raise WrongState(Reason.WRONG_STATE, f"{node} is a child: it may leave, or be expelled", peer=node)
        _require(peer, pb.PEER_STATE_ACTIVE, pb.PEER_STATE_SUSPENDED)
        await self._end_contracts(tx, node, reason)
        await self._tell(tx, node, LEFT, reason)
        await self._set(tx, node, pb.PEER_STATE_LEFT, reason)
        tx.audit("federation.peers.leave", f"peers/{node}", reason=reason)

    async def expel(self, tx: Tx, node: str, reason: str) -> None:
        """End the membership of a child or a partner; repeating it changes nothing."""
        peer = await peers_store.get(tx.conn, node, lock=True)
        if peer.state == pb.PEER_STATE_EXPELLED:
            return
        if peer.kind == pb.PEER_KIND_PARENT:
            raise WrongState(Reason.WRONG_STATE, f"{node} is the parent: this node may leave it", peer=node)
        _require(peer, pb.PEER_STATE_ACTIVE, pb.PEER_STATE_SUSPENDED)
        await self._withdraw_zones(tx, node)
        await returns_store.begin(tx.conn, node)
        await self._end_contracts(tx, node, reason)
        await self._tell(tx, node, EXPELLED, reason)
        await self._set(tx, node, pb.PEER_STATE_EXPELLED, reason)
        tx.audit("federation.peers.expel", f"peers/{node}", reason=reason)

    async def revoke(self, tx: Tx, node: str, reason: str) -> None:
        """Make all certificates of a peer worthless; it is active again when two people have approved it again."""
        peer = await peers_store.get(tx.conn, node, lock=True)
        _require(peer, pb.PEER_STATE_ACTIVE, pb.PEER_STATE_SUSPENDED)
        serials = await certificates_store.revoke(tx.conn, node, reason, tx.now)
        # It keeps its zone and its contracts: only approval is asked for again, and no deadline ends it.
        await membership_store.request(tx.conn, Requested(node, b"", None, peer.kind, "", b""))
        await self._set(tx, node, pb.PEER_STATE_REQUESTED, f"certificates revoked: {reason}")
        tx.audit("federation.certificates.revoke", f"peers/{node}", reason=reason, serials=list(serials))

    async def withdraw_zone(self, tx: Tx, zone: str, reason: str) -> str:
        """Take a zone back and return the node that had it. Raises NotFound when nobody has it.

        The fact that says so is the place in the stream from which on the zone is this node's; see export.py.
        """
        await membership_store.lock_delegations(tx.conn)
        tree = self._zones()
        zones = await membership_store.all_delegations(tx.conn)
        found = next((code for code in zones if tree.canonical(code) == tree.canonical(zone)), "")
        if not found:
            raise NotFound(Reason.ZONE_NOT_FOUND, f"zones/{zone} is not delegated", zone=zone)
        node = zones[found]
        await self._withdraw(tx, found, node)
        await self._tell(tx, node, ZONE_WITHDRAWN, reason, zone=found)
        await state_peer(tx, self._trust, node)
        tx.audit("federation.zones.withdraw", f"zones/{found}", node=node, reason=reason)
        return node

    # ---------------------------------------------------------------------------------- told by the peer

    async def handle(self, tx: Tx, peer: Peer, envelope: link_pb2.Envelope) -> None:
        """Apply what a peer says about the membership; see control.py. One that came before changes nothing."""
        message = envelope.membership_message
        if not await contracts_store.first_seen(tx.conn, message.id, ""):
            return
        text = f"{peer.node}: {message.reason}"
        if message.type == SUSPENDED:
            await alarms.set_alarm(tx, peer=peer.node, name=alarms.SUSPENDED_BY_PEER, text=text)
        elif message.type == RESUMED:
            await alarms.clear_alarm(tx, peer=peer.node, name=alarms.SUSPENDED_BY_PEER)
        elif message.type == ZONE_WITHDRAWN:
            await alarms.set_alarm(tx, peer=peer.node, name=ZONE_TAKEN_BACK, text=f"zones/{message.zone}, {text}")
        elif message.type in {LEFT, EXPELLED}:
            await self.ended_by_peer(tx, peer.node, message.type, message.reason)
        tx.audit(f"federation.peers.told_{message.type.lower()}", f"peers/{peer.node}", reason=message.reason)

    async def refused(self, tx: Tx, node: str, error: DomainError) -> None:
        """Take what a peer answers to a call of this node; TLS has shown that it is the peer."""
        if error.reason == Reason.CERTIFICATE_ENDED:
            await peers_store.set_certificate(tx.conn, node, "")  # renewal.py asks for another
        elif error.reason == Reason.PEER_ENDED:
            kind = LEFT if error.message.startswith(LEFT) else EXPELLED
            await self.ended_by_peer(tx, node, kind, error.message.partition(": ")[2])
        elif error.reason == Reason.PEER_SUSPENDED:
            await alarms.set_alarm(tx, peer=node, name=alarms.SUSPENDED_BY_PEER, text=error.message)

    async def ended_by_peer(self, tx: Tx, node: str, kind: str, reason: str) -> None:
        """End a membership that the peer has ended: it left, or it expelled this node."""
        peer = await peers_store.get(tx.conn, node, lock=True)
        if peer.state in OVER:
            return
        state = pb.PEER_STATE_LEFT if kind == LEFT else pb.PEER_STATE_EXPELLED
        await self._withdraw_zones(tx, node)
        await returns_store.begin(tx.conn, node)
        await self._end_contracts(tx, node, reason)
        await alarms.clear_alarm(tx, peer=node, name=alarms.SUSPENDED_BY_PEER)
        word = "left" if kind == LEFT else "expelled this node"
        await alarms.set_alarm(tx, peer=node, name=MEMBERSHIP_ENDED, text=f"{node} {word}: {reason}")
        await self._set(tx, node, state, f"by {node}: {reason}")

    async def free(self, tx: Tx) -> None:
        """Free the queues of peers whose membership is over, once they had their time to hear of it."""
        for node in await lanes_store.free_ended(tx.conn, tx.now - FAREWELL, tx.now - FAREWELL_LEFT):
            tx.audit("federation.peers.freed", f"peers/{node}")

    async def state_again(self, tx: Tx) -> bool:
        """State some of what came back from children that are gone; False when there was nothing.

        Only what hands something over: who is authoritative for the zone now, this node or another child, acts on it.
        The fact is a new one, for the first was passed over here, and stands behind the fact ZoneWithdrawn.
        """
        envelopes = await returns_store.next_page(tx.conn, RETURNED_AT_ONCE_MAX)
        facts = [link_pb2.Envelope.FromString(envelope).fact for envelope in envelopes]
        for fact in facts:
            if fact.type in HANDING_OVER:
                fact.id, fact.node = new_id(), self._node
                tx.forward(fact)
                tx.audit("federation.facts.returned", fact.key, fact=fact.id)
        return bool(envelopes)

    # -------------------------------------------------------------------------------------------- common

    async def _set(self, tx: Tx, node: str, state: int, reason: str) -> None:
        await peers_store.set_state(tx.conn, node, state, reason, tx.now)
        await state_peer(tx, self._trust, node)
        tx.after_commit(partial(self._changed, node))

    async def _tell(self, tx: Tx, node: str, kind: str, reason: str, *, zone: str = "") -> None:
        message = link_pb2.MembershipMessage(id=new_id(), type=kind, zone=zone, reason=reason)
        message.time.FromDatetime(tx.now)
        envelope = control_envelope(membership_message=message)
        await lanes_store.enqueue(tx.conn, node, [("", envelope)], link_pb2.LANE_CONTROL)
        tx.after_commit(partial(self._changed, node))

    async def _end_contracts(self, tx: Tx, node: str, reason: str) -> None:
        contracts = await contracts_store.page(tx.conn, state=0, peer=node, after=None, limit=CONTRACTS_MAX)
        for contract in contracts:
            if contract.state != pb.CONTRACT_STATE_TERMINATED:
                await self._negotiator.terminate(tx, contract.name, reason)

    async def _withdraw_zones(self, tx: Tx, node: str) -> None:
        await membership_store.lock_delegations(tx.conn)
        for zone in await membership_store.delegated_to(tx.conn, node):
            await self._withdraw(tx, zone, node)

    async def _withdraw(self, tx: Tx, zone: str, node: str) -> None:
        await membership_store.undelegate(tx.conn, zone)
        tx.publish(facts_pb2.ZoneWithdrawn(zone=zone, node=node), zone=zone, key=f"zones/{zone}")


def _require(peer: Peer, *states: int) -> None:
    if peer.state not in states:
        name = pb.PeerState.Name(peer.state)  # type: ignore[arg-type]  # a number from the store
        raise WrongState(Reason.WRONG_STATE, f"peers/{peer.node} is {name}", state=name)
