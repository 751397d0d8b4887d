"""What a contract leaves of a row: the fields it names, each as it is, masked or dropped. Pure, for both ends.

Fields that the terms do not name never pass, and a masking that is not understood leaves null.
"""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from libs import canonical
from libs import rows as blocks
from libs.canonical import EXACT_INTEGER_MAX
from quintet.sharing.v1.sharing_pb2 import (
    MASKING_DROP,
    MASKING_GENERALISE,
    MASKING_HASH,
    MASKING_TRUNCATE,
    MASKING_UNSPECIFIED,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from libs.canonical import JsonValue
    from quintet.sharing.v1.sharing_pb2 import FieldTerms

_HASH = re.compile(r"[0-9a-f]{64}")
# An ISO 8601 date, or an RFC 3339 time: year, month, day, hour, and the offset from UTC.
_TIME = re.compile(
    r"(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"(?:[Tt ]([01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?([Zz]|[+-]\d\d:\d\d))?"
)
_UNITS = ("year", "month", "day", "hour")


def given(fields: Iterable[FieldTerms]) -> dict[str, FieldTerms]:
    """Return the terms of the fields that are given, by name. Of several for one MASKING_DROP wins, else the last."""
    fields = list(fields)
    dropped = {terms.field for terms in fields if terms.masking == MASKING_DROP}
    return {terms.field: terms for terms in fields if terms.field not in dropped}


def subjects(rows: Iterable[Mapping[str, JsonValue]], fields: Sequence[str]) -> list[str]:
    """Return which persons rows are about: one value for each of the fields of each row, unless it is null or empty."""
    values = (row.get(name) for row in rows for name in fields)
    return [subject(value) for value in values if value is not None and value != ""]


def subject(value: JsonValue) -> str:
    """Return who a value names, in the form in which people ask for it: a text as it is, a number as JSON."""
    return value if isinstance(value, str) else canonical.dumps(value).decode()


def project_row(row: Mapping[str, JsonValue], fields: Sequence[FieldTerms], salt: bytes) -> dict[str, JsonValue]:
    """Return the fields of `row` that the terms give, masked as they say. `salt` is the contract's, for MASKING_HASH.

    A field that the row does not have is left out. Raises ValueError for a number that JSON cannot hold.
    """
    return {name: mask(row[name], terms, salt) for name, terms in given(fields).items() if name in row}


def project_block(
    names: Sequence[str], rows: Sequence[blocks.Row], fields: Sequence[FieldTerms], salt: bytes
) -> tuple[list[str], list[tuple[JsonValue, ...]]]:
    """Return `project_row` of many rows, whose columns are `names`: the columns that are left, and their rows."""
    places = {name: place for place, name in enumerate(names)}
    kept = {name: terms for name, terms in given(fields).items() if name in places}
    columns = blocks.columns(rows, len(names))
    masked = [mask_column(columns[places[name]], terms, salt) for name, terms in kept.items()]
    return list(kept), list(zip(*masked, strict=True)) if masked else [() for _ in rows]


def mask_column(column: Sequence[JsonValue], terms: FieldTerms, salt: bytes) -> Sequence[JsonValue]:
    """Return `mask` of each value."""
    if terms.masking == MASKING_UNSPECIFIED:
        return column
    masked = _masker(terms, salt)
    return [None if value is None else masked(value) for value in column]


def mask(value: JsonValue, terms: FieldTerms, salt: bytes) -> JsonValue:
    """Return the masked value; null stays null. A masking that does not apply to the value, or is unknown, gives null.

    MASKING_HASH gives SHA-256 of the salt and the value's canonical JSON (RFC 8785) in UTF-8, in hex: equal values of
    one contract stay equal, and 5 and 5.0 are one value. MASKING_TRUNCATE keeps the first `keep` characters of a text,
    or the first `keep` significant digits of a number. MASKING_GENERALISE gives the lower end of a number's step, or
    the first moment of the `unit` that a date or time is in, by its own offset from UTC.
    """
    return mask_column((value,), terms, salt)[0]


def impossible(column: Sequence[JsonValue], terms: FieldTerms) -> bool:
    """Say whether a column holds a value that the masking cannot have given, whatever was masked."""
    if terms.masking == MASKING_HASH:
        return not all(value is None or (isinstance(value, str) and _HASH.fullmatch(value)) for value in column)
    # The others leave as it is what they have masked before.
    return list(mask_column(column, terms, b"")) != list(column)


def from_struct(row: Struct) -> dict[str, JsonValue]:
    """Return the row as JSON; all its numbers are doubles. Raises ValueError for infinity and not-a-number."""
    found: dict[str, JsonValue] = MessageToDict(row)
    return found


def to_struct(row: Mapping[str, JsonValue]) -> Struct:
    """Return the row as it stands in answers. Integers beyond 2^53 - 1, which doubles round, become text."""
    struct = Struct()
    struct.update({name: canonical.storable(value) for name, value in row.items()})
    return struct


def _masker(terms: FieldTerms, salt: bytes) -> Callable[[Any], JsonValue]:
    """Return what the masking does to values other than null."""
    if terms.masking == MASKING_HASH:
        return _hasher(salt)
    if terms.masking == MASKING_TRUNCATE:
        keep = terms.keep
        return lambda value: _truncated(value, keep)
    if terms.masking == MASKING_GENERALISE:
        step, unit = Decimal(repr(terms.step)) if terms.step > 0 else None, terms.unit
        return lambda value: _generalised(value, step, unit)
    return lambda _: None


def _hasher(salt: bytes) -> Callable[[Any], JsonValue]:
    salted = hashlib.sha256(salt)

    def hashed(value: Any) -> JsonValue:
        digest = salted.copy()
        # Texts are most of what is hashed, and their canonical form is what the standard library makes of them.
        digest.update(encode_basestring(value).encode() if type(value) is str else _canonical(value))
        return digest.hexdigest()

    return hashed


def _canonical(value: JsonValue) -> bytes:
    if type(value) is int and abs(value) > EXACT_INTEGER_MAX:
        value = float(value)
    return canonical.dumps(value)


def _truncated(value: Any, keep: int) -> JsonValue:
    if isinstance(value, str):
        return value[:keep]
    if _is_number(value):
        return _rounded(value, keep)
    return None


def _rounded(value: float, digits: int) -> float:
    if digits <= 0:
        return 0
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if isinstance(value, int) else rounded


def _generalised(value: Any, step: Decimal | None, unit: str) -> JsonValue:
    if isinstance(value, str) and unit in _UNITS:
        return _beginning(value, unit)
    if step is None or not _is_number(value):
        return None
    exact = Decimal(repr(value))
    try:
        above = exact % step  # has the sign of the value
        lower = exact - (above if above >= 0 else above + step)
    except InvalidOperation:  # more digits apart than can be told
        return None
    whole = lower == lower.to_integral_value() and abs(lower) <= EXACT_INTEGER_MAX
    return int(lower) if whole else float(lower)


def _beginning(text: str, unit: str) -> str | None:
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, offset = found.groups()
    depth = _UNITS.index(unit)
    date = f"{year}-{month if depth >= 1 else '01'}-{day if depth >= 2 else '01'}"  # noqa: PLR2004 - month, day
    if hour is None:
        return date
    return f"{date}T{hour if unit == 'hour' else '00'}:00:00{offset.upper()}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
