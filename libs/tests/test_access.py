import pytest

from libs.access import ANONYMOUS, Caller, Grant, Grants, Kind, Scope, Visibility, acting_as, current_caller
from libs.context import caller_subject
from libs.errors import Forbidden, NotFound, Reason
from libs.testing import MakeDatabase
from libs.tests.callers import TREE, grants

ME = "people/me"
READ = "management.events.read"
WORKS, PARKS = "organisations/works", "organisations/parks"
D6, D10, HILL = "us-ca-sf-d6", "us-ca-sf-d10", "us-ca-sf-d10-potrero-hill"


def test_nothing_is_allowed_without_a_grant() -> None:
    nothing = grants(ME)
    assert not nothing.holds(READ)
    assert not nothing.allows(READ, HILL, WORKS, ME)
    assert nothing.visibility(READ).clause(1) == ("FALSE", [])


def test_a_zone_covers_what_lies_below_it_and_its_former_codes() -> None:
    held = grants(ME, Grant(READ, Scope.ZONE, D10))
    assert held.allows(READ, D10)
    assert held.allows(READ, HILL)
    assert held.allows(READ, "us-ca-sf-district-10")
    assert not held.allows(READ, D6)
    assert not held.allows(READ, "us-ca-sf")
    assert not held.allows(READ, "unknown")
    assert not held.allows(READ), "without a zone only grants for the whole node count"
    assert not held.allows("management.events.advance", D10)


@pytest.mark.parametrize("zone", ["", "us-ca-sf"])
def test_the_nodes_own_zone_is_everything_that_the_node_holds(zone: str) -> None:
    held = grants(ME, Grant(READ, Scope.ZONE, zone))
    for asked in ("", D10, "cn-110000"):
        assert held.allows(READ, asked)
    assert held.visibility(READ).everything


def test_an_organisation_sees_its_own_work_in_its_zones() -> None:
    held = grants(ME, Grant(READ, Scope.ORGANISATION, D10, WORKS))
    assert held.holds(READ, HILL), "lets the method decide"
    assert held.allows(READ, HILL, WORKS)
    assert held.allows(READ, HILL, [PARKS, WORKS])
    assert not held.allows(READ, HILL, PARKS)
    assert not held.allows(READ, HILL)
    assert not held.allows(READ, D6, WORKS)


def test_a_grant_for_an_organisation_that_is_not_named_gives_nothing() -> None:
    held = grants(ME, Grant(READ, Scope.ORGANISATION, D10, ""))
    assert not held.allows(READ, D10, "")
    assert not held.allows(READ, D10, [""])


def test_own_is_what_belongs_to_the_caller() -> None:
    held = grants(ME, Grant(READ, Scope.OWN, "us-ca-sf"))
    assert held.allows(READ, HILL, owner=ME)
    assert not held.allows(READ, HILL, owner="people/other")
    assert not held.allows(READ, HILL)


def test_inactive_subjects_hold_nothing() -> None:
    held = Grants(ME, [Grant(READ, Scope.ZONE)], lambda: TREE, active=False)
    assert not held.holds(READ)
    assert list(held) == []


def test_require_says_what_is_missing_or_hides_it() -> None:
    caller = Caller(ME, Kind.PERSON, grants(ME, Grant(READ, Scope.ZONE, D10)))
    caller.require(READ, zone=HILL)
    with pytest.raises(Forbidden) as caught:
        caller.require(READ, zone=D6)
    assert caught.value.metadata == {"permission": READ, "zone": D6}
    missing = NotFound(Reason.EVENT_NOT_FOUND, name="zones/us-ca-sf-d6/events/1")
    with pytest.raises(NotFound) as hidden:
        caller.require(READ, zone=D6, hide=missing)
    assert hidden.value is missing


def test_the_caller_is_of_the_block() -> None:
    assert current_caller() is ANONYMOUS
    caller = Caller(ME, Kind.PERSON, grants(ME), "token")
    with acting_as(caller):
        assert current_caller() is caller
        assert caller_subject.get() == ME
    assert current_caller() is ANONYMOUS
    assert "token" not in repr(caller).replace("token=", "")


def test_columns_are_constants() -> None:
    with pytest.raises(ValueError, match="not a column"):
        Visibility(zones=("a",)).clause(1, zone="zone OR true")


HELD = {
    "zone": [Grant(READ, Scope.ZONE, D10)],
    "organisation": [Grant(READ, Scope.ORGANISATION, D10, WORKS)],
    "organisation everywhere": [Grant(READ, Scope.ORGANISATION, "", WORKS)],
    "own": [Grant(READ, Scope.OWN, D10)],
    "own everywhere": [Grant(READ, Scope.OWN, "us-ca-sf")],
    "several": [Grant(READ, Scope.ZONE, D6), Grant(READ, Scope.ORGANISATION, D10, PARKS), Grant(READ, Scope.OWN, "")],
    "node": [Grant(READ, Scope.ZONE, "us-ca-sf")],
    "none": [],
}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD.keys())
@pytest.mark.parametrize("array", [False, True])
async def test_a_list_shows_exactly_what_single_reads_allow(
    held: list[Grant], array: bool, database: MakeDatabase
) -> None:
    made = grants(ME, *held)
    rows = [
        (zone, organisation, owner)
        for zone in ("us-ca-sf", D6, D10, HILL, "us-ca-sf-district-10", "cn-110000")
        for organisation in (WORKS, PARKS, "")
        for owner in (ME, "people/other")
    ]
    column = "handlers[]" if array else "handler"
    clause, values = made.visibility(READ).clause(4, zone="zone", organisation=column, owner="owner")
    async with (await database()).admin() as conn:
        found = await conn.fetch(
            f"""SELECT zone, handler, owner FROM (
                SELECT zone, handler, owner, ARRAY['organisations/x', handler] AS handlers
                FROM unnest($1::text[], $2::text[], $3::text[]) AS r(zone, handler, owner)
            ) AS rows WHERE {clause}""",
            *(list(part) for part in zip(*rows, strict=True)),
            *values,
        )
    allowed = {row for row in rows if made.allows(READ, row[0], row[1], row[2])}
    assert {tuple(row) for row in found} == allowed
