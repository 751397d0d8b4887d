"""What the faults came to, scenario by scenario: a table at the end of the run, and JSON for machines."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from demo.settings import ROOT
from e2e.faults.reconcile import Verdict

PATH = ROOT / "build" / "faults" / "report.json"
COLUMNS = ("scenario", "rounds", "sent", "applied", "lost", "doubled", "disordered", "seconds")


@dataclass(slots=True)
class Line:
    """One scenario; the figures of its rounds are added up."""

    scenario: str
    rounds: int = 0
    sent: int = 0
    applied: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    seconds: float = 0.0

    def add(self, verdict: Verdict, seconds: float) -> None:
        """Count one more reconciliation."""
        self.rounds += 1
        self.sent += verdict.sent
        self.applied += verdict.applied
        self.lost += verdict.lost
        self.doubled += verdict.doubled
        self.disordered += verdict.disordered
        self.seconds = round(self.seconds + seconds, 1)


@dataclass
class Report:
    """All scenarios of a run. seed is what its chances came from."""

    seed: int
    lines: dict[str, Line] = field(default_factory=dict)

    def add(self, scenario: str, verdict: Verdict, seconds: float) -> None:
        self.lines.setdefault(scenario, Line(scenario)).add(verdict, seconds)

    def table(self) -> list[str]:
        """The lines as text, under their headings, with a sum."""
        total = Line("all")
        for line in self.lines.values():
            for name in COLUMNS[1:]:
                setattr(total, name, round(getattr(total, name) + getattr(line, name), 1))
        rows = [COLUMNS, *(tuple(str(getattr(line, name)) for name in COLUMNS) for line in self._all(total))]
        widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
        return [
            "  ".join(
                cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(pairs)
            )
            for pairs in (zip(row, widths, strict=True) for row in rows)
        ]

    def _all(self, total: Line) -> list[Line]:
        return [*self.lines.values(), total]

    def write(self, path: Path = PATH) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"seed": self.seed, "scenarios": [asdict(line) for line in self.lines.values()]}
        path.write_text(json.dumps(content, indent=1) + "\n")
