"""What the methods of the service share: what they are given, and the event that a request is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from libs.access import current_caller
from libs.errors import NotFound, Reason, Stale, WrongState
from services.management import store_events
from services.management.authority import authority

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

    from libs.access import Caller
    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.management.catalogue.book import LoopBook
    from services.management.deadlines.book import Book
    from services.management.intake import Intake
    from services.management.model import Event

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

READ = "management.events.read"


class Methods:
    """Methods of one resource; the servicer is made of several of these."""

    def __init__(
        self,
        transactions: Transactions,
        loops: LoopBook,
        zones: Callable[[], ZoneTree],
        intake: Intake,
        book: Book,
    ) -> None:
        """`zones` gives the zones as they are at the moment of the question."""
        self._transactions = transactions
        self._loops = loops
        self._zones = zones
        self._intake = intake
        self._book = book

    async def _zone_of_ours(self, conn: Connection, zone: str) -> str:
        """Return the present code of a zone that this node handles.

        Raises NotFound for a zone that it does not know, WrongState for one that another node handles.
        """
        tree = self._zones()
        code = tree.canonical(zone)
        who = await authority(conn, tree, code)
        if not who.known:
            raise NotFound(Reason.ZONE_NOT_FOUND, f"zones/{zone} is not known here", zone=zone)
        if not who.ours:
            text = f"zones/{zone} is handled by another node"
            raise WrongState(Reason.ZONE_DELEGATED, text, zone=zone, node=who.node)
        return code

    async def _lock_own(self, tx: Tx, name: str, permission: str) -> tuple[Event, Caller]:
        """Return an event of this node, locked until the end of the transaction, and the caller who may touch it.

        Raises NotFound; Forbidden without `permission` for its zone and organisation; WrongState when another node
        handles it.
        """
        event = await store_events.lock(tx.conn, name)
        if event is None:
            raise missing(name)
        return event, self._may(event, permission)

    async def _own(self, tx: Tx, name: str, permission: str) -> tuple[Event, list[str], Caller]:
        """The same without the lock, with the requests that the event stands for: for `store_events.write`."""
        found = await store_events.get(tx.conn, name)
        if found is None:
            raise missing(name)
        return *found, self._may(found[0], permission)

    def _may(self, event: Event, permission: str) -> Caller:
        caller = current_caller()
        caller.require(permission, zone=event.zone, organisation=event.organisation)
        self._check_ours(event)
        return caller

    def _check_ours(self, event: Event) -> None:
        """Raise WrongState when another node handles the event."""
        if event.node != self._transactions.node:
            text = f"{event.name} is handled by node {event.node}"
            raise WrongState(Reason.NOT_AUTHORITATIVE, text, name=event.name, node=event.node)


def missing(name: str) -> NotFound:
    """Return what is said of an event that does not exist."""
    return NotFound(Reason.EVENT_NOT_FOUND, f"{name} does not exist", name=name)


def check_etag(event: Event, etag: int) -> None:
    """Raise Stale when the caller has seen another revision than the present one; 0 asks for no check."""
    if etag and etag != event.revision:
        text = f"{event.name} is at revision {event.revision}, not {etag}"
        raise Stale(Reason.ETAG_STALE, text, name=event.name, etag=str(event.revision))
