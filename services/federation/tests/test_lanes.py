"""Lanes over real TLS: control overtakes, order holds within a lane, large batches go in chunks, limits are said."""

import asyncio
from functools import partial

import pytest
from structlog.testing import capture_logs

from libs.errors import Exhausted, Invalid, Reason
from libs.ids import new_id
from libs.testing import eventually
from libs.tx import Tx
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import handshake, incoming_store, lanes_store, link_status, peers_store, receiving, sending
from services.federation.control import control_envelope
from services.federation.tests.pairs import Partners
from services.federation.tests.world import Node

BULK = link_pb2.LANE_BULK


def rows(size: int = 0) -> bytes:
    fact = Fact(id=new_id(), type="quintet.sharing.v1.ProductRowsWritten", node="beijing", data=b"x" * size)
    return link_pb2.Envelope(lane=BULK, contract="contracts/x", fact=fact).SerializeToString()


def directive(number: int) -> bytes:
    return control_envelope(directive_message=link_pb2.DirectiveMessage(id=str(number)))


async def test_a_directive_passes_a_bulk_backlog(partners: Partners) -> None:
    seen: list[tuple[str, int]] = []

    async def heard(_tx: Tx, _peer: peers_store.Peer, envelope: link_pb2.Envelope) -> None:
        seen.append((envelope.directive_message.id, (await partners.received())[BULK]))

    partners.city.control["directive_message"] = heard
    total = 400
    await partners.queue(BULK, *[rows(60_000) for _ in range(total)])  # 24 MB
    await partners.world.dial(partners.partner)

    async def flows() -> bool:
        return (await partners.received())[BULK] > 0

    await eventually(flows)
    before = (await partners.received())[BULK]
    await partners.queue(link_pb2.LANE_CONTROL, directive(1), directive(2))

    async def both() -> bool:
        return len(seen) == 2

    await eventually(both)
    assert [number for number, _ in seen] == ["1", "2"]
    # What was on the way already, within the credit, and what flowed while the directive was queued: not the backlog.
    assert seen[1][1] - before < total // 2
    await eventually(partners.caught_up)
    assert (await partners.received())[BULK] == total


async def test_what_is_refused_and_what_is_not_keeps_its_place(partners: Partners) -> None:
    """A body in the wrong lane is refused; the sequence of each lane goes on by itself."""
    await partners.queue(link_pb2.LANE_FACTS, directive(1), b"\xff", rows())
    await partners.queue(BULK, rows(), rows())
    await partners.world.dial(partners.partner)
    await eventually(partners.caught_up)
    assert await partners.received() == {link_pb2.LANE_CONTROL: 0, link_pb2.LANE_FACTS: 3, BULK: 2}
    query = "SELECT reason FROM refusals ORDER BY id"
    refused = [row["reason"] for row in await partners.city.transactions.read(lambda conn: conn.fetch(query))]
    assert refused.count(Reason.FIELD_INVALID) == 3
    assert refused.count(Reason.CONTRACT_NOT_ACTIVE) == 2


async def test_both_ends_agree_on_the_chain(partners: Partners) -> None:
    await partners.world.dial(partners.partner)
    for _ in range(3):
        await partners.queue(BULK, rows(10), rows(200_000))
    await eventually(partners.caught_up)
    sent = await partners.partner.transactions.read(lambda conn: lanes_store.sent(conn, "sf"))
    received = await partners.city.transactions.read(lambda conn: incoming_store.received(conn, "beijing"))
    assert received[BULK].received == 6
    assert sent[BULK].acknowledged_chain == received[BULK].chain != lanes_store.CHAIN_START
    assert sent[BULK].backlog_bytes == 0


async def test_people_see_what_waits_in_each_lane(partners: Partners) -> None:
    await partners.queue(BULK, rows(100), rows(100))
    found = await partners.partner.transactions.read(lambda conn: link_status.of_peers(conn, ["sf", "nobody"]))
    shown = pb.Peer()
    link_status.describe(shown, found["sf"])
    assert [(lane.lane, lane.backlog) for lane in shown.lanes] == [("control", 0), ("facts", 0), ("bulk", 2)]
    assert shown.backlog == 2
    assert shown.backlog_bytes > 200
    assert shown.HasField("oldest_unacknowledged")
    assert found["nobody"].backlog == 0
    assert found["sf"].waiting_since.keys() == {BULK}


async def test_what_was_withdrawn_before_it_was_sent_keeps_the_chain(partners: Partners) -> None:
    query = (
        "INSERT INTO contracts (id, kind, peer, provider, consumer, state, terms, created_at, updated_at)"
        " VALUES ('x', 2, 'sf', 'beijing', 'sf', 7, '', now(), now())"
    )
    await partners.partner.transactions.run(lambda tx: tx.conn.execute(query))
    await partners.queue(BULK, rows(), rows())
    for emptied in (2, 0):
        withdrawn = await partners.partner.transactions.run(lambda tx: peers_store.withdraw(tx.conn, "contracts/x"))
        assert withdrawn == emptied
    await partners.world.dial(partners.partner)
    await eventually(partners.caught_up)
    assert (await partners.received())[BULK] == 2
    assert await partners.city.transactions.read(lambda conn: conn.fetchval("SELECT count(*) FROM refusals")) == 0


async def test_a_message_that_is_too_large_is_refused_where_it_is_stated(partners: Partners) -> None:
    with pytest.raises(Exhausted, match="1048576 are allowed") as raised:
        await partners.queue(BULK, rows(lanes_store.ENVELOPE_BYTES_MAX))
    assert raised.value.reason == Reason.MESSAGE_TOO_LARGE


async def test_a_chunk_that_does_not_follow_ends_the_link_and_says_why(partners: Partners) -> None:
    await partners.world.dial(partners.partner)
    await eventually(partial(connected, partners.partner, "sf"))
    session = partners.partner.hub.session("sf")
    with capture_logs() as logs:
        await session.send(link_pb2.Frame(chunk=link_pb2.BatchChunk(lane=BULK, index=1, count=2)))

        async def told() -> bool:
            return any("refused: chunk.index" in entry.get("error", "") for entry in logs)

        await eventually(told)
    await partners.queue(BULK, rows())
    await eventually(partners.caught_up)  # the next session goes on


async def test_who_sends_more_than_its_credit_is_cut_off_and_told_why(partners: Partners) -> None:
    await partners.world.dial(partners.partner)
    await eventually(partial(connected, partners.partner, "sf"))
    sender = partners.partner.hub.session("sf")._sender
    assert sender is not None
    sender.credited(link_pb2.Credit(lane=BULK, envelopes=1_000))  # nobody gave it
    count = handshake.CREDIT[BULK] + 1
    with capture_logs() as logs:
        await partners.queue(BULK, *(rows() for _ in range(count)))

        async def told() -> bool:
            return any("refused: more envelopes of lane bulk than the credit" in each.get("error", "") for each in logs)

        await eventually(told)
    await eventually(partners.caught_up)  # in the next session, within the credit, with nothing lost
    assert (await partners.received())[BULK] == count


async def connected(node: Node, peer: str) -> bool:
    await asyncio.sleep(0)
    return node.hub.connected(peer)


def test_chunks_make_the_batch_again_and_nothing_else_does() -> None:
    signed = link_pb2.SignedBatch(batch=bytes(range(256)) * 2000)
    parts = [frame.chunk for frame in sending.frames(BULK, signed)]
    assert len(parts) > 2
    assert all(len(part.data) <= sending.CHUNK_BYTES for part in parts)
    chunks = receiving.Chunks()
    assert [chunks.add(part) for part in parts[:-1]] == [None] * (len(parts) - 1)
    assert chunks.add(parts[-1]) == signed
    chunks.add(parts[0])
    with pytest.raises(Invalid):
        chunks.add(parts[0])
    large = link_pb2.BatchChunk(lane=BULK, index=0, count=9, data=bytes(receiving.SIGNED_BATCH_BYTES_MAX + 1))
    with pytest.raises(Invalid):
        receiving.Chunks().add(large)
