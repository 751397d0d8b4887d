"""The rules of identity, without a database."""

from datetime import UTC, datetime, timedelta

import pytest

from libs.access import Grant, Scope
from libs.errors import Invalid, Reason
from libs.zones import ZoneRecord, ZoneTree
from services.identity import model
from services.identity.model import Account, Failures, Post, Role, Text, Zone

NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
TREE = ZoneTree([ZoneRecord("sf"), ZoneRecord("d10", "sf"), ZoneRecord("ph", "d10"), ZoneRecord("d6", "sf")], root="sf")


def grant(zone: str, scope: Scope = Scope.ZONE, organisation: str = "", permission: str = "a.b.read") -> Grant:
    return Grant(permission, scope, zone, organisation)


# -------------------------------------------------------------------------------------------------- giving away rights


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        (grant("d10"), grant("d10")),
        (grant("d10"), grant("ph")),
        (grant("sf"), grant("d10")),
        (grant("sf"), grant("")),
        (grant(""), grant("sf")),
        (grant("d10"), grant("ph", Scope.ORGANISATION, "organisations/a")),
        (grant("d10"), grant("ph", Scope.OWN)),
        (grant("d10", Scope.ORGANISATION, "organisations/a"), grant("d10", Scope.ORGANISATION, "organisations/a")),
        (grant("d10", Scope.OWN), grant("ph", Scope.OWN)),
    ],
)
def test_what_one_holds_one_may_give(held: Grant, wanted: Grant) -> None:
    assert model.exceeding([held], [wanted], TREE) is None


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        (grant("d10"), grant("d6")),
        (grant("ph"), grant("d10")),
        (grant("d10"), grant("sf")),
        (grant("d10"), grant("")),
        (grant("d10"), grant("d10", permission="a.b.write")),
        (grant("d10", Scope.ORGANISATION, "organisations/a"), grant("d10")),
        (grant("d10", Scope.ORGANISATION, "organisations/a"), grant("d10", Scope.ORGANISATION, "organisations/b")),
        (grant("d10", Scope.ORGANISATION), grant("d10", Scope.ORGANISATION)),
        (grant("d10", Scope.OWN), grant("d10", Scope.ORGANISATION, "organisations/a")),
        (grant("d10", Scope.OWN), grant("d10")),
        (grant("d10"), grant("unknown")),
    ],
)
def test_nobody_gives_more_than_they_hold(held: Grant, wanted: Grant) -> None:
    assert model.exceeding([held], [wanted], TREE) == wanted


def test_each_right_is_looked_for_among_all_held() -> None:
    held = [grant("d6"), grant("d10"), grant("d6", permission="a.b.write")]
    assert model.exceeding(held, [grant("d10"), grant("d6")], TREE) is None
    assert model.exceeding(held, [grant("d6"), grant("d10", permission="a.b.write")], TREE) is not None
    assert model.exceeding([], [], TREE) is None


# -------------------------------------------------------------------------------------------------------------- lockout


def test_the_fifth_failure_within_the_window_locks_for_a_while() -> None:
    failures: Failures | None = None
    for second in range(4):
        failures = model.failed_again(failures, NOW + timedelta(seconds=second))
        assert model.locked_s(failures, NOW + timedelta(seconds=second)) == 0
    failures = model.failed_again(failures, NOW + timedelta(seconds=4))
    assert model.locked_s(failures, NOW + timedelta(seconds=4)) == model.LOCK_S + 1
    after = NOW + timedelta(seconds=4 + model.LOCK_S)
    assert model.locked_s(failures, after) == 0
    assert model.failed_again(failures, after).count == 1


def test_old_failures_are_forgotten() -> None:
    old = Failures(4, NOW, None)
    later = NOW + timedelta(seconds=model.SIGN_IN_WINDOW_S + 1)
    assert model.failed_again(old, later) == Failures(1, later, None)


def test_a_session_lives_as_long_as_it_is_refreshed_but_not_forever() -> None:
    assert model.session_expires_at(NOW, NOW) == NOW + timedelta(seconds=model.REFRESH_TOKEN_LIFE_S)
    last = NOW + timedelta(seconds=model.SESSION_LIFE_MAX_S - 1)
    assert model.session_expires_at(NOW, last) == NOW + timedelta(seconds=model.SESSION_LIFE_MAX_S)


# ------------------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize("password", ["short", "elevenchars", "abababababababab", "Duty-Officer.D10"])
def test_weak_passwords_are_refused(password: str) -> None:
    with pytest.raises(Invalid) as raised:
        model.check_password(password, Account("people/1", "duty-officer.d10"))
    assert raised.value.reason == Reason.PASSWORD_TOO_WEAK
    assert password not in str(raised.value)


def test_a_long_password_is_accepted() -> None:
    model.check_password("correct horse battery", Account("people/1", "duty-officer.d10"))


def test_a_post_stands_once_and_is_not_a_services() -> None:
    post = Post("handler", "d10", "organisations/a", Text("处置人员"))
    with pytest.raises(Invalid, match=r"person\.posts\[1\]"):
        model.check_posts([post, Post("handler", "d10", "organisations/a")], "person.posts")
    with pytest.raises(Invalid, match=r"person\.posts\[0\]\.role"):
        model.check_posts([Post("service.identity", "d10")], "person.posts")
    model.check_posts([post, Post("handler", "d6", "organisations/a")], "person.posts")


@pytest.mark.parametrize("aliases", [("Bayview", " "), ("Bayview", "BAYVIEW"), ("十区", "十区")])
def test_aliases_are_names_and_differ(aliases: tuple[str, ...]) -> None:
    with pytest.raises(Invalid, match=r"zone\.aliases\[1\]"):
        model.check_aliases(Zone("d10", "sf", 2, Text(), aliases))


def test_roles_do_not_inherit_in_a_circle_nor_too_deeply() -> None:
    def roles(**inherits: tuple[str, ...]) -> dict[str, Role]:
        return {id_: Role(id_, Text(), (), above) for id_, above in inherits.items()}

    assert model.inheritance_fault("a", roles(a=("b", "c"), b=("c",), c=())) is None
    assert model.inheritance_fault("a", roles(a=("b",), b=("c",), c=("a",))) is not None
    assert model.inheritance_fault("a", roles(a=("a",))) is not None
    chain = {f"r{i}": Role(f"r{i}", Text(), (), (f"r{i + 1}",)) for i in range(model.ROLE_DEPTH_MAX)}
    assert model.inheritance_fault("r1", chain) is None
    assert model.inheritance_fault("r0", chain) is None
    chain["r8"] = Role("r8", Text(), (), ("r9",))
    assert model.inheritance_fault("r0", chain) is not None
