"""Directives between a city, a district and a street over real links, each with its own database."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from libs.errors import Exhausted, NotFound, Reason, WrongState
from libs.testing import eventually
from quintet.federation.v1 import directive_pb2, facts_pb2, link_pb2
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import alarms, control, directive_rules, directives, directives_store
from services.federation.tests.tiers import Tiers
from services.federation.tests.world import Node

if TYPE_CHECKING:
    from collections.abc import Callable

LEADER, OFFICER = "people/leader.sf", "people/duty-officer.d10"
SENT, DELIVERED, ACKNOWLEDGED = directive_rules.SENT, directive_rules.DELIVERED, directive_rules.ACKNOWLEDGED
ANSWERED, EXPIRED, CANCELLED = directive_rules.ANSWERED, directive_rules.EXPIRED, directive_rules.CANCELLED


async def send(tiers: Tiers, node: Node, zone: str, **fields: Any) -> str:
    asked = directive_pb2.Directive(zone=zone, title="Clear the drains", organisation="organisations/parks", **fields)
    now = tiers.clock.now()
    asked.acknowledge_by.FromDatetime(now + timedelta(minutes=10))
    asked.expires_at.FromDatetime(now + timedelta(minutes=60))
    return (await node.transactions.run(lambda tx: node.directives.send(tx, asked, LEADER))).name


async def kept(node: Node, name: str) -> directive_pb2.Directive | None:
    found = await node.transactions.read(lambda conn: directives_store.find(conn, name))
    return found.directive if found else None


async def state_is(node: Node, name: str, state: int) -> directive_pb2.Directive:
    async def reached() -> directive_pb2.Directive | None:
        found = await kept(node, name)
        return found if found is not None and found.state == state else None

    return await eventually(reached)  # type: ignore[return-value]


async def facts(node: Node, kind: str) -> list[Any]:
    made: Any = getattr(facts_pb2, kind)
    return [made.FromString(fact.data) for fact in await node.facts() if fact.type.endswith(f".{kind}")]


async def told(node: Node, name: str) -> list[int]:
    """The states of a directive that the node's bus heard of, in order."""
    return [each.directive.state for each in await facts(node, "DirectiveChanged") if each.directive.name == name]


async def audited(node: Node) -> list[str]:
    query = "SELECT action FROM audit_entries WHERE action LIKE 'federation.directives.%' ORDER BY id"
    rows = await node.transactions.read(lambda conn: conn.fetch(query))
    return [row["action"].rpartition(".")[2] for row in rows]


async def look(node: Node) -> int:
    return await node.transactions.run(node.directives.look)


async def set_alarms(node: Node, peer: str) -> list[str]:
    found = await node.transactions.read(lambda conn: alarms.of_peers(conn, [peer]))
    return [alarm.name for alarm in found[peer]]


async def test_a_directive_goes_down_and_its_answer_comes_up(tiers: Tiers) -> None:
    name = await send(tiers, tiers.city, "d10")
    arrived = await state_is(tiers.district, name, DELIVERED)
    assert (arrived.from_node, arrived.to_node, arrived.issued_by) == ("sf", "sf-d10", LEADER)
    await state_is(tiers.city, name, DELIVERED)
    below = tiers.district
    await below.transactions.run(lambda tx: below.directives.acknowledge(tx, name, OFFICER))
    seen = await state_is(tiers.city, name, ACKNOWLEDGED)
    assert seen.acknowledged_by == OFFICER
    await below.transactions.run(lambda tx: below.directives.answer(tx, name, "The drains are clear.", OFFICER))
    seen = await state_is(tiers.city, name, ANSWERED)
    assert (seen.answer, seen.answered_by) == ("The drains are clear.", OFFICER)
    assert await told(tiers.city, name) == [SENT, DELIVERED, ACKNOWLEDGED, ANSWERED]
    assert await told(tiers.district, name) == [DELIVERED, ACKNOWLEDGED, ANSWERED]
    assert await audited(tiers.district) == ["receive", "acknowledge", "answer"]
    assert await audited(tiers.city) == ["send", "told", "told", "told"]


async def test_a_street_below_a_district_is_reached_through_it(tiers: Tiers) -> None:
    name = await send(tiers, tiers.city, "hill")
    arrived = await state_is(tiers.street, name, DELIVERED)
    assert (arrived.from_node, arrived.to_node) == ("sf", "sf-hill")
    seen = await state_is(tiers.city, name, DELIVERED)
    assert seen.to_node == "sf-hill"
    passed = await kept(tiers.district, name)
    assert passed is not None
    with pytest.raises(WrongState) as caught:
        await tiers.district.transactions.run(lambda tx: tiers.district.directives.acknowledge(tx, name, OFFICER))
    assert caught.value.reason == Reason.DIRECTIVE_NOT_OURS
    street = tiers.street
    await street.transactions.run(lambda tx: street.directives.answer(tx, name, "done", "people/grid-officer.hill"))
    assert (await state_is(tiers.city, name, ANSWERED)).answer == "done"
    assert (await state_is(tiers.district, name, ANSWERED)).from_node == "sf"


async def test_a_directive_to_a_zone_of_the_node_itself_is_there_at_once(tiers: Tiers) -> None:
    name = await send(tiers, tiers.city, "d6")
    found = await kept(tiers.city, name)
    assert found is not None
    assert (found.state, found.to_node) == (DELIVERED, "sf")
    with pytest.raises(NotFound):
        await send(tiers, tiers.district, "d99")


async def test_one_that_is_taken_back_ends_everywhere(tiers: Tiers) -> None:
    name = await send(tiers, tiers.city, "hill")
    await state_is(tiers.street, name, DELIVERED)
    city = tiers.city
    await city.transactions.run(lambda tx: city.directives.cancel(tx, name, "The rain has stopped."))
    for node in (tiers.district, tiers.street):
        assert (await state_is(node, name, CANCELLED)).reason == "The rain has stopped."
    with pytest.raises(WrongState):
        await tiers.street.transactions.run(lambda tx: tiers.street.directives.cancel(tx, name, "no"))


async def test_it_waits_while_the_district_is_away(tiers: Tiers) -> None:
    await tiers.cut(tiers.district)
    name = await send(tiers, tiers.city, "d10")
    assert await kept(tiers.district, name) is None
    await tiers.join(tiers.district)
    await state_is(tiers.district, name, DELIVERED)
    await state_is(tiers.city, name, DELIVERED)


async def test_one_that_arrives_after_its_end_is_shown_and_not_executed(tiers: Tiers) -> None:
    await tiers.cut(tiers.district)
    name = await send(tiers, tiers.city, "d10")
    tiers.clock.advance(timedelta(minutes=61))
    await tiers.join(tiers.district)
    await state_is(tiers.district, name, EXPIRED)
    await state_is(tiers.city, name, EXPIRED)
    assert await told(tiers.district, name) == [EXPIRED]
    below = tiers.district
    with pytest.raises(WrongState):
        await below.transactions.run(lambda tx: below.directives.answer(tx, name, "done", OFFICER))


async def test_nobody_answers_and_both_ends_hear_of_it(tiers: Tiers) -> None:
    name = await send(tiers, tiers.city, "d10", escalate_to="people/mayor.sf")
    await state_is(tiers.city, name, DELIVERED)
    assert await look(tiers.city) == 0
    tiers.clock.advance(timedelta(minutes=10))
    for node in (tiers.city, tiers.district):
        assert await look(node) == 1
        assert await look(node) == 0, "once is enough for a while"
    (above,), (below,) = (
        await facts(tiers.city, "DirectiveEscalated"),
        await facts(tiers.district, "DirectiveEscalated"),
    )
    assert (above.reason, above.told) == ("NOT_ACKNOWLEDGED", "people/mayor.sf")
    assert (below.reason, below.told) == ("NOT_ACKNOWLEDGED", "organisations/parks")
    assert await set_alarms(tiers.city, "sf-d10") == [directives.UNANSWERED]
    district = tiers.district
    await district.transactions.run(lambda tx: district.directives.acknowledge(tx, name, OFFICER))
    await state_is(tiers.city, name, ACKNOWLEDGED)
    assert await set_alarms(tiers.city, "sf-d10") == []
    tiers.clock.advance(timedelta(minutes=50))
    await look(tiers.city)
    ended = await state_is(tiers.city, name, EXPIRED)
    assert ended.escalations == 2
    assert await set_alarms(tiers.city, "sf-d10") == [directives.UNANSWERED]
    await tiers.city.transactions.run(lambda tx: tiers.city.directives.cancel(tx, name, "settled by telephone"))
    assert await set_alarms(tiers.city, "sf-d10") == []


async def test_the_task_escalates_by_itself(tiers: Tiers) -> None:
    name = await send(tiers, tiers.city, "d6")
    tiers.clock.advance(timedelta(minutes=10))
    task = asyncio.create_task(directives.watch(tiers.city.transactions, tiers.city.directives))
    try:

        async def escalated() -> bool:
            found = await kept(tiers.city, name)
            return found is not None and found.escalations == 1

        await eventually(escalated)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_only_a_tier_above_directs(tiers: Tiers) -> None:
    forged = directive_pb2.Directive(name="directives/f1", from_node="sf-hill", zone="d10", title="Obey", state=SENT)
    forged.issued_at.FromDatetime(tiers.clock.now())
    forged.expires_at.FromDatetime(tiers.clock.now() + timedelta(hours=1))
    assert await applied(tiers.district, "sf-hill", forged) == Reason.NOT_PERMITTED
    assert await applied(tiers.district, "sf", forged) == "", "the parent may, also for one above it"
    forged.name, forged.from_node = "directives/f2", "sf-d10"
    assert await applied(tiers.district, "sf", forged) == Reason.NOT_PERMITTED
    partner = await tiers.world.node("beijing", "d6")
    await tiers.world.join(tiers.city, partner)
    forged.from_node = "beijing"
    assert await applied(tiers.city, "beijing", forged) == Reason.NOT_PERMITTED
    name = await send(tiers, tiers.city, "hill")
    await state_is(tiers.city, name, DELIVERED)
    claimed = await kept(tiers.city, name)
    assert claimed is not None
    claimed.state = ANSWERED
    assert await applied(tiers.city, "beijing", claimed) == Reason.NOT_PERMITTED


async def test_one_under_no_charter_or_to_another_zone_is_refused(tiers: Tiers) -> None:
    wanted = directive_pb2.Directive(name="directives/w1", from_node="sf", zone="city", title="Obey", state=SENT)
    wanted.issued_at.FromDatetime(tiers.clock.now())
    wanted.expires_at.FromDatetime(tiers.clock.now() + timedelta(hours=1))
    assert await applied(tiers.street, "sf-d10", wanted) == Reason.ZONE_NOT_FOUND
    wanted.zone = "hill"
    ended = "UPDATE contracts SET state = $1"
    for node in (tiers.street, tiers.district):
        await node.transactions.run(lambda tx: tx.conn.execute(ended, pb.CONTRACT_STATE_TERMINATED))
    assert await applied(tiers.street, "sf-d10", wanted) == Reason.CONTRACT_NOT_ACTIVE
    with pytest.raises(WrongState):
        await send(tiers, tiers.district, "hill")


async def test_the_same_message_twice_changes_nothing(tiers: Tiers) -> None:
    name = await send(tiers, tiers.city, "d10")
    arrived = await state_is(tiers.district, name, DELIVERED)
    again = directive_pb2.Directive()
    again.CopyFrom(arrived)
    again.state = SENT
    for _ in range(2):
        assert await applied(tiers.district, "sf", again) == ""
    await state_is(tiers.city, name, DELIVERED)
    for _ in range(2):
        assert await applied(tiers.city, "sf-d10", arrived) == ""
    assert await told(tiers.district, name) == [DELIVERED]
    assert await told(tiers.city, name) == [SENT, DELIVERED]


async def test_more_open_ones_than_the_limit_are_turned_away(tiers: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directives, "OPEN_MAX", 1)
    await send(tiers, tiers.city, "d6")
    with pytest.raises(Exhausted):
        await send(tiers, tiers.city, "d6")


async def applied(node: Node, peer: str, directive: directive_pb2.Directive) -> str:
    """Apply a message of a peer as the acceptor does; return the reason of its refusal, "" for none."""
    row = await node.peer(peer)
    envelope = link_pb2.Envelope(directive_message=link_pb2.DirectiveMessage(id="m", directive=directive))
    handle: Callable[..., Any] = node.directives.handle
    refusal = await node.transactions.run(lambda tx: control.apply({"directive_message": handle}, tx, row, envelope))
    return refusal[0] if refusal else ""
