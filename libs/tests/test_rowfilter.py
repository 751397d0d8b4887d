from datetime import UTC, datetime

import pytest

from libs.canonical import JsonValue
from libs.rowfilter import chosen, equal, fields_of, time_of
from quintet.sharing.v1.sharing_pb2 import RowFilter

NAMES = ["day", "kind", "value"]
ROWS: list[list[JsonValue]] = [
    ["2017-01-01", "a", 1],
    ["2017-01-02", "a", 2],
    ["2017-01-03", "b", 2],
    ["some day", "a", 2],
    [None, "a", 2],
]


def from_day(first: int, before: int = 0, **where: str) -> RowFilter:
    made = RowFilter(time_field="day", where=where)
    made.not_before.FromDatetime(datetime(2017, 1, first, tzinfo=UTC))
    if before:
        made.before.FromDatetime(datetime(2017, 1, before, tzinfo=UTC))
    return made


def test_all_parts_must_hold() -> None:
    assert chosen(NAMES, ROWS, RowFilter()) == ROWS
    assert chosen(NAMES, ROWS, from_day(2)) == ROWS[1:3]
    assert chosen(NAMES, ROWS, from_day(1, 3)) == ROWS[:2]
    assert chosen(NAMES, ROWS, from_day(1, 3, kind="a", value="2")) == ROWS[1:2]
    assert chosen(NAMES, [], from_day(1)) == []


def test_the_time_field_itself_may_have_to_be_equal() -> None:
    assert chosen(NAMES, ROWS, from_day(1, day="2017-01-02")) == ROWS[1:2]


def test_rows_that_cannot_be_judged_do_not_pass() -> None:
    assert fields_of(from_day(1, kind="a")) == ["day", "kind"]
    assert fields_of(RowFilter(time_field="day")) == []
    with pytest.raises(KeyError, match="kind"):
        chosen(["day", "value"], [["2017-01-01", 1]], from_day(1, kind="a"))


def test_times_are_rfc_3339_and_dates_begin_in_utc() -> None:
    assert time_of("2017-01-01") == datetime(2017, 1, 1, tzinfo=UTC)
    assert time_of("2017-01-01T02:00:00+08:00") == datetime(2016, 12, 31, 18, tzinfo=UTC)
    assert time_of("2017-01-01t02:00:00.5z") == datetime(2017, 1, 1, 2, 0, 0, 500_000, tzinfo=UTC)
    for value in ("2017-01-01T02:00:00", "2017-02-30", "20170101", "now", 20170101, None):
        assert time_of(value) is None


def test_values_are_equal_to_texts_by_what_they_are() -> None:
    assert equal(5, "5.0")
    assert equal(True, "true")
    assert equal("5", "5")
    assert not equal(1, "true")
    assert not equal(5, "five")
    assert not equal("5", "5.0")
    assert not equal(None, "")
