"""What two hellos mean: from where each lane goes on, what has to be sent again, and when nothing may flow.

Either node may have been restored from a backup. What the other can prove to be the same lane, by its chain, is
healed by sending again; anything else is for people, because going on would lose or double something silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import alarms, incoming_store, lanes_store, peers_store
from services.federation.lanes_store import CHAIN_START, LANE_NAMES, LANES, Lane, Sent

if TYPE_CHECKING:
    from libs.db import Connection
    from libs.tx import Tx
    from services.federation.incoming_store import Received
    from services.federation.peers_store import Peer

PROTOCOL = 1
# Envelopes that a receiver takes in before it has committed earlier ones. Bulk has little on the way at a time, so that
# a directive that overtakes it finds little before it.
CREDIT: Mapping[Lane, int] = {
    link_pb2.LANE_CONTROL: 500,
    link_pb2.LANE_FACTS: 2_000,
    link_pb2.LANE_BULK: 32,
}
SEQUENCE_REVERSED = alarms.SEQUENCE_REVERSED


@dataclass(frozen=True)
class Start:
    """Where the sender of a lane begins, and how many envelopes it may send."""

    sequence: int
    total_bytes: int
    credit: int


@dataclass(frozen=True)
class Agreed:
    """The lanes go on from here. `alarmed`: there was an alarm, to be cleared once the other side agrees, too."""

    lanes: Mapping[Lane, Start]
    alarmed: bool


@dataclass(frozen=True)
class Stopped:
    """Nothing may flow, and why."""

    text: str


async def hello(conn: Connection, node: str, peer: str) -> link_pb2.Hello:
    """Return the first frame of this node to a peer."""
    row = await peers_store.get(conn, peer)
    sent, received = await lanes_store.sent(conn, peer), await incoming_store.received(conn, peer)
    return link_pb2.Hello(
        node=node,
        protocol=PROTOCOL,
        epoch=row.epoch,
        received_epoch=row.received_epoch,
        previous_epoch=row.previous_epoch,
        lanes=[_position(lane, sent[lane], received[lane]) for lane in LANES],
    )


def _position(lane: Lane, sent: Sent, received: Received) -> link_pb2.LanePosition:
    return link_pb2.LanePosition(
        lane=lane,
        received=received.received,
        received_chain=received.chain,
        last_assigned=sent.last_assigned,
        acknowledged=sent.acknowledged,
        acknowledged_chain=sent.acknowledged_chain,
        credit=CREDIT[lane],
    )


async def agree(tx: Tx, told: link_pb2.Hello, heard: link_pb2.Hello) -> Agreed | Stopped:
    """Hold what the peer said against what stands here; write what follows from it.

    `told` is this node's own hello of the same stream.
    """
    peer = await peers_store.get(tx.conn, heard.node, lock=True)
    await peers_store.set_epoch_there(tx.conn, peer.node, heard.received_epoch)
    positions = {position.lane: position for position in heard.lanes}
    problem = await _take_up(tx, peer, heard, positions) or ""
    starts: dict[Lane, Start] = {}
    sent = await lanes_store.sent(tx.conn, peer.node, lock=True)
    known = {position.lane: position for position in told.lanes}
    for lane in LANES:
        position = positions.get(lane) or link_pb2.LanePosition(lane=lane)
        if problem:
            break
        if heard.received_epoch not in {"", told.epoch}:
            if not told.previous_epoch or heard.received_epoch != told.previous_epoch:
                problem = f"{peer.node} knows another life of the lanes from here: this node was restored from a backup"
                break
            # It is about to take up the new life, from where this node's own hello says.
            at = await lanes_store.place(tx.conn, peer.node, lane, known[lane].acknowledged)
            starts[lane] = Start(known[lane].acknowledged, at.total_bytes if at else 0, position.credit)
            continue
        begins = await _begin(tx, peer, sent[lane], position)
        if isinstance(begins, Stopped):
            problem = begins.text
        else:
            starts[lane] = begins
    if problem:
        await alarms.set_alarm(tx, peer=peer.node, name=SEQUENCE_REVERSED, text=problem)
        return Stopped(problem)
    await peers_store.touch(tx.conn, peer.node, tx.now)
    found = {alarm.name for alarm in (await alarms.of_peers(tx.conn, [peer.node]))[peer.node]}
    if alarms.SUSPENDED_BY_PEER in found and peer.state == pb.PEER_STATE_ACTIVE:
        # Who is suspended there is turned away before it can say hello.
        await alarms.clear_alarm(tx, peer=peer.node, name=alarms.SUSPENDED_BY_PEER)
    return Agreed(starts, alarmed=SEQUENCE_REVERSED in found)


async def _begin(tx: Tx, peer: Peer, lane: Sent, position: link_pb2.LanePosition) -> Start | Stopped:
    """Say from where a lane to the peer goes on."""
    name, has = LANE_NAMES[lane.lane], position.received
    if has > lane.last_assigned:
        return Stopped(
            f"this node was restored from a backup: {peer.node} has {has} of lane {name}, {lane.last_assigned} is the"
            " last that is known here; resynchronise the peer at this node"
        )
    at = await lanes_store.place(tx.conn, peer.node, lane.lane, has)
    again = has < lane.acknowledged
    if at is None or (again and not await lanes_store.kept(tx.conn, peer.node, lane.lane, has + 1)):
        return Stopped(
            f"{peer.node} was restored from a backup that is too old: it has {has} of lane {name}, {lane.acknowledged}"
            " was acknowledged, and what is between is not kept any more; resynchronise the peer at this node"
        )
    if at.chain != (position.received_chain or CHAIN_START):
        return Stopped(
            f"this node or {peer.node} was restored from a backup: what each has as {has} of lane {name} is not the"
            " same; resynchronise the peer at this node"
        )
    if again:
        await lanes_store.set_place(
            tx.conn, peer.node, lane.lane, at, healing_until=max(lane.acknowledged, lane.healing_until)
        )
        text = f"{peer.node} was restored from a backup: {lane.acknowledged - has} of lane {name} are sent again"
        await alarms.set_alarm(tx, peer=peer.node, name=alarms.RESTORE_HEALING, text=text)
        tx.audit("federation.peers.heal", f"peers/{peer.node}", lane=name, has=has, acknowledged=lane.acknowledged)
    elif has > lane.acknowledged:
        await lanes_store.set_place(tx.conn, peer.node, lane.lane, at, healing_until=lane.healing_until)
    return Start(has, at.total_bytes, position.credit)


async def _take_up(
    tx: Tx, peer: Peer, heard: link_pb2.Hello, positions: Mapping[Lane, link_pb2.LanePosition]
) -> str | None:
    """Hold the life of the peer's own lanes against the one known here; return what is wrong with it."""
    if peer.received_epoch in {"", heard.epoch}:
        if not peer.received_epoch:
            await peers_store.set_received_epoch(tx.conn, peer.node, heard.epoch)
        for lane, received in (await incoming_store.received(tx.conn, peer.node)).items():
            position = positions.get(lane) or link_pb2.LanePosition(lane=lane)
            if position.last_assigned < received.received:
                return (
                    f"{peer.node} was restored from a backup: {received.received} of lane {LANE_NAMES[lane]} were"
                    f" received from it, it knows of {position.last_assigned}; people there have to resynchronise"
                )
        return None
    if not heard.previous_epoch or heard.previous_epoch != peer.received_epoch:
        return f"{peer.node} has begun another life of its lanes, which does not follow the one known here"
    await peers_store.set_received_epoch(tx.conn, peer.node, heard.epoch)
    detail: dict[str, int] = {}
    for lane, received in (await incoming_store.received(tx.conn, peer.node)).items():
        position = positions.get(lane) or link_pb2.LanePosition(lane=lane)
        chain = position.acknowledged_chain or CHAIN_START
        await incoming_store.set_received(tx.conn, peer.node, lane, position.acknowledged, chain)
        detail |= {f"{LANE_NAMES[lane]}_before": received.received, f"{LANE_NAMES[lane]}_now": position.acknowledged}
    tx.audit("federation.peers.take_up", f"peers/{peer.node}", epoch=heard.epoch, **detail)
    return None


async def healed(tx: Tx, peer: str) -> None:
    """Lanes have caught up after a restore of the peer; with the last one the alarm ends."""
    lanes = (await lanes_store.sent(tx.conn, peer, lock=True)).values()
    healing = [lane for lane in lanes if lane.healing_until]
    caught_up = [lane for lane in healing if lane.acknowledged >= lane.healing_until]
    for lane in caught_up:
        at = lanes_store.Place(lane.acknowledged, lane.acknowledged_chain, lane.acknowledged_bytes)
        await lanes_store.set_place(tx.conn, peer, lane.lane, at, healing_until=0)
        tx.audit("federation.peers.healed", f"peers/{peer}", lane=LANE_NAMES[lane.lane], acknowledged=lane.acknowledged)
    if caught_up and len(caught_up) == len(healing):
        await alarms.clear_alarm(tx, peer=peer, name=alarms.RESTORE_HEALING)
