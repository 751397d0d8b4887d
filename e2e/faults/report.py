"""What the faults came to, scenario by scenario: a table at the end of the run, and JSON for machines."""

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path

from demo.settings import ROOT
from e2e.faults.ledger import KINDS
from e2e.faults.verdict import Tally, Verdict

PATH = ROOT / "build" / "faults" / "report.json"
COLUMNS = ("scenario", "rounds", "sent", "applied", "lost", "doubled", "disordered", "seconds")
KIND_COLUMNS = ("kind", "sent", "applied", "lost", "doubled", "disordered")


@dataclass(slots=True)
class Line:
    """One scenario; the figures of its rounds are added up. failed says how often one did not hold."""

    scenario: str
    rounds: int = 0
    failed: int = 0
    seconds: float = 0.0
    kinds: dict[str, Tally] = field(default_factory=lambda: {kind: Tally() for kind in KINDS})

    def add(self, verdict: Verdict, seconds: float) -> None:
        """Count one more reconciliation."""
        self.rounds += 1
        self.failed += not verdict.ok
        self.seconds = round(self.seconds + seconds, 1)
        for kind, tally in verdict.kinds.items():
            self.kinds[kind].add(tally)

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of COLUMNS."""
        total = Tally()
        for tally in self.kinds.values():
            total.add(tally)
        name = f"FAILED {self.scenario}" if self.failed else self.scenario
        return name, str(self.rounds), *_figures(total), f"{self.seconds:.1f}"


@dataclass
class Report:
    """All scenarios of a run. seed is what its chances came from."""

    seed: int
    lines: dict[str, Line] = field(default_factory=dict)

    def add(self, scenario: str, verdict: Verdict, seconds: float) -> None:
        self.lines.setdefault(scenario, Line(scenario)).add(verdict, seconds)

    def table(self) -> list[str]:
        """Scenario by scenario, with a sum; then the same sum by kind of what was sent."""
        total = Line("all")
        for line in self.lines.values():
            total.rounds += line.rounds
            total.seconds += line.seconds
            for kind, tally in line.kinds.items():
                total.kinds[kind].add(tally)
        kinds = [(kind, *_figures(total.kinds[kind])) for kind in KINDS]
        scenarios = [line.cells() for line in (*self.lines.values(), total)]
        return [*_aligned([COLUMNS, *scenarios]), "", *_aligned([KIND_COLUMNS, *kinds])]

    def write(self, path: Path = PATH) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"seed": self.seed, "scenarios": [asdict(line) for line in self.lines.values()]}
        path.write_text(json.dumps(content, indent=1) + "\n")


def _figures(tally: Tally) -> tuple[str, ...]:
    return tuple(str(figure) for figure in astuple(tally))


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The first column to the left, figures to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
