"""Checks every request against the `rules` options of its fields (quintet/options/v1/options.proto).

The plan of a message type is made once, from its descriptor; a check then walks only the fields that are set. Fields
are named as REST callers write them: the JSON spelling of the proto, "place.latitude", "items[3].name", "labels[red]".
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf, isfinite
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from libs import names, wellknown
from libs.errors import VIOLATIONS_MAX, Invalid
from quintet.options.v1 import options_pb2

STRING_CHARS_MAX = 4096
ITEMS_MAX = 1000
MAP_KEY_CHARS_MAX = 256
MESSAGE_DEPTH_MAX = 24

_REQUIRED = "is required"
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}
_FLOATS = {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}

Violations = list[tuple[str, str]]
# Says what is wrong with one scalar value; None when nothing is.
Scalar = Callable[[Any], str | None]
# Checks the value of one set field: value, path of the field, what was found so far, depth of the message.
Check = Callable[[Any, str, Violations, int], None]


class _EnoughError(Exception):
    """VIOLATIONS_MAX are found; nobody reads more."""


@dataclass(slots=True)
class Plan:
    """How to check one message type."""

    checks: dict[str, Check]  # fields that can break a rule when set, by proto name
    absent: tuple[Callable[[Message, str, Violations], None], ...]  # what unset fields can break


def validate(message: Message) -> None:
    """Raise Invalid with the violations (at most VIOLATIONS_MAX) when `message` breaks its rules."""
    found: Violations = []
    with suppress(_EnoughError):
        _check_message(message, "", found, 0)
    if found:
        raise Invalid.many(found)


def compile_rules(descriptor: Descriptor) -> None:
    """Make the plans of a message type and all types below it, so that a wrong rule fails at start: ValueError."""
    todo, seen = [descriptor], {descriptor.full_name}
    while todo:
        current = todo.pop()
        if current.full_name in wellknown.CHECKS:
            continue
        _plan(current)
        for field in current.fields:
            below = field.message_type
            if below is not None and below.full_name not in seen:
                seen.add(below.full_name)
                todo.append(below)


def rules_of(field: FieldDescriptor) -> options_pb2.Rules:
    return field.GetOptions().Extensions[options_pb2.rules]


def most(descriptor: Descriptor, field: str) -> int:
    """Return the largest value that the rules of a message type give a field. Raises ValueError for one without."""
    rules = rules_of(descriptor.fields_by_name[field])
    if not rules.HasField("lte"):
        raise ValueError(f"{descriptor.full_name}.{field} has no largest value")
    return int(rules.lte)


_plans: dict[Descriptor, Plan] = {}  # one entry per message type of the linked protos


def _plan(descriptor: Descriptor) -> Plan:
    plan = _plans.get(descriptor)
    if plan is None:
        plan = _plans[descriptor] = Plan(
            checks={field.name: check for field in descriptor.fields if (check := _check_of(field)) is not None},
            absent=tuple(check for field in descriptor.fields for check in _absent_checks(field)),
        )
    return plan


def _check_message(message: Message, prefix: str, found: Violations, depth: int) -> None:
    if depth > MESSAGE_DEPTH_MAX:
        _add(found, prefix.rstrip("."), f"is nested deeper than {MESSAGE_DEPTH_MAX} messages")
        return
    descriptor = cast(Descriptor, message.DESCRIPTOR)
    plan = _plans.get(descriptor) or _plan(descriptor)
    checks = plan.checks
    for field, value in message.ListFields():
        check = checks.get(field.name)
        if check is not None:
            check(value, prefix, found, depth)
    for absent in plan.absent:
        absent(message, prefix, found)


def _add(found: Violations, path: str, rule: str) -> None:
    found.append((path, rule))
    if len(found) >= VIOLATIONS_MAX:
        raise _EnoughError


# ---------------------------------------------------------------------------------------------- fields that are not set


def _absent_checks(field: FieldDescriptor) -> Iterator[Callable[[Message, str, Violations], None]]:
    rules, path = rules_of(field), field.json_name
    if rules.required:
        missing = _no_presence if field.has_presence else _empty
        yield partial(missing, field.name, path)
    elif not field.has_presence and not field.is_repeated and field.cpp_type in _INTEGERS | _FLOATS:
        # A number that is not sent is 0, which the limits may exclude.
        verdict = _number(rules)(0)
        if verdict is not None:
            yield partial(_zero, field.name, path, verdict)


def _no_presence(name: str, path: str, message: Message, prefix: str, found: Violations) -> None:
    if not message.HasField(name):
        _add(found, prefix + path, _REQUIRED)


def _empty(name: str, path: str, message: Message, prefix: str, found: Violations) -> None:
    if not getattr(message, name):
        _add(found, prefix + path, _REQUIRED)


def _zero(name: str, path: str, verdict: str, message: Message, prefix: str, found: Violations) -> None:
    if getattr(message, name) == 0:
        _add(found, prefix + path, verdict)


# -------------------------------------------------------------------------------------------------- fields that are set


def _check_of(field: FieldDescriptor) -> Check | None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _map_check(field)
    rules, path = rules_of(field), field.json_name
    if field.message_type is not None:
        known = wellknown.CHECKS.get(field.message_type.full_name)
        one = partial(_check_known, known) if known is not None else _check_nested
        if field.is_repeated:
            return partial(_check_messages, one, path, rules.max_items or ITEMS_MAX)
        return partial(_check_one_message, one, path)
    scalar = _scalar(field, rules)
    if field.is_repeated:
        return partial(_check_scalars, scalar, path, rules.max_items or ITEMS_MAX)
    return partial(_check_scalar, scalar, path) if scalar is not None else None


def _check_scalar(scalar: Scalar, path: str, value: Any, prefix: str, found: Violations, _depth: int) -> None:
    verdict = scalar(value)
    if verdict is not None:
        _add(found, prefix + path, verdict)


def _check_scalars(
    scalar: Scalar | None, path: str, items_max: int, values: Any, prefix: str, found: Violations, _depth: int
) -> None:
    if len(values) > items_max:
        _add(found, prefix + path, f"has more than {items_max} items")
    elif scalar is not None:
        for index, value in enumerate(values):
            verdict = scalar(value)
            if verdict is not None:
                _add(found, f"{prefix}{path}[{index}]", verdict)


Nested = Callable[[Any, str, Violations, int], None]


def _check_nested(value: Message, path: str, found: Violations, depth: int) -> None:
    _check_message(value, path + ".", found, depth + 1)


def _check_known(known: wellknown.Known, value: Message, path: str, found: Violations, _depth: int) -> None:
    for below, verdict in known(value):
        _add(found, path + below, verdict)


def _check_one_message(one: Nested, path: str, value: Any, prefix: str, found: Violations, depth: int) -> None:
    one(value, prefix + path, found, depth)


def _check_messages(
    one: Nested, path: str, items_max: int, values: Any, prefix: str, found: Violations, depth: int
) -> None:
    if len(values) > items_max:
        _add(found, prefix + path, f"has more than {items_max} items")
        return
    for index, value in enumerate(values):
        one(value, f"{prefix}{path}[{index}]", found, depth)


def _map_check(field: FieldDescriptor) -> Check:
    assert field.message_type is not None  # noqa: S101 - tells mypy what a map entry is
    key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
    rules = rules_of(field)
    key_scalar = _scalar(key, options_pb2.Rules(max_len=MAP_KEY_CHARS_MAX))
    value_scalar = _scalar(value, rules) if value.message_type is None else None
    one: Nested | None = None
    if value.message_type is not None:
        known = wellknown.CHECKS.get(value.message_type.full_name)
        one = partial(_check_known, known) if known is not None else _check_nested
    items_max = rules.max_items or ITEMS_MAX

    def check(values: Any, prefix: str, found: Violations, depth: int) -> None:
        path = prefix + field.json_name
        if len(values) > items_max:
            _add(found, path, f"has more than {items_max} entries")
            return
        for name, item in values.items():
            if key_scalar is not None and (verdict := key_scalar(name)) is not None:
                _add(found, path, f"a key {verdict}")
            elif value_scalar is not None and (verdict := value_scalar(item)) is not None:
                _add(found, f"{path}[{name}]", verdict)
            elif one is not None:
                one(item, f"{path}[{name}]", found, depth)

    return check


# ------------------------------------------------------------------------------------------------------------- scalars


def _scalar(field: FieldDescriptor, rules: options_pb2.Rules) -> Scalar | None:
    if field.type == FieldDescriptor.TYPE_STRING:
        return _string(rules)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return partial(_bytes, rules.max_len) if rules.max_len else None
    if field.enum_type is not None:
        return partial(_enum, frozenset(field.enum_type.values_by_number))
    if field.cpp_type in _FLOATS or (field.cpp_type in _INTEGERS and (rules.HasField("gte") or rules.HasField("lte"))):
        return _number(rules)
    return None


def _string(rules: options_pb2.Rules) -> Scalar:
    chars_max = rules.max_len or STRING_CHARS_MAX
    if rules.resource:
        expression: re.Pattern[str] | None = names.compiled(rules.resource)
        wanted = f"must be a resource name like {rules.resource}"
    else:
        # RE2, which browsers' and other languages' checks of the same rule use, knows ASCII classes only.
        expression = re.compile(rules.pattern, re.ASCII) if rules.pattern else None
        wanted = f"must match {rules.pattern}"

    def check(value: str) -> str | None:
        if len(value) > chars_max:
            return f"is longer than {chars_max} characters"
        if "\0" in value:
            return "must not contain NUL characters"  # PostgreSQL cannot hold them
        if expression is not None and value and expression.fullmatch(value) is None:
            return wanted
        return None

    return check


def _bytes(bytes_max: int, value: bytes) -> str | None:
    return f"is longer than {bytes_max} bytes" if len(value) > bytes_max else None


def _enum(numbers: frozenset[int], value: int) -> str | None:
    return None if value in numbers else "is not a known value"


def _number(rules: options_pb2.Rules) -> Scalar:
    least = rules.gte if rules.HasField("gte") else -inf
    most = rules.lte if rules.HasField("lte") else inf

    def check(value: float) -> str | None:
        if not isfinite(value):
            return "must be a finite number"
        if value < least:
            return f"must be at least {least:g}"
        if value > most:
            return f"must be at most {most:g}"
        return None

    return check
