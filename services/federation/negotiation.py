"""The steps of a contract's life, taken by people of this node or received from the peer; each in one transaction."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from libs.errors import Forbidden, Invalid, Reason, WrongState
from libs.ids import new_id
from quintet.federation.v1 import facts_pb2, link_pb2
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1 import sharing_pb2
from services.federation import contracts_store, peers_store
from services.federation import terms as contract_terms
from services.federation.export import contract_envelope
from services.federation.signing import NodeSigner, check_agreement

if TYPE_CHECKING:
    from libs.tx import Tx
    from services.federation.peers_store import Peer

SALT_BYTES = 32


class Negotiator:
    """Takes and applies steps for one node."""

    def __init__(self, node: str, zone: str, signer: NodeSigner) -> None:
        self._node = node
        self._zone = zone
        self._signer = signer

    # ------------------------------------------------------------------------------------------- our steps

    async def request(self, tx: Tx, peer: Peer, terms: pb.Terms) -> pb.Contract:
        """Ask the peer, as consumer, for an exchange."""
        contract_terms.check_exchange(terms)
        contract = pb.Contract(
            name=f"contracts/{new_id()}",
            kind=pb.CONTRACT_KIND_EXCHANGE,
            provider=peer.node,
            consumer=self._node,
            state=pb.CONTRACT_STATE_REQUESTED,
            terms=terms,
        )
        await contracts_store.insert(tx.conn, contract, peer.node, b"", tx.now)
        return await self._tell(tx, contract_terms.REQUEST, contract, peer.node)

    async def agree(self, tx: Tx, name: str, approver: str = "") -> pb.Contract:
        """Agree, as provider, to what was requested: choose the salt, fix the terms, sign.

        `approver` answers for data classified IMPORTANT and stands in the audit log.
        """
        contract, peer = await self._step(tx, name, contract_terms.AGREEMENT)
        if approver:
            tx.audit("federation.contracts.approve", contract.name, approver=approver)
        if any(field.masking == sharing_pb2.MASKING_HASH for field in contract.terms.fields):
            contract.terms.salt = secrets.token_bytes(SALT_BYTES)
        contract.provider_signature = self._signer.agreement(contract_terms.agreement(contract))
        await self._save(tx, contract)
        return await self._tell(tx, contract_terms.AGREEMENT, contract, peer)

    async def verify(self, tx: Tx, name: str) -> pb.Contract:
        """Verify the provider's signature, as consumer, and countersign."""
        contract, peer = await self._step(tx, name, contract_terms.VERIFICATION)
        key = (await peers_store.get(tx.conn, peer)).signing_key
        check_agreement(contract.provider_signature, contract_terms.agreement(contract), key)
        contract.consumer_signature = self._signer.agreement(contract_terms.agreement(contract))
        await self._save(tx, contract)
        return await self._tell(tx, contract_terms.VERIFICATION, contract, peer)

    async def terminate(self, tx: Tx, name: str, reason: str) -> pb.Contract:
        """End a contract now. What waits for the peer under it is withdrawn."""
        contract, peer = await self._step(tx, name, contract_terms.TERMINATION)
        contract.reason = reason
        contract.terminated_by = self._node
        await self._save(tx, contract)
        await peers_store.withdraw(tx.conn, contract.name)
        return await self._tell(tx, contract_terms.TERMINATION, contract, peer)

    def charter(self, child: str, terms: pb.Terms) -> pb.Contract:
        """Return the tier charter for a child, agreed and signed by this node."""
        contract = pb.Contract(
            name=f"contracts/{new_id()}",
            kind=pb.CONTRACT_KIND_CHARTER,
            provider=self._node,
            consumer=child,
            state=pb.CONTRACT_STATE_AGREED,
            terms=terms,
        )
        contract.provider_signature = self._signer.agreement(contract_terms.agreement(contract))
        return contract

    async def accept_charter(self, tx: Tx, charter: pb.Contract, parent: Peer) -> pb.Contract:
        """Keep the charter that came with joining, and countersign it."""
        if (charter.kind, charter.provider, charter.consumer) != (pb.CONTRACT_KIND_CHARTER, parent.node, self._node):
            raise Invalid("charter", "must be a tier charter between the inviting node and this one")
        if charter.terms.zone != self._zone:
            raise Invalid("charter.terms.zone", f"must be {self._zone}, the zone of this node")
        contract = _stated(charter, pb.CONTRACT_STATE_AGREED)
        check_agreement(contract.provider_signature, contract_terms.agreement(contract), parent.signing_key)
        await contracts_store.insert(tx.conn, contract, parent.node, contract_terms.agreement_hash(contract), tx.now)
        return await self.verify(tx, contract.name)

    # ------------------------------------------------------------------------------------ the peer's steps

    async def handle(self, tx: Tx, peer: Peer, envelope: link_pb2.Envelope) -> None:
        """Apply the contract message of a control envelope; raises like `apply`."""
        await self.apply(tx, envelope.contract_message, peer)

    async def apply(self, tx: Tx, message: link_pb2.ContractMessage, peer: Peer) -> None:
        """Apply a step of the peer; one that was applied before changes nothing.

        Raises a DomainError when the peer may not take it, or its signature does not hold.
        """
        told = message.contract
        if not await contracts_store.first_seen(tx.conn, message.id, told.name):
            return
        if not contract_terms.Party(told.provider, told.consumer).may(peer.node, message.type):
            raise Forbidden(Reason.NOT_PERMITTED, f"{message.type} is not for {peer.node} to send")
        if message.type == contract_terms.REQUEST:
            await self._apply_request(tx, told, peer)
            return
        contract, with_peer = await contracts_store.get(tx.conn, told.name, lock=True)
        if with_peer != peer.node:
            raise Forbidden(Reason.NOT_PERMITTED, f"{told.name} is not with {peer.node}")
        contract.state = contract_terms.next_state(contract.state, message.type)
        if message.type == contract_terms.AGREEMENT:
            await self._apply_agreement(tx, contract, told, peer)
        elif message.type == contract_terms.VERIFICATION:
            await self._apply_verification(tx, contract, told, peer)
        elif message.type == contract_terms.TERMINATION:
            contract.reason = told.reason
            contract.terminated_by = peer.node
            await peers_store.withdraw(tx.conn, contract.name)
        await self._save(tx, contract)
        await self._stated(tx, contract)
        if message.type == contract_terms.VERIFICATION:
            await self._finalize(tx, contract, peer)

    async def _apply_request(self, tx: Tx, told: pb.Contract, peer: Peer) -> None:
        if told.provider != self._node or told.kind != pb.CONTRACT_KIND_EXCHANGE:
            raise Invalid("contract.provider", "must be the node that is asked")
        contract_terms.check_exchange(told.terms)
        if await contracts_store.find(tx.conn, told.name):
            raise WrongState(Reason.WRONG_STATE, f"{told.name} exists already")
        contract = _stated(told, pb.CONTRACT_STATE_REQUESTED)
        await contracts_store.insert(tx.conn, contract, peer.node, b"", tx.now)
        await self._stated(tx, contract)

    async def _apply_agreement(self, tx: Tx, contract: pb.Contract, told: pb.Contract, peer: Peer) -> None:
        """The provider may only have added its salt: other terms than those asked for need a new request."""
        asked = pb.Terms()
        asked.CopyFrom(contract.terms)
        asked.salt = told.terms.salt
        if asked != told.terms:
            raise Invalid("contract.terms", "must be the terms that were requested")
        contract.terms.CopyFrom(told.terms)
        contract.provider_signature = told.provider_signature
        check_agreement(contract.provider_signature, contract_terms.agreement(contract), peer.signing_key)

    async def _apply_verification(self, tx: Tx, contract: pb.Contract, told: pb.Contract, peer: Peer) -> None:
        check_agreement(told.consumer_signature, contract_terms.agreement(contract), peer.signing_key)
        contract.consumer_signature = told.consumer_signature

    async def _finalize(self, tx: Tx, contract: pb.Contract, peer: Peer) -> None:
        contract.state = contract_terms.next_state(contract.state, contract_terms.EVENT)
        await self._save(tx, contract)
        await self._tell(tx, contract_terms.EVENT, contract, peer.node)
        if contract.kind == pb.CONTRACT_KIND_CHARTER:
            delegated = facts_pb2.ZoneDelegated(zone=contract.terms.zone, node=contract.consumer)
            tx.publish(delegated, zone=contract.terms.zone, key=f"zones/{contract.terms.zone}")

    # ---------------------------------------------------------------------------------------------- common

    async def _step(self, tx: Tx, name: str, message: str) -> tuple[pb.Contract, str]:
        contract, peer = await contracts_store.get(tx.conn, name, lock=True)
        if not contract_terms.Party(contract.provider, contract.consumer).may(self._node, message):
            other = "provider" if contract.consumer == self._node else "consumer"
            raise WrongState(Reason.WRONG_STATE, f"{message} is for the {other} to send", contract=name)
        contract.state = contract_terms.next_state(contract.state, message)
        return contract, peer

    async def _save(self, tx: Tx, contract: pb.Contract) -> None:
        agreed = contract.provider_signature != ""
        digest = contract_terms.agreement_hash(contract) if agreed else b""
        contract.agreement_hash = digest.hex()
        contract.updated_at.FromDatetime(tx.now)
        await contracts_store.update(tx.conn, contract, digest, tx.now)

    async def _tell(self, tx: Tx, message: str, contract: pb.Contract, peer: str) -> pb.Contract:
        await peers_store.enqueue(
            tx.conn, peer, [contract_envelope(message, new_id(), contract, tx.now)], link_pb2.LANE_CONTROL
        )
        await self._stated(tx, contract)
        return contract

    async def _stated(self, tx: Tx, contract: pb.Contract) -> None:
        state = pb.ContractState.Name(contract.state).removeprefix("CONTRACT_STATE_").lower()
        tx.publish(facts_pb2.ContractChanged(contract=contract), zone=self._zone, key=contract.name)
        tx.audit(f"federation.contracts.{state}", contract.name, reason=contract.reason)


def _stated(told: pb.Contract, state: pb.ContractState.ValueType) -> pb.Contract:
    """Return the contract as told, without what only this node may say."""
    return pb.Contract(
        name=told.name,
        kind=told.kind,
        provider=told.provider,
        consumer=told.consumer,
        state=state,
        terms=told.terms,
        provider_signature=told.provider_signature if state == pb.CONTRACT_STATE_AGREED else "",
    )
