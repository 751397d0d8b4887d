"""Certificates live for seconds here: they are renewed over the stream, after it, and not for everybody."""

import asyncio
from datetime import timedelta

import pytest

from libs.errors import Forbidden, WrongState
from libs.testing import eventually
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import alarms, pki
from services.federation.tests.pairs import event, linked, names_at
from services.federation.tests.world import World

LEAF_VALID = timedelta(seconds=6)


async def test_renewed_without_a_restart_and_without_losing_a_fact(made: World) -> None:
    made.terms["leaf_valid"] = LEAF_VALID
    city, district = (await linked(made)).both
    for node in (city, district):
        made.look_after(node)
    seen: set[str] = set()
    sent = 0

    async def renewed_twice() -> bool:
        nonlocal sent
        seen.add(pki.key_name((await district.peer("sf")).certificate))
        sent += 1
        await district.state(event("sf-d10", "d10", sent))
        await district.pump()
        return len(seen) >= 3  # the first and two more, each with a key of its own

    await eventually(renewed_twice, within_s=30)

    async def all_there() -> bool:
        return len(await names_at(city)) >= sent

    await eventually(all_there, within_s=20)
    assert await names_at(city) == [f"zones/d10/events/{number + 1}" for number in range(sent)]

    async def calm() -> bool:
        """Lives are so short here that people may be told of an end a moment before it is averted."""
        return not any([await node.transactions.read(alarms.all_set) for node in (city, district)])

    await eventually(calm)


async def test_after_a_long_absence_the_pinned_key_is_enough(made: World) -> None:
    made.terms["leaf_valid"] = timedelta(seconds=1)
    city, district = await made.city_and_district()

    async def expired() -> bool:
        ends = pki.expires_at((await district.peer("sf")).certificate)
        return ends is not None and ends <= district.transactions.clock.now()

    await eventually(expired)
    await district.members.renewer.look()
    assert not await expired()

    stranger = await made.node("x", "d6")
    for signer, node in ((stranger, "sf-d10"), (stranger, "x")):
        request = signer.members.renewer._signer.renewal("sf", pki.request_certificate("x")[1])
        request.node = node
        with pytest.raises(Forbidden):
            await city.members.certificates.renew(request)
    own = district.members.renewer._signer.renewal("sf", pki.request_certificate("sf-d10")[1])
    await city.members.certificates.renew(own)
    await city.transactions.run(lambda tx: city.members.standing.suspend(tx, "sf-d10", "under inquiry"))
    with pytest.raises(Forbidden, match="under inquiry"):
        await city.members.certificates.renew(own)


@pytest.mark.parametrize("grace_s", [0, 3600])
async def test_what_cannot_be_renewed_ends_or_goes_on_as_declared(made: World, grace_s: int) -> None:
    """The district does not renew: its stream outlives its certificate only where the city's policy lets it."""
    made.terms |= {"leaf_valid": timedelta(seconds=3), "grace": timedelta(seconds=grace_s)}
    city, district = (await linked(made)).both
    made.work(city.members.warden.run())

    async def noticed() -> bool:
        found = {each.name for each in await city.transactions.read(alarms.all_set)}
        return "PEER_CERTIFICATE_EXPIRED" in found

    async def ended() -> bool:
        return not city.hub.connected("sf-d10")

    await eventually(noticed if grace_s else ended, within_s=20)
    if grace_s:
        await district.state(event("sf-d10", "d10", 1))
        await district.pump()
        await eventually(lambda: names_at(city))
    await district.members.renewer._watch(await district.peer("sf"), set())
    assert [each.name for each in await district.transactions.read(alarms.all_set)] == ["CERTIFICATE_EXPIRED"]


async def test_a_partner_that_was_joined_gets_a_certificate_of_its_own(made: World) -> None:
    city, partner = await made.city_and_partner()
    assert (await city.peer("beijing")).certificate == ""
    await city.members.renewer.look()
    pki.check_issued(
        (await city.peer("beijing")).certificate,
        partner.members.authority.root_certificate,
        pki.spiffe_id("beijing", "sf"),
    )


async def test_a_revoked_key_is_never_certified_again(made: World) -> None:
    city, district = await made.city_and_district()
    _, request = pki.request_certificate("sf-d10")
    signed = district.members.renewer._signer.renewal("sf", request)
    await city.members.certificates.renew(signed)
    await city.transactions.run(lambda tx: city.members.standing.revoke(tx, "sf-d10", "stolen"))
    assert (await city.peer("sf-d10")).state == pb.PEER_STATE_REQUESTED
    with pytest.raises(WrongState):
        await city.transactions.run(lambda tx: city.members.standing.revoke(tx, "sf-d10", "again"))
    for person in ("people/a", "people/b"):
        await city.approve(district, person)
    with pytest.raises(Forbidden, match="revoked"):
        await city.members.certificates.renew(signed)


async def test_the_ports_change_their_certificate_while_they_serve(made: World) -> None:
    made.terms["leaf_valid"] = timedelta(seconds=1.5)
    city = await made.node("sf", "city")
    shown = set()

    async def thrice() -> bool:
        host, _, port = city.membership.join_address.rpartition(":")
        import ssl

        shown.add(await asyncio.to_thread(ssl.get_server_certificate, (host, int(port))))
        return len(shown) >= 3

    await eventually(thrice, within_s=20)
