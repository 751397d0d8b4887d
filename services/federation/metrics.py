"""What an operator watches of each peer, in Prometheus form."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from prometheus_client import Gauge

from libs.errors import Away
from services.federation import alarms, link_status, peers_store, pki
from services.federation.lanes_store import LANE_NAMES

if TYPE_CHECKING:
    from datetime import datetime

    from libs.db import Connection
    from libs.tx import Transactions
    from services.federation.hub import Hub
    from services.federation.link_status import LinkStatus

REFRESH_S = 5.0
PEERS_MAX = 1000

READY = Gauge(
    "quintet_peer_ready", "1 while a stream with the peer is open and both sides agree on the lanes.", ["peer"]
)
BACKLOG = Gauge("quintet_peer_backlog_envelopes", "Envelopes that the peer has not acknowledged.", ["peer", "lane"])
BACKLOG_BYTES = Gauge("quintet_peer_backlog_bytes", "Size of the envelopes not acknowledged.", ["peer", "lane"])
OLDEST = Gauge("quintet_peer_oldest_unacknowledged_seconds", "Age of the oldest of them.", ["peer"])
LAG = Gauge("quintet_peer_lag_seconds", "Age of the oldest envelope not acknowledged; 0 for none.", ["peer", "lane"])
ASSIGNED = Gauge("quintet_peer_assigned_sequence", "Last sequence given out to the peer.", ["peer", "lane"])
SENT = Gauge("quintet_peer_acknowledged_sequence", "Last sequence that the peer has acknowledged.", ["peer", "lane"])
RECEIVED = Gauge("quintet_peer_received_sequence", "Last sequence received from the peer.", ["peer", "lane"])
EXPIRES = Gauge("quintet_peer_certificate_expires_seconds", "Time until our certificate for calls ends.", ["peer"])
ALARMS = Gauge("quintet_federation_alarms", "Alarms set now; peer is empty for the node itself.", ["peer", "name"])


async def watch(transactions: Transactions, hub: Hub) -> None:
    """Refresh the figures for ever."""
    while True:
        with suppress(Away):  # the figures stay as they were until the database is back
            await transactions.read(lambda conn: _refresh(conn, transactions, hub))
        await asyncio.sleep(REFRESH_S)


async def _refresh(conn: Connection, transactions: Transactions, hub: Hub) -> None:
    now = transactions.clock.now()
    peers = await peers_store.page(conn, "", PEERS_MAX)
    statuses = await link_status.of_peers(conn, [peer.node for peer in peers])
    for peer in peers:
        status = statuses[peer.node]
        READY.labels(peer.node).set(hub.connected(peer.node))
        OLDEST.labels(peer.node).set(max(0.0, (now - status.oldest).total_seconds()) if status.oldest else 0)
        expires = pki.expires_at(peer.certificate)
        if expires is not None:
            EXPIRES.labels(peer.node).set((expires - now).total_seconds())
        _lanes(peer.node, status, now)
    ALARMS.clear()
    for alarm in await alarms.all_set(conn):
        ALARMS.labels(alarm.peer, alarm.name).inc()


def _lanes(node: str, status: LinkStatus, now: datetime) -> None:
    for sent in status.sent.values():
        name = LANE_NAMES[sent.lane]
        BACKLOG.labels(node, name).set(sent.backlog)
        LAG.labels(node, name).set(max(0.0, (now - status.waiting_since.get(sent.lane, now)).total_seconds()))
        BACKLOG_BYTES.labels(node, name).set(sent.backlog_bytes)
        ASSIGNED.labels(node, name).set(sent.last_assigned)
        SENT.labels(node, name).set(sent.acknowledged)
    for received in status.received.values():
        RECEIVED.labels(node, LANE_NAMES[received.lane]).set(received.received)
