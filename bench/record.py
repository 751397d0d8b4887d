"""What a benchmark says: one line of JSON, with the median of several runs."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import cpu_count
from pathlib import Path
from statistics import median, quantiles

RUNS = 5
RESULTS = Path("build/bench")


@dataclass(frozen=True)
class Measured:
    """One benchmark. `value` is the median of its runs in `unit`; `limit` is the aim.

    `better` is "lower" or "higher". `ratio` is value / limit, or what `details["ratio_of"]` says. `details` hold the
    single runs and whatever else explains the value.
    """

    name: str
    value: float
    unit: str
    limit: float
    better: str
    ratio: float
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the aim is reached."""
        return self.value <= self.limit if self.better == "lower" else self.value >= self.limit

    def line(self) -> str:
        """Return the line of JSON."""
        found = {
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "limit": self.limit,
            "ratio": rounded(self.ratio),
            "met": self.met,
            **self.details,
            "machine": f"{cpu_count()} CPUs, {platform.machine()}, Linux {platform.release()}",
        }
        return json.dumps(found, ensure_ascii=False)

    def write(self, folder: Path = RESULTS) -> None:
        """Keep the line beside those of other benchmarks."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.json").write_text(self.line() + "\n")


def rounded(value: float) -> float:
    """Return a figure with four significant digits."""
    return float(f"{value:.4g}")


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return float(median(values))


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile, 1 to 99, of at least two values."""
    return float(quantiles(values, n=100, method="inclusive")[percent - 1])
