"""What identity knows, and the rules that need nothing but that."""

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.access import Grant, Scope
from libs.errors import Invalid, WrongState
from libs.reasons import Reason
from libs.zones import ZoneTree

ZONE_DEPTH_MAX = 16
ZONES_MAX = 20_000
ORGANISATION_DEPTH_MAX = 16
ROLES_MAX = 1000
# Casbin itself follows inheritance ten levels deep; what lies deeper would silently not count.
ROLE_DEPTH_MAX = 8
PASSWORD_CHARS_MIN = 12

# Five failures within the window lock a login for LOCK_S seconds from the last of them: about 1,400 guesses a day.
SIGN_IN_FAILURES_MAX = 5
SIGN_IN_WINDOW_S = 15 * 60
LOCK_S = 5 * 60

REFRESH_TOKEN_LIFE_S = 12 * 3600
# However often it is refreshed, a session ends; then the person signs in again.
SESSION_LIFE_MAX_S = 7 * 24 * 3600

PEOPLE = "people/"
SERVICE_ACCOUNTS = "serviceAccounts/"
SERVICES = "services/"
ROLES = "roles/"
ZONES = "zones/"
# Roles of the node's own services: nobody else holds one.
SERVICE_ROLE = "service."


@dataclass(frozen=True, slots=True)
class Text:
    """A text for people in both languages."""

    zh: str = ""
    en: str = ""


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone. `parent` is a code, "" for none; `kind` the number of the proto's ZoneKind; `boundary` GeoJSON."""

    code: str
    parent: str
    kind: int
    title: Text
    aliases: tuple[str, ...] = ()
    boundary: str = ""
    delegated_to: str = ""
    depth: int = 0

    @property
    def name(self) -> str:
        return f"{ZONES}{self.code}"


@dataclass(frozen=True, slots=True)
class Organisation:
    """An organisation. `zone` is a code, `parent` an organisation's name or ""."""

    name: str
    title: Text
    zone: str
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Post:
    """A role (its id) held for a zone (its code) in an organisation (its name, "" for none)."""

    role: str
    zone: str
    organisation: str = ""
    title: Text = Text()

    @property
    def key(self) -> tuple[str, str, str]:
        """What it gives, whatever it is called."""
        return (self.role, self.zone, self.organisation)


@dataclass(frozen=True, slots=True)
class Account:
    """A person, or a program: then `login` is its name and `title` what people call it."""

    name: str
    login: str
    display_name: str = ""
    title: Text = Text()
    posts: tuple[Post, ...] = ()
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class RoleGrant:
    """One permission of a role."""

    permission: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class Role:
    """A role by its id; `inherits` are ids. Grants are sorted, so that equal roles compare equal."""

    id: str
    title: Text
    grants: tuple[RoleGrant, ...] = ()
    inherits: tuple[str, ...] = ()
    built_in: bool = False

    @property
    def name(self) -> str:
        return f"{ROLES}{self.id}"

    @property
    def of_service(self) -> bool:
        return self.id.startswith(SERVICE_ROLE)


@dataclass(frozen=True, slots=True)
class Failures:
    """Failed sign-ins of one login."""

    count: int
    last_at: datetime
    locked_until: datetime | None


def folded(name: str) -> str:
    """Return the form in which names of zones are compared: case, width and spacing do not count."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def check_aliases(zone: Zone) -> None:
    """Raise Invalid when an alias is empty or stands twice."""
    seen: set[str] = set()
    for index, alias in enumerate(zone.aliases):
        key = folded(alias)
        if not key or key in seen:
            rule = "is there twice" if key else "must not be empty"
            raise Invalid(f"zone.aliases[{index}]", rule)
        seen.add(key)


def check_posts(posts: Sequence[Post], field: str) -> None:
    """Raise Invalid when the same role is given twice in the same place, or a role that only services have."""
    seen: set[tuple[str, str, str]] = set()
    for index, post in enumerate(posts):
        if post.key in seen:
            raise Invalid(f"{field}[{index}]", "gives the same role in the same zone and organisation again")
        if post.role.startswith(SERVICE_ROLE):
            raise Invalid(f"{field}[{index}].role", "is a role of the node's own services")
        seen.add(post.key)


def check_password(password: str, account: Account) -> None:
    """Raise Invalid (PASSWORD_TOO_WEAK) for a password that is too short or says who its holder is."""
    if len(password) < PASSWORD_CHARS_MIN:
        rule = f"must have at least {PASSWORD_CHARS_MIN} characters"
    elif folded(password) in {folded(account.login), folded(account.display_name), folded(account.name)}:
        rule = "must not be the name of its holder"
    elif len(set(password)) <= PASSWORD_CHARS_MIN // 4:
        rule = "must not repeat a few characters"
    else:
        return
    raise Invalid("password", rule, reason=Reason.PASSWORD_TOO_WEAK)


def inheritance_fault(role: str, roles: Mapping[str, Role]) -> WrongState | None:
    """Return the error of a role that inherits itself, or too deeply, by way of `roles` (which hold it too)."""
    level, depth = {role}, 0
    while level := {above for id_ in level if id_ in roles for above in roles[id_].inherits}:
        depth += 1
        if role in level:
            return WrongState(Reason.WRONG_STATE, f"roles/{role} would inherit itself", role=role)
        if depth > ROLE_DEPTH_MAX:
            text = f"roles/{role} would inherit more than {ROLE_DEPTH_MAX} levels deep"
            return WrongState(Reason.WRONG_STATE, text, role=role)
    return None


def exceeding(held: Iterable[Grant], wanted: Iterable[Grant], tree: ZoneTree) -> Grant | None:
    """Return the first of the wanted grants that reaches further than those held, None when none does.

    Nobody gives away a right that they do not hold: in as large a zone, and in as wide a scope. The own scope is the
    narrowest (it means what its holder owns, whoever that is), then an organisation's, then the zone's.
    """
    by_permission: dict[str, list[Grant]] = {}
    for grant in held:
        by_permission.setdefault(grant.permission, []).append(grant)
    for grant in wanted:
        if not any(_covers(mine, grant, tree) for mine in by_permission.get(grant.permission, ())):
            return grant
    return None


def _covers(mine: Grant, wanted: Grant, tree: ZoneTree) -> bool:
    everywhere = ("", tree.root)
    if mine.zone not in everywhere and (wanted.zone in everywhere or not tree.covers(mine.zone, wanted.zone)):
        return False
    if mine.scope is Scope.ZONE or wanted.scope is Scope.OWN:
        return True
    same = mine.organisation != "" and mine.organisation == wanted.organisation
    return mine.scope is Scope.ORGANISATION and wanted.scope is Scope.ORGANISATION and same


def failed_again(before: Failures | None, now: datetime) -> Failures:
    """Return the failures of a login after one more: they count within SIGN_IN_WINDOW_S, and the last one locks."""
    recent = before is not None and now - before.last_at <= timedelta(seconds=SIGN_IN_WINDOW_S)
    # A lock that has run out starts the count anew: a locked login is not locked again by one slip.
    spent = before is not None and before.locked_until is not None and before.locked_until <= now
    count = before.count + 1 if before is not None and recent and not spent else 1
    locked_until = now + timedelta(seconds=LOCK_S) if count >= SIGN_IN_FAILURES_MAX else None
    return Failures(count, now, locked_until)


def locked_s(failures: Failures | None, now: datetime) -> int:
    """Return for how many more seconds the login is locked, 0 when it is not."""
    if failures is None or failures.locked_until is None or failures.locked_until <= now:
        return 0
    return int((failures.locked_until - now).total_seconds()) + 1


def session_expires_at(opened_at: datetime, now: datetime) -> datetime:
    """Return when a refresh token made now ends."""
    return min(now + timedelta(seconds=REFRESH_TOKEN_LIFE_S), opened_at + timedelta(seconds=SESSION_LIFE_MAX_S))


def post_zones(*accounts: Account | None) -> frozenset[str]:
    """Return the codes of the zones in which any of the accounts holds a post."""
    return frozenset(post.zone for account in accounts if account is not None for post in account.posts)


def organisations_of(posts: Collection[Post]) -> list[str]:
    """Return the names of the organisations of some posts, sorted."""
    return sorted({post.organisation for post in posts if post.organisation})
