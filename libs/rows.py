"""Rows as they travel: a JSON array of arrays, one value per column. Pure."""

from __future__ import annotations

import json
import math
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from libs.canonical import EXACT_INTEGER_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from libs.canonical import JsonValue

# What a column may hold. bool stands on its own: in Python it is an int, in JSON it is not.
SCALARS = frozenset({str, int, float, bool, type(None)})

Row = list[Any]


def loads(data: bytes, width: int) -> list[Row]:
    """Return the rows. Raises ValueError when they are not an array of arrays of `width` values each."""
    rows = json.loads(data, parse_constant=_refuse)
    if not isinstance(rows, list) or not set(map(type, rows)) <= {list} or not set(map(len, rows)) <= {width}:
        raise ValueError(f"rows must be an array of arrays of {width} values")
    return rows


def dumps(rows: Iterable[Sequence[JsonValue]]) -> bytes:
    """Return the rows as they travel. Raises ValueError for infinity and for what is not JSON."""
    return json.dumps(list(rows), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def columns(rows: Sequence[Row], width: int) -> list[Sequence[Any]]:
    """Return the rows by column: `width` of them, also when there is no row."""
    # Not zip(*rows): an iterator for each row would be so much work for the garbage collector that it takes ten times.
    return [tuple(map(itemgetter(place), rows)) for place in range(width)]


def fault(column: Sequence[Any]) -> str:
    """Return what of a column's values cannot be kept as it is; "" when all can.

    Values are scalars, numbers are doubles, and texts are what PostgreSQL can hold.
    """
    kinds = set(map(type, column))
    if not kinds <= SCALARS:
        return "a value is neither text, number, truth value nor null"
    if float in kinds and not all(math.isfinite(value) for value in column if type(value) is float):
        return "a number is not finite"
    if int in kinds and any(abs(value) > EXACT_INTEGER_MAX for value in column if type(value) is int):
        return "a number is not exact as a double"
    if str in kinds and not _can_be_stored("".join(value for value in column if type(value) is str)):
        return "a text holds what cannot be stored"
    return ""


def _can_be_stored(text: str) -> bool:
    """Say whether it has neither NUL characters nor halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
