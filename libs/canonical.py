"""JSON in the one form that is hashed and signed: RFC 8785, the JSON Canonicalization Scheme."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import rfc8785

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"

# RFC 8785 numbers are doubles; whole numbers beyond this are not exact in them.
EXACT_INTEGER_MAX = 2**53 - 1


def dumps(value: JsonValue) -> bytes:
    """Return the canonical form in UTF-8. Raises ValueError for infinity and for integers beyond 2^53 - 1."""
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise ValueError(str(error)) from error


def loads(text: str | bytes) -> JsonValue:
    """Read JSON back so that `dumps` gives the same form: doubles written without a fraction stay doubles."""
    value: JsonValue = json.loads(text, parse_int=_number)
    return value


def storable(value: object) -> JsonValue:
    """Return the value as PostgreSQL text and RFC 8785 can hold it.

    Integers beyond 2^53 - 1 become strings, NUL characters the replacement character, tuples lists. Raises ValueError
    for infinity and not-a-number and TypeError for what is not JSON at all.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value).replace("\0", "\ufffd")
    if isinstance(value, int):
        return int(value) if abs(value) <= EXACT_INTEGER_MAX else str(int(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no form in JSON")
        return value
    if isinstance(value, Mapping):
        return {str(storable(key)): storable(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [storable(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _number(text: str) -> int | float:
    number = int(text)
    return number if abs(number) <= EXACT_INTEGER_MAX else float(text)
