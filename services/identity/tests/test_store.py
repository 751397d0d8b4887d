"""The SQL of identity against a real database."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio

from libs.access import Scope, Visibility
from libs.clock import ManualClock
from libs.db import Connection
from libs.errors import AlreadyExists
from libs.ids import new_id
from libs.testing import MakeTransactions
from libs.tx import Transactions
from services.identity import store_accounts, store_sessions, store_zones
from services.identity.model import Account, Failures, Organisation, Post, Role, RoleGrant, Text, Zone
from services.identity.passwords import token_hash

MIGRATIONS = Path(__file__).parents[1] / "migrations"
T = TypeVar("T")

CITY = Zone("city", "", 1, Text())
D6 = Zone("d6", "city", 2, Text(), depth=1)
D10 = Zone("d10", "city", 2, Text("十区", "D10"), ("10", "Bayview"), "x" * 82, depth=1)  # 100 bytes of text
PH = Zone("ph", "d10", 3, Text(en="Potrero Hill"), ("Dogpatch",), "y" * 80, depth=2)  # 100 too
BLOCK = Zone("block", "ph", 4, Text(), (), "z" * 100, depth=3)


@pytest_asyncio.fixture
async def db(transactions: MakeTransactions) -> Transactions:
    made = await transactions("identity", MIGRATIONS)

    async def fill(conn: Connection) -> None:
        for zone in (CITY, D6, D10, PH, BLOCK):
            await store_zones.save_zone(conn, zone)
        for name in ("organisations/a", "organisations/b"):
            await store_zones.save_organisation(conn, Organisation(name, Text(en=name), "city"))

    await write(made, fill)
    return made


async def write(db: Transactions, work: Callable[[Connection], Awaitable[T]]) -> T:
    return await db.run(lambda tx: work(tx.conn))


def person(name: str, *posts: Post) -> Account:
    return Account(f"people/{name}", name, name.upper(), posts=posts)


# --------------------------------------------------------------------------------------------------------------- zones


async def test_zones_come_back_as_they_were_put(db: Transactions) -> None:
    for zone in (CITY, D6, D10, PH, BLOCK):
        assert await db.read(partial(store_zones.get_zone, code=zone.code)) == zone
    assert await db.read(lambda conn: store_zones.find_zone(conn, "bayview")) == D10
    assert await db.read(lambda conn: store_zones.find_zone(conn, "nowhere")) is None
    assert await db.read(lambda conn: store_zones.zone_path(conn, "block")) == ["block", "ph", "d10", "city"]
    assert await db.read(lambda conn: store_zones.zone_path(conn, "nowhere")) == []


async def test_a_moved_zone_takes_the_depth_of_all_below_along(db: Transactions) -> None:
    await write(db, lambda conn: store_zones.save_zone(conn, replace(PH, parent="city", depth=1)))
    listed, _ = await db.read(lambda conn: store_zones.list_zones(conn, after=None, limit=9, bytes_max=10**6))
    assert [(zone.code, zone.depth) for zone in listed] == [("city", 0), ("d10", 1), ("d6", 1), ("ph", 1), ("block", 2)]
    assert await db.read(store_zones.greatest_depth) == 2


@pytest.mark.parametrize(
    ("limit", "bytes_max", "pages"),
    [
        (2, 10**6, [["city", "d10"], ["d6", "ph"], ["block"]]),
        (5, 10**6, [["city", "d10", "d6", "ph", "block"]]),
        (9, 150, [["city", "d10", "d6", "ph"], ["block"]]),
        (9, 100, [["city", "d10"], ["d6", "ph"], ["block"]]),
        (9, 1, [["city", "d10"], ["d6", "ph"], ["block"]]),
    ],
)
async def test_pages_of_zones_are_bounded_by_number_and_by_bytes(
    db: Transactions, limit: int, bytes_max: int, pages: list[list[str]]
) -> None:
    after: tuple[int, str] | None = None
    seen: list[list[str]] = []
    more = True
    while more:
        page = partial(store_zones.list_zones, after=after, limit=limit, bytes_max=bytes_max)
        zones, more = await db.read(page)
        seen.append([zone.code for zone in zones])
        after = (zones[-1].depth, zones[-1].code)
    assert seen == pages


async def test_what_changed_since_is_found_by_its_version(db: Transactions) -> None:
    zones, roles = await db.read(store_sessions.versions)
    assert await db.read(lambda conn: store_zones.zones_since(conn, zones)) == []
    await write(db, lambda conn: store_zones.save_zone(conn, replace(D6, aliases=("6",))))
    await write(db, lambda conn: store_zones.save_delegation(conn, "d10", "node-d10"))
    changed = await db.read(lambda conn: store_zones.zones_since(conn, zones))
    expected = {replace(D6, aliases=("6",)), replace(D10, delegated_to="node-d10")}
    assert set(changed) == expected
    assert await db.read(store_sessions.versions) == (zones + 2, roles)


async def test_zones_change_one_transaction_after_the_other(db: Transactions) -> None:
    order: list[str] = []
    locked = asyncio.Event()

    async def first(conn: Connection) -> None:
        await store_zones.lock_zones(conn)
        locked.set()
        await asyncio.sleep(0.05)
        order.append("first")

    async def second(conn: Connection) -> None:
        await store_zones.lock_zones(conn)
        order.append("second")

    task = asyncio.create_task(write(db, first))
    await locked.wait()
    await write(db, second)
    await task
    assert order == ["first", "second"]


async def test_what_is_missing_is_named(db: Transactions) -> None:
    found = await db.read(
        lambda conn: store_zones.missing(conn, zones=["d6", "d7"], organisations=["organisations/a", "organisations/x"])
    )
    assert found == {"d7", "organisations/x"}


# ------------------------------------------------------------------------------------------------------------ accounts


async def test_people_come_back_as_they_were_put(db: Transactions) -> None:
    posts = (Post("handler", "d10", "organisations/a", Text("处置", "Handler")), Post("resident", "city"))
    wanted = person("handler.01", *posts)
    await write(db, lambda conn: store_accounts.save_account(conn, wanted))
    assert await db.read(lambda conn: store_accounts.get_account(conn, wanted.name)) == wanted
    fewer = replace(wanted, posts=posts[1:], disabled=True)
    await write(db, lambda conn: store_accounts.save_account(conn, fewer))
    assert await db.read(lambda conn: store_accounts.get_account(conn, wanted.name)) == fewer
    with pytest.raises(AlreadyExists):
        await write(db, lambda conn: store_accounts.save_account(conn, replace(person("x"), login="handler.01")))


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (Visibility(everything=True), ["a", "b", "c", "nobody"]),
        (Visibility(zones=("d10", "ph")), ["b"]),
        (Visibility(organisation_everywhere=("organisations/a",)), ["a", "b"]),
        (Visibility(organisation_zones=(("organisations/a", "d6"),)), ["a"]),
        (Visibility(owner="people/c", owner_everywhere=True), ["c"]),
        (Visibility(owner="people/c", owner_zones=("d10",)), []),
        (Visibility(), []),
    ],
)
async def test_people_are_seen_by_their_posts(db: Transactions, visible: Visibility, names: list[str]) -> None:
    for account in (
        person("a", Post("handler", "d6", "organisations/a"), Post("resident", "city")),
        person("b", Post("handler", "d10", "organisations/a")),
        person("c", Post("resident", "d6")),
        person("nobody"),
        Account("serviceAccounts/s", "serviceAccounts/s", posts=(Post("device_gateway", "d10", "organisations/a"),)),
    ):
        await write(db, partial(store_accounts.save_account, account=account))
    seen = await db.read(lambda conn: store_accounts.list_people(conn, visible, after="", limit=9))
    assert [account.login for account in seen] == names
    after = await db.read(lambda conn: store_accounts.list_people(conn, visible, after="people/b", limit=9))
    assert [account.login for account in after] == [name for name in names if name > "b"]


async def test_roles_come_back_as_they_were_put(db: Transactions) -> None:
    grants = (RoleGrant("a.b.read", Scope.OWN), RoleGrant("a.b.read", Scope.ZONE), RoleGrant("a.b.write", Scope.ZONE))
    role = Role("hotline", Text("热线", "Hotline"), grants, ("resident", "verifier"))
    await write(db, lambda conn: store_accounts.save_role(conn, role))
    assert await db.read(store_accounts.all_roles) == [role]
    await write(db, lambda conn: store_accounts.save_role(conn, replace(role, grants=grants[:1], inherits=())))
    assert await db.read(store_accounts.all_roles) == [replace(role, grants=grants[:1], inherits=())]


async def test_a_hash_is_replaced_only_if_it_is_still_the_one(db: Transactions) -> None:
    await write(db, lambda conn: store_accounts.save_account(conn, person("a")))
    await write(db, lambda conn: store_accounts.save_secret_hash(conn, "people/a", "one"))
    for before, after, kept in (("two", "three", "one"), ("one", "two", "two")):
        await write(db, partial(store_accounts.replace_secret_hash, name="people/a", before=before, after=after))
        assert await db.read(lambda conn: store_accounts.get_secret_hash(conn, "people/a")) == kept


# ------------------------------------------------------------------------------------------------------------ sessions


async def open_sessions(db: Transactions, clock: ManualClock, number: int) -> list[str]:
    await write(db, lambda conn: store_accounts.save_account(conn, person("a", Post("resident", "city"))))
    opened = [new_id() for _ in range(number)]
    for session in opened:
        now = clock.advance(timedelta(seconds=1))
        ends = now + timedelta(hours=12)
        await write(
            db, partial(store_sessions.open_session, session=session, account="people/a", now=now, expires_at=ends)
        )
    return opened


async def holding(db: Transactions, clock: ManualClock, sessions: list[str]) -> list[bool]:
    found = [
        await db.read(partial(store_sessions.standing, account="people/a", session=each, now=clock.now()))
        for each in sessions
    ]
    return [each.session_holds for each in found]


async def test_sessions_end_one_by_one_or_the_oldest_or_all(db: Transactions, clock: ManualClock) -> None:
    sessions = await open_sessions(db, clock, 4)
    now = clock.now()
    assert await write(db, lambda conn: store_sessions.end_session(conn, sessions[3], "people/a", now))
    assert not await write(db, lambda conn: store_sessions.end_session(conn, sessions[3], "people/a", now))
    assert not await write(db, lambda conn: store_sessions.end_session(conn, sessions[2], "people/b", now))
    assert not await write(db, lambda conn: store_sessions.end_session(conn, "no session", "people/a", now))
    assert await holding(db, clock, sessions) == [True, True, True, False]
    assert await write(db, lambda conn: store_sessions.end_oldest_sessions(conn, "people/a", 1, now)) == 2
    assert await holding(db, clock, sessions) == [False, False, True, False]
    assert await write(db, lambda conn: store_sessions.end_sessions(conn, "people/a", now)) == 1
    assert await holding(db, clock, sessions) == [False] * 4


async def test_a_standing_is_what_rights_rest_on(db: Transactions, clock: ManualClock) -> None:
    [session] = await open_sessions(db, clock, 1)
    found = await db.read(lambda conn: store_sessions.standing(conn, "people/a", session, clock.now()))
    assert (found.known, found.disabled, found.session_holds) == (True, False, True)
    assert found.posts == (Post("resident", "city"),)
    assert not (await db.read(lambda conn: store_sessions.standing(conn, "people/b", "", clock.now()))).known
    clock.advance(timedelta(hours=12))
    assert await holding(db, clock, [session]) == [False]


async def test_refresh_tokens_find_their_session_until_forgotten(db: Transactions, clock: ManualClock) -> None:
    [session] = await open_sessions(db, clock, 1)
    now = clock.now()
    digest = token_hash("token")
    await write(db, lambda conn: store_sessions.add_refresh_token(conn, session, digest, now))
    found = await write(db, lambda conn: store_sessions.find_session(conn, digest))
    assert found is not None
    assert (found.id, found.account, found.expires_at, found.token_used) == (session, "people/a", now, False)
    await write(db, lambda conn: store_sessions.use_refresh_token(conn, digest, now))
    used = await write(db, lambda conn: store_sessions.find_session(conn, digest))
    assert used is not None
    assert used.token_used
    await write(db, lambda conn: store_sessions.forget_refresh_tokens(conn, session, now + timedelta(seconds=1)))
    assert await write(db, lambda conn: store_sessions.find_session(conn, digest)) is None


async def test_failures_are_kept_by_login(db: Transactions, clock: ManualClock) -> None:
    one, other = token_hash("one"), token_hash("other")
    failures = Failures(5, clock.now(), clock.now() + timedelta(seconds=30))
    await write(db, lambda conn: store_sessions.save_failures(conn, one, Failures(1, clock.now(), None)))
    await write(db, lambda conn: store_sessions.save_failures(conn, one, failures))
    assert await db.read(lambda conn: store_sessions.get_failures(conn, one)) == failures
    assert await db.read(lambda conn: store_sessions.get_failures(conn, other)) is None
    await write(db, lambda conn: store_sessions.clear_failures(conn, one))
    assert await db.read(lambda conn: store_sessions.get_failures(conn, one)) is None
