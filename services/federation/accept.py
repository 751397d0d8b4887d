"""What comes into the node: each batch is verified, held against the contracts, and put on the bus in one transaction.

Nothing is trusted because a peer sent it. What a contract does not allow is refused, counted and listed, and the
sequence goes on: one bad envelope does not hold up the good ones behind it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from libs.context import caller_subject
from libs.errors import DomainError, Forbidden, Reason, WrongState
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import contracts_store, control, metering_store, peers_store, rows
from services.federation.contracts_store import NewRefusal, Tally
from services.federation.metering import Entry, entry_of
from services.federation.signing import digest, open_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.federation.control import ControlHandler, Refusal
    from services.federation.peers_store import Peer
    from services.federation.terms import ActiveContract

log = structlog.get_logger()


@dataclass(frozen=True)
class Accepted:
    """How far a peer's sequence is committed now."""

    sequence: int
    envelopes: int
    # Something other than facts came: there may be an answer to it in the queue.
    controlled: bool


class Acceptor:
    """Applies the batches of all peers."""

    def __init__(
        self,
        node: str,
        transactions: Transactions,
        zones: Callable[[], ZoneTree],
        control: Mapping[str, ControlHandler],
    ) -> None:
        """`control` has the handler of each kind of control message by the name of the envelope's body field."""
        self._node = node
        self._transactions = transactions
        self._zones = zones
        self._control = control

    async def accept(self, peer: Peer, epoch: str, signed: link_pb2.SignedBatch) -> tuple[Accepted, link_pb2.Receipt]:
        """Commit a batch and return the receipt to be signed.

        Envelopes that were committed before are passed over. Raises Forbidden for a signature or addressee, and
        WrongState(SEQUENCE_GAP) for a sequence, that do not hold; then nothing of the batch was applied.
        """
        batch = open_batch(signed, peer.signing_key)
        if (batch.sender, batch.receiver, batch.epoch) != (peer.node, self._node, epoch):
            raise Forbidden(Reason.SIGNATURE_INVALID, "the batch is not from this peer's present life to this node")
        # What follows is the peer's doing, and stands so in the audit log.
        actor = caller_subject.set(f"nodes/{peer.node}")
        try:
            accepted = await self._transactions.run(lambda tx: self._apply(tx, peer.node, epoch, batch))
        finally:
            caller_subject.reset(actor)
        receipt = link_pb2.Receipt(
            receiver=self._node, sender=peer.node, epoch=epoch, sequence=accepted.sequence, batch_digest=digest(signed)
        )
        receipt.time.FromDatetime(self._transactions.clock.now())
        return accepted, receipt

    async def _apply(self, tx: Tx, node: str, epoch: str, batch: link_pb2.Batch) -> Accepted:
        peer = await peers_store.get(tx.conn, node, lock=True)
        new = [envelope for envelope in batch.envelopes if envelope.sequence > peer.received]
        expected = range(peer.received + 1, peer.received + 1 + len(new))
        if [envelope.sequence for envelope in new] != list(expected):
            text = f"after {peer.received} comes {peer.received + 1}"
            raise WrongState(Reason.SEQUENCE_GAP, text, received=str(peer.received))
        if not new:
            return Accepted(peer.received, len(batch.envelopes), controlled=False)
        controlled = await self._apply_envelopes(tx, peer, new)
        await peers_store.set_received(tx.conn, node, epoch, new[-1].sequence, tx.now)
        return Accepted(new[-1].sequence, len(batch.envelopes), controlled)

    async def _apply_envelopes(self, tx: Tx, peer: Peer, envelopes: list[link_pb2.Envelope]) -> bool:
        contracts = await contracts_store.active_with(tx.conn, peer.node)
        tallies: dict[str, Tally] = defaultdict(Tally)
        entries: list[Entry] = []
        refusals: list[NewRefusal] = []
        controlled = False
        for envelope in envelopes:
            kind = envelope.WhichOneof("body")
            if kind == "fact":
                refusal = self._take(tx, peer, contracts.get(envelope.contract), envelope, tallies, entries)
            elif control.is_empty(envelope):
                continue  # withdrawn: only its sequence was left
            else:
                refusal = await control.apply(self._control, tx, peer, envelope)
                contracts = await contracts_store.active_with(tx.conn, peer.node)
                controlled = True
            if refusal is not None:
                reason, text = refusal
                log.warning("link.refused", peer=peer.node, sequence=envelope.sequence, reason=reason, text=text)
                name = control.contract_of(envelope)
                refusals.append(NewRefusal(name, reason, text, f"nodes/{peer.node}", self._node))
        await contracts_store.count(tx.conn, tallies)
        await metering_store.record(tx.conn, self._node, entries, tx.now)
        await contracts_store.refuse(tx.conn, refusals, tx.now)
        return controlled

    def _take(
        self,
        tx: Tx,
        peer: Peer,
        contract: ActiveContract | None,
        envelope: link_pb2.Envelope,
        tallies: dict[str, Tally],
        entries: list[Entry],
    ) -> Refusal | None:
        if contract is None or not contract.in_time(tx.now):
            return Reason.CONTRACT_NOT_ACTIVE, f"{envelope.contract or 'no contract'} is not in force"
        if envelope.agreement_hash != contract.agreement_hash:
            return Reason.CONTRACT_NOT_ACTIVE, "the envelope names another agreement than the one in force"
        count = 0
        if contract.kind == pb.CONTRACT_KIND_EXCHANGE:
            checked = rows.take(contract, self._zones(), peer.node, envelope.fact)
            if not isinstance(checked, int):
                return checked
            count = checked
        elif refusal := self._check_fact(contract, peer.node, envelope.fact):
            return refusal
        fact = Fact()
        fact.CopyFrom(envelope.fact)
        fact.received_from = peer.node
        fact.contract = contract.name
        try:
            tx.forward(fact)
        except DomainError as error:
            return error.reason, error.message
        entries.append(entry_of(contract.name, peer.node, envelope.fact, count))
        tallies[contract.name].facts_received += 1
        tallies[contract.name].rows_received += count
        return None

    def _check_fact(self, contract: ActiveContract, sender: str, fact: Fact) -> Refusal | None:
        if fact.node == self._node:
            return Reason.NOT_PERMITTED, "a fact of this node cannot come from outside"
        if contract.fact_terms(fact.type, sender) is None:
            return Reason.FIELD_NOT_IN_CONTRACT, f"{fact.type} is not in the contract"
        if not contract.covers(self._zones(), fact.zone):
            return Reason.FIELD_NOT_IN_CONTRACT, f"zone {fact.zone} is not in the contract"
        return None
