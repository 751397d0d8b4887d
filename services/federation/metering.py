"""What is counted under a contract: facts, rows, bytes and answered questions, per sender and UTC day. Pure.

The day is that of the fact's own time, which both ends read from the same bytes: so both count it on the same day.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from libs.fact_sums import DIGEST_MODULUS, id_digest, time_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quintet.fact.v1.fact_pb2 import Fact

FACT = 0
QUERY = 1
# How long the single entries are kept: a difference in an older day is still seen, but cannot be traced to its facts.
LEDGER_KEEP_DAYS = 35
# How long the figures of a day are kept, after the last change to them.
DAYS_KEEP_DAYS = 3 * 366
# A day is compared a while after it ended at its sender, and later at the receiver in case the sender did not.
SETTLE_AFTER_S = 3600
SETTLE_AFTER_RECEIVER_S = 4500
# What is counted on a day that was compared before is compared again after this time.
LATE_CHECK_S = 3600


class Entry(NamedTuple):
    """One fact or answer to be counted. `contract` is its name; `sender` is the node that sent or answered."""

    contract: str
    sender: str
    id: UUID
    time: datetime
    kind: int = FACT
    rows: int = 0
    bytes: int = 0
    lane: int = 0
    sequence: int = 0

    @property
    def day(self) -> date:
        """The UTC day on which it counts."""
        return self.time.date()


@dataclass(frozen=True)
class Figures:
    """What one end has counted. `digest` is the sum modulo 2^256 of SHA-256 of the ids of the facts and questions."""

    facts: int = 0
    rows: int = 0
    bytes: int = 0
    queries: int = 0
    query_rows: int = 0
    digest: int = 0


@dataclass
class Metered:
    """What one batch adds to the figures of a (contract, sender, day)."""

    facts: int = 0
    rows: int = 0
    bytes: int = 0
    queries: int = 0
    query_rows: int = 0
    digest: int = 0
    query_digest: int = 0
    newest: datetime | None = field(default=None)

    def add(self, entry: Entry) -> None:
        """Count an entry."""
        digest = id_digest(entry.id)
        self.digest = (self.digest + digest) % DIGEST_MODULUS
        if entry.kind == QUERY:
            self.query_digest = (self.query_digest + digest) % DIGEST_MODULUS
            self.queries += 1
            self.query_rows += entry.rows
            return
        self.facts += 1
        self.rows += entry.rows
        self.bytes += entry.bytes
        self.newest = entry.time if self.newest is None else max(self.newest, entry.time)


Place = tuple[str, str, date]


def entry_of(contract: str, sender: str, fact: Fact, rows: int) -> Entry:
    """Return the entry of a fact as it stands in an envelope. Raises ValueError for an id that is not a UUID."""
    return Entry(contract, sender, UUID(fact.id), time_of(fact.time), FACT, rows, len(fact.data))


def placed(entries: Iterable[Entry], first: int, lane: int) -> list[Entry]:
    """Return entries with the lane and the sequences that their envelopes were given, `first` and on."""
    return [entry._replace(lane=lane, sequence=sequence) for sequence, entry in enumerate(entries, start=first)]


def meter(entries: Iterable[Entry]) -> dict[Place, Metered]:
    """Return what entries add, by contract, sender and day."""
    found: dict[Place, Metered] = {}
    for entry in entries:
        found.setdefault((entry.contract, entry.sender, entry.day), Metered()).add(entry)
    return found


def first_check(day: date, *, own: bool) -> datetime:
    """Return when a day is first compared. `own` is true at the sender."""
    end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    return end + timedelta(seconds=SETTLE_AFTER_S if own else SETTLE_AFTER_RECEIVER_S)
