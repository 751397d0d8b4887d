import hashlib
import math

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from libs.canonical import JsonValue
from libs.masking import from_struct, mask, project_row, project_struct, to_struct
from quintet.sharing.v1.sharing_pb2 import (
    MASKING_DROP,
    MASKING_HASH,
    MASKING_TRUNCATE,
    MASKING_UNSPECIFIED,
    FieldTerms,
    Masking,
)

SALT = b"salt of the contract"
ROW: dict[str, JsonValue] = {"station": "Dongsi 东四", "value": 103.456, "count": 24, "good": True, "note": None}

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
json_values = st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(-1e6, 1e6), st.text())


def terms(field: str, masking: Masking.ValueType = MASKING_UNSPECIFIED, keep: int = 0) -> FieldTerms:
    return FieldTerms(field=field, masking=masking, keep=keep)


def test_only_named_fields_pass() -> None:
    assert project_row(ROW, [terms("station"), terms("absent")], SALT) == {"station": "Dongsi 东四"}


def test_a_dropped_field_is_left_out_even_when_it_is_also_given() -> None:
    assert project_row(ROW, [terms("value", MASKING_DROP), terms("value"), terms("count")], SALT) == {"count": 24}


def test_hash_is_of_the_salt_and_the_canonical_value() -> None:
    expected = hashlib.sha256(SALT + '"Dongsi 东四"'.encode()).hexdigest()
    assert project_row(ROW, [terms("station", MASKING_HASH)], SALT) == {"station": expected}
    assert mask(5, MASKING_HASH, 0, SALT) == mask(5.0, MASKING_HASH, 0, SALT)
    assert mask("5", MASKING_HASH, 0, SALT) != mask(5, MASKING_HASH, 0, SALT)
    assert mask("x", MASKING_HASH, 0, b"other") != mask("x", MASKING_HASH, 0, SALT)


def test_truncate_keeps_characters_or_significant_digits() -> None:
    assert mask("Dongsi 东四", MASKING_TRUNCATE, 8, SALT) == "Dongsi 东"
    assert mask("Dongsi", MASKING_TRUNCATE, 0, SALT) == ""
    assert mask(103.456, MASKING_TRUNCATE, 2, SALT) == 100.0
    assert mask(0.012345, MASKING_TRUNCATE, 2, SALT) == 0.012
    assert mask(-1987, MASKING_TRUNCATE, 2, SALT) == -2000
    assert mask(7, MASKING_TRUNCATE, 0, SALT) == 0


def test_null_stays_null_and_what_a_masking_is_not_made_for_becomes_null() -> None:
    assert mask(None, MASKING_HASH, 0, SALT) is None
    assert mask(True, MASKING_TRUNCATE, 3, SALT) is None
    assert mask("secret", 99, 3, SALT) is None  # type: ignore[arg-type]  # a masking of a newer node


@given(st.dictionaries(st.text(), json_values), st.lists(st.text()), st.binary(max_size=64))
def test_a_projection_never_shows_more_than_the_terms_name(
    row: dict[str, JsonValue], fields: list[str], salt: bytes
) -> None:
    projected = project_row(row, [terms(field, MASKING_TRUNCATE, 1) for field in fields], salt)
    assert set(projected) == set(row) & set(fields)
    assert all(len(value) <= 1 for value in projected.values() if isinstance(value, str))


@given(st.dictionaries(texts, st.one_of(st.none(), st.booleans(), st.floats(-1e9, 1e9), texts)))
def test_a_row_survives_the_way_through_a_struct(row: dict[str, JsonValue]) -> None:
    assert from_struct(to_struct(row)) == row


def test_structs_are_projected_alike_and_large_integers_are_not_rounded() -> None:
    struct = to_struct({"id": 2**60, "value": 5})
    assert from_struct(project_struct(struct, [terms("id"), terms("gone")], SALT)) == {"id": str(2**60)}


def test_infinity_is_refused() -> None:
    struct = Struct()
    struct["value"] = math.inf
    with pytest.raises(ValueError, match=r"[Ii]nf"):
        from_struct(struct)
