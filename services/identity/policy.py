"""Casbin decides what a role may do; here its decisions become grants, which every service checks by itself.

One `enforce` costs about 2 ms, more than the rest of a call. So a subject's permissions are resolved once per set of
posts, and kept until a role changes (then there is a new Policy).
"""

import tomllib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import casbin

from libs.access import Grant, Scope
from services.identity.model import SERVICE_ROLE, Post, Role, RoleGrant, Text

MODEL_FILE = Path(__file__).with_name("model.conf")
POLICY_FILE = Path(__file__).with_name("policy.csv")
TITLES_FILE = Path(__file__).with_name("roles.toml")

# Sets of posts whose grants are kept. Residents share one, so that this is enough for a city's staff.
RESOLVED_CACHE_MAX = 20_000

ANYWHERE = "*"
# Whoever holds the posts being resolved; "/" keeps it apart from every role id.
_HOLDER = "/holder"


class Policy:
    """The built-in roles and the node's own, as they are at one moment."""

    def __init__(self, own: Iterable[Role] = ()) -> None:
        """`own` are the roles from the database."""
        self._enforcer = casbin.Enforcer(str(MODEL_FILE), str(POLICY_FILE))
        self.roles: Mapping[str, Role] = _built_in(self._enforcer) | {role.id: role for role in own}
        for role in self.roles.values():
            if not role.built_in:
                self._add(role)
        self._enforcer.add_named_domain_matching_func("g", lambda _, domain: domain == ANYWHERE)
        self._resolved: OrderedDict[tuple[tuple[str, str, str], ...], tuple[Grant, ...]] = OrderedDict()

    @property
    def enforcer(self) -> casbin.Enforcer:
        """Casbin itself, for the test that compares its decisions with ours."""
        return self._enforcer

    def grants(self, posts: Sequence[Post]) -> tuple[Grant, ...]:
        """Return everything that the posts give together."""
        key = tuple(sorted({post.key for post in posts}))
        found = self._resolved.get(key)
        if found is None:
            found = self._resolved[key] = self._resolve(key)
            if len(self._resolved) > RESOLVED_CACHE_MAX:
                self._resolved.popitem(last=False)
        else:
            self._resolved.move_to_end(key)
        return found

    def service_grants(self, part: str) -> tuple[Grant, ...] | None:
        """Return what a service of the node may do, anywhere; None when there is no such service."""
        role = f"{SERVICE_ROLE}{part}"
        return self.grants((Post(role, ""),)) if role in self.roles else None

    def role_grants(self, role: str, zone: str) -> tuple[Grant, ...]:
        """Return what a role would give in a zone."""
        return self.grants((Post(role, zone),))

    def _resolve(self, posts: Iterable[tuple[str, str, str]]) -> tuple[Grant, ...]:
        rules = [[_HOLDER, role, domain(zone, organisation)] for role, zone, organisation in posts]
        if not rules:
            return ()
        found: dict[Grant, None] = {}
        self._enforcer.add_grouping_policies(rules)
        try:
            for zone, organisation in dict.fromkeys((zone, organisation) for _, zone, organisation in posts):
                permissions = self._enforcer.get_implicit_permissions_for_user(
                    _HOLDER, domain(zone, organisation), filter_policy_dom=False
                )
                for _, permission, scope in permissions:
                    # Only an organisation's scope depends on the organisation: without it equal grants become one.
                    within = organisation if scope == Scope.ORGANISATION else ""
                    found[Grant(permission, Scope(scope), zone, within)] = None
        finally:
            self._enforcer.remove_grouping_policies(rules)
            # Casbin keeps a copy of all links per domain that was ever asked about; this forgets them.
            self._enforcer.build_role_links()
        return tuple(found)

    def _add(self, role: Role) -> None:
        self._enforcer.add_policies([[role.id, grant.permission, grant.scope.value] for grant in role.grants])
        self._enforcer.add_grouping_policies([[role.id, inherited, ANYWHERE] for inherited in role.inherits])


def domain(zone: str, organisation: str) -> str:
    """Return the Casbin domain of a post."""
    return f"{zone}|{organisation}"


def _built_in(enforcer: casbin.Enforcer) -> dict[str, Role]:
    titles = tomllib.loads(TITLES_FILE.read_text())
    grants: dict[str, list[RoleGrant]] = {id_: [] for id_ in titles}
    inherits: dict[str, list[str]] = {id_: [] for id_ in titles}
    for role, permission, scope in enforcer.get_policy():
        grants[role].append(RoleGrant(permission, Scope(scope)))
    for role, inherited, _ in enforcer.get_grouping_policy():
        inherits[role].append(inherited)
    return {
        id_: Role(
            id_,
            Text(**title),
            tuple(sorted(grants[id_], key=grant_order)),
            tuple(sorted(inherits[id_])),
            built_in=True,
        )
        for id_, title in titles.items()
    }


def grant_order(grant: RoleGrant) -> tuple[str, str]:
    """Return what grants of a role are sorted by."""
    return (grant.permission, grant.scope.value)
