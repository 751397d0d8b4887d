"""Nodes of several releases exchange what they know, and pass on what they do not."""

from functools import partial

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet

from libs.ids import new_id
from libs.testing import eventually
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import control, link, terms
from services.federation.known_facts import TYPES
from services.federation.tests.pairs import Partners, caught_up, event
from services.federation.tests.world import Node, World

LATER_KIND = "quintet.management.v1.EventForeseen"
# Field 900 with three bytes, as a later release may have it in any message.
LATER_FIELD = bytes([0xA2, 0x38, 3]) + b"new"


async def went_by(partners: Partners, lane: int, count: int) -> bool:
    return (await partners.received()).get(lane) == count


async def test_a_frame_of_a_later_release_is_counted_and_the_stream_goes_on(partners: Partners) -> None:
    await partners.world.dial(partners.partner)

    async def connected() -> bool:
        return partners.partner.hub.connected("sf") and partners.city.hub.connected("beijing")

    await eventually(connected)
    session, counter = partners.partner.hub.session("sf"), link.UNKNOWN_FRAMES.labels("beijing")
    before = counter._value.get()
    await session.send(link_pb2.Frame.FromString(LATER_FIELD))
    await partners.queue(
        link_pb2.LANE_CONTROL, control.control_envelope(directive_message=link_pb2.DirectiveMessage(id=new_id()))
    )
    await eventually(partners.caught_up)
    assert counter._value.get() == before + 1
    assert partners.partner.hub.session("sf") is session


@pytest.mark.parametrize("lane", [link_pb2.LANE_CONTROL, link_pb2.LANE_FACTS, link_pb2.LANE_BULK])
async def test_a_body_of_a_later_release_keeps_its_place_in_its_lane(
    partners: Partners, lane: link_pb2.Lane.ValueType
) -> None:
    counter = control.UNKNOWN.labels("beijing")
    before = counter._value.get()
    envelope = link_pb2.Envelope(lane=lane).SerializeToString() + LATER_FIELD
    first = (await partners.received())[lane]
    waiting = (await partners.partner.transactions.read(partial(_assigned, lane=lane))) - first
    await partners.queue(lane, envelope, envelope)
    await partners.world.dial(partners.partner)
    await eventually(partial(went_by, partners, lane, first + waiting + 2))
    await eventually(partners.caught_up)
    assert counter._value.get() == before + 2
    assert await partners.city.transactions.read(lambda conn: conn.fetchval("SELECT count(*) FROM refusals")) == 0


async def _assigned(conn: object, lane: int) -> int:
    query = "SELECT last_assigned FROM peer_lanes WHERE peer = 'sf' AND lane = $1"
    return int(await conn.fetchval(query, lane))  # type: ignore[attr-defined]


@pytest.fixture
def later_charter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The charter that is offered names a kind of fact that this release does not know."""
    monkeypatch.setattr(terms, "_MANAGEMENT_UP", (*terms._MANAGEMENT_UP, LATER_KIND.rpartition(".")[2]))


@pytest.mark.usefixtures("later_charter")
async def test_a_fact_that_nobody_here_knows_goes_up_through_every_tier_as_it_was(made: World) -> None:
    assert LATER_KIND not in TYPES
    city, district, street = [
        await made.node(name, zone) for name, zone in (("sf", "city"), ("sf-d10", "d10"), ("sf-hill", "hill"))
    ]
    for parent, child, zone in ((city, district, "d10"), (district, street, "hill")):
        await made.join(parent, child, zone)
        await made.dial(child)
        await eventually(partial(in_force_alike, child, parent))
    for node in (city, district, street):
        await node.pump()
    plain = Fact(id=new_id(), type=LATER_KIND, node=street.id, zone="hill", key="zones/hill", data=b"\xff\x00 unread")
    stated = Fact.FromString(plain.SerializeToString() + LATER_FIELD)
    await street.state(stated)
    await street.state(event(street.id, "hill", 1))
    await street.pump()
    await eventually(lambda: district.received("EventOpened"))
    await district.pump()
    await eventually(lambda: city.received("EventOpened"))
    await eventually(partial(caught_up, district, city.id))
    for node, sender in ((district, street), (city, district)):
        (arrived,) = await node.received("EventForeseen")
        assert (arrived.id, arrived.type, arrived.node) == (stated.id, LATER_KIND, street.id)
        assert arrived.received_from == sender.id
        assert arrived.data == stated.data
        unknown = UnknownFieldSet(arrived)
        assert (len(unknown), unknown[0].field_number, unknown[0].data) == (1, 900, b"new")
        assert [each.refused for each in await node.contracts()] == [0] * len(await node.contracts())


async def in_force_alike(child: Node, parent: Node) -> bool:
    """Say whether the charter of a child, the newest contract at both, is in force at both."""
    newest = [(await node.contracts())[:1] for node in (child, parent)]
    return all(found and found[0].state == pb.CONTRACT_STATE_FINALIZED for found in newest)
