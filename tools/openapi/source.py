"""Reads a descriptor set: services, comments, and the options that the document is made from.

The options are read through a pool built from the descriptor set itself, so that the generator never depends on the
code that it is run to generate.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from google.protobuf import descriptor_pb2, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

OWN_PACKAGE = "quintet."
_Named = (
    descriptor_pb2.FieldDescriptorProto | descriptor_pb2.EnumValueDescriptorProto | descriptor_pb2.MethodDescriptorProto
)
VERBS = ("get", "put", "post", "delete", "patch")


class OpenApiError(Exception):
    """The protos say something that no document can be made from; the text names the method or field."""


@dataclass(frozen=True)
class Route:
    """One REST route of a method: HTTP verb in lower case, path template, and which field is the body ("*" for all)."""

    verb: str
    template: str
    body: str = ""
    response_body: str = ""


@dataclass(frozen=True)
class Access:
    """quintet.options.v1.Access; the proto tells what the fields mean."""

    permission: str = ""
    public: bool = False
    signed_in: bool = False
    zone_field: str = ""
    internal: bool = False
    deadline_s: int = 0
    peer: bool = False


@dataclass(frozen=True)
class Rules:
    """quintet.options.v1.Rules; the proto tells what the fields mean."""

    required: bool = False
    max_len: int = 0
    max_items: int = 0
    pattern: str = ""
    resource: str = ""
    gte: float | None = None
    lte: float | None = None
    secret: bool = False
    personal: bool = False


class Source:
    """All protos of a descriptor set, with their comments."""

    def __init__(self, descriptor_set: bytes) -> None:
        self._pool = DescriptorPool()
        files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file
        self._comments: dict[str, str] = {}
        for file in files:
            self._pool.Add(file)
            self._comments.update(_comments(file))
        self._own = [file.name for file in files if file.package.startswith(OWN_PACKAGE)]

    @cached_property
    def files(self) -> list[FileDescriptor]:
        """The files of our own packages, in the order of the set."""
        return [self._pool.FindFileByName(name) for name in self._own]

    def services(self) -> Iterator[ServiceDescriptor]:
        """All our services, file by file."""
        for file in self.files:
            yield from file.services_by_name.values()

    def comment(self, full_name: str) -> str:
        """The comment above a declaration, one line per paragraph; empty when there is none."""
        return self._comments.get(full_name, "")

    def field_comment(self, field: FieldDescriptor) -> str:
        """The comment above a field. By custom it begins with the field's name, which JSON spells in camelCase."""
        comment = self.comment(field.full_name)
        first, space, rest = comment.partition(" ")
        return f"{field.json_name}{space}{rest}" if first == field.name else comment

    def access(self, method: MethodDescriptor) -> Access:
        """Who may call the method; raises OpenApiError when it does not say."""
        found = self._option(method, "google.protobuf.MethodOptions", "quintet.options.v1.access")
        if found is None:
            raise OpenApiError(f"{method.full_name} declares no access")
        _refuse_unknown(Access, found)
        return Access(**found)

    def rules(self, field: FieldDescriptor) -> Rules:
        """The rules of a field; none are the default ones."""
        found = self._option(field, "google.protobuf.FieldOptions", "quintet.options.v1.rules") or {}
        _refuse_unknown(Rules, found)
        return Rules(**found)

    def routes(self, method: MethodDescriptor) -> list[Route]:
        """The REST routes of a method, the main one first; empty for methods that have none."""
        found = self._option(method, "google.protobuf.MethodOptions", "google.api.http")
        if found is None:
            return []
        rules = [found, *found.get("additional_bindings", [])]
        routes: list[Route] = []
        for rule in rules:
            verbs = [verb for verb in VERBS if verb in rule]
            if len(verbs) != 1:
                raise OpenApiError(f"{method.full_name} has a route with none of the verbs {', '.join(VERBS)}")
            routes.append(Route(verbs[0], rule[verbs[0]], rule.get("body", ""), rule.get("response_body", "")))
        return routes

    def method(self, full_name: str) -> MethodDescriptor:
        """The descriptor of a method by its full proto name; raises OpenApiError when there is none."""
        try:
            return self._pool.FindMethodByName(full_name)
        except KeyError:
            raise OpenApiError(f"there is no method {full_name}") from None

    def message(self, full_name: str) -> Descriptor:
        """The descriptor of a message by its full proto name."""
        return self._pool.FindMessageTypeByName(full_name)

    def _option(self, of: MethodDescriptor | FieldDescriptor, options_type: str, name: str) -> dict[str, Any] | None:
        try:
            extension: Any = self._pool.FindExtensionByName(name)
        except KeyError:  # no proto of this set uses it
            return None
        options: Any = message_factory.GetMessageClass(self.message(options_type)).FromString(
            of.GetOptions().SerializeToString()
        )
        if not options.HasExtension(extension):
            return None
        found: dict[str, Any] = json_format.MessageToDict(
            options.Extensions[extension], preserving_proto_field_name=True
        )
        return found


def _refuse_unknown(kind: type[Access | Rules], found: dict[str, Any]) -> None:
    known = {field.name for field in fields(kind)}
    unknown = sorted(set(found) - known)
    if unknown:
        raise OpenApiError(f"tools/openapi/source.py: {kind.__name__} lacks {', '.join(unknown)}")


def _comments(file: descriptor_pb2.FileDescriptorProto) -> dict[str, str]:
    by_path = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    return {name: _paragraphs(by_path.get(path, "")) for name, path in _declarations(file)}


def _declarations(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Full names with their paths in the file; the numbers are those of the fields of FileDescriptorProto."""
    for index, message in enumerate(file.message_type):
        yield from _in_message(message, file.package, (4, index))
    for index, enum in enumerate(file.enum_type):
        yield from _in_enum(enum, file.package, (5, index))
    for index, service in enumerate(file.service):
        name = f"{file.package}.{service.name}"
        yield name, (6, index)
        yield from _members(service.method, name, (6, index, 2))


def _in_message(
    message: descriptor_pb2.DescriptorProto, prefix: str, path: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    name = f"{prefix}.{message.name}"
    yield name, path
    yield from _members(message.field, name, (*path, 2))
    for index, nested in enumerate(message.nested_type):
        yield from _in_message(nested, name, (*path, 3, index))
    for index, enum in enumerate(message.enum_type):
        yield from _in_enum(enum, name, (*path, 4, index))


def _in_enum(
    enum: descriptor_pb2.EnumDescriptorProto, prefix: str, path: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    name = f"{prefix}.{enum.name}"
    yield name, path
    yield from _members(enum.value, name, (*path, 2))


def _members(members: Sequence[_Named], prefix: str, path: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for index, member in enumerate(members):
        yield f"{prefix}.{member.name}", (*path, index)


def _paragraphs(comment: str) -> str:
    paragraphs = comment.strip().split("\n\n")
    return "\n".join(" ".join(line.strip() for line in paragraph.splitlines()).strip() for paragraph in paragraphs)
