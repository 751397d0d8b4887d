"""A database that was restored or changed by hand does not decide alone whom the node exchanges with."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from libs.errors import WrongState
from libs.testing import eventually
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import trust_pb2
from services.federation import alarms
from services.federation.rotation import SIGNING_KEY_NOT_LISTED
from services.federation.tests.pairs import Pair, event, names_at
from services.federation.tests.test_rotation import handler, rotate
from services.federation.tests.world import Node
from services.federation.trust_guard import COPY_NAME, TrustGuard

TRUST_TABLES = ("trust_lists", "signing_keys")
ROLLBACK, DIFFERS = ("", "TRUST_ROLLBACK"), ("", "TRUST_LIST_DIFFERS")


@pytest_asyncio.fixture(autouse=True)
async def copied(pair: Pair) -> None:
    """Each node has a copy of its newest list."""
    for node in pair.both:
        await node.members.guard.look()


async def execute(node: Node, *statements: str) -> None:
    async def work(tx: Any) -> None:
        for statement in statements:
            await tx.conn.execute(statement)

    await node.transactions.run(work)


async def back_up(node: Node) -> None:
    tables = (*TRUST_TABLES, "peers")
    await execute(node, *(f"CREATE TABLE backup_{table} AS TABLE {table}" for table in tables))


async def restore(node: Node) -> None:
    """Put the lists, the keys and the standing of the peers back to where they were."""
    for table in TRUST_TABLES:
        await execute(node, f"DELETE FROM {table}", f"INSERT INTO {table} SELECT * FROM backup_{table}")
    await execute(node, "UPDATE peers SET state = b.state FROM backup_peers b WHERE b.node = peers.node")


async def accept(node: Node, above: int = 0) -> trust_pb2.TrustList:
    request = trust_pb2.AcceptTrustListRequest(reason="compared with the minutes", above=above)
    return (await handler(node).accept(request)).trust_list.list


async def standing(node: Node) -> set[tuple[str, str]]:
    return {(each.peer, each.name) for each in await node.transactions.read(alarms.all_set)}


async def flows(pair: Pair, number: int) -> None:
    await pair.district.state(event("sf-d10", "d10", number))
    await pair.district.pump()

    async def arrived() -> bool:
        return f"zones/d10/events/{number}" in await names_at(pair.city)

    await eventually(arrived)


async def apart(node: Node) -> bool:
    return not node.hub.sessions()


async def test_an_expelled_peer_does_not_come_back_with_a_backup(pair: Pair) -> None:
    city = pair.city
    await back_up(city)
    await city.transactions.run(lambda tx: city.members.standing.suspend(tx, "sf-d10", "under inquiry"))
    await city.members.guard.look()
    pair.district.hub.reopen("sf")
    await restore(city)
    assert (await city.peer("sf-d10")).state == pb.PEER_STATE_ACTIVE
    verdict = await city.members.guard.look()
    assert set(verdict.peers) == {"sf-d10"}
    assert await standing(city) == {ROLLBACK, ("sf-d10", "TRUST_LIST_DIFFERS")}
    with pytest.raises(WrongState, match="trust list"):
        await city.members.guard.admit("sf-d10")
    await eventually(partial(apart, city))

    before = verdict.rolled_back
    accepted = await accept(city)
    assert f"signed {accepted.number - 1} already" in before  # above all that anybody has seen
    assert await standing(city) == set()
    await flows(pair, 1)
    with pytest.raises(WrongState):
        await accept(city)
    assert (await accept(city, above=1_000)).number == 1_001


async def test_a_row_that_was_changed_by_hand_is_noticed(pair: Pair) -> None:
    city = pair.city
    other = await pair.world.node("sf-d6", "d6")
    await pair.world.join(city, other, "d6")
    await city.members.guard.look()
    stolen = other.membership.root_fingerprint
    await execute(city, "UPDATE peers SET zone = 'city' WHERE node = 'sf-d10'")
    verdict = await city.members.guard.look()
    assert set(verdict.peers) == {"sf-d10"}
    assert await standing(city) == {DIFFERS, ("sf-d10", "TRUST_LIST_DIFFERS")}
    await eventually(partial(apart, city))

    # What is changed in due form does not make the other change good.
    await city.transactions.run(lambda tx: city.members.standing.suspend(tx, "sf-d6", "under inquiry"))
    listed = trust_pb2.TrustList.FromString((await city.trust.newest()).list)
    assert [(peer.zone, peer.state) for peer in listed.peers] == [("d10", "ACTIVE"), ("d6", "SUSPENDED")]
    assert {peer.root_fingerprint for peer in listed.peers} > {stolen}
    assert set((await city.members.guard.look()).peers) == {"sf-d10"}

    await execute(city, "UPDATE peers SET zone = 'd10' WHERE node = 'sf-d10'")
    await city.members.guard.look()
    assert await standing(city) == set()
    await flows(pair, 1)


async def test_a_membership_or_a_list_that_was_changed_by_hand_is_noticed(pair: Pair) -> None:
    city = pair.city
    await execute(city, "UPDATE peers SET state = 4 WHERE node = 'sf-d10'")
    assert set((await city.members.guard.look()).peers) == {"sf-d10"}
    await execute(city, "UPDATE peers SET state = 2 WHERE node = 'sf-d10'")
    await execute(city, "UPDATE trust_lists SET list = list || '\\xa00600'::bytea WHERE node = 'sf'")
    verdict = await city.members.guard.look()
    assert set(verdict.peers) == {"sf-d10"}
    assert "pinned root" in verdict.differs


async def test_replicas_that_make_and_copy_lists_alarm_nobody(pair: Pair, tmp_path: Path) -> None:
    """Each replica reads the copy before the database: a list of the other one is newer there, never older."""
    city = pair.city
    replica = TrustGuard(city.trust, city.hub, city.secrets, city.transactions)
    for number in range(3):
        change = city.members.standing.suspend if number % 2 == 0 else city.members.standing.resume
        await city.transactions.run(lambda tx, change=change: change(tx, "sf-d10", "test"))  # type: ignore[misc]
        assert (await replica.look()).good
        behind = city.secrets.read(COPY_NAME)
        await city.transactions.run(city.trust.restate)
        assert (await city.members.guard.look()).good
        assert city.secrets.read(COPY_NAME) == behind
    assert await standing(city) == set()


async def test_a_key_that_a_backup_does_not_know_is_stated_again(pair: Pair) -> None:
    city = pair.city
    await execute(city, "UPDATE peers SET last_contact = NULL")
    await back_up(city)
    made = await rotate(city)
    await city.members.rotation.advance()
    await city.members.guard.look()
    await restore(city)
    await city.members.guard.look()
    await city.members.rotation.advance()
    assert await standing(city) == {ROLLBACK, ("", SIGNING_KEY_NOT_LISTED)}
    accepted = await accept(city)
    await city.members.rotation.advance()
    assert [key.key_id for key in accepted.keys if not key.HasField("retired_at")] == [made]
    assert await standing(city) == set()
    await flows(pair, 1)
