"""Keeps what waits for peers within its bounds: full lanes hold back who fills them, receipts let go of the rest.

A lane to a peer that is away grows with what happens here. Of facts nothing may be lost: when they are too many, the
exporter takes no more from the bus, the bus fills, and the outboxes of the services show it. Rows of products can be
stated again: what finds the bulk lane full is passed over, and all rows are stated anew when there is room.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from libs import db
from libs.errors import Away
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import alarms, contracts_store, lanes_store, peers_store, transfers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from services.federation.lanes_store import Sent

MEASURE_INTERVAL_S = 1.0
PURGE_INTERVAL_S = 10.0
PURGE_BATCH_ROWS = 5_000
PEERS_MAX = 1_000
HIGH_SHARE = 0.8
# Of a peer's backlog: what bulk may take, and from which share on there is room for it again.
BULK_SHARE = 0.25
BULK_ROOM_SHARE = 0.5
BYTES_PER_MB = 1024 * 1024

log = structlog.get_logger()


@dataclass(frozen=True)
class Limits:
    """`backlog_bytes` may wait for a peer. What is acknowledged is kept so long, and of each lane so much."""

    backlog_bytes: int
    retain: timedelta
    retain_bytes: int

    @classmethod
    def of(cls, *, backlog_max_mb: int, retain_hours: int, retain_mb: int) -> Limits:
        """Return limits as they stand in node.toml."""
        return cls(backlog_max_mb * BYTES_PER_MB, timedelta(hours=retain_hours), retain_mb * BYTES_PER_MB)

    @property
    def bulk_bytes(self) -> int:
        """What of it bulk may take."""
        return int(self.backlog_bytes * BULK_SHARE)


class Keeper:
    """Measures the lanes of all peers. Every replica runs one: what they do is the same when done twice."""

    def __init__(self, transactions: Transactions, limits: Limits) -> None:
        self._transactions = transactions
        self._limits = limits
        self._full: frozenset[str] = frozenset()
        self._bulk_full: frozenset[str] = frozenset()
        self._purge_at = 0.0  # of the monotonic clock

    def admits(self) -> bool:
        """Say whether the exporter may take more from the bus."""
        return not self._full

    def bulk_admits(self, peer: str) -> bool:
        """Say whether there is room for rows for a peer."""
        return peer not in self._bulk_full

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            try:
                await self.measure()
                if monotonic() >= self._purge_at:
                    await self.purge()
                    self._purge_at = monotonic() + PURGE_INTERVAL_S
            except Exception as error:
                if not (isinstance(error, Away) or db.is_away(error)):
                    raise
                log.warning("link.keeper_interrupted", error=repr(error))
            await asyncio.sleep(MEASURE_INTERVAL_S)

    # ------------------------------------------------------------------------------------------ the backlog

    async def measure(self) -> None:
        """Find out which lanes are full, and set or clear the alarms of those where that has changed."""
        lanes, found = await self._transactions.read(_read)
        self._full = frozenset(node for node in lanes if self._facts_bytes(lanes[node]) >= self._limits.backlog_bytes)
        self._bulk_full = frozenset(node for node in lanes if self._is_bulk_full(node, lanes[node]))
        for node, sent in lanes.items():
            wanted = self._alarms(node, sent)
            if wanted.keys() != found[node]:
                await self._transactions.run(lambda tx, of=node, now=wanted: _set(tx, of, now))  # type: ignore[misc]
            if node not in self._bulk_full:
                await self._state_anew(node)

    def _facts_bytes(self, sent: Mapping[lanes_store.Lane, Sent]) -> int:
        return sum(lane.backlog_bytes for lane in sent.values() if lane.lane != link_pb2.LANE_BULK)

    def _is_bulk_full(self, node: str, sent: Mapping[lanes_store.Lane, Sent]) -> bool:
        waiting = sent[link_pb2.LANE_BULK].backlog_bytes
        share = BULK_ROOM_SHARE if node in self._bulk_full else 1.0
        return waiting >= self._limits.bulk_bytes * share

    def _alarms(self, node: str, sent: Mapping[lanes_store.Lane, Sent]) -> dict[str, str]:
        facts, bulk = self._facts_bytes(sent), sent[link_pb2.LANE_BULK].backlog_bytes
        limit_mb, bulk_mb = self._limits.backlog_bytes // BYTES_PER_MB, self._limits.bulk_bytes // BYTES_PER_MB
        if node in self._full:
            return {alarms.BACKLOG_FULL: f"{limit_mb} MB wait for {node}: no facts are taken from the bus any more"}
        if node in self._bulk_full:
            return {alarms.BACKLOG_FULL: f"{bulk_mb} MB of rows wait for {node}: further ones are stated anew later"}
        if facts >= self._limits.backlog_bytes * HIGH_SHARE or bulk >= self._limits.bulk_bytes * HIGH_SHARE:
            return {alarms.BACKLOG_HIGH: f"{(facts + bulk) // BYTES_PER_MB} MB wait for {node}"}
        return {}

    async def _state_anew(self, node: str) -> None:
        """Sharing states all rows of a contract when it hears that its transfer has started."""
        skipped = await self._transactions.read(lambda conn: contracts_store.bulk_skipped(conn, node))
        if skipped:
            await self._transactions.run(lambda tx: _state_anew(tx, skipped))

    # ------------------------------------------------------------------------------- what is acknowledged

    async def purge(self) -> int:
        """Delete what was acknowledged long enough ago, or is more than is kept; return how many envelopes."""
        lanes, _ = await self._transactions.read(_read)
        deleted = 0
        for node, sent in lanes.items():
            for lane in sent:
                while rows := await self._transactions.run(lambda tx, of=node, one=lane: self._purge(tx, of, one)):  # type: ignore[misc]
                    deleted += rows
        return deleted

    async def _purge(self, tx: Tx, node: str, lane: lanes_store.Lane) -> int:
        """A small transaction at a time: the lane goes on meanwhile."""
        before = tx.now - self._limits.retain
        old = await lanes_store.acknowledged_before(tx.conn, node, lane, before)
        return await lanes_store.forget(tx.conn, node, lane, old, self._limits.retain_bytes, PURGE_BATCH_ROWS)


async def _read(conn: Connection) -> tuple[dict[str, dict[lanes_store.Lane, Sent]], dict[str, set[str]]]:
    nodes = [peer.node for peer in await peers_store.page(conn, "", PEERS_MAX)]
    found = await alarms.of_peers(conn, nodes)
    ours = {alarms.BACKLOG_FULL, alarms.BACKLOG_HIGH}
    set_now = {node: {alarm.name for alarm in found[node]} & ours for node in nodes}
    lanes = await lanes_store.sent_to_all(conn, nodes)
    return {node: sent for node, sent in lanes.items() if sent}, set_now


async def _set(tx: Tx, node: str, wanted: Mapping[str, str]) -> None:
    for name in (alarms.BACKLOG_FULL, alarms.BACKLOG_HIGH):
        if name in wanted:
            await alarms.set_alarm(tx, peer=node, name=name, text=wanted[name])
        else:
            await alarms.clear_alarm(tx, peer=node, name=name)


async def _state_anew(tx: Tx, names: list[str]) -> None:
    for name in names:
        contract, _ = await contracts_store.get(tx.conn, name, lock=True)
        if await contracts_store.clear_bulk_skipped(tx.conn, name) and contract.state == pb.CONTRACT_STATE_FINALIZED:
            await transfers.restate(tx, contract)
            tx.audit("federation.contracts.state_anew", contract.name)
