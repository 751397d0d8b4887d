"""How a value comes out of a row of a table: the small language of mapping files. Pure.

incident_address                                     what stands in a column
{columns: [category, type], join: " | "}             several columns, those that are not empty, joined
{column: district, values: {"1": d1, "*": city}}     by a table; keys may hold * and ?; the first that fits counts
{text: city}                                         always the same
[closed_date, {column: updated}]                     the first that gives a value
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from deploy.importing.document import Part

    Row = Mapping[str, str]

JOIN_DEFAULT = " | "
EXPRESSION_KEYS = ("column", "columns", "join", "values", "otherwise", "prefix", "text")


class Value(Protocol):
    """Reads one value of a row; "" where it has none."""

    def of(self, row: Row) -> str: ...


@dataclass(frozen=True, slots=True)
class Text:
    """Always the same."""

    text: str

    def of(self, row: Row) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class FirstOf:
    """The first that has a value."""

    values: tuple[Value, ...]

    def of(self, row: Row) -> str:
        return next((found for value in self.values if (found := value.of(row))), "")


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in one column or in several, looked up in a table if there is one.

    `table` holds patterns and what they stand for; `otherwise` is for what no pattern fits, None to leave it as it is.
    """

    columns: tuple[str, ...]
    join: str
    table: tuple[tuple[re.Pattern[str], str], ...]
    otherwise: str | None
    prefix: str

    def of(self, row: Row) -> str:
        # A joined key keeps empty places, so that patterns count on their position; free text does not.
        cells = [row[column] for column in self.columns]
        found = self.join.join(cells if self.table else [cell for cell in cells if cell])
        if self.table:
            found = next((to for pattern, to in self.table if pattern.fullmatch(found)), self._without(found))
        return f"{self.prefix}{found}" if found else ""

    def _without(self, found: str) -> str:
        return found if self.otherwise is None else self.otherwise


def read_value(part: Part, columns: Collection[str] | None = None) -> Value:
    """Read an expression; `columns` are those of the table, None while they are not known. Raises MappingError."""
    if part.is_text:
        return Cell((_column(part, columns),), JOIN_DEFAULT, (), None, "")
    if part.is_list:
        return FirstOf(tuple(read_value(item, columns) for item in part.items()))
    found = part.keys(EXPRESSION_KEYS)
    if "text" in found:
        if len(found) > 1:
            raise part.place.wrong("takes no other key beside text")
        return Text(found["text"].text())
    if ("column" in found) == ("columns" in found):
        raise part.place.wrong("needs one of column, columns or text")
    named = [found["column"]] if "column" in found else found["columns"].items()
    if not named:
        raise found["columns"].place.wrong("must name at least one column")
    table = found["values"].keys() if "values" in found else {}
    if "otherwise" in found and not table:
        raise found["otherwise"].place.wrong("needs values")
    return Cell(
        tuple(_column(each, columns) for each in named),
        found["join"].text() if "join" in found else JOIN_DEFAULT,
        tuple((re.compile(translate(key), re.IGNORECASE), to.text()) for key, to in table.items()),
        found["otherwise"].text() if "otherwise" in found else None,
        found["prefix"].text() if "prefix" in found else "",
    )


def _column(part: Part, columns: Collection[str] | None) -> str:
    name = part.text()
    if columns is not None and name not in columns:
        raise part.place.wrong(f"the table has no column {name!r}; it has {', '.join(columns)}")
    return name
