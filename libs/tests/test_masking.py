import hashlib
import math

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from libs.canonical import JsonValue
from libs.masking import from_struct, impossible, mask, project_block, project_row, to_struct
from quintet.sharing.v1.sharing_pb2 import (
    MASKING_DROP,
    MASKING_GENERALISE,
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


def terms(
    field: str, masking: Masking.ValueType = MASKING_UNSPECIFIED, keep: int = 0, step: float = 0, unit: str = ""
) -> FieldTerms:
    return FieldTerms(field=field, masking=masking, keep=keep, step=step, unit=unit)


HASH = terms("any", MASKING_HASH)


def cut(keep: int) -> FieldTerms:
    return terms("any", MASKING_TRUNCATE, keep)


def coarse(step: float = 0, unit: str = "") -> FieldTerms:
    return terms("any", MASKING_GENERALISE, step=step, unit=unit)


def test_only_named_fields_pass() -> None:
    assert project_row(ROW, [terms("station"), terms("absent")], SALT) == {"station": "Dongsi 东四"}


def test_a_dropped_field_is_left_out_even_when_it_is_also_given() -> None:
    assert project_row(ROW, [terms("value", MASKING_DROP), terms("value"), terms("count")], SALT) == {"count": 24}


def test_hash_is_of_the_salt_and_the_canonical_value() -> None:
    expected = hashlib.sha256(SALT + '"Dongsi 东四"'.encode()).hexdigest()
    assert project_row(ROW, [terms("station", MASKING_HASH)], SALT) == {"station": expected}
    assert mask(5, HASH, SALT) == mask(5.0, HASH, SALT)
    assert mask("5", HASH, SALT) != mask(5, HASH, SALT)
    assert mask("x", HASH, b"other") != mask("x", HASH, SALT)


def test_truncate_keeps_characters_or_significant_digits() -> None:
    assert mask("Dongsi 东四", cut(8), SALT) == "Dongsi 东"
    assert mask("Dongsi", cut(0), SALT) == ""
    assert mask(103.456, cut(2), SALT) == 100.0
    assert mask(0.012345, cut(2), SALT) == 0.012
    assert mask(-1987, cut(2), SALT) == -2000
    assert mask(7, cut(0), SALT) == 0


def test_null_stays_null_and_what_a_masking_is_not_made_for_becomes_null() -> None:
    assert mask(None, HASH, SALT) is None
    assert mask(True, cut(3), SALT) is None
    assert mask("secret", terms("any", 99), SALT) is None  # type: ignore[arg-type]  # a masking of a newer node


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


def test_large_integers_are_not_rounded_in_structs() -> None:
    assert from_struct(to_struct({"id": 2**60})) == {"id": str(2**60)}


def test_numbers_become_the_lower_end_of_their_step() -> None:
    assert [mask(value, coarse(5), SALT) for value in (0, 4, 5, -1, 103.456)] == [0, 0, 5, -5, 100]
    # Steps that doubles do not hold exactly are taken as they are written.
    assert [mask(value, coarse(0.1), SALT) for value in (0.3, 0.35, -0.01)] == [0.3, 0.3, -0.1]
    assert mask(1e300, coarse(0.1), SALT) is None
    assert mask(True, coarse(5), SALT) is None
    assert mask("5", coarse(5), SALT) is None
    assert mask(5, coarse(unit="day"), SALT) is None


def test_dates_and_times_become_the_beginning_of_their_unit() -> None:
    units = ("year", "month", "day", "hour")
    assert [mask("2017-03-09", coarse(unit=unit), SALT) for unit in units] == [
        "2017-01-01",
        "2017-03-01",
        "2017-03-09",
        "2017-03-09",
    ]
    assert [mask("2017-03-09T23:59:01.5+08:00", coarse(unit=unit), SALT) for unit in units] == [
        "2017-01-01T00:00:00+08:00",
        "2017-03-01T00:00:00+08:00",
        "2017-03-09T00:00:00+08:00",
        "2017-03-09T23:00:00+08:00",
    ]
    for text in ("yesterday", "2017-13-01", "2017-03-09T23:59:01", "2017-03-09 and more", ""):
        assert mask(text, coarse(unit="year"), SALT) is None
    assert mask("2017-03-09", coarse(unit="minute"), SALT) is None


def test_a_block_is_projected_like_its_rows() -> None:
    names = ["station", "value", "count", "note"]
    rows: list[list[JsonValue]] = [["a", 1.5, 3, None], ["b", None, 4, "x"]]
    fields = [terms("note", MASKING_HASH), terms("station"), terms("count", MASKING_DROP), terms("absent")]
    columns, projected = project_block(names, rows, fields, SALT)
    assert columns == ["note", "station"]
    whole = [project_row(dict(zip(names, row, strict=True)), fields, SALT) for row in rows]
    assert [dict(zip(columns, row, strict=True)) for row in projected] == whole
    assert project_block(names, [], fields, SALT) == (columns, [])
    assert project_block(names, rows, [terms("absent")], SALT) == ([], [(), ()])


@given(
    st.lists(json_values),
    st.sampled_from(
        [HASH, cut(0), cut(2), coarse(5), coarse(0.1), coarse(unit="month"), coarse(2.5, "hour"), terms("any")]
    ),
)
def test_what_was_masked_is_possible(values: list[JsonValue], how: FieldTerms) -> None:
    assert not impossible([mask(value, how, SALT) for value in values], how)


@pytest.mark.parametrize(
    ("value", "how"),
    [
        ("resident.01", HASH),
        ("F" * 64, HASH),
        (5, HASH),
        ("abc", cut(2)),
        (123, cut(2)),
        (True, cut(2)),
        (7, coarse(5)),
        ("2017-03-09", coarse(unit="month")),
        ("anything", coarse(5)),
        ("anything", terms("any", 99)),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_have_been_masked_is_noticed(value: JsonValue, how: FieldTerms) -> None:
    assert impossible([None, value], how)


def test_infinity_is_refused() -> None:
    struct = Struct()
    struct["value"] = math.inf
    with pytest.raises(ValueError, match=r"[Ii]nf"):
        from_struct(struct)
