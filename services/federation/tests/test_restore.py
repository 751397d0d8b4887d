"""One of two nodes is restored from a backup: what can be proven is healed, everything else stops with an alarm."""

from functools import partial
from uuid import UUID

import pytest

from libs import inbox_store
from libs.errors import WrongState
from libs.inbox_store import Taken
from libs.testing import eventually
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import alarms, incoming_store, lanes_store
from services.federation.links_service import LinksHandler
from services.federation.tests.pairs import Pair, caught_up, event, names_at
from services.federation.tests.world import Node

# What a backup of a node holds of its links.
TABLES = ("peer_lanes", "peer_received", "peer_outbox", "outbox", "inbox", "settlement_ledger", "settlement_days")
PEER_COLUMNS = "received_epoch, epoch, previous_epoch, epoch_there"


class Backup:
    """The tables of one node as they were."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def take(self) -> None:
        async def work(tx: object) -> None:
            for table in TABLES:
                await tx.conn.execute(f"DROP TABLE IF EXISTS backup_{table}")  # type: ignore[attr-defined]
                await tx.conn.execute(f"CREATE TABLE backup_{table} AS TABLE {table}")  # type: ignore[attr-defined]
            await tx.conn.execute("DROP TABLE IF EXISTS backup_peers")  # type: ignore[attr-defined]
            await tx.conn.execute("CREATE TABLE backup_peers AS TABLE peers")  # type: ignore[attr-defined]

        await self._node.transactions.run(work)

    async def restore(self, *tables: str) -> None:
        async def work(tx: object) -> None:
            for table in tables or TABLES:
                await tx.conn.execute(f"DELETE FROM {table}")  # type: ignore[attr-defined]
                await tx.conn.execute(  # type: ignore[attr-defined]
                    f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM backup_{table}"
                )
            await tx.conn.execute(  # type: ignore[attr-defined]
                f"UPDATE peers SET ({PEER_COLUMNS}) = (b.received_epoch, b.epoch, b.previous_epoch, b.epoch_there)"
                " FROM backup_peers b WHERE b.node = peers.node"
            )

        await self._node.transactions.run(work)


async def state(pair: Pair, *numbers: int) -> None:
    for number in numbers:
        await pair.district.state(event("sf-d10", "d10", number))
    await pair.district.pump()


async def arrived(pair: Pair, count: int) -> None:
    async def there() -> bool:
        return len(await names_at(pair.city)) >= count and await caught_up(pair.district, "sf")

    await eventually(there)


async def set_alarms(node: Node) -> list[str]:
    return [alarm.name for alarm in await node.transactions.read(alarms.all_set)]


async def has_alarm(node: Node, name: str) -> bool:
    return name in await set_alarms(node)


async def no_alarms(*nodes: Node) -> bool:
    return not [name for node in nodes for name in await set_alarms(node)]


async def take_in(node: Node) -> None:
    """What the node's own consumer of the bus does with everything that came: it remembers the ids."""
    facts = [fact for fact in await node.facts() if fact.received_from]
    taken = [Taken(UUID(fact.id), fact.type, fact.key, b"") for fact in facts]
    await node.transactions.run(lambda tx: inbox_store.claim(tx.conn, taken))


def names(*numbers: int) -> list[str]:
    return [f"zones/d10/events/{number}" for number in numbers]


def reopen(pair: Pair) -> None:
    pair.district.hub.reopen("sf")


async def resynchronise(node: Node, peer: str) -> None:
    handler = LinksHandler(node.transactions, node.acceptor, node.hub)
    await handler.resynchronise(pb.ResynchronisePeerRequest(name=f"peers/{peer}", reason="restored"))


async def backed_up(pair: Pair, node: Node, *after: int) -> Backup:
    """Take a backup of a node when one event has arrived, and let others follow."""
    await state(pair, 1)
    await arrived(pair, 1)
    backup = Backup(node)
    await backup.take()
    await state(pair, *after)
    await arrived(pair, 1 + len(after))
    return backup


async def test_a_restored_receiver_is_healed_by_itself(pair: Pair) -> None:
    backup = await backed_up(pair, pair.city, 2, 3)
    await backup.restore()
    assert await names_at(pair.city) == names(1)
    reopen(pair)
    await arrived(pair, 3)
    assert await names_at(pair.city) == names(1, 2, 3)
    await eventually(partial(no_alarms, pair.city, pair.district))
    query = "SELECT array_agg(DISTINCT action) FROM audit_entries WHERE action LIKE 'federation.peers.heal%'"
    found = await pair.district.transactions.read(lambda conn: conn.fetchval(query))
    assert set(found) == {"federation.peers.heal", "federation.peers.healed"}
    raised = [fact.type.rpartition(".")[2] for fact in await pair.district.facts() if "Alarm" in fact.type]
    assert raised == ["AlarmRaised", "AlarmCleared"]


async def test_a_restored_sender_stops_both_until_people_begin_anew(pair: Pair) -> None:
    backup = await backed_up(pair, pair.district, 2, 3)
    await take_in(pair.city)
    await backup.restore()
    reopen(pair)
    for node in (pair.city, pair.district):
        await eventually(partial(has_alarm, node, alarms.SEQUENCE_REVERSED))
    await state(pair, 4)  # takes a sequence that the city knows with another content
    await resynchronise(pair.district, "sf")
    await arrived(pair, 4)
    assert await names_at(pair.city) == names(1, 2, 3, 4)
    await eventually(partial(no_alarms, pair.city, pair.district))
    with pytest.raises(WrongState):
        await resynchronise(pair.district, "sf")


async def test_new_content_under_old_sequences_is_noticed(pair: Pair) -> None:
    """The restored sender has assigned more than the other knows: only the chain tells that it is not the same."""
    backup = await backed_up(pair, pair.district, 2, 3)
    await take_in(pair.city)
    # A node that is restored does not run meanwhile: no stream may be open that knows what came after the backup.
    await pair.cut()
    await backup.restore()
    await state(pair, 12, 13, 14, 15)
    await pair.dial()
    for node in (pair.city, pair.district):
        await eventually(partial(has_alarm, node, alarms.SEQUENCE_REVERSED))
    await resynchronise(pair.district, "sf")
    await arrived(pair, 7)
    assert await names_at(pair.city) == names(1, 2, 3, 12, 13, 14, 15)


async def test_both_directions_of_a_restored_node(pair: Pair) -> None:
    """The whole database of the district went back: what it sent, and what it had received."""
    backup = await backed_up(pair, pair.district, 2)
    request = link_pb2.Envelope(lane=link_pb2.LANE_FACTS, contract="contracts/x").SerializeToString()
    await pair.city.transactions.run(lambda tx: lanes_store.enqueue(tx.conn, "sf-d10", [("contracts/x", request)]))
    pair.city.hub.wake("sf-d10")
    await eventually(partial(caught_up, pair.city, "sf-d10"))
    await take_in(pair.city)
    await backup.restore()
    reopen(pair)
    await eventually(partial(has_alarm, pair.district, alarms.SEQUENCE_REVERSED))
    await resynchronise(pair.district, "sf")
    await eventually(partial(no_alarms, pair.city, pair.district))
    await eventually(partial(caught_up, pair.city, "sf-d10"))
    received = await pair.district.transactions.read(lambda conn: incoming_store.received(conn, "sf"))
    assert received[link_pb2.LANE_FACTS].received == 1
    await state(pair, 3)
    await arrived(pair, 3)
    assert await names_at(pair.city) == names(1, 2, 3)


async def test_a_backup_that_is_too_old_stops_with_an_alarm(pair: Pair) -> None:
    backup = await backed_up(pair, pair.city, 2, 3)
    await pair.district.transactions.run(lambda tx: tx.conn.execute("DELETE FROM peer_outbox WHERE sequence <= 2"))
    await backup.restore()
    reopen(pair)
    for node in (pair.city, pair.district):
        await eventually(partial(has_alarm, node, alarms.SEQUENCE_REVERSED))
    found = await pair.district.transactions.read(alarms.all_set)
    assert "too old" in found[0].text
    await resynchronise(pair.district, "sf")  # people accept what is gone
    await state(pair, 4)
    await arrived(pair, 2)
    assert await names_at(pair.city) == names(1, 4)
    await eventually(partial(no_alarms, pair.city, pair.district))
