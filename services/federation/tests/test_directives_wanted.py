"""Directives that other services of a node want: given once, refused with a reason, taken back."""

from datetime import timedelta
from typing import Any

from google.protobuf.message import Message

from libs.ids import new_id
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1.facts_pb2 import DirectiveNotGiven
from quintet.management.v1.facts_pb2 import DirectiveUnwanted, DirectiveWanted
from services.federation.directives_wanted import WantedDirectives
from services.federation.tests.test_directives import (
    CANCELLED,
    DELIVERED,
    LEADER,
    OFFICER,
    SENT,
    facts,
    state_is,
    told,
)
from services.federation.tests.tiers import Tiers
from services.federation.tests.world import Node

TERMINATED = pb.CONTRACT_STATE_TERMINATED
SUBJECT = "zones/city/planRuns/r1/steps/pumps"


def wanted(at: Tiers, **changes: Any) -> DirectiveWanted:
    values: dict[str, Any] = {
        "subject": SUBJECT,
        "zone": "d10",
        "organisation": "organisations/parks",
        "title": "启动水泵 / Start the pumps",
        "text": "全部启动\nall of them",
        "issued_by": LEADER,
    }
    message = DirectiveWanted(**(values | changes))
    message.acknowledge_by.FromDatetime(at.clock.now() + timedelta(minutes=30))
    message.expires_at.FromDatetime(at.clock.now() + timedelta(minutes=60))
    return message


async def hear(node: Node, message: Message, received_from: str = "") -> None:
    """Let a node's federation hear a fact of its own management, or of another node's."""
    fact = Fact(
        id=new_id(),
        node=received_from or node.id,
        type=message.DESCRIPTOR.full_name,
        data=message.SerializeToString(),
        received_from=received_from,
    )
    heard = WantedDirectives(node.id, node.directives)
    await node.transactions.run(lambda tx: heard.hear(tx, [fact]))


async def given(node: Node) -> list[Any]:
    """The directives of a node, as its bus heard of them first."""
    return [each.directive for each in await facts(node, "DirectiveChanged") if each.directive.state == SENT]


async def test_what_management_wants_goes_down_as_a_directive(tiers: Tiers) -> None:
    await hear(tiers.city, wanted(tiers))
    (sent,) = await given(tiers.city)
    assert (sent.subject, sent.issued_by, sent.zone) == (SUBJECT, LEADER, "d10")
    arrived = await state_is(tiers.district, sent.name, DELIVERED)
    assert (arrived.title, arrived.organisation) == ("启动水泵 / Start the pumps", "organisations/parks")
    assert (arrived.subject, arrived.text) == (SUBJECT, "全部启动\nall of them")


async def test_what_is_not_wanted_any_more_is_taken_back_below_too(tiers: Tiers) -> None:
    await hear(tiers.city, wanted(tiers))
    (sent,) = await given(tiers.city)
    await state_is(tiers.district, sent.name, DELIVERED)
    unwanted = DirectiveUnwanted(directive=sent.name, subject=SUBJECT, reason="the run is over")
    for _ in range(2):  # what was taken back is taken back
        await hear(tiers.city, unwanted)
    below = await state_is(tiers.district, sent.name, CANCELLED)
    assert below.reason == "the run is over"


async def test_an_answer_that_was_faster_stands(tiers: Tiers) -> None:
    await hear(tiers.city, wanted(tiers))
    (sent,) = await given(tiers.city)
    await state_is(tiers.district, sent.name, DELIVERED)
    below = tiers.district
    await below.transactions.run(lambda tx: below.directives.answer(tx, sent.name, "done", OFFICER))
    before = await state_is(tiers.city, sent.name, 4)
    await hear(tiers.city, DirectiveUnwanted(directive=sent.name, subject=SUBJECT, reason="too late"))
    assert await state_is(tiers.city, sent.name, 4) == before


async def test_what_cannot_be_given_is_told_with_its_reason(tiers: Tiers) -> None:
    await hear(tiers.city, wanted(tiers, zone="elsewhere"))
    (refused,) = await facts(tiers.city, "DirectiveNotGiven")
    assert isinstance(refused, DirectiveNotGiven)
    assert (refused.subject, refused.reason) == (SUBJECT, "ZONE_NOT_FOUND")
    assert not await given(tiers.city)


async def test_without_a_charter_nothing_is_left_behind(tiers: Tiers) -> None:
    await tiers.cut(tiers.district)
    await tiers.city.transactions.run(lambda tx: tx.conn.execute("UPDATE contracts SET state = $1", TERMINATED))
    await hear(tiers.city, wanted(tiers))
    (refused,) = await facts(tiers.city, "DirectiveNotGiven")
    assert refused.reason == "CONTRACT_NOT_ACTIVE"
    rows = await tiers.city.transactions.read(lambda conn: conn.fetchval("SELECT count(*) FROM directives"))
    assert (rows, await given(tiers.city)) == (0, [])


async def test_facts_of_other_nodes_give_no_directives(tiers: Tiers) -> None:
    await hear(tiers.city, wanted(tiers), received_from="sf-d10")
    assert not await given(tiers.city)
    assert not await told(tiers.city, "directives/none")
