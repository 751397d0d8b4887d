"""How an amendment takes over from the contract that it amends: at one place of each flow.

The provider decides. When the time has come its node puts the fact ContractSwitched into its own stream; the exporter,
at that place, ends the one contract, lets the other flow, and queues the switch behind what it has queued before, in
the same lane: the consumer takes all before it under the old contract and all after it under the new one. The facts of
a child that is told so switch in the same way, at a place of its own stream; until the child's word of that place comes
in, the parent takes what comes under the old charter ("draining").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.errors import Forbidden, Reason, WrongState
from libs.ids import new_id
from quintet.federation.v1 import facts_pb2, link_pb2
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import contracts_store, machine, peers_store
from services.federation.ledger import envelope_of, lane_of
from services.federation.machine import Ending, Outcome, Position

if TYPE_CHECKING:
    from libs.tx import Tx
    from services.federation.endings import Endings
    from services.federation.ledger import Ledger
    from services.federation.transfers import Transfers

CONTRACT_SWITCHED = facts_pb2.ContractSwitched.DESCRIPTOR.full_name


class Switches:
    """Lets amendments take over, at the provider and at the consumer."""

    def __init__(self, ledger: Ledger, endings: Endings, transfers: Transfers, zone: str) -> None:
        self._ledger = ledger
        self._endings = endings
        self._transfers = transfers
        self._zone = zone

    async def state_place(self, tx: Tx, name: str) -> None:
        """Put the place of a switch that is due into the stream of facts, once, as provider."""
        amendment, _ = await contracts_store.get(tx.conn, name, lock=True)
        if amendment.state == pb.CONTRACT_STATE_FINALIZED and amendment.awaits_switch:
            await contracts_store.set_switch_stated(tx.conn, name)
            self._publish(tx, amendment)

    def _publish(self, tx: Tx, amendment: pb.Contract) -> None:
        switched = facts_pb2.ContractSwitched(contract=amendment.name, amends=amendment.amends)
        tx.publish(switched, zone=self._zone, key=amendment.name)

    async def at_place(self, tx: Tx, name: str) -> str:
        """Switch at this place of the stream; return the peer that has to be told, "" for none.

        Everything before this place must be queued already.
        """
        amendment, peer = await contracts_store.get(tx.conn, name, lock=True)
        before, _ = await contracts_store.get(tx.conn, amendment.amends, lock=True)
        if amendment.provider == self._ledger.node:
            return await self._take_over(tx, amendment, before, peer)
        await contracts_store.stop_flowing(tx.conn, before.name)
        if amendment.kind != pb.CONTRACT_KIND_CHARTER:
            return ""
        await contracts_store.set_flowing(tx.conn, name=amendment.name)
        await self._queue(tx, before, peer, new_id())
        return peer

    async def _take_over(self, tx: Tx, amendment: pb.Contract, before: pb.Contract, peer: str) -> str:
        """End the one contract and begin the other. One that has ended meanwhile has nothing to switch."""
        in_force = pb.CONTRACT_STATE_FINALIZED
        if amendment.state != in_force or not amendment.awaits_switch or before.state != in_force:
            return ""
        ending = Ending(new_id(), self._ledger.node, machine.SUPERSEDED, superseded_by=amendment.name)
        await self._switch(tx, amendment, before, ending)
        await contracts_store.stop_flowing(tx.conn, before.name)
        if amendment.kind == pb.CONTRACT_KIND_CHARTER:
            await contracts_store.set_flowing(tx.conn, name=amendment.name)
            await contracts_store.set_draining(tx.conn, before.name, draining=True)
        await self._queue(tx, before, peer, ending.message_id)
        await self._ledger.note(
            tx, machine.TERMINATION, "", before, ending.message_id, actor="services/federation", text=machine.SUPERSEDED
        )
        self._ledger.state(tx, before)
        self._ledger.state(tx, amendment)
        await self._transfers.contract_ended(tx, before)
        await self._endings.end_amendments(tx, before, f"superseded by {amendment.name}", but=amendment.name)
        return peer

    async def _switch(self, tx: Tx, amendment: pb.Contract, before: pb.Contract, ending: Ending) -> None:
        position = Position(before.state, await contracts_store.ending(tx.conn, before))
        await self._endings.keep(tx, before, machine.end(position, ending))
        amendment.awaits_switch = False
        amendment.in_force_at.FromDatetime(tx.now)
        await self._ledger.save(tx, amendment)

    async def _queue(self, tx: Tx, before: pb.Contract, peer: str, message_id: str) -> None:
        """Queue the switch in the lane of what flows under the contract, so that it comes at its place."""
        lane = lane_of(before.kind)
        envelope = envelope_of(tx, machine.TERMINATION, before, "", message_id, lane)
        await peers_store.enqueue(tx.conn, peer, [("", envelope)], lane)

    # ------------------------------------------------------------------------------------ the peer's steps

    async def hear(self, tx: Tx, message: link_pb2.ContractMessage, before: pb.Contract, peer: str) -> None:
        """Apply a termination that names a successor: the provider's switch, or the consumer's word of its own."""
        told = message.contract
        if peer == before.consumer:
            if before.superseded_by != told.superseded_by:
                raise WrongState(Reason.WRONG_STATE, "the switch is for the provider to state", contract=before.name)
            await contracts_store.set_draining(tx.conn, before.name, draining=False)
            await self._ledger.hear(tx, message, before, peer, Outcome.CROSSED, machine.SUPERSEDED)
            return
        found = await contracts_store.find(tx.conn, told.superseded_by, lock=True)
        if found is None or found[1] != peer or found[0].amends != before.name:
            raise Forbidden(Reason.NOT_PERMITTED, f"{told.superseded_by} does not amend {before.name}")
        amendment, _ = found
        ending = Ending(message.id, peer, machine.SUPERSEDED, superseded_by=amendment.name)
        if amendment.state == pb.CONTRACT_STATE_FINALIZED and amendment.awaits_switch:
            await self._switch(tx, amendment, before, ending)
            self._ledger.state(tx, amendment)
        elif amendment.state == pb.CONTRACT_STATE_TERMINATED:
            # This node ended the amendment while the switch was on its way; the provider hears of that: both are over.
            position = Position(before.state, await contracts_store.ending(tx.conn, before))
            await self._endings.keep(tx, before, machine.end(position, ending))
        else:
            raise WrongState(Reason.WRONG_STATE, f"{amendment.name} is not agreed to", contract=before.name)
        await self._ledger.hear(tx, message, before, peer, Outcome.APPLIED, machine.SUPERSEDED)
        await self._transfers.contract_ended(tx, before)
        self._publish(tx, amendment)
        if amendment.state == pb.CONTRACT_STATE_FINALIZED:
            await self._transfers.begin(tx, amendment, peer)
