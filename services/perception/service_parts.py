"""What every part of the servicer stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.tx import Transactions
    from libs.zones import ZoneTree
    from services.perception.ingest import Ingest

Context = Any


class Parts:
    """The dependencies of the methods. `zones` gives the present tree."""

    def __init__(self, transactions: Transactions, zones: Callable[[], ZoneTree], ingest: Ingest) -> None:
        self._transactions = transactions
        self._zones = zones
        self._ingest = ingest
