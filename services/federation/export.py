"""What leaves the node: every fact of the bus is held against the contracts that flow, projected, and queued for peers.

A contract begins to flow at a place in the stream of facts. For a charter at the parent that place is the fact
ZoneDelegated: management reads the same stream, and from the same fact on leaves the zone to the child. So each
request is either handled here or sent down, never both and never neither.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from libs.errors import Reason
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import facts_pb2, link_pb2
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import (
    contracts_store,
    disclosures_store,
    lanes_store,
    ledger,
    metering_store,
    refusals_store,
    returns_store,
    rows,
    transfers_store,
)
from services.federation.amendments import CONTRACT_SWITCHED
from services.federation.contracts_store import Tally
from services.federation.disclosures import Disclosed, Disclosures
from services.federation.known_facts import parse
from services.federation.lanes_store import Lane, Place, Queued
from services.federation.metering import Entry, entry_of, placed
from services.federation.refusals_store import NewRefusal
from services.federation.terms import HANDING_OVER, ActiveContract, clear_masked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from libs.tx import Tx
    from libs.zones import ZoneTree
    from services.federation.amendments import Switches

ZONE_DELEGATED = facts_pb2.ZoneDelegated.DESCRIPTOR.full_name
ZONE_WITHDRAWN = facts_pb2.ZoneWithdrawn.DESCRIPTOR.full_name
CONTRACT_CHANGED = facts_pb2.ContractChanged.DESCRIPTOR.full_name
TRANSFER_CHANGED = facts_pb2.TransferChanged.DESCRIPTOR.full_name


@dataclass
class Outgoing:
    """What one batch of facts sends: envelopes by peer and lane, counters by contract, refusals."""

    envelopes: dict[tuple[str, Lane], list[Queued]] = field(default_factory=lambda: defaultdict(list))
    tallies: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    refusals: list[NewRefusal] = field(default_factory=list)
    # What is metered, by peer and lane: one entry for each of the envelopes above.
    entries: dict[tuple[str, Lane], list[Entry]] = field(default_factory=lambda: defaultdict(list))
    disclosed: Counter[Disclosed] = field(default_factory=Counter)


class Exporter:
    """Handles every fact on the node's bus."""

    def __init__(
        self,
        node: str,
        zones: Callable[[], ZoneTree],
        wake: Callable[[str], None],
        switches: Switches,
        disclosures: Disclosures,
        bulk_admits: Callable[[str], bool] = lambda _peer: True,
    ) -> None:
        """`wake` is told the peers that have something waiting; `bulk_admits` says whether a peer has room for rows."""
        self._bulk_admits = bulk_admits
        self._node = node
        self._zones = zones
        self._wake = wake
        self._switches = switches
        self._disclosures = disclosures
        # Where the lanes ended when something was last queued here: mostly they still do (see lanes_store.append).
        self._ends: dict[tuple[str, Lane], Place] = {}

    async def handle(self, tx: Tx, facts: Sequence[Fact]) -> None:
        """Queue what the contracts let through. Runs in the transaction that marks the facts as taken."""
        contracts = await contracts_store.flowing(tx.conn)
        # Asked for last: what ends in between would stand in both lists, and not in neither.
        ended = await contracts_store.returning(tx.conn)
        over = {charter.name for charter in ended}
        contracts = [contract for contract in contracts if contract.name not in over]
        outgoing = Outgoing()
        for fact in facts:
            if ended:
                ended = await self._return(tx, ended, fact)
            if self._own(fact, CONTRACT_SWITCHED):
                await self._switch(tx, fact, outgoing)
                contracts = await contracts_store.flowing(tx.conn)
            elif await self._starts_flow(tx, fact):
                contracts = await contracts_store.flowing(tx.conn)
            for contract in contracts:
                await self._offer(tx, contract, fact, outgoing)
        await self._queue(tx, outgoing)
        await disclosures_store.record(tx.conn, outgoing.disclosed, tx.now)
        await refusals_store.refuse(tx.conn, outgoing.refusals, tx.now)

    async def _queue(self, tx: Tx, outgoing: Outgoing) -> None:
        for (peer, lane), envelopes in sorted(outgoing.envelopes.items()):
            end = await lanes_store.append(tx.conn, peer, envelopes, lane, self._ends.get((peer, lane)))
            self._ends[peer, lane] = end
            entries = placed(outgoing.entries[peer, lane], end.sequence - len(envelopes) + 1, lane)
            await metering_store.record(tx.conn, self._node, entries, tx.now, outgoing.tallies)
            outgoing.tallies.clear()
            tx.after_commit(partial(self._wake, peer))
        outgoing.envelopes.clear()
        outgoing.entries.clear()

    async def _switch(self, tx: Tx, fact: Fact, outgoing: Outgoing) -> None:
        """An amendment takes over here: what came before goes under the old contract, and into the queue first."""
        await self._queue(tx, outgoing)
        peer = await self._switches.at_place(tx, facts_pb2.ContractSwitched.FromString(fact.data).contract)
        if peer:
            tx.after_commit(partial(self._wake, peer))

    async def _return(self, tx: Tx, ended: list[ActiveContract], fact: Fact) -> list[ActiveContract]:
        """Put by what the charter of a child that is gone would send up to the place where it ended, and return those
        that have not ended yet.

        At its place what was queued comes back, too: nothing is added to the queue behind it.
        """
        if self._own(fact, CONTRACT_CHANGED):
            contract = facts_pb2.ContractChanged.FromString(fact.data).contract
            over = contract.state == pb.CONTRACT_STATE_TERMINATED
            for charter in ended if over else ():
                if charter.name == contract.name:
                    for name in await returns_store.take_back(tx.conn, charter.peer):
                        await lanes_store.withdraw(tx.conn, name)
            return await contracts_store.returning(tx.conn) if over else ended
        for charter in ended:
            if fact.received_from != charter.peer and fact.type in HANDING_OVER:
                projected = self._project_fact(charter, fact, Outgoing())
                if projected is not None:
                    await returns_store.put_by(tx.conn, [_envelope(charter, projected[0])])
        return ended

    def _own(self, fact: Fact, kind: str) -> bool:
        return fact.type == kind and fact.node == self._node and not fact.received_from

    async def _starts_flow(self, tx: Tx, fact: Fact) -> bool:
        if self._own(fact, ZONE_DELEGATED):
            delegated = facts_pb2.ZoneDelegated.FromString(fact.data)
            await contracts_store.set_flowing(tx.conn, charter_of=delegated.node)
            return True
        if self._own(fact, ZONE_WITHDRAWN):
            # management reads the same fact, and handles from here on what would have gone down.
            withdrawn = facts_pb2.ZoneWithdrawn.FromString(fact.data)
            await contracts_store.set_zone_withdrawn(tx.conn, withdrawn.node)
            return True
        if self._own(fact, CONTRACT_CHANGED):
            contract = facts_pb2.ContractChanged.FromString(fact.data).contract
            own_charter = contract.kind == pb.CONTRACT_KIND_CHARTER and contract.consumer == self._node
            # An amendment flows from the place of its switch on.
            if contract.state == pb.CONTRACT_STATE_FINALIZED and own_charter and not contract.amends:
                await contracts_store.set_flowing(tx.conn, name=contract.name)
                return True
        if self._own(fact, TRANSFER_CHANGED):
            transfer = facts_pb2.TransferChanged.FromString(fact.data).transfer
            if transfer.provider == self._node and transfer.state == pb.TRANSFER_STATE_STARTED:
                await transfers_store.let_flow(tx.conn, transfer.contract)
                return True
        return False

    async def _offer(self, tx: Tx, contract: ActiveContract, fact: Fact, outgoing: Outgoing) -> None:
        if fact.received_from == contract.peer or not contract.in_time(tx.now):
            return
        if contract.kind == pb.CONTRACT_KIND_EXCHANGE:
            sent = await self._project_rows(tx, contract, fact, outgoing)
        else:
            sent = self._project_fact(contract, fact, outgoing)
        if sent is None:
            return
        projected, count = sent
        lane = ledger.lane_of(contract.kind)
        outgoing.envelopes[contract.peer, lane].append(Queued(contract.name, _envelope(contract, projected)))
        outgoing.entries[contract.peer, lane].append(entry_of(contract.name, self._node, projected, count))
        outgoing.tallies[contract.name].facts_sent += 1
        outgoing.tallies[contract.name].rows_sent += count

    def _project_fact(self, contract: ActiveContract, fact: Fact, outgoing: Outgoing) -> tuple[Fact, int] | None:
        terms = contract.fact_terms(fact.type, self._node)
        if terms is None or not contract.may_give(self._zones(), fact.zone, self._node):
            return None
        disclosed = self._disclosures.of_fact(contract, fact, terms.masked)
        if not terms.masked:
            outgoing.disclosed.update(disclosed)
            return fact, 0
        projected = Fact()
        projected.CopyFrom(fact)
        message = parse(fact)
        if message is None:
            text = f"{fact.type} {fact.id} was not sent: it cannot be read here, so nothing of it can be masked"
            outgoing.refusals.append(
                NewRefusal(contract.name, Reason.FIELD_INVALID, text, "services/federation", self._node)
            )
            return None
        outgoing.disclosed.update(disclosed)
        clear_masked(message, terms.masked)
        projected.data = message.SerializeToString()
        return projected, 0

    async def _project_rows(
        self, tx: Tx, contract: ActiveContract, fact: Fact, outgoing: Outgoing
    ) -> tuple[Fact, int] | None:
        if not rows.is_about(contract, fact, self._node):
            return None
        if not self._bulk_admits(contract.peer):
            # Whatever waits already is sent; once there is room all rows of the contract are stated anew.
            await contracts_store.skip_bulk(tx.conn, contract.name, tx.now)
            return None
        given = rows.give(contract, self._zones(), fact)
        if isinstance(given, rows.Given) and await contracts_store.within_quota(
            tx.conn, contract, given.fact, given.rows
        ):
            outgoing.disclosed.update(self._disclosures.of_rows(contract, given.subjects))
            return given.fact, given.rows
        if given is not None:
            quota = contract.terms.quota_rows_per_day
            over = Reason.QUOTA, f"{fact.id} was not sent: the quota is {quota} rows per day"
            reason, text = over if isinstance(given, rows.Given) else given
            outgoing.refusals.append(NewRefusal(contract.name, reason, text, "services/federation", self._node))
        return None


def _envelope(contract: ActiveContract, fact: Fact) -> bytes:
    """Return the envelope without its sequence; what concerns only this node is taken out of the fact."""
    envelope = link_pb2.Envelope(
        lane=ledger.lane_of(contract.kind), contract=contract.name, agreement_hash=contract.agreement_hash, fact=fact
    )
    envelope.fact.ClearField("received_from")
    envelope.fact.ClearField("contract")
    return envelope.SerializeToString()
