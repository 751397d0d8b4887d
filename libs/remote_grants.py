"""The grants of callers as identity resolves them, kept for a while and dropped when identity says they changed."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass

import structlog

from libs.access import Grant, Grants, Scope
from libs.errors import Away, TooLate
from libs.zones import ZoneTree
from quintet.identity.v1 import directory_pb2, identity_pb2
from quintet.identity.v1.identity_pb2_grpc import IdentityServiceStub

GRANTS_FRESH_S = 60.0
GRANTS_STALE_MAX_S = 600.0  # how long they count while identity is away
GRANTS_RETRY_S = 2.0  # while identity is away it is asked again at most this often per subject
GRANTS_CACHE_MAX = 20_000

_SCOPES = {
    directory_pb2.SCOPE_ZONE: Scope.ZONE,
    directory_pb2.SCOPE_ORGANISATION: Scope.ORGANISATION,
    directory_pb2.SCOPE_OWN: Scope.OWN,
}

log = structlog.get_logger()

Key = tuple[str, str]


@dataclass(slots=True)
class _Entry:
    grants: Grants
    resolved_at: float
    ask_again_at: float


class RemoteGrants:
    """A libs.access.GrantSource over identity's ResolveAccess."""

    def __init__(
        self, stub: IdentityServiceStub, tree: Callable[[], ZoneTree], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stub = stub
        self._tree = tree
        self._clock = clock
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._asking: dict[Key, asyncio.Task[Grants]] = {}
        self._changes = 0

    async def grants(self, subject: str, session: str = "") -> Grants:
        """Return the grants of a subject in a session ("" for services). Raises Away when they cannot be had."""
        key = (subject, session)
        entry = self._entries.get(key)
        now = self._clock()
        if entry is not None and now < entry.ask_again_at:
            self._entries.move_to_end(key)
            return entry.grants
        try:
            return await self._ask_once(key)
        except (Away, TooLate):
            if entry is None or key not in self._entries or now - entry.resolved_at > GRANTS_STALE_MAX_S:
                raise
            entry.ask_again_at = now + GRANTS_RETRY_S
            log.warning("grants.stale", subject=subject, age_s=round(now - entry.resolved_at))
            return entry.grants

    def changed(self, subject: str = "") -> None:
        """Drop what is kept of a subject, of everybody for "": it is known to be wrong."""
        self._changes += 1
        if subject:
            for key in [key for key in self._entries if key[0] == subject]:
                del self._entries[key]
        else:
            self._entries.clear()

    def doubt(self) -> None:
        """Ask again before using anything kept: it may be wrong. It still counts when identity is away."""
        self._changes += 1
        for entry in self._entries.values():
            entry.ask_again_at = 0.0

    async def _ask_once(self, key: Key) -> Grants:
        """Let all who ask for the same at the same time share one question."""
        task = self._asking.get(key)
        if task is None:
            # In a context of its own: it must not end with the deadline of the call that happened to ask first.
            task = asyncio.get_running_loop().create_task(self._ask(key), context=Context())
            self._asking[key] = task
            task.add_done_callback(lambda done: self._answered(key, done))
        return await asyncio.shield(task)

    def _answered(self, key: Key, task: "asyncio.Task[Grants]") -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # seen: whoever still waits raises it

    async def _ask(self, key: Key) -> Grants:
        changes = self._changes
        subject, session = key
        response = await self._stub.ResolveAccess(identity_pb2.ResolveAccessRequest(subject=subject, session=session))
        grants = grants_of(subject, response, self._tree)
        if changes == self._changes:  # else the answer may be from before the change
            now = self._clock()
            self._entries[key] = _Entry(grants, now, now + GRANTS_FRESH_S)
            self._entries.move_to_end(key)
            if len(self._entries) > GRANTS_CACHE_MAX:
                self._entries.popitem(last=False)
        return grants


def grants_of(subject: str, response: identity_pb2.ResolveAccessResponse, tree: Callable[[], ZoneTree]) -> Grants:
    """Return identity's answer as Grants. A scope that this version does not know gives nothing."""
    known = [
        Grant(grant.permission, _SCOPES[grant.scope], grant.zone, grant.organisation)
        for grant in response.grants
        if grant.scope in _SCOPES
    ]
    return Grants(subject, known, tree, active=response.active, organisations=response.organisations)
