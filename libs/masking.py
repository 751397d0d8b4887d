"""What a contract leaves of a row: the fields it names, each as it is, masked or dropped. Pure, for both ends.

A row is a JSON object. Fields that the terms do not name never pass, and a masking that is not understood leaves null.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from libs import canonical
from quintet.sharing.v1.sharing_pb2 import MASKING_DROP, MASKING_HASH, MASKING_TRUNCATE, MASKING_UNSPECIFIED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from libs.canonical import JsonValue
    from quintet.sharing.v1.sharing_pb2 import FieldTerms, Masking


def project_row(row: Mapping[str, JsonValue], fields: Sequence[FieldTerms], salt: bytes) -> dict[str, JsonValue]:
    """Return the fields of `row` that the terms give, masked as they say. `salt` is the contract's, for MASKING_HASH.

    A field that the row does not have is left out. Of several terms for one field MASKING_DROP wins, else the last.
    Raises ValueError for a number that JSON cannot hold.
    """
    dropped = {terms.field for terms in fields if terms.masking == MASKING_DROP}
    return {
        terms.field: mask(row[terms.field], terms.masking, terms.keep, salt)
        for terms in fields
        if terms.field in row and terms.field not in dropped
    }


def mask(value: JsonValue, masking: Masking.ValueType, keep: int, salt: bytes) -> JsonValue:
    """Return the masked value; null stays null. A masking that does not apply to the value, or is unknown, gives null.

    MASKING_HASH gives SHA-256 of the salt and the value's canonical JSON (RFC 8785) in UTF-8, in hex: equal values of
    one contract stay equal, and 5 and 5.0 are one value. MASKING_TRUNCATE keeps the first `keep` characters of a text,
    or the first `keep` significant digits of a number.
    """
    if value is None or masking == MASKING_UNSPECIFIED:
        return value
    if masking == MASKING_HASH:
        return hashlib.sha256(salt + canonical.dumps(value)).hexdigest()
    if masking == MASKING_TRUNCATE and isinstance(value, str):
        return value[:keep]
    if masking == MASKING_TRUNCATE and isinstance(value, int | float) and not isinstance(value, bool):
        return _rounded(value, keep)
    return None


def project_struct(row: Struct, fields: Sequence[FieldTerms], salt: bytes) -> Struct:
    """Return `project_row` of a row as it stands in facts and answers."""
    return to_struct(project_row(from_struct(row), fields, salt))


def from_struct(row: Struct) -> dict[str, JsonValue]:
    """Return the row as JSON; all its numbers are doubles. Raises ValueError for infinity and not-a-number."""
    found: dict[str, JsonValue] = MessageToDict(row)
    return found


def to_struct(row: Mapping[str, JsonValue]) -> Struct:
    """Return the row as it stands in facts and answers. Integers beyond 2^53 - 1, which doubles round, become text."""
    struct = Struct()
    struct.update({name: canonical.storable(value) for name, value in row.items()})
    return struct


def _rounded(value: float, digits: int) -> float:
    if digits <= 0:
        return 0
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if isinstance(value, int) else rounded
