"""What requests may hold in the message types that Google defines, whose fields carry no rules of ours."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from math import isfinite

from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

TIME_FIRST = datetime(1900, 1, 1, tzinfo=UTC)
TIME_LAST = datetime(2200, 1, 1, tzinfo=UTC)
DURATION_MAX_S = 315_576_000_000  # 10,000 years, as google/protobuf/duration.proto says
STRUCT_DEPTH_MAX = 16
STRUCT_BYTES_MAX = 64 * 1024

_FIRST_S = int(TIME_FIRST.timestamp())
_LAST_S = int(TIME_LAST.timestamp())
_NANOS_PER_S = 1_000_000_000

# Yields (path below the field, what is wrong).
Known = Callable[[Message], Iterator[tuple[str, str]]]


def _timestamp(value: Timestamp) -> Iterator[tuple[str, str]]:
    if not _FIRST_S <= value.seconds < _LAST_S:
        yield "", f"must lie between the years {TIME_FIRST.year} and {TIME_LAST.year}"
    elif not 0 <= value.nanos < _NANOS_PER_S:
        yield "", "must have between 0 and 999,999,999 nanoseconds"


def _duration(value: Duration) -> Iterator[tuple[str, str]]:
    if abs(value.seconds) > DURATION_MAX_S or abs(value.nanos) >= _NANOS_PER_S:
        yield "", "must be a duration of at most 10,000 years"
    elif value.seconds * value.nanos < 0:
        yield "", "must have seconds and nanoseconds of one sign"


def _struct(value: Struct | Value | ListValue) -> Iterator[tuple[str, str]]:
    if value.ByteSize() > STRUCT_BYTES_MAX:
        yield "", f"is larger than {STRUCT_BYTES_MAX} bytes"
    else:
        yield from _json(value, 0)


def _json(value: Struct | Value | ListValue, depth: int) -> Iterator[tuple[str, str]]:
    """Walk what is to be stored as JSON: no NUL, no infinity, no bottomless nesting, every value of some kind."""
    if depth > STRUCT_DEPTH_MAX:
        yield "", f"is nested deeper than {STRUCT_DEPTH_MAX} levels"
    elif isinstance(value, Struct):
        for key, item in value.fields.items():
            if "\0" in key:
                yield "", "must not contain NUL characters"
            else:
                yield from ((f".{key}{path}", verdict) for path, verdict in _json(item, depth + 1))
    elif isinstance(value, ListValue):
        for index, item in enumerate(value.values):
            yield from ((f"[{index}]{path}", verdict) for path, verdict in _json(item, depth + 1))
    else:
        yield from _json_value(value, depth)


def _json_value(value: Value, depth: int) -> Iterator[tuple[str, str]]:
    kind = value.WhichOneof("kind")
    if kind is None:
        yield "", "has no value"
    elif kind == "struct_value":
        yield from _json(value.struct_value, depth)
    elif kind == "list_value":
        yield from _json(value.list_value, depth)
    elif kind == "number_value" and not isfinite(value.number_value):
        yield "", "must be a finite number"
    elif kind == "string_value" and "\0" in value.string_value:
        yield "", "must not contain NUL characters"


def _any(value: AnyProto) -> Iterator[tuple[str, str]]:
    # None of our requests declares one; when one does, it must say here which types it takes.
    yield "", f"must not hold {value.type_url or 'a message without a type'}"


CHECKS: dict[str, Known] = {
    "google.protobuf.Timestamp": _timestamp,  # type: ignore[dict-item]  # keyed by the type that each takes
    "google.protobuf.Duration": _duration,  # type: ignore[dict-item]
    "google.protobuf.Struct": _struct,  # type: ignore[dict-item]
    "google.protobuf.Value": _struct,  # type: ignore[dict-item]
    "google.protobuf.ListValue": _struct,  # type: ignore[dict-item]
    "google.protobuf.Any": _any,  # type: ignore[dict-item]
}
