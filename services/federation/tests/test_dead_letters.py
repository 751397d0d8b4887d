"""An envelope whose application fails for an unknown reason stops nothing, and waits for a person."""

from functools import partial

import pytest

from libs.errors import NotFound, Reason, WrongState
from libs.testing import eventually
from libs.tx import Tx
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import alarms, dead_letters, link_status, refusals_store
from services.federation.links_service import LinksHandler
from services.federation.peers_store import Peer
from services.federation.refusals_store import REFUSALS_LISTED_PER_DAY_MAX, NewRefusal
from services.federation.tests.pairs import Partners
from services.federation.tests.test_lanes import directive


async def test_poison_goes_to_the_dead_letters_and_its_neighbours_are_applied(partners: Partners) -> None:
    heard: list[str] = []
    broken = True

    async def hears(tx: Tx, _peer: Peer, envelope: link_pb2.Envelope) -> None:
        await tx.conn.execute("UPDATE peers SET title = title || '.'")
        if envelope.directive_message.id == "2" and broken:
            raise KeyError("a fault of this release")
        tx.after_commit(partial(heard.append, envelope.directive_message.id))

    partners.city.control["directive_message"] = hears
    await partners.queue(link_pb2.LANE_CONTROL, *[directive(number) for number in (1, 2, 3)])
    await partners.world.dial(partners.partner)
    await eventually(partners.caught_up)
    assert heard == ["1", "3"]
    title = await partners.city.transactions.read(lambda conn: conn.fetchval("SELECT title FROM peers"))
    assert title == "beijing.."  # nothing of the failed one is left
    status = (await partners.city.transactions.read(lambda conn: link_status.of_peers(conn, ["beijing"])))["beijing"]
    assert status.dead_letters == 1
    assert [alarm.name for alarm in status.alarms] == [alarms.LINK_DEAD_LETTER]

    service = LinksHandler(partners.city.transactions, partners.city.acceptor, partners.city.hub)
    listed = (await service.page(pb.ListPeerDeadLettersRequest(peer="peers/beijing"))).dead_letters
    assert [(letter.lane, letter.sequence, letter.body) for letter in listed] == [("control", 2, "directive_message")]
    assert "KeyError" in listed[0].error
    retry = pb.RetryPeerDeadLetterRequest(name=listed[0].name)
    with pytest.raises(WrongState) as raised:
        await service.retry(retry)
    assert raised.value.reason == Reason.STILL_FAILS
    assert (await service.page(pb.ListPeerDeadLettersRequest(peer="peers/beijing"))).dead_letters[0].attempts == 2
    broken = False
    await service.retry(retry)
    assert heard == ["1", "3", "2"]
    assert await partners.city.transactions.read(alarms.all_set) == []
    with pytest.raises(NotFound):
        await service.discard(pb.DiscardPeerDeadLetterRequest(name=listed[0].name, reason="seen"))


async def test_a_dead_letter_can_be_dropped(partners: Partners) -> None:
    async def work(tx: Tx) -> None:
        error = ValueError("x\0y")
        await dead_letters.bury(tx, "beijing", link_pb2.LANE_CONTROL, 7, b"", error, contract="", body="")

    await partners.city.transactions.run(work)
    service = LinksHandler(partners.city.transactions, partners.city.acceptor, partners.city.hub)
    listed = (await service.page(pb.ListPeerDeadLettersRequest(peer="peers/beijing"))).dead_letters
    await service.discard(pb.DiscardPeerDeadLetterRequest(name=listed[0].name, reason="seen"))
    assert not (await service.page(pb.ListPeerDeadLettersRequest(peer="peers/beijing"))).dead_letters
    assert await partners.city.transactions.read(alarms.all_set) == []


async def test_refusals_are_all_counted_and_the_first_ones_listed(partners: Partners) -> None:
    query = (
        "INSERT INTO contracts (id, kind, peer, provider, consumer, state, terms, created_at, updated_at)"
        " VALUES ('x', 2, 'sf', 'beijing', 'sf', 6, '', now(), now())"
    )
    node = partners.partner.transactions
    await node.run(lambda tx: tx.conn.execute(query))
    half = REFUSALS_LISTED_PER_DAY_MAX // 2 + 10
    for _ in range(2):
        refused = [NewRefusal("contracts/x", "QUOTA", str(number), "", "") for number in range(half)]
        await node.run(lambda tx, some=refused: refusals_store.refuse(tx.conn, some, tx.now))  # type: ignore[misc]
    other = [NewRefusal("contracts/x", "FIELD_INVALID", "last", "", "")]
    await node.run(lambda tx: refusals_store.refuse(tx.conn, other, tx.now))
    listed = await node.read(lambda conn: refusals_store.refusals(conn, "contracts/x", None, 1000))
    assert len(listed) == REFUSALS_LISTED_PER_DAY_MAX + 1
    assert listed[0].description == "last"
    counted = await node.read(lambda conn: conn.fetchval("SELECT refused FROM contracts WHERE id = 'x'"))
    assert counted == 2 * half + 1
