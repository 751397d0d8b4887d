"""What a report in words is made of, before it becomes a page or a PDF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from services.management.reports.model_chart import Chart


@dataclass(frozen=True, slots=True)
class Heading:
    """The title of a part."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence; a `small` one says how what stands before it was come by."""

    text: str
    small: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Cells in rows; the first row is the head, the first column names."""

    cells: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with the names of its colours."""

    chart: Chart
    legend: tuple[str, ...]


Part: TypeAlias = Heading | Note | Table | Figure
