"""What stretches of work have committed, to be held against the nodes later; whatever the answer to the commit was."""

from collections import Counter
from dataclasses import dataclass, field

from e2e.faults.federation import STATION_KEPT_CHARS

# The kinds of what flows: how the ledger and the reconciliation count it.
EVENTS, ROWS, REQUESTS, DIRECTIVES, TRANSFERS = "events", "rows", "requests", "directives", "transfers"
KINDS = (EVENTS, ROWS, REQUESTS, DIRECTIVES, TRANSFERS)
# How often each row is stated, with another value every time: the last one counts.
ROW_REVISIONS = 2
# A directive goes down, and its acknowledgement comes back.
DIRECTIVE_FACTS = 2


@dataclass(frozen=True, slots=True)
class TransferStep:
    """A step of a transfer. type is the name of the message that tells the other node.

    nth counts, from 1, the steps of this type that this node has taken in the life of the transfer.
    """

    transfer: str
    type: str
    node: str
    nth: int


@dataclass
class Ledger:
    """What one stretch of work has committed.

    events: the last number stated of each event; requests: those filed; rows: device and day with mean and station, as
    last stated; directives: name and title of those given; steps: of transfers. sent counts the single facts by kind.
    """

    events: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    rows: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)
    directives: dict[str, str] = field(default_factory=dict)
    steps: list[TransferStep] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Ledger") -> None:
        """Take in another stretch."""
        self.events |= other.events
        self.requests += other.requests
        self.rows |= other.rows
        self.directives |= other.directives
        self.steps += other.steps
        self.sent += other.sent

    @property
    def expected_rows(self) -> dict[tuple[str, str], dict[str, object]]:
        """What the contract makes of the rows, said here once more and not by the code that does it."""
        return {
            (device, day): {"device": device, "day": day, "mean": mean, "station": station[:STATION_KEPT_CHARS]}
            for (device, day), (mean, station) in self.rows.items()
        }
