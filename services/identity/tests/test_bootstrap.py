"""The first start of a node, and the ones after."""

import stat

import pytest

from libs.errors import Reason, Unauthenticated
from quintet.identity.v1 import directory_pb2 as d
from quintet.identity.v1 import identity_pb2 as i
from quintet.identity.v1.facts_pb2 import AccessChanged, PersonChanged, ZoneChanged
from services.identity.wiring import PART

from .conftest import Node


async def test_a_fresh_node_has_its_zone_and_an_administrator(node: Node) -> None:
    path = node.config.state / "secrets" / "node-admin.password"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    admin = await node.admin()
    assert admin.subject == "people/node-admin"
    zones = await admin.call(admin.directory.ListZones, d.ListZonesRequest())
    assert [(zone.name, zone.parent, zone.title.en) for zone in zones.zones] == [
        ("zones/us-ca-sf", "", "City of San Francisco")
    ]
    profile = await admin.call(admin.identity.GetProfile, i.GetProfileRequest())
    assert {"management.events.void", "identity.people.write"} <= {grant.permission for grant in profile.grants}
    assert {grant.zone for grant in profile.grants} == {"us-ca-sf"}


async def test_the_first_start_is_stated_as_facts(node: Node) -> None:
    assert [fact.zone.name for fact in await node.facts(ZoneChanged)] == ["zones/us-ca-sf"]
    assert [fact.person.login for fact in await node.facts(PersonChanged)] == ["node-admin"]
    assert [fact.subject for fact in await node.facts(AccessChanged)] == ["people/node-admin"]


async def test_another_start_changes_nothing(node: Node) -> None:
    before = await node.admin()
    password = node.config.secrets.read("node-admin.password")
    await node.run(PART)
    assert node.config.secrets.read("node-admin.password") == password
    assert len(await node.facts(PersonChanged)) == 1
    await before.call(before.identity.GetProfile, i.GetProfileRequest())


async def test_a_deleted_administrator_does_not_come_back_while_there_are_people(node: Node) -> None:
    await node.grow()
    await node.person("officer", d.Post(role="roles/node_admin", zone="us-ca-sf"))
    async with node.database.admin() as connection:
        await connection.execute("DELETE FROM identity.accounts WHERE name = 'people/node-admin'")
    await node.run(PART)
    with pytest.raises(Unauthenticated) as raised:
        await node.admin()
    assert raised.value.reason == Reason.CREDENTIALS_WRONG
