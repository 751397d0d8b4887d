"""Who is calling and what they may do: deny by default, decided from grants that identity resolves.

The server's interceptor checks the method's permission before the method runs. The method, knowing the row, narrows:

    missing = NotFound(Reason.EVENT_NOT_FOUND, name=name)
    current_caller().require(
        "management.events.read", zone=row.zone, organisation=row.handlers, owner=row.reporter, hide=missing
    )

and a list narrows in SQL with `caller.visibility(permission)`.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from libs.context import caller_subject
from libs.errors import Forbidden, NotFound, Reason
from libs.zones import ZoneTree

ANONYMOUS_SUBJECT = "anonymous"

_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_.]*")


class Kind(StrEnum):
    ANONYMOUS = "anonymous"  # no token, or on a public method one that does not hold
    PERSON = "person"  # a person or a service account: somebody from outside the node's services
    SERVICE = "service"  # a service of this node
    PEER = "peer"  # another node, on federation's own port


class Scope(StrEnum):
    ZONE = "zone"  # everything in the zone and below
    ORGANISATION = "organisation"  # what belongs to the organisation, in the zone and below
    OWN = "own"  # what the caller filed or owns, in the zone and below


@dataclass(frozen=True, slots=True)
class Grant:
    """One permission in one zone. An empty zone, and the node's own zone, mean everything that the node holds."""

    permission: str
    scope: Scope
    zone: str = ""
    organisation: str = ""


@dataclass(frozen=True, slots=True)
class Visibility:
    """The rows that a caller may see, for the WHERE of a list.

    everything: no narrowing. zones: rows in these zones. organisation_zones: (organisation, zone) pairs. owner_zones:
    rows in these zones that belong to `owner`; with `owner_everywhere` rows of theirs in any zone.
    """

    everything: bool = False
    zones: tuple[str, ...] = ()
    organisation_everywhere: tuple[str, ...] = ()
    organisation_zones: tuple[tuple[str, str], ...] = ()
    owner: str = ""
    owner_everywhere: bool = False
    owner_zones: tuple[str, ...] = ()

    def clause(
        self, first: int, *, zone: str = "zone", organisation: str = "", owner: str = ""
    ) -> tuple[str, list[object]]:
        """Return an SQL condition and its parameters, numbered from $`first`.

        `zone`, `organisation` and `owner` are column expressions. `organisation` may be a text[] column, written
        "handlers[]". A column that is not given lets no row pass by that scope.
        """
        if self.everything:
            return "TRUE", []
        conditions: list[str] = []
        values: list[object] = []

        def parameter(value: object) -> str:
            values.append(value)
            return f"${first + len(values) - 1}"

        zone = _column(zone)
        if self.zones:
            conditions.append(f"{zone} = ANY({parameter(list(self.zones))}::text[])")
        if organisation and self.organisation_everywhere:
            conditions.append(f"{_holds(organisation, parameter(list(self.organisation_everywhere)))}")
        if organisation and self.organisation_zones:
            names, zones = (parameter(list(column)) for column in zip(*self.organisation_zones, strict=True))
            column = _column(organisation.removesuffix("[]"))
            equal = f"g.o = ANY({column})" if organisation.endswith("[]") else f"g.o = {column}"
            pairs = f"unnest({names}::text[], {zones}::text[]) AS g(o, z)"
            conditions.append(f"EXISTS (SELECT FROM {pairs} WHERE {equal} AND g.z = {zone})")
        if owner and self.owner_everywhere:
            conditions.append(f"{_column(owner)} = {parameter(self.owner)}")
        elif owner and self.owner_zones:
            mine = f"{_column(owner)} = {parameter(self.owner)}"
            conditions.append(f"({mine} AND {zone} = ANY({parameter(list(self.owner_zones))}::text[]))")
        return (f"({' OR '.join(conditions)})" if conditions else "FALSE"), values


def _column(expression: str) -> str:
    if not _IDENTIFIER.fullmatch(expression):
        raise ValueError(f"not a column: {expression!r}")
    return expression


def _holds(organisation: str, names: str) -> str:
    column = _column(organisation.removesuffix("[]"))
    return f"{column} && {names}::text[]" if organisation.endswith("[]") else f"{column} = ANY({names}::text[])"


class Grants:
    """All that one subject may do, against the zones as they are at the moment of the question."""

    def __init__(
        self,
        subject: str,
        grants: Collection[Grant],
        tree: Callable[[], ZoneTree],
        *,
        active: bool = True,
        organisations: Collection[str] = (),
    ) -> None:
        """`active` is False when the subject is unknown or disabled or its session ended; it then may do nothing."""
        self.subject = subject
        self.active = active
        self.organisations = frozenset(organisations)
        self._tree = tree
        self._by_permission: dict[str, list[Grant]] = {}
        for grant in grants if active else ():
            self._by_permission.setdefault(grant.permission, []).append(grant)

    def __iter__(self) -> Iterator[Grant]:
        return (grant for grants in self._by_permission.values() for grant in grants)

    def holds(self, permission: str, zone: str = "") -> bool:
        """Say whether the permission is held in some scope, in the zone when one is given: the check before a method.

        What it lets pass by an organisation's or the caller's own scope, the method must narrow with `allows`.
        """
        grants = self._by_permission.get(permission, ())
        return any(not zone or self._reaches(grant, zone) for grant in grants)

    def allows(
        self,
        permission: str,
        zone: str = "",
        organisation: str | Collection[str] = (),
        owner: str = "",
    ) -> bool:
        """Say whether the permission holds for one resource: its zone, organisation(s) and owner.

        A scope that needs something not given does not hold: without a zone only node-wide grants count.
        """
        organisations = (organisation,) if isinstance(organisation, str) else organisation
        for grant in self._by_permission.get(permission, ()):
            if not self._reaches(grant, zone):
                continue
            if grant.scope is Scope.ZONE:
                return True
            if grant.scope is Scope.ORGANISATION and grant.organisation and grant.organisation in organisations:
                return True
            if grant.scope is Scope.OWN and owner and owner == self.subject:
                return True
        return False

    def visibility(self, permission: str) -> Visibility:
        """Return which rows `allows` would let pass."""
        tree = self._tree()
        zones: dict[str, None] = {}
        organisations: dict[str, None] = {}
        pairs: dict[tuple[str, str], None] = {}
        own: dict[str, None] = {}
        own_everywhere = False
        for grant in self._by_permission.get(permission, ()):
            everywhere = self._everywhere(grant)
            below = () if everywhere else tree.codes(grant.zone)
            if grant.scope is Scope.ZONE and everywhere:
                return Visibility(everything=True)
            if grant.scope is Scope.ZONE:
                zones.update(dict.fromkeys(below))
            elif grant.scope is Scope.ORGANISATION and grant.organisation and everywhere:
                organisations[grant.organisation] = None
            elif grant.scope is Scope.ORGANISATION and grant.organisation:
                pairs.update(dict.fromkeys((grant.organisation, code) for code in below))
            elif grant.scope is Scope.OWN:
                own_everywhere = own_everywhere or everywhere
                own.update(dict.fromkeys(below))
        return Visibility(
            False, tuple(zones), tuple(organisations), tuple(pairs), self.subject, own_everywhere, tuple(own)
        )

    def _everywhere(self, grant: Grant) -> bool:
        return not grant.zone or grant.zone == self._tree().root

    def _reaches(self, grant: Grant, zone: str) -> bool:
        return self._everywhere(grant) or (zone != "" and self._tree().covers(grant.zone, zone))


class GrantSource(Protocol):
    """Where grants come from: identity's own store, or identity asked over the wire (libs.remote_grants)."""

    async def grants(self, subject: str, session: str = "") -> Grants:
        """Return the grants of a subject; for an ended `session` inactive ones. Raises Away when they cannot be had."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `token` is what they authenticated with, to be forwarded on their behalf; never log it."""

    subject: str
    kind: Kind
    grants: Grants
    token: str = field(default="", repr=False)
    session: str = ""

    def allows(
        self, permission: str, zone: str = "", organisation: str | Collection[str] = (), owner: str = ""
    ) -> bool:
        return self.grants.allows(permission, zone, organisation, owner)

    def require(
        self,
        permission: str,
        *,
        zone: str = "",
        organisation: str | Collection[str] = (),
        owner: str = "",
        hide: NotFound | None = None,
    ) -> None:
        """Raise Forbidden unless the permission holds for this resource (see Grants.allows).

        Where even the existence of the resource is secret pass as `hide` the very error that its absence would raise,
        so that the two cannot be told apart.
        """
        if self.grants.allows(permission, zone, organisation, owner):
            return
        if hide is not None:
            raise hide
        where = f" in {zone}" if zone else ""
        raise Forbidden(Reason.NOT_PERMITTED, f"{permission} is not granted{where}", permission=permission, zone=zone)

    def visibility(self, permission: str) -> Visibility:
        return self.grants.visibility(permission)


def _no_zones() -> ZoneTree:
    return ZoneTree(root="")


ANONYMOUS = Caller(ANONYMOUS_SUBJECT, Kind.ANONYMOUS, Grants(ANONYMOUS_SUBJECT, (), _no_zones))

_caller: ContextVar[Caller] = ContextVar("caller", default=ANONYMOUS)
_renewal: ContextVar[Callable[[], Awaitable[Caller]] | None] = ContextVar("renewal", default=None)


def current_caller() -> Caller:
    """Return who the present call or task acts for; the anonymous caller, who may do nothing, when nobody is set."""
    return _caller.get()


def set_caller(caller: Caller) -> None:
    """Make `caller` the one of the present task and of all it starts."""
    _caller.set(caller)
    caller_subject.set(caller.subject)


def set_renewal(renew: Callable[[], Awaitable[Caller]]) -> None:
    """Say how the caller of the present stream is settled anew."""
    _renewal.set(renew)


async def renewed_caller() -> Caller:
    """Settle again who the present stream acts for, and what they may do by now; make that the current caller.

    For methods that go on after the moment at which the call was let in. Raises Unauthenticated when the token or the
    session has ended, Forbidden when the right to call the method has, Away when nobody can say.
    """
    renew = _renewal.get()
    if renew is not None:
        set_caller(await renew())
    return current_caller()


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    """Run a block for `caller`; what the block starts as tasks stays with them."""
    before, subject = _caller.set(caller), caller_subject.set(caller.subject)
    try:
        yield
    finally:
        _caller.reset(before)
        caller_subject.reset(subject)
