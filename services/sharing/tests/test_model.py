from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Forbidden, Invalid, WrongState
from services.sharing.model import (
    ROW_BYTES_MAX,
    Classification,
    Clearance,
    Contract,
    Field,
    FieldType,
    Product,
    Source,
    Text,
    check_product,
    check_row,
    condition,
    held_name,
    key_of,
    type_of,
)
from services.sharing.model_reading import read_held, read_own
from services.sharing.model_terms import Choice, Masking, Terms, needs_approver, refusals_of

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)


def field(
    name: str,
    classification: Classification = Classification.PUBLIC,
    kind: FieldType = FieldType.STRING,
    *,
    personal: bool = False,
    key: bool = False,
) -> Field:
    return Field(name, kind, classification=classification, personal=personal, key=key)


PRODUCT = Product(
    name="products/p",
    node="beijing",
    title=Text(),
    description=Text(),
    owner="organisations/o",
    zone="beijing",
    version=3,
    fields=(
        field("id", key=True),
        field("city"),
        field("internal", Classification.INTERNAL),
        field("important", Classification.IMPORTANT, FieldType.NUMBER),
        field("core", Classification.CORE),
        field("unclassified", Classification.NONE),
        field("person", personal=True),
        field("adult", kind=FieldType.BOOL, personal=True),
    ),
    offered=True,
)


# ----------------------------------------------------------------------------------------------------------- catalogue


def test_a_product_must_make_sense_and_says_all_that_does_not() -> None:
    source = Source("f", {"a": "x", "c": "y"})
    wanted = replace(PRODUCT, name="products/sf.p", fields=(field("a"), field("b"), field("a")), source=source)
    with pytest.raises(Invalid) as caught:
        check_product(wanted, None)
    assert [name for name, _ in caught.value.violations] == [
        "product.name",
        "product.fields[2].name",
        "product.fields",
        "product.source.columns[c]",
    ]
    with pytest.raises(Invalid, match="lacks the key field id"):
        check_product(replace(PRODUCT, source=source), None)


def test_a_change_of_fields_needs_a_higher_version() -> None:
    fewer = replace(PRODUCT, fields=PRODUCT.fields[:3])
    for version, good in ((2, False), (3, False), (4, True)):
        wanted = replace(fewer, version=version)
        if good:
            check_product(wanted, PRODUCT)
        else:
            with pytest.raises(Invalid, match=r"product\.version"):
                check_product(wanted, PRODUCT)
    check_product(replace(PRODUCT, title=Text("新", "new")), PRODUCT)


# ---------------------------------------------------------------------------------------------------------------- rows


def test_a_key_tells_values_and_their_types_apart() -> None:
    assert key_of({"a": "1", "b": 2.0, "c": 3}, ("a", "b")) == '["1",2]'
    assert key_of({"a": 1, "b": 2}, ("a", "b")) == "[1,2]"
    for row in ({"a": "1"}, {"a": "1", "b": None}):
        with pytest.raises(ValueError, match="a, b"):
            key_of(row, ("a", "b"))
    with pytest.raises(ValueError, match="key field"):
        key_of({"a": 1}, ())
    with pytest.raises(ValueError, match="2000 are allowed"):
        key_of({"a": "长" * 700}, ("a",))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2))
def test_different_values_have_different_keys(values: list[str]) -> None:
    one, other = values
    assert (key_of({"a": one, "b": ""}, ("a", "b")) == key_of({"a": other, "b": ""}, ("a", "b"))) == (one == other)
    assert one + other == "" or key_of({"a": one + other, "b": ""}, ("a", "b")) != key_of(
        {"a": "", "b": one + other}, ("a", "b")
    )


def test_a_row_is_a_record_not_a_document() -> None:
    assert check_row({"b": 2.0, "a": 2**60}) == '{"a":"1152921504606846976","b":2}'
    with pytest.raises(ValueError, match="bytes"):
        check_row({"a": "x" * ROW_BYTES_MAX})


def test_conditions_are_values_of_the_fields_type() -> None:
    types = {"n": FieldType.NUMBER, "b": FieldType.BOOL, "s": FieldType.STRING, "d": FieldType.DATE}
    assert condition({"n": "5.0", "b": "true", "s": "5", "d": "2017-01-01"}, types) == {
        "n": 5.0, "b": True, "s": "5", "d": "2017-01-01",
    }  # fmt: skip
    for name, text in (("n", "many"), ("n", "inf"), ("b", "yes")):
        with pytest.raises(Invalid, match=rf"where\[{name}\]"):
            condition({name: text}, types)


def test_the_type_of_a_partners_field_shows_in_its_values() -> None:
    kinds = [type_of(value) for value in (True, 1, 1.5, "x", None)]
    assert kinds == [FieldType.BOOL, FieldType.NUMBER, FieldType.NUMBER, FieldType.STRING, FieldType.UNKNOWN]
    assert held_name("beijing", "products/p") == "products/beijing.p"


# ------------------------------------------------------------------------------------------------------------- reading

INTERNAL = Clearance(Classification.INTERNAL, personal=False)
EVERYTHING = Clearance(Classification.CORE, personal=True)


def test_without_asking_one_gets_all_that_one_may_have() -> None:
    reading = read_own(PRODUCT, [], [], INTERNAL)
    assert reading.fields == ("id", "city", "internal", "person", "adult")
    assert reading.masked == {"person", "adult"}
    assert reading.sensitive
    whole = read_own(PRODUCT, [], [], EVERYTHING)
    assert (len(whole.fields), whole.masked) == (len(PRODUCT.fields), frozenset())


def test_only_reading_what_matters_is_written_down() -> None:
    assert not read_own(PRODUCT, ["id", "city", "internal"], ["city"], INTERNAL).sensitive
    assert read_own(PRODUCT, ["id", "person"], [], INTERNAL).sensitive
    assert read_own(PRODUCT, ["important"], [], EVERYTHING).sensitive
    assert read_own(PRODUCT, ["id"], ["person"], EVERYTHING).sensitive


@pytest.mark.parametrize("name", ["important", "core", "unclassified"])
def test_fields_above_the_clearance_are_refused_by_name(name: str) -> None:
    for wanted, where in (([name], []), (["id"], [name])):
        with pytest.raises(Forbidden, match=name) as caught:
            read_own(PRODUCT, wanted, where, INTERNAL)
        assert caught.value.metadata == {"field": name}


def test_unknown_fields_are_named_and_masked_ones_choose_no_rows() -> None:
    with pytest.raises(Invalid, match=r"fields\[1\]"):
        read_own(PRODUCT, ["id", "nothing"], [], EVERYTHING)
    with pytest.raises(Invalid, match=r"where\[nothing\]"):
        read_own(PRODUCT, [], ["nothing"], EVERYTHING)
    with pytest.raises(Forbidden, match="person is personal"):
        read_own(PRODUCT, ["id"], ["person"], INTERNAL)


def held(
    name: str, *fields: str, active: bool = True, until_h: float | None = None, from_h: float | None = None
) -> Contract:
    def at(hours: float | None) -> datetime | None:
        return None if hours is None else NOW + timedelta(hours=hours)

    return Contract(f"contracts/{name}", "products/beijing.p", frozenset(fields), active, at(from_h), at(until_h))


def test_of_a_partners_product_only_the_contracts_fields_are_served() -> None:
    contracts = [held("c1", "id", "city")]
    assert read_held(PRODUCT, contracts, [], [], NOW).fields == ("id", "city")
    assert read_held(PRODUCT, contracts, ["city"], ["id"], NOW).contract == "contracts/c1"
    for wanted, where in ((["id", "person"], []), (["id"], ["person"])):
        with pytest.raises(Forbidden, match=r"contracts/c1 does not give the field person") as caught:
            read_held(PRODUCT, contracts, wanted, where, NOW)
        assert caught.value.reason == "FIELD_NOT_IN_CONTRACT"
        assert caught.value.metadata["field"] == "person"


def test_a_contract_serves_while_it_is_in_force() -> None:
    for contracts in (
        [],
        [held("c1", "id", active=False)],
        [held("c1", "id", until_h=0)],
        [held("c1", "id", from_h=1)],
    ):
        with pytest.raises(WrongState) as caught:
            read_held(PRODUCT, contracts, ["id"], [], NOW)
        assert caught.value.reason == "CONTRACT_NOT_ACTIVE"
    assert read_held(PRODUCT, [held("c1", "id", from_h=-1, until_h=1)], ["id"], [], NOW).fields == ("id",)


def test_of_several_contracts_the_first_that_gives_all_fields_serves() -> None:
    contracts = [held("c3", "id", active=False), held("c2", "id"), held("c1", "id", "city")]
    assert read_held(PRODUCT, contracts, ["id"], [], NOW).contract == "contracts/c2"
    assert read_held(PRODUCT, contracts, ["city"], [], NOW).contract == "contracts/c1"


# --------------------------------------------------------------------------------------------------------------- terms


def reasons(
    *terms: Terms, product: Product = PRODUCT, version: int = 3, node: str = "beijing"
) -> list[tuple[str, str]]:
    return [(one.field, one.reason) for one in refusals_of(product, node, version, terms, Choice())]


ID = Terms("id", Masking.NONE)


def test_acceptable_terms_have_no_refusals() -> None:
    assert reasons(ID, Terms("city", Masking.NONE), Terms("person", Masking.HASH)) == []
    assert reasons(Terms("id", Masking.HASH), Terms("person", Masking.TRUNCATE, 1), Terms("adult", Masking.DROP)) == []


def test_the_product_itself_may_not_be_given() -> None:
    assert reasons(ID, version=2) == [("", "PRODUCT_VERSION_DIFFERS")]
    assert reasons(ID, product=replace(PRODUCT, offered=False)) == [("", "PRODUCT_NOT_OFFERED")]
    assert reasons(ID, node="sf") == [("", "PRODUCT_NOT_OWN")]


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        (Terms("nothing", Masking.NONE), "FIELD_UNKNOWN"),
        (Terms("core", Masking.NONE), "FIELD_CORE"),
        (Terms("core", Masking.HASH), "FIELD_CORE"),
        (Terms("unclassified", Masking.NONE), "FIELD_CORE"),
        (Terms("person", Masking.NONE), "PERSONAL_NOT_MASKED"),
        (Terms("person", Masking.TRUNCATE, 3), "PERSONAL_NOT_MASKED"),
        (Terms("adult", Masking.NONE), "PERSONAL_NOT_MASKED"),
        (Terms("adult", Masking.TRUNCATE, 1), "MASKING_NOT_POSSIBLE"),
        (Terms("id", Masking.NONE), "FIELD_REPEATED"),
    ],
)
def test_every_fault_of_a_field_has_its_reason(terms: Terms, reason: str) -> None:
    assert reasons(ID, terms) == [(terms.field, reason)]


def test_without_its_key_a_row_is_not_given() -> None:
    assert reasons(Terms("city", Masking.NONE)) == [("id", "KEY_FIELD_MISSING")]
    assert reasons(Terms("id", Masking.DROP)) == [("id", "KEY_FIELD_MISSING")]
    assert reasons(Terms("id", Masking.TRUNCATE, 9)) == [("id", "KEY_FIELD_NOT_UNIQUE")]


def test_important_data_needs_somebody_who_agrees() -> None:
    assert needs_approver(PRODUCT, [ID, Terms("important", Masking.NONE)], Choice())
    assert not needs_approver(PRODUCT, [ID, Terms("important", Masking.DROP)], Choice())
