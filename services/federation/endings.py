"""How contracts end: at once, after notice, by the clock; and what ends with them."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from libs.errors import Reason, WrongState
from libs.ids import new_id
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import contracts_store, machine, peers_store
from services.federation.ledger import NODE_ACTOR
from services.federation.machine import Ending, Outcome, Position

if TYPE_CHECKING:
    from datetime import datetime

    from libs.tx import Tx
    from services.federation.ledger import Ledger
    from services.federation.transfers import Transfers

AMENDED_ENDED = "the contract that it amends has ended"


class Endings:
    """Ends contracts for one node."""

    def __init__(self, ledger: Ledger, transfers: Transfers) -> None:
        self._ledger = ledger
        self._transfers = transfers

    async def terminate(self, tx: Tx, contract: pb.Contract, peer: str, reason: str) -> None:
        """End a contract now, and tell the peer. Raises WrongState when it has ended already."""
        ending = Ending(new_id(), self._ledger.node, reason)
        await self._take(tx, contract, ending)
        await self._ledger.tell(tx, machine.TERMINATION, contract, peer, message_id=ending.message_id)
        await self._ended(tx, contract)
        await self.end_amendments(tx, contract, AMENDED_ENDED)

    async def give_notice(self, tx: Tx, contract: pb.Contract, peer: str, reason: str, at: datetime) -> None:
        """Announce that a contract in force ends at a time. Raises WrongState when it ends before that already."""
        ending = Ending(new_id(), self._ledger.node, reason, at)
        await self._take(tx, contract, ending)
        await self._ledger.tell(tx, machine.TERMINATION, contract, peer, message_id=ending.message_id)

    async def _take(self, tx: Tx, contract: pb.Contract, ending: Ending) -> None:
        before = Position(contract.state, await contracts_store.ending(tx.conn, contract))
        if before.state == pb.CONTRACT_STATE_TERMINATED:
            raise WrongState(Reason.WRONG_STATE, f"{contract.name} has ended already", contract=contract.name)
        after = machine.end(before, ending)
        if after.ending != ending:
            text = f"{contract.name} ends earlier already, by the notice of {contract.terminated_by}"
            raise WrongState(Reason.WRONG_STATE, text, contract=contract.name)
        await self.keep(tx, contract, after)

    async def keep(self, tx: Tx, contract: pb.Contract, after: Position) -> None:
        """Write where a contract stands after an ending."""
        contract.state = after.state
        if after.ending is not None:
            await contracts_store.set_ending(tx.conn, contract, after.ending)
        await self._ledger.save(tx, contract)

    async def hear(self, tx: Tx, message: link_pb2.ContractMessage, contract: pb.Contract, peer: str) -> None:
        """Apply the peer's termination, or its notice. It stands whatever was agreed: nobody can be made to go on."""
        told = message.contract
        at = told.terminates_at.ToDatetime(UTC) if told.HasField("terminates_at") else None
        before = Position(contract.state, await contracts_store.ending(tx.conn, contract))
        after, outcome = machine.hear(before, message.type, message.event, Ending(message.id, peer, told.reason, at))
        if outcome is Outcome.APPLIED:
            await self.keep(tx, contract, after)
        await self._ledger.hear(tx, message, contract, peer, outcome, told.reason)
        if before.state != after.state:
            await self._ended(tx, contract)

    async def run_out(self, tx: Tx, contract: pb.Contract, reason: str = "") -> None:
        """End a contract whose notice or validity is over by this node's clock; the peer does so by its own."""
        contract.state = pb.CONTRACT_STATE_TERMINATED
        if not contract.HasField("terminates_at"):
            contract.reason = reason
        await self._ledger.save(tx, contract)
        await self._ledger.note(tx, machine.TERMINATION, "", contract, "", actor=NODE_ACTOR, text=contract.reason)
        self._ledger.state(tx, contract)
        await self._ended(tx, contract)
        await self.end_amendments(tx, contract, AMENDED_ENDED)

    async def _ended(self, tx: Tx, contract: pb.Contract) -> None:
        """Withdraw what waits for the peer, and end the transfers."""
        await peers_store.withdraw(tx.conn, contract.name)
        await self._transfers.contract_ended(tx, contract)

    async def end_amendments(self, tx: Tx, contract: pb.Contract, reason: str, but: str = "") -> None:
        """End what would amend a contract that is no longer there to be amended."""
        for amendment, peer in await contracts_store.amendments(tx.conn, contract.name):
            if amendment.name != but:
                await self.terminate(tx, amendment, peer, reason)
