"""Facts as indicators read them: which there are, and the values of their fields by path."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from quintet.collaboration.v1 import facts_pb2 as collaboration
from quintet.delivery.v1 import facts_pb2 as delivery
from quintet.management.v1 import facts_pb2 as management
from quintet.perception.v1 import facts_pb2 as perception
from quintet.sharing.v1 import facts_pb2 as sharing
from services.management.convert import time_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from services.management.warnings.model_indicator import Condition, Indicator, Problem, Selector

# What the five networks state.
OBSERVABLE: dict[str, type[Message]] = {
    descriptor.full_name: GetMessageClass(descriptor)
    for module in (collaboration, delivery, management, perception, sharing)
    for descriptor in module.DESCRIPTOR.message_types_by_name.values()
}
_TIMESTAMP = "google.protobuf.Timestamp"
_INTEGERS = {
    *(FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64),
    *(FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64),
}
_NUMBERS = _INTEGERS | {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}


def problems(indicator: Indicator) -> list[Problem]:
    """Return what the facts cannot have of what a declaration names: (field in JSON spelling, rule)."""
    found: list[Problem] = []
    for name, selectors in (("facts", indicator.facts), ("ends", indicator.ends)):
        for place, selector in enumerate(selectors):
            found += _selector_problems(f"indicator.{name}[{place}]", selector)
    if found:
        return found
    types = [_described(OBSERVABLE[selector.type]) for selector in indicator.facts]
    if indicator.field:
        found += [("indicator.field", rule) for kind in types if (rule := _number_problem(kind, indicator.field))]
    if indicator.due_field:
        rules = [_time_problem(kind, indicator.due_field) for kind in types]
        if all(rules):
            found.append(("indicator.dueField", rules[0]))
    return found


def matches(selector: Selector, message: Message) -> bool:
    """Say whether a message of the selector's type meets all its conditions."""
    return all(_holds(condition, message) for condition in selector.where)


def number(message: Message, path: str) -> float | None:
    """Return the value of a numeric field; None for one that is no finite number."""
    *above, last = path.split(".")
    value = float(getattr(_inside(message, above), last))
    return value if isfinite(value) else None


def due(message: Message, path: str) -> datetime | None:
    """Return a timestamp; None when it is not set, or the type has no such field."""
    if not path or _time_problem(_described(message), path):
        return None
    *above, last = path.split(".")
    return time_of(_inside(message, above), last)


def _holds(condition: Condition, message: Message) -> bool:
    *above, last = condition.field.split(".")
    holder = _inside(message, above)
    field = _described(holder).fields_by_name[last]
    if condition.is_set is not None:
        return _is_set(holder, field) == condition.is_set
    return _spoken(field, getattr(holder, last)) == condition.equals


def _is_set(holder: Message, field: FieldDescriptor) -> bool:
    return holder.HasField(field.name) if field.has_presence else bool(getattr(holder, field.name))


def _spoken(field: FieldDescriptor, value: Any) -> str:
    """Return a value as a condition writes it."""
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else str(value)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return "true" if value else "false"
    return str(value)


def _described(kind: Message | type[Message]) -> Descriptor:
    # The type stubs know two classes of descriptors, which are one to whoever reads them.
    return cast("Descriptor", kind.DESCRIPTOR)


def _inside(message: Message, path: list[str]) -> Message:
    for name in path:
        message = getattr(message, name)
    return message


# ------------------------------------------------------------------------------------------------------------ checking


def _selector_problems(path: str, selector: Selector) -> Iterator[Problem]:
    kind = OBSERVABLE.get(selector.type)
    if kind is None:
        yield f"{path}.type", "must be a fact that a service states, such as quintet.management.v1.EventOpened"
        return
    for place, condition in enumerate(selector.where):
        if rule := _condition_problem(_described(kind), condition):
            yield f"{path}.where[{place}].{rule[0]}", rule[1]


def _condition_problem(kind: Descriptor, condition: Condition) -> Problem | None:
    field = _field(kind, condition.field)
    if isinstance(field, str):
        return "field", field
    if condition.equals is None:
        return None if condition.is_set is not None else ("equals", "equals or set is required")
    if field.is_repeated or field.cpp_type in {FieldDescriptor.CPPTYPE_MESSAGE, *(_NUMBERS - _INTEGERS)}:
        return "field", f"{condition.field} of {kind.full_name} is no text, whole number, truth value or enum"
    if field.type == FieldDescriptor.TYPE_BYTES:
        return "field", f"{condition.field} of {kind.full_name} holds bytes"
    return _value_problem(field, condition.equals)


def _value_problem(field: FieldDescriptor, value: str) -> Problem | None:
    if field.enum_type is not None and value not in field.enum_type.values_by_name:
        return "equals", f"must be one of {', '.join(field.enum_type.values_by_name)}"
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL and value not in {"true", "false"}:
        return "equals", "must be true or false"
    if field.cpp_type in _INTEGERS and not (value.removeprefix("-").isascii() and value.removeprefix("-").isdigit()):
        return "equals", "must be a whole number"
    return None


def _number_problem(kind: Descriptor, path: str) -> str:
    field = _field(kind, path)
    if isinstance(field, str):
        return field
    if field.is_repeated or field.cpp_type not in _NUMBERS:
        return f"{path} of {kind.full_name} is no number"
    return ""


def _time_problem(kind: Descriptor, path: str) -> str:
    field = _field(kind, path)
    if isinstance(field, str):
        return field
    if field.is_repeated or field.message_type is None or field.message_type.full_name != _TIMESTAMP:
        return f"{path} of {kind.full_name} is no timestamp"
    return ""


def _field(kind: Descriptor, path: str) -> FieldDescriptor | str:
    """Return the field at a path, or what is wrong with the path."""
    *above, last = path.split(".")
    for name in above:
        field = kind.fields_by_name.get(name)
        if field is None:
            return f"{kind.full_name} has no field {name}"
        if field.message_type is None or field.is_repeated:
            return f"{name} of {kind.full_name} is no single message: its fields cannot be named"
        kind = field.message_type
    found = kind.fields_by_name.get(last)
    return found if found is not None else f"{kind.full_name} has no field {last}"
