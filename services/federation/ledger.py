"""What every step of a contract leaves behind: its row, its line in the history, the message to the peer, the fact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.context import caller_subject
from libs.ids import new_id
from quintet.federation.v1 import facts_pb2, link_pb2
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import contracts_store, peers_store, steps_store
from services.federation import terms as contract_terms
from services.federation.machine import Outcome
from services.federation.steps_store import Step

if TYPE_CHECKING:
    from libs.tx import Tx
    from services.federation.waiting import WaitDays

# What a contract is called by this node only.
_OWN = (
    "facts_sent", "facts_received", "rows_sent", "rows_received", "refused",
    "waits_for", "owner", "deadline", "reminded_at", "alarms",
)  # fmt: skip
NODE_ACTOR = "services/federation"


class Ledger:
    """Writes down the steps of one node and of its peers."""

    def __init__(self, node: str, zone: str, days: WaitDays) -> None:
        self.node = node
        self._zone = zone
        self._days = days

    async def add(self, tx: Tx, contract: pb.Contract, peer: str, agreement_hash: bytes = b"") -> None:
        """Write a contract that is new here."""
        await contracts_store.insert(tx.conn, contract, peer, agreement_hash, self._days, tx.now)

    async def save(self, tx: Tx, contract: pb.Contract) -> None:
        """Write a contract, with the hash of its agreement once it is agreed."""
        agreed = contract.provider_signature != ""
        digest = contract_terms.agreement_hash(contract) if agreed else b""
        contract.agreement_hash = digest.hex()
        contract.updated_at.FromDatetime(tx.now)
        await contracts_store.update(tx.conn, contract, digest, self._days, tx.now)

    async def tell(
        self, tx: Tx, message_type: str, contract: pb.Contract, peer: str, *, event: str = "", message_id: str = ""
    ) -> None:
        """Queue a step for the peer, state the contract as it is now, and note the step in its history."""
        message_id = await self.send(tx, message_type, contract, peer, event=event, message_id=message_id)
        actor = caller_subject.get() or NODE_ACTOR
        await self.note(tx, message_type, event, contract, message_id, actor=actor, text=contract.reason)
        self.state(tx, contract)

    async def send(
        self, tx: Tx, message_type: str, contract: pb.Contract, peer: str, *, event: str = "", message_id: str = ""
    ) -> str:
        """Queue a step for the peer and return the id of its message."""
        message_id = message_id or new_id()
        envelope = envelope_of(tx, message_type, contract, event, message_id)
        await peers_store.enqueue(tx.conn, peer, [("", envelope)], link_pb2.LANE_CONTROL)
        return message_id

    async def hear(
        self, tx: Tx, message: link_pb2.ContractMessage, contract: pb.Contract, peer: str, outcome: Outcome, text: str
    ) -> None:
        """Note a step of the peer; when it was applied, state the contract as it is now."""
        told = f"nodes/{peer}"
        await self.note(
            tx, message.type, message.event, contract, message.id, actor=told, node=peer, outcome=outcome, text=text
        )
        if outcome is Outcome.APPLIED:
            self.state(tx, contract)

    async def note(
        self,
        tx: Tx,
        message_type: str,
        event: str,
        contract: pb.Contract,
        message_id: str,
        *,
        actor: str,
        node: str = "",
        outcome: Outcome = Outcome.APPLIED,
        text: str = "",
    ) -> None:
        """Add a line to the history of a contract."""
        step = Step(
            contract=contract.name,
            message_id=message_id,
            type=f"{message_type} {event}".strip(),
            node=node or self.node,
            actor=actor,
            state=state_name(contract),
            outcome=outcome,
            text=text,
        )
        await steps_store.add(tx.conn, step, tx.now)

    def state(self, tx: Tx, contract: pb.Contract) -> None:
        """Tell the node what became of a contract. The salt stays in this service."""
        tx.publish(facts_pb2.ContractChanged(contract=without_salt(contract)), zone=self._zone, key=contract.name)
        notice = contract.HasField("terminates_at") and contract.state == pb.CONTRACT_STATE_FINALIZED
        action = "notice" if notice else state_name(contract).lower()
        tx.audit(f"federation.contracts.{action}", contract.name, reason=contract.reason, by=contract.terminated_by)


def without_salt(contract: pb.Contract) -> pb.Contract:
    """Return a contract for people and for the bus."""
    shown = pb.Contract()
    shown.CopyFrom(contract)
    shown.terms.ClearField("salt")
    return shown


def state_name(contract: pb.Contract) -> str:
    """Return the state in the words of the protocol, "REQUESTED"."""
    return pb.ContractState.Name(contract.state).removeprefix("CONTRACT_STATE_")


def lane_of(kind: pb.ContractKind.ValueType) -> link_pb2.Lane.ValueType:
    """Return the lane of what flows under a contract: rows must not hold up what happens."""
    return link_pb2.LANE_BULK if kind == pb.CONTRACT_KIND_EXCHANGE else link_pb2.LANE_FACTS


def envelope_of(
    tx: Tx,
    message_type: str,
    contract: pb.Contract,
    event: str,
    message_id: str,
    lane: link_pb2.Lane.ValueType = link_pb2.LANE_CONTROL,
) -> bytes:
    """Return the envelope of a step, without what only this node says of the contract."""
    told = pb.Contract()
    told.CopyFrom(contract)
    for name in _OWN:
        told.ClearField(name)  # type: ignore[arg-type]
    message = link_pb2.ContractMessage(id=message_id, type=message_type, contract=told, event=event)
    message.time.FromDatetime(tx.now)
    return link_pb2.Envelope(lane=lane, contract_message=message).SerializeToString()
