"""The figures of a reconciliation, by kind of what flows."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from e2e.faults.ledger import Ledger

SHOWN_MAX = 5


@dataclass(slots=True)
class Tally:
    """Of one kind: single facts that were sent and applied, and what is wrong with the others."""

    sent: int = 0
    applied: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0

    def add(self, other: "Tally") -> None:
        """Count another one's facts, too."""
        self.sent += other.sent
        self.applied += other.applied
        self.lost += other.lost
        self.doubled += other.doubled
        self.disordered += other.disordered

    @property
    def good(self) -> bool:
        """All was applied, once, in order."""
        return self.sent == self.applied and self.lost == self.doubled == self.disordered == 0


@dataclass
class Verdict:
    """The figures of one reconciliation. faults says in words what is wrong; empty when everything holds."""

    kinds: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    faults: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, ledger: Ledger) -> "Verdict":
        """Nothing found yet of what the ledger says was sent."""
        verdict = cls()
        for kind, sent in ledger.sent.items():
            verdict.kinds[kind].sent = sent
        return verdict

    @property
    def total(self) -> Tally:
        """All kinds together."""
        total = Tally()
        for tally in self.kinds.values():
            total.add(tally)
        return total

    @property
    def ok(self) -> bool:
        return not self.faults and all(tally.good for tally in self.kinds.values())

    def note(self, what: str, names: Sequence[object]) -> int:
        """Note a fault about these, if there are any; return how many."""
        if names:
            more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
            self.faults.append(f"{what}: {', '.join(str(name) for name in names[:SHOWN_MAX])}{more}")
        return len(names)
