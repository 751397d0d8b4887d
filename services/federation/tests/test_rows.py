"""What leaves under a contract and what is taken, also from a peer that keeps to nothing."""

from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from libs import rows as blocks
from libs.ids import new_id
from libs.masking import mask
from libs.zones import ZoneRecord, ZoneTree
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1 import sharing_pb2
from quintet.sharing.v1.facts_pb2 import ProductRowsWritten, Snapshot
from services.federation.rows import Given, answered, give, is_about, take
from services.federation.terms import ActiveContract

ZONES = ZoneTree([ZoneRecord("city"), ZoneRecord("d10", "city"), ZoneRecord("hill", "d10")], root="city")
SALT = b"salt"
HASHED = sharing_pb2.FieldTerms(field="device", masking=sharing_pb2.MASKING_HASH)
NAMES = ["device", "day", "mean", "secret"]
ROWS: list[list[Any]] = [["a", "2017-01-01", 12, "x"], ["b", "2017-01-02", 17, "y"], ["c", "2017-01-03", None, "z"]]
THE_SECOND = Timestamp(seconds=1483315200)


def contract(*fields: sharing_pb2.FieldTerms, **terms: Any) -> ActiveContract:
    given = fields or (HASHED, sharing_pb2.FieldTerms(field="day"), generalised())
    made = pb.Terms(product="products/p", product_version=1, fields=given, salt=SALT, purpose="study", **terms)
    return ActiveContract("contracts/c", pb.CONTRACT_KIND_EXCHANGE, "sf", "beijing", "sf", made, b"hash")


def generalised() -> sharing_pb2.FieldTerms:
    return sharing_pb2.FieldTerms(field="mean", masking=sharing_pb2.MASKING_GENERALISE, step=5)


def fact(rows: Sequence[Sequence[Any]] = ROWS, names: Sequence[str] = NAMES, zone: str = "d10", **said: Any) -> Fact:
    values: dict[str, Any] = {
        "product": "products/p",
        "version": 1,
        "count": len(rows),
        "only_contract": "contracts/c",
    } | said
    keys = values.pop("key_fields", [name for name in ("device", "day") if name in names])
    written = ProductRowsWritten(fields=names, rows=blocks.dumps(rows), key_fields=keys, **values)
    return Fact(
        id=new_id(),
        type=ProductRowsWritten.DESCRIPTOR.full_name,
        node="beijing",
        zone=zone,
        data=written.SerializeToString(),
    )


def given_rows(given: object) -> list[list[Any]]:
    assert isinstance(given, Given)
    written = ProductRowsWritten.FromString(given.fact.data)
    rows = blocks.loads(written.rows, len(written.fields))
    assert len(rows) == written.count == given.rows
    return rows


# ---------------------------------------------------------------------------------------------------------- provider


def test_rows_are_projected_and_masked() -> None:
    given = give(contract(), ZONES, fact())
    hashed = [mask(row[0], HASHED, SALT) for row in ROWS]
    assert given_rows(given) == [
        [hashed[0], "2017-01-01", 10],
        [hashed[1], "2017-01-02", 15],
        [hashed[2], "2017-01-03", None],
    ]
    assert isinstance(given, Given)
    written = ProductRowsWritten.FromString(given.fact.data)
    assert (list(written.fields), list(written.key_fields)) == (["device", "day", "mean"], ["device", "day"])
    assert written.only_contract == ""
    assert b"secret" not in given.fact.data


def test_a_field_that_a_new_version_adds_never_leaks() -> None:
    """Neither under the new version, which is not the contract's, nor should it be stated under the old one."""
    assert not is_about(contract(), fact(version=2), "beijing")
    rows = [[*row, "leak"] for row in ROWS]
    given = give(contract(), ZONES, fact(rows, [*NAMES, "added"]))
    assert all(len(row) == 3 for row in given_rows(given))
    assert isinstance(given, Given)
    assert b"leak" not in given.fact.data


@pytest.mark.parametrize(
    ("terms", "left"),
    [
        ({"filter": sharing_pb2.RowFilter(where={"secret": "y"})}, ["2017-01-02"]),
        ({"filter": sharing_pb2.RowFilter(time_field="day", not_before=THE_SECOND)}, ["2017-01-02", "2017-01-03"]),
        ({"filter": sharing_pb2.RowFilter(zones=["d10"])}, ["2017-01-01", "2017-01-02", "2017-01-03"]),
        ({"zone": "city"}, ["2017-01-01", "2017-01-02", "2017-01-03"]),
    ],
)
def test_rows_are_chosen_also_by_fields_that_are_not_given(terms: dict[str, Any], left: list[str]) -> None:
    assert [row[1] for row in given_rows(give(contract(**terms), ZONES, fact()))] == left


@pytest.mark.parametrize(
    "terms",
    [
        {"zone": "hill"},
        {"filter": sharing_pb2.RowFilter(zones=["hill"])},
        {"zone": "elsewhere"},
        {"filter": sharing_pb2.RowFilter(where={"secret": "none such"})},
    ],
)
def test_when_no_row_passes_nothing_is_sent(terms: dict[str, Any]) -> None:
    assert give(contract(**terms), ZONES, fact()) is None


def test_rows_that_cannot_be_judged_are_not_sent() -> None:
    hidden = contract(filter=sharing_pb2.RowFilter(where={"kind": "a"}))
    refused = give(hidden, ZONES, fact())
    assert isinstance(refused, tuple)
    assert "kind" in refused[1]
    assert isinstance(give(contract(), ZONES, fact([["a"]], NAMES, count=1)), tuple)


def test_what_is_meant_for_another_contract_or_mode_is_not_sent() -> None:
    assert is_about(contract(), fact(), "beijing")
    assert is_about(contract(), fact(only_contract=""), "beijing")
    assert not is_about(contract(), fact(only_contract="contracts/d"), "beijing")
    assert not is_about(contract(mode=pb.DELIVERY_MODE_PUSH_ON_SCHEDULE), fact(only_contract=""), "beijing")
    assert is_about(contract(mode=pb.DELIVERY_MODE_PUSH_ON_SCHEDULE), fact(), "beijing")
    assert not is_about(contract(mode=pb.DELIVERY_MODE_PULL), fact(), "beijing")
    passed_on = fact()
    passed_on.received_from = "tianjin"
    assert not is_about(contract(), passed_on, "beijing")


# ---------------------------------------------------------------------------------------------------------- consumer


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"filter": sharing_pb2.RowFilter(where={"secret": "y", "day": "2017-01-02"})},
        {"filter": sharing_pb2.RowFilter(time_field="day", before=THE_SECOND)},
        {"filter": sharing_pb2.RowFilter(where={"device": "b"}), "zone": "d10"},
    ],
)
def test_what_is_given_is_taken(terms: dict[str, Any]) -> None:
    given = give(contract(**terms), ZONES, fact())
    assert isinstance(given, Given)
    assert take(contract(**terms), ZONES, "beijing", given.fact) == given.rows


H = "0" * 64
GOOD = [[H, "2017-01-01", 10]]
GIVEN = ["device", "day", "mean"]


@pytest.mark.parametrize(
    ("stated", "terms", "reason", "text"),
    [
        (fact(GOOD, GIVEN, product="products/q"), {}, "FIELD_NOT_IN_CONTRACT", "products/q"),
        (fact(GOOD, GIVEN, version=2), {}, "FIELD_NOT_IN_CONTRACT", "version 2"),
        (fact([[*GOOD[0], 1]], [*GIVEN, "secret"]), {}, "FIELD_NOT_IN_CONTRACT", "field secret"),
        (fact(GOOD, GIVEN, key_fields=["secret"]), {}, "FIELD_INVALID", "key"),
        (fact(GOOD, GIVEN, key_fields=[]), {}, "FIELD_NOT_IN_CONTRACT", "key"),
        (fact([[H, "2017-01-01"]], GIVEN), {}, "FIELD_INVALID", "3 values"),
        (fact(GOOD, GIVEN, count=2), {}, "FIELD_INVALID", "not 2"),
        (fact(GOOD, ["device", "day", "day"]), {}, "FIELD_INVALID", "name"),
        (fact([["resident.01", "2017-01-01", 10]], GIVEN), {}, "FIELD_NOT_IN_CONTRACT", "device is not masked"),
        (fact([[H, "2017-01-01", 12]], GIVEN), {}, "FIELD_NOT_IN_CONTRACT", "mean is not masked"),
        (fact([[H, ["nested"], 10]], GIVEN), {}, "FIELD_INVALID", "field day"),
        (fact([[H, "\0", 10]], GIVEN), {}, "FIELD_INVALID", "field day"),
        (fact(GOOD, GIVEN, "city"), {"zone": "d10"}, "FIELD_NOT_IN_CONTRACT", "zone city"),
        (
            fact(GOOD, GIVEN),
            {"filter": sharing_pb2.RowFilter(zones=["hill"])},
            "FIELD_NOT_IN_CONTRACT",
            "zone d10",
        ),
        (
            fact(GOOD, GIVEN),
            {"filter": sharing_pb2.RowFilter(time_field="day", not_before=THE_SECOND)},
            "FIELD_NOT_IN_CONTRACT",
            "outside",
        ),
        (
            fact(GOOD, GIVEN),
            {"filter": sharing_pb2.RowFilter(where={"day": "2017-01-02"})},
            "FIELD_NOT_IN_CONTRACT",
            "outside",
        ),
        (fact(GOOD, GIVEN), {"mode": pb.DELIVERY_MODE_PULL}, "FIELD_NOT_IN_CONTRACT", "demand"),
        (fact(GOOD, GIVEN, snapshot=Snapshot(id="1")), {}, "FIELD_NOT_IN_CONTRACT", "part of a whole"),
    ],
)
def test_what_the_contract_does_not_allow_is_refused(
    stated: Fact, terms: dict[str, Any], reason: str, text: str
) -> None:
    refused = take(contract(**terms), ZONES, "beijing", stated)
    assert isinstance(refused, tuple)
    assert refused[0] == reason
    assert text in refused[1]


def test_rows_of_others_and_bytes_that_are_no_rows_are_refused() -> None:
    assert isinstance(take(contract(), ZONES, "tianjin", fact(GOOD, GIVEN)), tuple)
    garbage = fact(GOOD, GIVEN)
    garbage.data = b"\xff\xff"
    assert isinstance(take(contract(), ZONES, "beijing", garbage), tuple)


def test_a_zone_of_the_provider_that_is_not_known_here_is_taken() -> None:
    assert take(contract(zone="haidian"), ZONES, "beijing", fact(GOOD, GIVEN, "haidian-north")) == 1


# ------------------------------------------------------------------------------------------------------------ counts


def counts(**terms: Any) -> ActiveContract:
    aggregation = sharing_pb2.Aggregation(k=5, count_field="rows")
    mode = pb.DELIVERY_MODE_PUSH_ON_SCHEDULE
    return contract(sharing_pb2.FieldTerms(field="day"), generalised(), aggregation=aggregation, mode=mode, **terms)


def counted(count: Any, mean: int = 10, **said: Any) -> Fact:
    values: dict[str, Any] = {"key_fields": [], "snapshot": Snapshot(id="1", last=True)} | said
    return fact([["2017-01-01", mean, count]], ["day", "mean", "rows"], **values)


def test_counts_go_as_they_are() -> None:
    given = give(counts(), ZONES, counted(5))
    assert given_rows(given) == [["2017-01-01", 10, 5]]
    assert isinstance(given, Given)
    assert take(counts(), ZONES, "beijing", given.fact) == 1
    assert answered(counts(), [{"mean": 10.0, "rows": 5.0}]) is None


@pytest.mark.parametrize(
    "stated",
    [
        counted(4),
        counted(None),
        counted(5.5),
        counted(True),
        counted("5"),
        counted(5, mean=12),
        counted(5, snapshot=None),
        fact([["2017-01-01", 10]], ["day", "mean"], key_fields=[], snapshot=Snapshot(id="1")),
        counted(5, key_fields=["day"]),
    ],
)
def test_groups_that_are_too_small_or_no_counts_pass_at_neither_end(stated: Fact) -> None:
    assert isinstance(give(counts(), ZONES, stated), tuple)
    assert isinstance(take(counts(), ZONES, "beijing", stated), tuple)
