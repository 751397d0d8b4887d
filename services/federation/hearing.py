"""The steps of a negotiation that the peer takes: each is checked against what this node knows, and never on trust."""

from __future__ import annotations

import re
from datetime import UTC
from typing import TYPE_CHECKING

from libs import rules
from libs.errors import DomainError, Forbidden, Invalid, Reason, Stale, WrongState
from quintet.federation.v1 import facts_pb2, link_pb2
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1 import sharing_pb2
from services.federation import contracts_store, machine, trust_store, waiting
from services.federation import terms as contract_terms
from services.federation.ledger import without_salt
from services.federation.machine import Outcome, Party, Position
from services.federation.signing import check_agreement

if TYPE_CHECKING:
    from libs.tx import Tx
    from services.federation.amendments import Switches
    from services.federation.control import Refusal
    from services.federation.endings import Endings
    from services.federation.ledger import Ledger
    from services.federation.peers_store import Peer
    from services.federation.transfers import Transfers

NAME = re.compile(r"contracts/[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
SALT_BYTES = 32


class Hearing:
    """Applies the contract messages of peers."""

    def __init__(self, ledger: Ledger, endings: Endings, switches: Switches, transfers: Transfers, zone: str) -> None:
        self._ledger = ledger
        self._endings = endings
        self._switches = switches
        self._transfers = transfers
        self._zone = zone

    async def apply(self, tx: Tx, message: link_pb2.ContractMessage, peer: Peer) -> Refusal | None:
        """Apply a step of the peer; one that was applied before changes nothing.

        A step that this node cannot follow ends the negotiation at both nodes, so that nobody waits for an answer; the
        refusal is returned. Raises a DomainError for a step that is not the peer's to take: it changes nothing.
        """
        told = message.contract
        if message.type == machine.TERMINATION:
            told.ClearField("terms")  # they may be what is not understood
        if not await contracts_store.first_seen(tx.conn, message.id, told.name):
            return None
        if not NAME.fullmatch(told.name):
            raise Invalid("contract.name", "must be contracts/{id}")
        found = await contracts_store.find(tx.conn, told.name, lock=True)
        if found is None:
            return await self._begin(tx, message, peer)
        contract, with_peer = found
        party = Party(contract.provider, contract.consumer)
        if with_peer != peer.node or not party.may(peer.node, message.type, message.event):
            raise Forbidden(Reason.NOT_PERMITTED, f"{message.type} is not for {peer.node} to send about {told.name}")
        if message.type == machine.TERMINATION:
            rules.validate(told)
            hear = self._switches.hear if told.superseded_by else self._endings.hear
            await hear(tx, message, contract, peer.node)
            return None
        return await self._follow(tx, message, contract, peer)

    async def _begin(self, tx: Tx, message: link_pb2.ContractMessage, peer: Peer) -> Refusal | None:
        told = message.contract
        if message.type == machine.TERMINATION:
            return None  # of something that was refused here
        party = Party(told.provider, told.consumer)
        ours = {told.provider, told.consumer} == {peer.node, self._ledger.node}
        if not ours or not party.may(peer.node, message.type, message.event):
            raise Forbidden(Reason.NOT_PERMITTED, f"{message.type} is not for {peer.node} to send")
        contract = pb.Contract(
            name=told.name,
            kind=told.kind,
            provider=told.provider,
            consumer=told.consumer,
            terms=told.terms,
            version=told.version,
            amends=told.amends,
        )
        try:
            if message.type not in {machine.REQUEST, machine.OFFER}:
                raise WrongState(Reason.WRONG_STATE, f"{told.name} is not known here")
            contract.state = machine.next_state(pb.CONTRACT_STATE_UNSPECIFIED, message.type, message.event)
            await self._check_begun(tx, contract)
        except DomainError as error:
            await self._turn_away(tx, contract, peer, error)
            return error.reason, error.message
        await self._ledger.add(tx, contract, peer.node)
        await self._ledger.hear(tx, message, contract, peer.node, Outcome.APPLIED, "")
        return None

    async def _check_begun(self, tx: Tx, contract: pb.Contract) -> None:
        if not contract.amends:
            if contract.kind != pb.CONTRACT_KIND_EXCHANGE or contract.version != 1:
                raise Invalid("contract.kind", "must be the first version of an exchange: a charter comes with joining")
            contract_terms.check(contract.kind, contract.terms)
            return
        found = await contracts_store.find(tx.conn, contract.amends)
        before = found[0] if found else pb.Contract()
        if before.state != pb.CONTRACT_STATE_FINALIZED or before.awaits_switch:
            raise WrongState(Reason.WRONG_STATE, f"{contract.amends} is not in force", contract=contract.amends)
        check_follows(before, contract)
        contract_terms.check_amendment(before, contract.terms)

    async def _turn_away(self, tx: Tx, contract: pb.Contract, peer: Peer, error: DomainError) -> None:
        """Answer what cannot be taken up with a termination; nothing of it is kept here but the refusal."""
        answer = pb.Contract(
            name=contract.name, kind=contract.kind, provider=contract.provider, consumer=contract.consumer
        )
        answer.state, answer.terminated_by = pb.CONTRACT_STATE_TERMINATED, self._ledger.node
        answer.reason = f"{error.reason}: {error.message}"
        await self._ledger.send(tx, machine.TERMINATION, answer, peer.node)

    async def _follow(
        self, tx: Tx, message: link_pb2.ContractMessage, contract: pb.Contract, peer: Peer
    ) -> Refusal | None:
        before = Position(contract.state, await contracts_store.ending(tx.conn, contract))
        after, outcome = machine.hear(before, message.type, message.event, None)
        if outcome is Outcome.CROSSED:
            await self._ledger.hear(tx, message, contract, peer.node, outcome, "")
            return None
        stood = pb.Contract()
        stood.CopyFrom(contract)
        contract.state = after.state
        try:
            await self._check_step(tx, message, contract, peer)
        except Stale:
            raise
        except DomainError as error:
            text = f"{error.reason}: {error.message}"
            await self._ledger.hear(tx, message, stood, peer.node, Outcome.REFUSED, text)
            await self._endings.terminate(tx, stood, peer.node, text)
            return error.reason, error.message
        await self._ledger.save(tx, contract)
        await self._ledger.hear(tx, message, contract, peer.node, Outcome.APPLIED, "")
        if message.type == machine.VERIFICATION:
            await self._finalize(tx, contract, peer)
        elif contract.state == pb.CONTRACT_STATE_FINALIZED and not contract.awaits_switch:
            await self._transfers.begin(tx, contract, peer.node)
        return None

    async def _check_step(self, tx: Tx, message: link_pb2.ContractMessage, contract: pb.Contract, peer: Peer) -> None:
        """Hold the step against what was exchanged before, and put what it adds into `contract`."""
        told = message.contract
        if message.type in {machine.REQUEST, machine.OFFER}:
            await self._check_terms(tx, contract, told.terms)
            contract.terms.CopyFrom(told.terms)
        elif message.event == machine.ACCEPTED:
            if told.terms != contract.terms:
                raise Invalid("contract.terms", "must be the terms that were offered last")
        elif message.type == machine.AGREEMENT:
            check_salt(contract.terms, told)
            contract.provider_signature = told.provider_signature
            ring = await trust_store.ring(tx.conn, peer.node)
            check_agreement(contract.provider_signature, contract_terms.agreement(contract), ring.ever)
        elif message.type == machine.VERIFICATION:
            ring = await trust_store.ring(tx.conn, peer.node)
            check_agreement(told.consumer_signature, contract_terms.agreement(contract), ring.ever)
            contract.consumer_signature = told.consumer_signature
        else:
            rules.validate(told)
            contract.in_force_at.FromDatetime(told.in_force_at.ToDatetime(UTC))
            contract.awaits_switch = contract.amends != ""

    async def _check_terms(self, tx: Tx, contract: pb.Contract, terms: pb.Terms) -> None:
        if contract.amends:
            before, _ = await contracts_store.get(tx.conn, contract.amends)
            contract_terms.check_amendment(before, terms)
        else:
            contract_terms.check(contract.kind, terms)

    async def _finalize(self, tx: Tx, contract: pb.Contract, peer: Peer) -> None:
        """Both have signed: say, as provider, that the contract is in force, or when it will be."""
        notice_days = 0
        if contract.amends:
            before, _ = await contracts_store.get(tx.conn, contract.amends)
            notice_days = before.terms.notice_days
            contract.awaits_switch = True
        contract.state = machine.next_state(contract.state, machine.EVENT, machine.FINALIZED)
        contract.in_force_at.FromDatetime(waiting.in_force_at(contract.terms, notice_days, tx.now))
        await self._ledger.save(tx, contract)
        await self._ledger.tell(tx, machine.EVENT, contract, peer.node, event=machine.FINALIZED)
        if contract.kind == pb.CONTRACT_KIND_CHARTER and not contract.amends:
            delegated = facts_pb2.ZoneDelegated(zone=contract.terms.zone, node=contract.consumer)
            tx.publish(delegated, zone=contract.terms.zone, key=f"zones/{contract.terms.zone}")


def check_follows(before: pb.Contract, amendment: pb.Contract) -> None:
    """Raise Invalid when an amendment is not the next version of the same agreement."""
    same = (before.kind, before.provider, before.consumer, before.version + 1)
    if same != (amendment.kind, amendment.provider, amendment.consumer, amendment.version):
        raise Invalid("contract.amends", "must be a contract of the same kind and parties, one version before")


def check_salt(terms: pb.Terms, told: pb.Contract) -> None:
    """Take the provider's salt into the terms exchanged last. Raises Invalid when it has changed anything else."""
    if without_salt(told).terms != terms:
        raise Invalid("contract.terms", "must be the terms that were exchanged last")
    hashed = any(field.masking == sharing_pb2.MASKING_HASH for field in terms.fields)
    if len(told.terms.salt) != (SALT_BYTES if hashed else 0):
        raise Invalid("contract.terms.salt", f"must have {SALT_BYTES} bytes when a field is hashed, else none")
    terms.salt = told.terms.salt
