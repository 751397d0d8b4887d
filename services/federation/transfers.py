"""The steps of transfers, taken by this node or its people or received from the peer; each in one transaction.

The consumer's node asks for a transfer when a contract that pushes rows comes into force, and the provider's starts it;
people suspend, start again, complete and end it, from either side.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from libs.context import caller_subject
from libs.errors import DomainError, Forbidden, Invalid, Reason, WrongState
from libs.ids import new_id
from quintet.federation.v1 import facts_pb2, link_pb2
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import contracts_store, machine, peers_store, steps_store, transfer_machine, transfers_store
from services.federation.control import control_envelope
from services.federation.ledger import NODE_ACTOR, without_salt
from services.federation.steps_store import Step
from services.federation.terms import active
from services.federation.transfer_machine import Stand

if TYPE_CHECKING:
    from libs.tx import Tx
    from services.federation.control import Refusal
    from services.federation.peers_store import Peer
    from services.federation.waiting import WaitDays

NAME = re.compile(r"transfers/[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
CONTRACT_ENDED = "the contract has ended"


class Transfers:
    """Takes and applies the steps of transfers for one node."""

    def __init__(self, node: str, zone: str, days: WaitDays) -> None:
        self._node = node
        self._zone = zone
        self._days = days

    # ------------------------------------------------------------------------------------------- our steps

    async def begin(self, tx: Tx, contract: pb.Contract, peer: str) -> None:
        """Ask for the rows of a contract that has come into force, as its consumer: once, and when it is valid."""
        if contract.consumer != self._node or not _pushes(contract) or not active(contract).in_time(tx.now):
            return
        if not await transfers_store.had_one(tx.conn, contract.name):
            await self._request(tx, contract, peer)

    async def request(self, tx: Tx, name: str) -> pb.Transfer:
        """Ask for the rows of a contract again. Raises WrongState while one is open, or when none can be."""
        contract, peer = await contracts_store.get(tx.conn, name, lock=True)
        if contract.consumer != self._node:
            raise WrongState(Reason.WRONG_STATE, "a transfer is for the consumer to request", contract=name)
        _check_flows(contract)
        if not active(contract).in_time(tx.now):
            raise WrongState(Reason.CONTRACT_NOT_ACTIVE, f"{name} is not in force", contract=name)
        if await transfers_store.open_under(tx.conn, name):
            raise WrongState(Reason.WRONG_STATE, f"a transfer under {name} is open", contract=name)
        return await self._request(tx, contract, peer)

    async def _request(self, tx: Tx, contract: pb.Contract, peer: str) -> pb.Transfer:
        stand = transfer_machine.take(Stand(), transfer_machine.REQUEST, provider=False)
        transfer = pb.Transfer(
            name=f"transfers/{new_id()}",
            contract=contract.name,
            state=stand.state,
            step=stand.step,
            changed_by=self._node,
            provider=contract.provider,
            consumer=contract.consumer,
        )
        await transfers_store.insert(tx.conn, transfer, contract.terms, self._days, tx.now)
        message_id = await self._tell(tx, transfer_machine.REQUEST, transfer, peer)
        await self._taken(tx, transfer_machine.REQUEST, transfer, contract, message_id)
        return transfer

    async def take(self, tx: Tx, name: str, message: str, reason: str = "") -> tuple[pb.Transfer, str]:
        """Take a step and return the transfer and its peer. Raises WrongState for one that does not follow."""
        transfer, _ = await transfers_store.get(tx.conn, name)
        contract, peer = await contracts_store.get(tx.conn, transfer.contract, lock=True)
        transfer, stand = await transfers_store.get(tx.conn, name, lock=True)
        if message == transfer_machine.START:
            _check_flows(contract)
        await self._take(tx, transfer, stand, message, contract, peer, reason)
        return transfer, peer

    async def contract_ended(self, tx: Tx, contract: pb.Contract) -> None:
        """End the transfers of a contract that has ended. The peer does the same: no message is needed."""
        for transfer, stand in await transfers_store.open_under(tx.conn, contract.name):
            ours = contract.provider == self._node
            after = transfer_machine.take(stand, transfer_machine.TERMINATION, provider=ours)
            transfer.reason, transfer.changed_by = CONTRACT_ENDED, contract.terminated_by or self._node
            await transfers_store.update(tx.conn, transfer, after, contract.terms, self._days, tx.now)
            await self._taken(tx, transfer_machine.TERMINATION, transfer, contract, "")

    async def _take(
        self, tx: Tx, transfer: pb.Transfer, stand: Stand, message: str, contract: pb.Contract, peer: str, reason: str
    ) -> None:
        after = transfer_machine.take(stand, message, provider=contract.provider == self._node)
        transfer.reason, transfer.changed_by = reason, self._node
        await transfers_store.update(tx.conn, transfer, after, contract.terms, self._days, tx.now)
        message_id = await self._tell(tx, message, transfer, peer)
        await self._taken(tx, message, transfer, contract, message_id)

    async def start_requested(self, tx: Tx, contract: pb.Contract, peer: str) -> None:
        """Start, as provider, what was requested, once the contract is valid."""
        if contract.provider != self._node or not active(contract).in_time(tx.now):
            return
        for transfer, stand in await transfers_store.open_under(tx.conn, contract.name):
            if stand.state == pb.TRANSFER_STATE_REQUESTED:
                await self._take(tx, transfer, stand, transfer_machine.START, contract, peer, "")

    # ------------------------------------------------------------------------------------ the peer's steps

    async def handle(self, tx: Tx, peer: Peer, envelope: link_pb2.Envelope) -> Refusal | None:
        """Apply a step of the peer; one that was applied before changes nothing.

        A request that cannot be granted is answered with a termination, so that nobody waits for it.
        """
        message = envelope.transfer_message
        told = message.transfer
        if not await contracts_store.first_seen(tx.conn, message.id, told.contract):
            return None
        if not NAME.fullmatch(told.name):
            raise Invalid("transfer.name", "must be transfers/{id}")
        found = await contracts_store.find(tx.conn, told.contract, lock=True)
        if found is None or found[1] != peer.node:
            raise Forbidden(Reason.NOT_PERMITTED, f"{told.contract} is no contract with {peer.node}")
        contract, _ = found
        known = await transfers_store.find(tx.conn, told.name, lock=True)
        if known is not None and known[0].contract != contract.name:
            raise Forbidden(Reason.NOT_PERMITTED, f"{told.name} is not under {contract.name}")
        by_provider = contract.provider == peer.node
        if known is None:
            return await self._requested(tx, message, contract, peer, by_provider=by_provider)
        transfer, stand = known
        after = transfer_machine.hear(stand, message.type, told.step, provider=by_provider)
        if after != stand:
            transfer.reason, transfer.changed_by = told.reason[: steps_store.TEXT_CHARS_MAX], peer.node
            await transfers_store.update(tx.conn, transfer, after, contract.terms, self._days, tx.now)
        await self._heard(tx, message, transfer, contract, applied=after != stand)
        return None

    async def _requested(
        self, tx: Tx, message: link_pb2.TransferMessage, contract: pb.Contract, peer: Peer, *, by_provider: bool
    ) -> Refusal | None:
        told = message.transfer
        if message.type == transfer_machine.TERMINATION:
            return None  # of something that was refused here
        stand = transfer_machine.hear(Stand(), message.type, told.step, provider=by_provider)
        transfer = pb.Transfer(
            name=told.name,
            contract=contract.name,
            state=stand.state,
            step=stand.step,
            changed_by=peer.node,
            provider=contract.provider,
            consumer=contract.consumer,
        )
        try:
            _check_flows(contract)
            if await transfers_store.open_under(tx.conn, contract.name):
                raise WrongState(Reason.WRONG_STATE, f"a transfer under {contract.name} is open")
        except DomainError as error:
            transfer.state, transfer.step = pb.TRANSFER_STATE_TERMINATED, stand.step + 1
            transfer.reason = f"{error.reason}: {error.message}"
            await self._tell(tx, transfer_machine.TERMINATION, transfer, peer.node)
            return error.reason, error.message
        await transfers_store.insert(tx.conn, transfer, contract.terms, self._days, tx.now)
        await self._heard(tx, message, transfer, contract, applied=True)
        await self.start_requested(tx, contract, peer.node)
        return None

    # ---------------------------------------------------------------------------------------------- common

    async def _tell(self, tx: Tx, message_type: str, transfer: pb.Transfer, peer: str) -> str:
        message = link_pb2.TransferMessage(id=new_id(), type=message_type, transfer=transfer)
        for name in ("waits_for", "owner", "deadline", "reminded_at"):
            message.transfer.ClearField(name)
        message.time.FromDatetime(tx.now)
        envelope = control_envelope(transfer_message=message)
        await peers_store.enqueue(tx.conn, peer, [("", envelope)], link_pb2.LANE_CONTROL)
        return message.id

    async def _taken(
        self, tx: Tx, message_type: str, transfer: pb.Transfer, contract: pb.Contract, message_id: str
    ) -> None:
        actor = caller_subject.get() or NODE_ACTOR
        await self._note(tx, message_type, transfer, message_id, self._node, actor, machine.Outcome.APPLIED)
        self._state(tx, transfer, contract)

    async def _heard(
        self, tx: Tx, message: link_pb2.TransferMessage, transfer: pb.Transfer, contract: pb.Contract, *, applied: bool
    ) -> None:
        peer = contract.consumer if contract.provider == self._node else contract.provider
        outcome = machine.Outcome.APPLIED if applied else machine.Outcome.CROSSED
        await self._note(tx, message.type, transfer, message.id, peer, f"nodes/{peer}", outcome)
        if applied:
            self._state(tx, transfer, contract)

    async def _note(
        self,
        tx: Tx,
        message_type: str,
        transfer: pb.Transfer,
        message_id: str,
        node: str,
        actor: str,
        outcome: machine.Outcome,
    ) -> None:
        state = pb.TransferState.Name(transfer.state).removeprefix("TRANSFER_STATE_")
        step = Step(
            contract=transfer.contract,
            transfer=transfer.name,
            message_id=message_id,
            type=message_type,
            node=node,
            actor=actor,
            state=state,
            outcome=outcome,
            text=transfer.reason,
        )
        await steps_store.add(tx.conn, step, tx.now)

    def _state(self, tx: Tx, transfer: pb.Transfer, contract: pb.Contract) -> None:
        # The key is the contract's: who hears of both hears them in order.
        changed = facts_pb2.TransferChanged(transfer=transfer, contract=without_salt(contract))
        tx.publish(changed, zone=self._zone, key=contract.name)
        state = pb.TransferState.Name(transfer.state).removeprefix("TRANSFER_STATE_").lower()
        tx.audit(f"federation.transfers.{state}", transfer.name, contract=contract.name, reason=transfer.reason)


async def restate(tx: Tx, contract: pb.Contract) -> None:
    """Let sharing state the present rows again for the transfers of a contract that flow."""
    for transfer, stand in await transfers_store.open_under(tx.conn, contract.name):
        if stand.state == pb.TRANSFER_STATE_STARTED:
            changed = facts_pb2.TransferChanged(transfer=transfer, contract=without_salt(contract))
            tx.publish(changed, zone=tx.zone, key=contract.name)


def _pushes(contract: pb.Contract) -> bool:
    pulled = contract.terms.mode == pb.DELIVERY_MODE_PULL
    return contract.kind == pb.CONTRACT_KIND_EXCHANGE and not pulled


def _check_flows(contract: pb.Contract) -> None:
    """Raise WrongState for a contract under which no rows flow by themselves."""
    if contract.state != pb.CONTRACT_STATE_FINALIZED or contract.awaits_switch:
        raise WrongState(Reason.CONTRACT_NOT_ACTIVE, f"{contract.name} is not in force", contract=contract.name)
    if not _pushes(contract):
        raise WrongState(Reason.WRONG_STATE, f"no rows are pushed under {contract.name}", contract=contract.name)
