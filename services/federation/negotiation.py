"""The steps of a contract's life, taken by people of this node or by the node itself; each in one transaction."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from libs.errors import Invalid, Reason, Stale, WrongState
from libs.ids import new_id
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1 import sharing_pb2
from services.federation import contracts_store, machine, trust_store
from services.federation import terms as contract_terms
from services.federation.amendments import Switches
from services.federation.endings import Endings
from services.federation.hearing import SALT_BYTES, Hearing
from services.federation.ledger import Ledger
from services.federation.machine import Party
from services.federation.signing import NodeSigner, check_agreement
from services.federation.transfers import Transfers

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.tx import Tx
    from libs.zones import ZoneTree
    from quintet.federation.v1 import link_pb2
    from services.federation.control import ControlHandler, Refusal
    from services.federation.peers_store import Peer
    from services.federation.waiting import WaitDays


class Negotiator:
    """Takes and applies steps for one node."""

    def __init__(self, node: str, zone: str, signer: NodeSigner, zones: Callable[[], ZoneTree], days: WaitDays) -> None:
        self._node = node
        self._zone = zone
        self._zones = zones
        self._signer = signer
        self._ledger = Ledger(node, zone, days)
        self.transfers = Transfers(node, zone, days)
        self.endings = Endings(self._ledger, self.transfers)
        self.switches = Switches(self._ledger, self.endings, self.transfers, zone)
        self._hearing = Hearing(self._ledger, self.endings, self.switches, self.transfers, zone)

    @property
    def handlers(self) -> dict[str, ControlHandler]:
        """The control messages that it takes."""
        return {"contract_message": self.handle, "transfer_message": self.transfers.handle}

    async def handle(self, tx: Tx, peer: Peer, envelope: link_pb2.Envelope) -> Refusal | None:
        """Apply a step that the peer sent: the handler of `contract_message`."""
        return await self._hearing.apply(tx, envelope.contract_message, peer)

    # --------------------------------------------------------------------------------------- proposing terms

    async def request(self, tx: Tx, peer: Peer, terms: pb.Terms) -> pb.Contract:
        """Ask the peer, as consumer, for an exchange."""
        contract = pb.Contract(provider=peer.node, consumer=self._node, kind=pb.CONTRACT_KIND_EXCHANGE, version=1)
        contract_terms.check(contract.kind, terms)
        return await self._propose(tx, contract, machine.REQUEST, terms, peer.node)

    async def offer(self, tx: Tx, peer: Peer, terms: pb.Terms) -> pb.Contract:
        """Offer the peer, as provider, an exchange."""
        contract = pb.Contract(provider=self._node, consumer=peer.node, kind=pb.CONTRACT_KIND_EXCHANGE, version=1)
        contract_terms.check(contract.kind, terms)
        return await self._propose(tx, contract, machine.OFFER, terms, peer.node)

    async def amend(self, tx: Tx, name: str, terms: pb.Terms) -> pb.Contract:
        """Propose the next version of a contract in force, from either side.

        Raises WrongState when it is not in force, or an amendment of it is being negotiated or waits to take over.
        """
        before, peer = await contracts_store.get(tx.conn, name, lock=True)
        if before.state != pb.CONTRACT_STATE_FINALIZED or before.awaits_switch:
            raise WrongState(Reason.WRONG_STATE, f"{name} is not in force", contract=name)
        open_ones = await contracts_store.amendments(tx.conn, name)
        if open_ones:
            raise WrongState(Reason.WRONG_STATE, f"{open_ones[0][0].name} amends {name} already", contract=name)
        contract_terms.check_amendment(before, terms)
        contract = pb.Contract(
            provider=before.provider,
            consumer=before.consumer,
            kind=before.kind,
            version=before.version + 1,
            amends=name,
        )
        message = machine.OFFER if before.provider == self._node else machine.REQUEST
        return await self._propose(tx, contract, message, terms, peer)

    async def _propose(self, tx: Tx, contract: pb.Contract, message: str, terms: pb.Terms, peer: str) -> pb.Contract:
        contract.name = f"contracts/{new_id()}"
        contract.state = machine.next_state(pb.CONTRACT_STATE_UNSPECIFIED, message)
        contract.terms.CopyFrom(terms)
        await self._ledger.add(tx, contract, peer)
        await self._ledger.tell(tx, message, contract, peer)
        return contract

    async def counter(self, tx: Tx, name: str, terms: pb.Terms, message: str) -> tuple[pb.Contract, str]:
        """Answer the other side's terms with others, by REQUEST or OFFER; return the contract and its peer."""
        contract, peer = await self._step(tx, name, message)
        if contract.amends:
            before, _ = await contracts_store.get(tx.conn, contract.amends)
            contract_terms.check_amendment(before, terms)
        else:
            contract_terms.check(contract.kind, terms)
        contract.terms.CopyFrom(terms)
        return await self._tell(tx, message, contract, peer), peer

    # --------------------------------------------------------------------------------------- agreeing to them

    async def accept(self, tx: Tx, name: str) -> pb.Contract:
        """Accept, as consumer, the terms that the provider offered last."""
        contract, peer = await self._step(tx, name, machine.EVENT, machine.ACCEPTED)
        return await self._tell(tx, machine.EVENT, contract, peer, machine.ACCEPTED)

    async def agree(self, tx: Tx, name: str, approver: str = "", *, checked: pb.Terms | None = None) -> pb.Contract:
        """Agree, as provider, to the terms exchanged last: choose the salt, fix the terms, sign.

        `approver` answers for data classified IMPORTANT and stands in the audit log. Raises Stale when the terms are no
        longer those that were `checked` before.
        """
        contract, peer = await self._step(tx, name, machine.AGREEMENT)
        if checked is not None and checked != contract.terms:
            raise Stale(Reason.CONFLICT, "the terms have changed meanwhile")
        if approver:
            tx.audit("federation.contracts.approve", contract.name, approver=approver)
        if any(field.masking == sharing_pb2.MASKING_HASH for field in contract.terms.fields):
            contract.terms.salt = secrets.token_bytes(SALT_BYTES)
        contract.provider_signature = self._signer.agreement(contract_terms.agreement(contract))
        return await self._tell(tx, machine.AGREEMENT, contract, peer)

    async def verify(self, tx: Tx, name: str) -> pb.Contract:
        """Verify the provider's signature, as consumer, and countersign."""
        contract, peer = await self._step(tx, name, machine.VERIFICATION)
        ring = await trust_store.ring(tx.conn, peer)
        check_agreement(contract.provider_signature, contract_terms.agreement(contract), ring.ever)
        contract.consumer_signature = self._signer.agreement(contract_terms.agreement(contract))
        return await self._tell(tx, machine.VERIFICATION, contract, peer)

    # ------------------------------------------------------------------------------------------------ ending

    async def terminate(self, tx: Tx, name: str, reason: str) -> pb.Contract:
        """End a contract now, whatever notice was agreed. What waits for the peer under it is withdrawn."""
        contract, peer = await contracts_store.get(tx.conn, name, lock=True)
        await self.endings.terminate(tx, contract, peer, reason)
        return contract

    async def end(self, tx: Tx, name: str, reason: str, *, for_cause: bool) -> pb.Contract:
        """End a contract: one in force after the notice that its terms ask for, unless there is cause; others now."""
        contract, peer = await contracts_store.get(tx.conn, name, lock=True)
        in_force = contract.state == pb.CONTRACT_STATE_FINALIZED and not contract.awaits_switch
        notice = timedelta(days=contract.terms.notice_days)
        if for_cause or not in_force or not notice:
            await self.endings.terminate(tx, contract, peer, reason)
        else:
            await self.endings.give_notice(tx, contract, peer, reason, tx.now + notice)
        return contract

    # ---------------------------------------------------------------------------------------------- charters

    async def begin_charter(self, tx: Tx, child: str, terms: pb.Terms) -> None:
        """Keep the tier charter for a child, agreed and signed by this node."""
        contract = pb.Contract(
            name=f"contracts/{new_id()}",
            kind=pb.CONTRACT_KIND_CHARTER,
            provider=self._node,
            consumer=child,
            state=pb.CONTRACT_STATE_AGREED,
            terms=terms,
            version=1,
        )
        contract.provider_signature = self._signer.agreement(contract_terms.agreement(contract))
        await self._ledger.add(tx, contract, child, contract_terms.agreement_hash(contract))

    async def accept_charter(self, tx: Tx, charter: pb.Contract, parent: Peer) -> pb.Contract:
        """Keep the charter that came with joining, and countersign it."""
        parties = (charter.kind, charter.provider, charter.consumer, charter.version)
        if parties != (pb.CONTRACT_KIND_CHARTER, parent.node, self._node, 1):
            raise Invalid("charter", "must be a tier charter between the inviting node and this one")
        contract_terms.check(charter.kind, charter.terms)
        zones = self._zones()
        if zones.canonical(charter.terms.zone) != zones.canonical(self._zone):
            raise Invalid("charter.terms.zone", f"must be {self._zone}, the zone of this node")
        contract = pb.Contract(
            name=charter.name,
            kind=charter.kind,
            provider=charter.provider,
            consumer=charter.consumer,
            state=pb.CONTRACT_STATE_AGREED,
            terms=charter.terms,
            version=1,
            provider_signature=charter.provider_signature,
        )
        ring = await trust_store.ring(tx.conn, parent.node)
        check_agreement(contract.provider_signature, contract_terms.agreement(contract), ring.ever)
        await self._ledger.add(tx, contract, parent.node, contract_terms.agreement_hash(contract))
        return await self.verify(tx, contract.name)

    # ---------------------------------------------------------------------------------------------- common

    async def _step(self, tx: Tx, name: str, message: str, event: str = "") -> tuple[pb.Contract, str]:
        contract, peer = await contracts_store.get(tx.conn, name, lock=True)
        if not Party(contract.provider, contract.consumer).may(self._node, message, event):
            other = "provider" if contract.consumer == self._node else "consumer"
            raise WrongState(Reason.WRONG_STATE, f"{message} is for the {other} to send", contract=name)
        contract.state = machine.next_state(contract.state, message, event)
        return contract, peer

    async def _tell(self, tx: Tx, message: str, contract: pb.Contract, peer: str, event: str = "") -> pb.Contract:
        await self._ledger.save(tx, contract)
        await self._ledger.tell(tx, message, contract, peer, event=event)
        return contract
