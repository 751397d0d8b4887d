"""What the methods about scorecards share: the scorecard that a request is about, and whose scores a caller may see."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from libs.access import current_caller
from libs.errors import NotFound, Reason
from services.management.performance import store_cards
from services.management.performance.making import definition_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from libs.access import Caller
    from libs.db import Connection
    from libs.tx import Transactions
    from libs.zones import ZoneTree
    from services.management.performance.making import Maker
    from services.management.performance.model_scorecard import Card, Definition, Version

RIGHT = "management.scorecards"
READ, WRITE, PUBLISH = f"{RIGHT}.read", f"{RIGHT}.write", f"{RIGHT}.publish"
APPEAL, DECIDE = f"{RIGHT}.appeal", f"{RIGHT}.decide"


class Shown(NamedTuple):
    """A version of a scorecard as a caller may see it: whole, or the scores of `organisations` alone."""

    card: Card
    version: Version
    definition: Definition
    organisations: tuple[str, ...] | None


class CardMethods:
    """Methods about scorecards; the servicer is made of several of these."""

    def __init__(self, transactions: Transactions, zones: Callable[[], ZoneTree], maker: Maker) -> None:
        """`zones` gives the zones as they are at the moment of the question."""
        self._transactions = transactions
        self._zones = zones
        self._maker = maker

    def _organisations(self, caller: Caller, permission: str, card: Card) -> frozenset[str]:
        """Return the organisations for which a caller holds a permission in some part of the scorecard's zone."""
        visible = caller.visibility(permission)
        codes = frozenset(self._zones().codes(card.zone))
        here = (organisation for organisation, zone in visible.organisation_zones if zone in codes)
        return frozenset((*visible.organisation_everywhere, *here))

    def _drafts(self, caller: Caller, zone: str) -> bool:
        return caller.allows(WRITE, zone=zone) or caller.allows(PUBLISH, zone=zone)

    async def _shown(self, conn: Connection, name: str, number: int) -> Shown:
        """Return a version that the caller may see, the latest such for 0.

        Raises NotFound also for what the caller may not see.
        """
        caller = current_caller()
        card = await store_cards.get(conn, name)
        if card is None:
            raise missing(name)
        version = await store_cards.version(conn, card, number, drafts=self._drafts(caller, card.zone))
        if version is None:
            raise missing(name)
        organisations: Sequence[str] | None = None
        if not caller.allows(READ, zone=card.zone):
            theirs = self._organisations(caller, READ, card)
            organisations = [each for each in await store_cards.organisations(conn, version.id) if each in theirs]
            if not organisations:
                raise missing(name)
        definition = await definition_of(conn, card.definition, card.definition_version)
        return Shown(card, version, definition, None if organisations is None else tuple(organisations))


def missing(name: str) -> NotFound:
    """Return what is said of a scorecard that does not exist, or is not for the caller."""
    return NotFound(Reason.SCORECARD_NOT_FOUND, f"{name} does not exist", name=name)
