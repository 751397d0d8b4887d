"""Which rows of a product a contract gives: by a time and by values of the rows. Pure, for both ends.

The zones of a filter are not looked at here: they are those of the fact that carries the rows.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from libs import rows as blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.canonical import JsonValue
    from quintet.sharing.v1.sharing_pb2 import RowFilter

DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})")


def time_of(value: JsonValue) -> datetime | None:
    """Return when an RFC 3339 time is, or an ISO 8601 date begins in UTC; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        if DATE.fullmatch(value):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        if TIME.fullmatch(value):
            return datetime.fromisoformat(value.upper())
    except ValueError:
        pass
    return None


def fields_of(row_filter: RowFilter) -> list[str]:
    """Return the fields that a row must have to be judged."""
    timed = row_filter.HasField("not_before") or row_filter.HasField("before")
    return [*([row_filter.time_field] if timed else []), *sorted(row_filter.where)]


def chosen(names: Sequence[str], rows: Sequence[blocks.Row], row_filter: RowFilter) -> Sequence[blocks.Row]:
    """Return the rows, whose columns are `names`, that pass. Raises KeyError for a field that they lack."""
    needed = fields_of(row_filter)
    if not needed or not rows:
        return rows
    places = {name: place for place, name in enumerate(names)}
    columns = blocks.columns(rows, len(names))
    passing: list[bool] = [True] * len(rows)
    for name in needed:
        column = columns[places[name]]
        if name in row_filter.where:
            passing = [
                kept and equal(value, row_filter.where[name]) for kept, value in zip(passing, column, strict=True)
            ]
        if name == row_filter.time_field:
            passing = [kept and in_time(value, row_filter) for kept, value in zip(passing, column, strict=True)]
    return [row for row, kept in zip(rows, passing, strict=True) if kept]


def in_time(value: Any, row_filter: RowFilter) -> bool:
    """Say whether a value of the time field is within the limits; what is no time is not."""
    time = time_of(value)
    if time is None:
        return False
    begun = not row_filter.HasField("not_before") or row_filter.not_before.ToDatetime(UTC) <= time
    return begun and (not row_filter.HasField("before") or time < row_filter.before.ToDatetime(UTC))


def equal(value: Any, text: str) -> bool:
    """Say whether a value is equal to a text: true and false by their names, a number by its value."""
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    if isinstance(value, int | float):
        try:
            return float(text) == value
        except ValueError:
            return False
    return isinstance(value, str) and value == text
