"""What comes into the node: each batch is verified, held against the contracts, and put on the bus in one transaction.

Nothing is trusted because a peer sent it. What a contract does not allow is refused, counted and listed, and the
sequence goes on: one bad envelope does not hold up the good ones behind it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from google.protobuf.message import DecodeError
from prometheus_client import Counter

from libs import db, inbox_store
from libs.context import caller_subject
from libs.errors import DomainError, Forbidden, Invalid, Reason, WrongState
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import (
    contracts_store,
    control,
    dead_letters,
    incoming_store,
    lanes_store,
    metering_store,
    peers_store,
    receipts_store,
    refusals_store,
    rows,
)
from services.federation.contracts_store import Tally
from services.federation.incoming_store import Against
from services.federation.lanes_store import LANE_NAMES, LANES, Lane
from services.federation.metering import Entry, entry_of
from services.federation.refusals_store import NewRefusal
from services.federation.signing import digest, open_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.federation.control import ControlHandler, Refusal
    from services.federation.key_ring import KeyRing
    from services.federation.peers_store import Peer
    from services.federation.terms import ActiveContract

REPEATED = Counter("quintet_federation_repeated_facts", "Facts from a peer that were known here already.", ["peer"])

log = structlog.get_logger()


@dataclass(frozen=True)
class Opened:
    """A batch whose signature holds. `envelopes` has None for what cannot be read; `raw` are their bytes."""

    epoch: str
    lane: Lane
    first: int
    raw: Sequence[bytes]
    envelopes: Sequence[link_pb2.Envelope | None]
    digest: bytes


@dataclass(frozen=True)
class Accepted:
    """How far a lane of a peer is committed now."""

    sequence: int
    chain: bytes
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

    def open(self, keys: KeyRing, epoch: str, signed: link_pb2.SignedBatch) -> Opened:
        """Verify and read a batch of the peer whose `keys` these are.

        Raises Forbidden for a false signature or addressee, Invalid for its bytes.
        """
        batch = open_batch(signed, keys.at(signed.key_id, self._transactions.clock.now()))
        if (batch.sender, batch.receiver, batch.epoch) != (keys.node, self._node, epoch):
            raise Forbidden(Reason.SIGNATURE_INVALID, "the batch is not from this peer's present life to this node")
        if batch.lane not in LANES or not batch.envelopes:
            raise Invalid("batch.lane", "must be a lane, with one envelope at least")
        envelopes = [_read(data) for data in batch.envelopes]
        return Opened(epoch, batch.lane, batch.first_sequence, batch.envelopes, envelopes, digest(signed))

    async def accept(self, peer: Peer, opened: Opened) -> tuple[Accepted, link_pb2.Receipt]:
        """Commit a batch and return the receipt to be signed.

        Envelopes that were committed before are passed over. Raises WrongState(SEQUENCE_GAP) for a sequence that does
        not hold; then nothing of the batch was applied.
        """
        # What follows is the peer's doing, and stands so in the audit log.
        actor = caller_subject.set(f"nodes/{peer.node}")
        try:
            accepted = await self._apply_or_bury(peer.node, opened)
        finally:
            caller_subject.reset(actor)
        receipt = link_pb2.Receipt(
            receiver=self._node,
            sender=peer.node,
            epoch=opened.epoch,
            lane=opened.lane,
            sequence=accepted.sequence,
            chain=accepted.chain,
            batch_digest=opened.digest,
            first_sequence=opened.first,
            contracts=receipts_store.contracts_in(opened.envelopes),
        )
        receipt.time.FromDatetime(self._transactions.clock.now())
        return accepted, receipt

    async def _apply_or_bury(self, node: str, opened: Opened) -> Accepted:
        """Apply a batch as a whole; when that fails for no reason that is known, each envelope by itself."""
        try:
            return await self._transactions.run(lambda tx: self._apply(tx, node, opened))
        except Exception as error:
            if _is_expected(error):
                raise
            log.warning("link.batch_failed", peer=node, first=opened.first, error=repr(error))
        accepted = None
        for place in range(len(opened.raw)):
            single = replace(
                opened,
                first=opened.first + place,
                raw=opened.raw[place : place + 1],
                envelopes=opened.envelopes[place : place + 1],
            )
            last = await self._apply_single(node, single)
            accepted = replace(last, controlled=last.controlled or (accepted is not None and accepted.controlled))
        if accepted is None:
            raise ValueError("a batch has an envelope")
        return accepted

    async def _apply_single(self, node: str, single: Opened) -> Accepted:
        try:
            return await self._transactions.run(lambda tx: self._apply(tx, node, single))
        except Exception as error:
            if _is_expected(error):
                raise
            log.exception("link.envelope_failed", peer=node, lane=LANE_NAMES[single.lane], sequence=single.first)
            failure = error
        return await self._transactions.run(lambda tx: self._bury(tx, node, single, failure))

    async def _bury(self, tx: Tx, node: str, single: Opened, error: Exception) -> Accepted:
        before = await incoming_store.lock_received(tx.conn, node, single.lane)
        if before.received >= single.first:
            return Accepted(before.received, before.chain, controlled=False)
        chain = lanes_store.extend(before.chain, single.raw)[-1]
        await incoming_store.set_received(tx.conn, node, single.lane, single.first, chain)
        envelope = single.envelopes[0]
        kind = envelope.WhichOneof("body") or "" if envelope is not None else ""
        contract = control.contract_of(envelope) if envelope is not None else ""
        await dead_letters.bury(tx, node, single.lane, single.first, single.raw[0], error, contract=contract, body=kind)
        return Accepted(single.first, chain, controlled=False)

    async def apply_again(self, tx: Tx, node: str, lane: Lane, sequence: int, data: bytes) -> None:
        """Apply an envelope that failed before, as the peer's doing, whoever asks for it."""
        actor = caller_subject.set(f"nodes/{node}")
        try:
            peer = await peers_store.get(tx.conn, node)
            envelopes = [_read(data)]
            against = Against(
                peer,
                await contracts_store.accepting_from(tx.conn, node),
                await inbox_store.known(tx.conn, _fact_ids(envelopes)),
            )
            await self._apply_envelopes(tx, against, lane, sequence, envelopes)
        finally:
            caller_subject.reset(actor)

    async def _apply(self, tx: Tx, node: str, opened: Opened) -> Accepted:
        before = await incoming_store.lock_received(tx.conn, node, opened.lane)
        known = before.received + 1 - opened.first
        new = opened.envelopes[max(0, known) :]
        if known < 0 or not new:
            _check_peer(await peers_store.get(tx.conn, node), opened)
        if known < 0:
            text = f"after {before.received} of lane {LANE_NAMES[opened.lane]} comes {before.received + 1}"
            raise WrongState(Reason.SEQUENCE_GAP, f"{text}, not {opened.first}", received=str(before.received))
        if not new:
            return Accepted(before.received, before.chain, controlled=False)
        chain = lanes_store.extend(before.chain, opened.raw[known:])[-1]
        sequence = before.received + len(new)
        against = await incoming_store.go_on(tx.conn, node, opened.lane, sequence, chain, _fact_ids(new))
        _check_peer(against.peer, opened)
        controlled = await self._apply_envelopes(tx, against, opened.lane, before.received + 1, new)
        return Accepted(sequence, chain, controlled)

    async def _apply_envelopes(
        self,
        tx: Tx,
        against: Against,
        lane: Lane,
        first: int,
        envelopes: Sequence[link_pb2.Envelope | None],
    ) -> bool:
        peer, contracts = against.peer, against.contracts
        tallies: dict[str, Tally] = defaultdict(Tally)
        entries: list[Entry] = []
        refusals: list[NewRefusal] = []
        controlled = False
        for sequence, envelope in enumerate(envelopes, first):
            refusal = _check_envelope(envelope, lane)
            if envelope is None or refusal is not None:
                pass
            elif envelope.WhichOneof("body") == "fact":
                contract = contracts.get(envelope.contract)
                refusal = await self._take(tx, peer, contract, envelope, against.known, tallies, entries)
            elif control.is_empty(envelope):
                continue  # withdrawn: only its sequence was left
            else:
                refusal = await control.apply(self._control, tx, peer, envelope)
                contracts = await contracts_store.accepting_from(tx.conn, peer.node)
                controlled = True
            if refusal is not None:
                reason, text = refusal
                log.warning("link.refused", peer=peer.node, sequence=sequence, reason=reason, text=text)
                name = control.contract_of(envelope) if envelope is not None else ""
                refusals.append(NewRefusal(name, reason, text, f"nodes/{peer.node}", self._node))
        await metering_store.record(tx.conn, self._node, entries, tx.now, tallies)
        await refusals_store.refuse(tx.conn, refusals, tx.now)
        return controlled

    async def _take(
        self,
        tx: Tx,
        peer: Peer,
        contract: ActiveContract | None,
        envelope: link_pb2.Envelope,
        known: set[str],
        tallies: dict[str, Tally],
        entries: list[Entry],
    ) -> Refusal | None:
        if contract is None or not contract.in_time(tx.now):
            return Reason.CONTRACT_NOT_ACTIVE, f"{envelope.contract or 'no contract'} is not in force"
        count = self._check(contract, peer, envelope)
        if not isinstance(count, int):
            return count
        # What was sent again, after a restore or to settle a difference, may still have to be metered, and no more.
        if envelope.fact.id in known:
            REPEATED.labels(peer.node).inc()
        elif not await self._within_quota(tx, contract, envelope.fact, count):
            quota = contract.terms.quota_rows_per_day
            return Reason.QUOTA, f"{count} rows are more than is left of {quota} for the day"
        else:
            fact = Fact()
            fact.CopyFrom(envelope.fact)
            fact.received_from = peer.node
            fact.contract = contract.name
            try:
                tx.forward(fact)
            except DomainError as error:
                return error.reason, error.message
            tallies[contract.name].facts_received += 1
            tallies[contract.name].rows_received += count
        entries.append(entry_of(contract.name, peer.node, envelope.fact, count))
        return None

    def _check(self, contract: ActiveContract, peer: Peer, envelope: link_pb2.Envelope) -> int | Refusal:
        """Return the number of rows in a fact that its contract allows, or why it is refused."""
        if envelope.agreement_hash != contract.agreement_hash:
            return Reason.CONTRACT_NOT_ACTIVE, "the envelope names another agreement than the one in force"
        if contract.kind == pb.CONTRACT_KIND_EXCHANGE:
            return rows.take(contract, self._zones(), peer.node, envelope.fact)
        return self._check_fact(contract, peer.node, envelope.fact) or 0

    async def _within_quota(self, tx: Tx, contract: ActiveContract, fact: Fact, count: int) -> bool:
        """A day that has not come yet has no quota: else every day to come could be used up at once."""
        tomorrow = tx.now.date() + timedelta(days=1)
        if contract.terms.quota_rows_per_day and fact.time.ToDatetime().date() > tomorrow:
            return False
        return await contracts_store.within_quota(tx.conn, contract, fact, count)

    def _check_fact(self, contract: ActiveContract, sender: str, fact: Fact) -> Refusal | None:
        if fact.node == self._node:
            return Reason.NOT_PERMITTED, "a fact of this node cannot come from outside"
        if contract.fact_terms(fact.type, sender) is None:
            return Reason.FIELD_NOT_IN_CONTRACT, f"{fact.type} is not in the contract"
        if not contract.covers(self._zones(), fact.zone):
            return Reason.FIELD_NOT_IN_CONTRACT, f"zone {fact.zone} is not in the contract"
        return None


def _check_peer(peer: Peer, opened: Opened) -> None:
    """Raise WrongState when nothing of a batch may be taken from the peer as it stands."""
    if peer.received_epoch != opened.epoch:
        raise WrongState("SEQUENCE_REVERSED", f"{peer.node} has begun another life of its lanes")
    if peer.state != pb.PEER_STATE_ACTIVE and not control.heard_while_suspended(peer, opened.envelopes):
        raise WrongState(Reason.PEER_SUSPENDED, "nothing is exchanged: the sender keeps it")


def _is_expected(error: Exception) -> bool:
    """Say whether an error means something to the peer, or passes by itself."""
    return isinstance(error, DomainError) or db.is_away(error) or db.is_slow(error)


def _read(data: bytes) -> link_pb2.Envelope | None:
    if len(data) > lanes_store.ENVELOPE_BYTES_MAX:
        return None
    try:
        return link_pb2.Envelope.FromString(data)
    except DecodeError:
        return None


def _check_envelope(envelope: link_pb2.Envelope | None, lane: Lane) -> Refusal | None:
    if envelope is None:
        return (
            Reason.FIELD_INVALID,
            f"an envelope that cannot be read, or of more than {lanes_store.ENVELOPE_BYTES_MAX} bytes",
        )
    kind = envelope.WhichOneof("body")
    if kind is None:
        return None  # withdrawn, or of a later release
    # The switch to an amendment comes at its place among what flows under the contract.
    flows = kind == "fact" or (kind == "contract_message" and envelope.contract_message.contract.superseded_by != "")
    if envelope.lane != lane or flows == (lane == link_pb2.LANE_CONTROL):
        return Reason.FIELD_INVALID, f"{kind} does not belong in lane {LANE_NAMES[lane]}"
    if kind == "fact" and _fact_id(envelope.fact) is None:
        return Reason.FIELD_INVALID, "a fact without an id that is a UUID"
    return None


def _fact_ids(envelopes: Sequence[link_pb2.Envelope | None]) -> list[UUID]:
    found = (_fact_id(each.fact) for each in envelopes if each is not None and each.HasField("fact"))
    return [each for each in found if each is not None]


def _fact_id(fact: Fact) -> UUID | None:
    try:
        return UUID(fact.id)
    except ValueError:
        return None
