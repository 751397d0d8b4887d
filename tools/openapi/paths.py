"""Turns the path templates of google.api.http into OpenAPI paths.

`/v1/{name=zones/*/events/*}:advance` binds one field to several segments, which OpenAPI cannot say. It becomes
`/v1/zones/{zone}/events/{event}:advance`, where a caller sees what to fill in.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tools.openapi.source import OpenApiError, Rules

SEGMENT_PATTERN = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_VARIABLE = re.compile(r"\{([a-z0-9_.]+)(?:=([^}]+))?\}")
_PLACE = re.compile(r"\{(\w+)\}")
# Plurals of collections that do not end in a plain s.
_SINGULAR = {"people": "person", "indices": "index"}


@dataclass(frozen=True)
class Parameter:
    """One segment of a path that the caller fills in, and the request field that it is a part of."""

    name: str
    field: str
    pattern: str


@dataclass(frozen=True)
class Path:
    """An OpenAPI path; `fields` are the request fields (dotted, proto names) that the path binds."""

    text: str
    parameters: tuple[Parameter, ...]
    fields: tuple[str, ...]

    @property
    def shape(self) -> str:
        """The path without its parameters' names: two paths of one shape are one path to OpenAPI."""
        return _PLACE.sub("{}", self.text)


def expand(template: str, rules_of: Callable[[str], Rules]) -> Path:
    """The OpenAPI path of a template; `rules_of` gives the rules of a field by its dotted path.

    Raises OpenApiError for `**`, which OpenAPI has no word for.
    """
    parameters: list[Parameter] = []
    bound: list[str] = []

    def replace(match: re.Match[str]) -> str:
        field, segments = match.group(1), match.group(2)
        bound.append(field)
        rules = rules_of(field)
        text, found = _expand_variable(field, segments or "*", rules)
        parameters.extend(found)
        return text

    if "**" in template:
        raise OpenApiError(f"{template}: a route over any number of segments cannot be described")
    text = _VARIABLE.sub(replace, template)
    names = [parameter.name for parameter in parameters]
    if len(set(names)) != len(names):
        raise OpenApiError(f"{template}: two segments would both be called {{{_first_repeated(names)}}}")
    return Path(text, tuple(parameters), tuple(bound))


def _expand_variable(field: str, segments: str, rules: Rules) -> tuple[str, list[Parameter]]:
    if segments == "*":
        name = camel(field.rpartition(".")[2])
        return f"{{{name}}}", [Parameter(name, field, _anchored(rules.pattern or SEGMENT_PATTERN))]
    named = _names_from_resource(segments, rules.resource)
    parameters: list[Parameter] = []
    parts: list[str] = []
    for index, segment in enumerate(segments.split("/")):
        if segment != "*":
            parts.append(segment)
            continue
        name = named[index] if named else singular(parts[-1] if parts else field)
        parameters.append(Parameter(name, field, _anchored(_segment_pattern(segments, rules))))
        parts.append(f"{{{name}}}")
    return "/".join(parts), parameters


def _names_from_resource(segments: str, resource: str) -> list[str]:
    """The names that the `resource` rule gives to the segments; empty when it has another shape."""
    parts = resource.split("/")
    if _PLACE.sub("*", resource) != segments:
        return []
    return [camel(part.strip("{}")) for part in parts]


def _segment_pattern(segments: str, rules: Rules) -> str:
    """`zones/[a-z]+` on `zones/*` leaves `[a-z]+` for the segment; otherwise any segment."""
    prefix = segments.removesuffix("*")
    rest = rules.pattern.removeprefix(prefix)
    if "*" not in prefix and rules.pattern.startswith(prefix) and rest and "/" not in rest:
        return rest
    return SEGMENT_PATTERN


def camel(name: str) -> str:
    """`service_account` as protobuf's JSON writes it: `serviceAccount`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def singular(collection: str) -> str:
    """The name of one member of a collection: `serviceItems` gives `serviceItem`."""
    if collection in _SINGULAR:
        return _SINGULAR[collection]
    if collection.endswith("ies"):
        return collection.removesuffix("ies") + "y"
    return collection.removesuffix("s")


def _anchored(pattern: str) -> str:
    return f"^(?:{pattern})$"


def _first_repeated(names: list[str]) -> str:
    return next(name for index, name in enumerate(names) if name in names[:index])
