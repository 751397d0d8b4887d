from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from libs import rules
from libs.errors import VIOLATIONS_MAX, Invalid
from libs.tests import sample
from libs.tests.sample import Request, Required


def violations(message: Message) -> dict[str, str]:
    try:
        rules.validate(message)
    except Invalid as error:
        return dict(error.violations)
    return {}


def test_an_empty_request_without_required_fields_passes() -> None:
    assert violations(Request()) == {}


@pytest.mark.parametrize(
    ("fields", "path", "rule"),
    [
        ({"name": "x" * 11}, "name", "is longer than 10 characters"),
        ({"name": "a\0"}, "name", "must not contain NUL characters"),
        ({"comment": "x" * 4097}, "comment", "is longer than 4096 characters"),
        ({"code": "ABC"}, "code", "must match [a-z]{2,4}"),
        ({"code": "ab\n"}, "code", "must match [a-z]{2,4}"),
        ({"event_name": "events/1"}, "eventName", "must be a resource name like zones/{zone}/events/{event}"),
        ({"data": b"12345"}, "data", "is longer than 4 bytes"),
        ({"colour": 7}, "colour", "is not a known value"),
        ({"count": -1}, "count", "must be at least 0"),
        ({"count": 10}, "count", "must be at most 9"),
        ({"level": 0}, "level", "must be at least 1"),
        ({"thing": {"height_m": 101}}, "thing.heightM", "must be at most 100"),
        ({"thing": {"height_m": float("nan")}}, "thing.heightM", "must be a finite number"),
        ({"things": [{}, {"height_m": -11}]}, "things[1].heightM", "must be at least -10"),
        ({"things": [{}] * 4}, "things", "has more than 3 items"),
        ({"readings": [1.0, float("inf")]}, "readings[1]", "must be a finite number"),
        ({"readings": [1.0] * 1001}, "readings", "has more than 1000 items"),
        ({"tags": ["a", "too long"]}, "tags[1]", "is longer than 5 characters"),
        ({"labels": {"a": "too long"}}, "labels[a]", "is longer than 5 characters"),
        ({"labels": {"a": "", "b": "", "c": ""}}, "labels", "has more than 2 entries"),
        ({"labels": {"k" * 257: ""}}, "labels", "a key is longer than 256 characters"),
        ({"parts": {"left": {"zone": "A"}}}, "parts[left].zone", "must match [a-z0-9][a-z0-9-]{0,62}"),
        ({"time": {"seconds": -10_000_000_000}}, "time", "must lie between the years 1900 and 2200"),
        ({"time": {"nanos": -1}}, "time", "must have between 0 and 999,999,999 nanoseconds"),
        ({"pause": {"seconds": 1, "nanos": -1}}, "pause", "must have seconds and nanoseconds of one sign"),
        ({"pause": {"seconds": 10**12}}, "pause", "must be a duration of at most 10,000 years"),
        ({"extra": {"type_url": "type.googleapis.com/x"}}, "extra", "must not hold type.googleapis.com/x"),
    ],
)
def test_each_rule(fields: dict[str, Any], path: str, rule: str) -> None:
    assert violations(Request(**fields)) == {path: rule}


def test_the_same_holds_below_other_messages() -> None:
    assert violations(Request(inner=Request(inner=Request(count=10)))) == {"inner.inner.count": "must be at most 9"}


def test_required_fields() -> None:
    missing = dict.fromkeys(("name", "thing", "colour", "tags"), "is required")
    assert violations(Required()) == {**missing, "rank": "must be at least 1"}
    assert violations(Required(name="a", thing={}, colour=1, tags=["a"], rank=1)) == {}


def test_nesting_is_bounded() -> None:
    message = Request()
    for _ in range(rules.MESSAGE_DEPTH_MAX + 5):
        message = Request(inner=message)
    ((path, rule),) = violations(message).items()
    assert rule == "is nested deeper than 24 messages"
    assert path.count("inner") == rules.MESSAGE_DEPTH_MAX + 1


def test_free_json_is_bounded() -> None:
    def detail(value: Any) -> dict[str, str]:
        return violations(Request(detail=ParseDict(value, Struct())))

    assert detail({"a": [1, {"b": None}]}) == {}
    assert detail({"a": [1, {"b": "\0"}]}) == {"detail.a[1].b": "must not contain NUL characters"}
    assert detail({"\0": 1}) == {"detail": "must not contain NUL characters"}
    assert detail({"a": "x" * 70_000}) == {"detail": "is larger than 65536 bytes"}
    nested: Any = 1
    for _ in range(20):
        nested = {"a": nested}
    (rule,) = detail(nested).values()
    assert rule == "is nested deeper than 16 levels"
    endless = Struct(fields={"a": Value(number_value=float("inf")), "b": Value(list_value=ListValue(values=[Value()]))})
    assert violations(Request(detail=endless)) == {"detail.a": "must be a finite number", "detail.b[0]": "has no value"}


def test_violations_are_bounded() -> None:
    things = {str(i): sample.Thing(height_m=1000) for i in range(100)}
    assert len(violations(Request(parts=things))) == VIOLATIONS_MAX


def test_wrong_rules_fail_when_they_are_compiled() -> None:
    rules.compile_rules(Request.DESCRIPTOR)


@given(st.binary(max_size=300))
def test_whatever_parses_is_judged(data: bytes) -> None:
    message = Request()
    try:
        message.ParseFromString(data)
    except Exception:  # noqa: BLE001 - DecodeError is for the caller
        return
    violations(message)


def test_the_most_that_a_field_may_be_can_be_asked_for() -> None:
    assert rules.most(Request.DESCRIPTOR, "count") == 9
    with pytest.raises(ValueError, match="level has no largest value"):
        rules.most(Request.DESCRIPTOR, "level")
