"""What a subject may do now: its posts and session from the database, its permissions through Casbin.

The tree of zones and the roles are kept in memory. Whether they are still right is asked in the same statement that
reads the posts, so that a right taken away by any replica is gone with its commit.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from libs.access import Grant, Grants
from libs.zone_directory import zone_record
from libs.zones import ZoneTree
from services.identity import messages, store_accounts, store_sessions, store_zones
from services.identity.model import SERVICES, Role, Zone, organisations_of
from services.identity.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from libs.db import Connection
    from libs.tx import Transactions
    from libs.zones import ZoneRecord


@dataclass(frozen=True, slots=True)
class Access:
    """What a subject may do. `active` is False when it is unknown or disabled or its session has ended."""

    active: bool
    grants: tuple[Grant, ...] = ()
    organisations: tuple[str, ...] = ()


class AccessResolver:
    """Answers for identity itself (as its libs.access.GrantSource) and, by ResolveAccess, for the other services."""

    def __init__(self, transactions: Transactions, root: str) -> None:
        """`root` is the code of the node's own zone."""
        self._transactions = transactions
        self._root = root
        self._refreshing = asyncio.Lock()
        self._records: Mapping[str, ZoneRecord] = {}
        self._tree = ZoneTree(root=root)
        self._policy = Policy()
        self._zones_version = 0
        self._roles_version = 0

    def tree(self) -> ZoneTree:
        """Return the zones as they were at the last question."""
        return self._tree

    @property
    def policy(self) -> Policy:
        """The roles as they were at the last question."""
        return self._policy

    async def grants(self, subject: str, session: str = "") -> Grants:
        """Return what `resolve` does, for checks in this process."""
        access = await self.resolve(subject, session)
        return Grants(subject, access.grants, self.tree, active=access.active, organisations=access.organisations)

    async def resolve(self, subject: str, session: str = "") -> Access:
        """Return what the subject may do; nothing for an ended session. An empty session is not asked about.

        Raises Away.
        """
        now = self._transactions.clock.now()
        found = await self._transactions.read(lambda conn: store_sessions.standing(conn, subject, session, now))
        await self._refresh(found.zones, found.roles)
        if subject.startswith(SERVICES):
            grants = self._policy.service_grants(subject.removeprefix(SERVICES))
            return Access(grants is not None, grants or ())
        if not found.known or found.disabled or not found.session_holds:
            return Access(active=False)
        return Access(True, self._policy.grants(found.posts), tuple(organisations_of(found.posts)))

    async def refresh(self) -> None:
        """Bring zones and roles up to date. Raises Away."""
        zones, roles = await self._transactions.read(store_sessions.versions)
        await self._refresh(zones, roles)

    async def _refresh(self, zones: int, roles: int) -> None:
        if zones <= self._zones_version and roles <= self._roles_version:
            return
        async with self._refreshing:
            if zones > self._zones_version or roles > self._roles_version:
                await self._load()

    async def _load(self) -> None:
        read = await self._transactions.read(self._read_changes)
        if read.zones_version > self._zones_version:
            # Thousands of vertices to check: in a thread, not while others wait for an answer.
            records = {**self._records, **await asyncio.to_thread(_records, read.zones)}
            self._tree = await asyncio.to_thread(partial(ZoneTree, records.values(), root=self._root))
            self._records, self._zones_version = records, read.zones_version
        if read.roles is not None:
            self._policy, self._roles_version = Policy(read.roles), read.roles_version

    async def _read_changes(self, conn: Connection) -> _Changes:
        zones_version, roles_version = await store_sessions.versions(conn)
        zones = await store_zones.zones_since(conn, self._zones_version)
        roles = await store_accounts.all_roles(conn) if roles_version > self._roles_version else None
        return _Changes(zones_version, roles_version, zones, roles)


@dataclass(frozen=True, slots=True)
class _Changes:
    """What is newer than what is in memory; `roles` are all of them, None when none changed."""

    zones_version: int
    roles_version: int
    zones: list[Zone]
    roles: list[Role] | None


def _records(zones: list[Zone]) -> dict[str, ZoneRecord]:
    return {zone.code: zone_record(messages.zone_message(zone)) for zone in zones}
