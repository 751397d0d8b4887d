"""What an operator watches of each peer, in Prometheus form."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from prometheus_client import Gauge

from libs.errors import Away
from services.federation import alarms, peers_store, pki

if TYPE_CHECKING:
    from libs.db import Connection
    from libs.tx import Transactions
    from services.federation.hub import Hub

REFRESH_S = 5.0
PEERS_MAX = 1000

CONNECTED = Gauge("quintet_peer_connected", "1 while a stream with the peer is open.", ["peer"])
BACKLOG = Gauge("quintet_peer_backlog_envelopes", "Envelopes that the peer has not acknowledged.", ["peer"])
OLDEST = Gauge("quintet_peer_oldest_unacknowledged_seconds", "Age of the oldest of them.", ["peer"])
SENT = Gauge("quintet_peer_acknowledged_sequence", "Last sequence that the peer has acknowledged.", ["peer"])
RECEIVED = Gauge("quintet_peer_received_sequence", "Last sequence received from the peer.", ["peer"])
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
    backlogs = await peers_store.backlogs(conn, [peer.node for peer in peers])
    for peer in peers:
        backlog = backlogs[peer.node]
        CONNECTED.labels(peer.node).set(hub.connected(peer.node))
        BACKLOG.labels(peer.node).set(backlog.envelopes)
        OLDEST.labels(peer.node).set((now - backlog.oldest).total_seconds() if backlog.oldest else 0)
        SENT.labels(peer.node).set(peer.acknowledged)
        RECEIVED.labels(peer.node).set(peer.received)
        expires = pki.expires_at(peer.certificate)
        if expires is not None:
            EXPIRES.labels(peer.node).set((expires - now).total_seconds())
    ALARMS.clear()
    for alarm in await alarms.all_set(conn):
        ALARMS.labels(alarm.peer, alarm.name).inc()
