"""Objectives of contracts: how fresh the data is at the consumer, and how long an envelope waits for its receipt.

The node that owes the facts knows what waits; it tells the other end, which knows what has come. Both raise the alarm,
and each measures by its own clock only.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from prometheus_client import Gauge

from libs.duty import on_duty
from libs.errors import Away, Invalid, Reason
from libs.fact_sums import time_of
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import alarms, contracts_store, flows_store, peers_store, settlement_store
from services.federation.control import control_envelope

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from libs.tx import Transactions, Tx
    from services.federation.control import Refusal
    from services.federation.flows_store import Flow
    from services.federation.peers_store import Peer
    from services.federation.terms import ActiveContract

FRESHNESS = "CONTRACT_FRESHNESS"
DELIVERY = "CONTRACT_DELIVERY"
SHOWN = {FRESHNESS: "FRESHNESS", DELIVERY: "DELIVERY"}
POLL_S = 2.0
STATE_INTERVAL_MIN_S = 2.0
STATE_INTERVAL_MAX_S = 60.0
# A shorter objective than this cannot be told from the pauses between statements.
OBJECTIVE_MIN_S = 3 * STATE_INTERVAL_MIN_S
# What a peer says about ages is not believed beyond this.
AGE_MAX_S = 10 * 365 * 86400.0

FRESHNESS_AGE = Gauge(
    "quintet_contract_freshness_seconds", "Age of the oldest change not at the consumer.", ["contract", "peer"]
)
DELIVERY_AGE = Gauge(
    "quintet_contract_delivery_seconds", "Age of the oldest envelope without a receipt.", ["contract", "peer"]
)


@dataclass(frozen=True)
class Ages:
    """How far a contract is behind, in seconds."""

    change_s: float = 0.0
    wait_s: float = 0.0

    def or_later(self, other: Ages) -> Ages:
        """Return the worse of both."""
        return Ages(max(self.change_s, other.change_s), max(self.wait_s, other.wait_s))


class Objectives:
    """Watches contracts that have objectives. Everything happens in the caller's transaction."""

    def __init__(self, node: str, wake: Callable[[str], None]) -> None:
        """`wake` is told the peers that have something waiting."""
        self._node = node
        self._wake = wake
        self._shown: set[tuple[str, str]] = set()

    async def look(self, tx: Tx) -> None:
        """Measure every contract in force that has objectives; state, raise and clear what follows."""
        contracts = [each for each in await contracts_store.in_force(tx.conn) if _has_objectives(each, tx.now)]
        missed: dict[tuple[str, str], tuple[str, str]] = {}
        for contract in contracts:
            ages = Ages()
            for sender in _senders(contract):
                flow = await flows_store.get(tx.conn, contract.name, sender, tx.now)
                if sender == self._node:
                    flow = await self._find(tx, contract, flow)
                    await flows_store.put(tx.conn, flow)
                else:
                    # What the peer has said meanwhile (see handle) must not be written over.
                    await flows_store.begin(tx.conn, flow)
                ages = ages.or_later(await self._ages(tx, contract, flow))
            FRESHNESS_AGE.labels(contract.name, contract.peer).set(ages.change_s)
            DELIVERY_AGE.labels(contract.name, contract.peer).set(ages.wait_s)
            missed |= {(contract.name, name): (contract.peer, text) for name, text in _missed(contract, ages).items()}
        await self._alarm(tx, missed)
        await flows_store.forget(tx.conn, [contract.name for contract in contracts])
        self._hide({(contract.name, contract.peer) for contract in contracts})

    async def _find(self, tx: Tx, contract: ActiveContract, flow: Flow) -> Flow:
        """Return the flow from this node as it is now, and tell the other end when it is time."""
        exchange = contract.kind == pb.CONTRACT_KIND_EXCHANGE
        lane = link_pb2.LANE_BULK if exchange else link_pb2.LANE_FACTS
        flow, waits = await flows_store.oldest(tx.conn, contract.peer, lane, flow)
        flow = replace(flow, told_at=tx.now, oldest_fact="", oldest_change=None, change_age_s=0.0, wait_s=0.0)
        if waits is not None:
            fact = link_pb2.Envelope.FromString(waits.envelope).fact
            if fact.id:  # else it was withdrawn
                change = time_of(fact.time)
                since = await flows_store.counted_at(tx.conn, contract.name, self._node, change.date(), UUID(fact.id))
                since = since or waits.written_at
                flow = replace(
                    flow,
                    oldest_fact=fact.id,
                    oldest_change=change,
                    change_age_s=_age(tx.now, min(change, since)),
                    wait_s=_age(tx.now, since),
                )
        peer = await peers_store.get(tx.conn, contract.peer)
        due = flow.stated_at is None or _age(tx.now, flow.stated_at) >= _interval_s(contract)
        unheard = flow.stated and await settlement_store.is_unheard(tx.conn, contract.peer, flow.stated)
        if due and not unheard and peer.state == pb.PEER_STATE_ACTIVE:
            flow = replace(flow, stated=await self._state(tx, contract, flow), stated_at=tx.now)
        return flow

    async def _state(self, tx: Tx, contract: ActiveContract, flow: Flow) -> int:
        message = link_pb2.FlowStatement(contract=contract.name, oldest_fact=flow.oldest_fact)
        message.time.FromDatetime(tx.now)
        if flow.oldest_change is not None:
            message.oldest_change.FromDatetime(flow.oldest_change)
            message.waits_since.FromDatetime(tx.now - timedelta(seconds=flow.wait_s))
        queued = [("", control_envelope(flow=message))]
        sequence = await peers_store.enqueue(tx.conn, contract.peer, queued, link_pb2.LANE_CONTROL)
        tx.after_commit(partial(self._wake, contract.peer))
        return sequence

    async def handle(self, tx: Tx, peer: Peer, envelope: link_pb2.Envelope) -> Refusal | None:
        """Take the peer's word for what it owes. Raises Invalid for one that cannot be read."""
        message = envelope.flow
        contract = (await contracts_store.active_with(tx.conn, peer.node)).get(message.contract)
        if contract is None or peer.node not in _senders(contract):
            return Reason.NOT_PERMITTED, f"{message.contract} is not such a contract with {peer.node}"
        flow = await flows_store.get(tx.conn, contract.name, peer.node, tx.now)
        flow = replace(flow, told_at=tx.now, oldest_fact="", oldest_change=None, change_age_s=0.0, wait_s=0.0)
        if message.oldest_fact:
            try:
                fact = str(UUID(message.oldest_fact))
            except ValueError as error:
                raise Invalid("flow.oldestFact", "must be a UUID") from error
            change, at = time_of(message.oldest_change), time_of(message.time)
            waits_s = _age(at, time_of(message.waits_since))
            flow = replace(flow, oldest_fact=fact, oldest_change=change, wait_s=waits_s)
            flow = replace(flow, change_age_s=max(waits_s, _age(at, change)))
        await flows_store.put(tx.conn, flow)
        return None

    async def _ages(self, tx: Tx, contract: ActiveContract, flow: Flow) -> Ages:
        """Return how far a flow is behind now. A silent sender may owe everything since it last spoke."""
        since_s = _age(tx.now, flow.told_at)
        if flow.oldest_fact and flow.oldest_change:
            came = None
            if flow.sender != self._node:
                came = await flows_store.counted_at(
                    tx.conn, contract.name, flow.sender, flow.oldest_change.date(), UUID(flow.oldest_fact)
                )
            if came is None:
                return Ages(flow.change_age_s + since_s, flow.wait_s + since_s)
        return Ages(since_s, since_s)

    async def _alarm(self, tx: Tx, missed: dict[tuple[str, str], tuple[str, str]]) -> None:
        present = {(each.contract, each.name): each for each in await alarms.all_set(tx.conn) if each.name in SHOWN}
        for (contract, name), (peer, text) in missed.items():
            if (contract, name) not in present:
                await alarms.set_alarm(tx, peer=peer, name=name, text=text, contract=contract)
        for (contract, name), alarm in present.items():
            if (contract, name) not in missed:
                await alarms.clear_alarm(tx, peer=alarm.peer, name=name, contract=contract)

    def _hide(self, shown: set[tuple[str, str]]) -> None:
        for labels in self._shown - shown:
            FRESHNESS_AGE.remove(*labels)
            DELIVERY_AGE.remove(*labels)
        self._shown = shown


async def watch(transactions: Transactions, objectives: Objectives) -> None:
    """Look every POLL_S, for ever, in one replica at a time."""
    async with on_duty(transactions.pool, "objectives") as duty:
        while True:
            duty.check()
            with suppress(Away):
                await transactions.run(objectives.look)
            await asyncio.sleep(POLL_S)


def show(contract: pb.Contract, found: list[alarms.Alarm]) -> None:
    """Name the objectives that are missed in what people see of a contract."""
    contract.alarms.extend(SHOWN[alarm.name] for alarm in found if alarm.name in SHOWN)


def _has_objectives(contract: ActiveContract, now: datetime) -> bool:
    return bool(contract.terms.freshness_s or contract.terms.delivery_s) and contract.in_time(now)


def _senders(contract: ActiveContract) -> list[str]:
    if contract.kind == pb.CONTRACT_KIND_CHARTER:
        return [contract.provider, contract.consumer]
    return [contract.provider]


def _interval_s(contract: ActiveContract) -> float:
    shortest = min(limit for limit in (contract.terms.freshness_s, contract.terms.delivery_s) if limit)
    return min(max(shortest / 3, STATE_INTERVAL_MIN_S), STATE_INTERVAL_MAX_S)


def _missed(contract: ActiveContract, ages: Ages) -> dict[str, str]:
    """Return the objectives that are missed, with the text of the alarm, which stays the same while it lasts."""
    found: dict[str, str] = {}
    terms = contract.terms
    if terms.freshness_s and ages.change_s > max(terms.freshness_s, OBJECTIVE_MIN_S):
        found[FRESHNESS] = f"changes have not come to the other end for more than {terms.freshness_s} s"
    if terms.delivery_s and ages.wait_s > max(terms.delivery_s, OBJECTIVE_MIN_S):
        found[DELIVERY] = f"an envelope waits for its receipt for more than {terms.delivery_s} s"
    return found


def _age(now: datetime, then: datetime) -> float:
    return min(max((now - then.astimezone(UTC)).total_seconds(), 0.0), AGE_MAX_S)
