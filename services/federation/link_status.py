"""How the link with each peer stands, as people and monitoring see it; from counters, never by counting rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from services.federation import alarms, dead_letters, incoming_store, lanes_store
from services.federation.alarms import Alarm
from services.federation.incoming_store import Received
from services.federation.lanes_store import LANE_NAMES, LANES, Lane, Sent

if TYPE_CHECKING:
    from libs.db import Connection
    from quintet.federation.v1 import federation_pb2 as pb


@dataclass(frozen=True)
class LinkStatus:
    """One peer. `waiting_since` is when the oldest envelope without a receipt was written, of lanes that have one."""

    sent: Mapping[Lane, Sent]
    received: Mapping[Lane, Received]
    waiting_since: Mapping[Lane, datetime]
    alarms: Sequence[Alarm]
    dead_letters: int

    @property
    def oldest(self) -> datetime | None:
        """When the oldest of all envelopes without a receipt was written."""
        return min(self.waiting_since.values(), default=None)

    @property
    def backlog(self) -> int:
        """Envelopes without a receipt, over all lanes."""
        return sum(lane.backlog for lane in self.sent.values())

    @property
    def backlog_bytes(self) -> int:
        """Their size."""
        return sum(lane.backlog_bytes for lane in self.sent.values())


async def of_peers(conn: Connection, nodes: Sequence[str]) -> dict[str, LinkStatus]:
    """Return the status of each of the peers."""
    sent, received = await lanes_store.sent_to_all(conn, nodes), await incoming_store.received_from_all(conn, nodes)
    oldest, alarmed = await lanes_store.oldest_waiting(conn, nodes), await alarms.of_peers(conn, nodes)
    dead = await dead_letters.counts(conn, nodes)
    return {
        node: LinkStatus(sent[node], received[node], oldest.get(node, {}), alarmed[node], dead.get(node, 0))
        for node in nodes
    }


def describe(peer: pb.Peer, status: LinkStatus) -> None:
    """Write the status into what callers are given of a peer."""
    peer.backlog = status.backlog
    peer.backlog_bytes = status.backlog_bytes
    peer.dead_letters = status.dead_letters
    peer.sent = sum(lane.acknowledged for lane in status.sent.values())
    peer.received = sum(lane.received for lane in status.received.values())
    if status.oldest is not None:
        peer.oldest_unacknowledged.FromDatetime(status.oldest)
    # One may be set for several contracts.
    peer.alarms.extend(dict.fromkeys(alarm.name for alarm in status.alarms))
    for lane in LANES:
        if lane in status.sent:
            sent = status.sent[lane]
            peer.lanes.add(
                lane=LANE_NAMES[lane],
                assigned=sent.last_assigned,
                acknowledged=sent.acknowledged,
                received=status.received[lane].received,
                backlog=sent.backlog,
            )
