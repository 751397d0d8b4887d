"""Puts the document together: one operation per REST route."""

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from tools.openapi import paths
from tools.openapi.raw import HEADERS, RawAnswer, RawRoute
from tools.openapi.schemas import Schema, Schemas
from tools.openapi.source import Access, OpenApiError, Route, Source

STATUS = "google.rpc.Status"
ERROR_DETAILS = ("google.rpc.BadRequest", "google.rpc.ErrorInfo")
QUERY_DEPTH_MAX = 4
_BEARER = "bearer"
_BYTES = {"type": "string", "format": "binary"}
_DESCRIPTION = (
    "The REST face of a Quintet node, made from its protos. Strings without a stated limit take 4,096 characters, "
    "lists 1,000 items. Every error is a google.rpc.Status: `details` holds an ErrorInfo with a stable `reason` and, "
    "for bad input, a BadRequest that names each field and the rule it breaks. A `requestId` makes a change "
    "idempotent: sent again, it is answered as the first time. Only 503 and ABORTED (409) invite a retry."
)
_ERRORS = {
    "400": ("InvalidArgument", "A field breaks a rule, or the state of the resource does not allow the call."),
    "401": ("Unauthenticated", "No valid token."),
    "403": ("PermissionDenied", "The caller lacks the permission there."),
}


class _Document:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._schemas = Schemas(source)
        self._shapes: dict[str, str] = {}
        self._paths: dict[str, dict[str, Any]] = {}
        self._tags: list[Schema] = []

    def build(self, raw_routes: Iterable[RawRoute]) -> dict[str, Any]:
        for service in self._source.services():
            routed = [method for method in service.methods if self._add_method(method)]
            if routed:
                self._tags.append({"name": service.name, "description": self._source.comment(service.full_name)})
        for raw in raw_routes:
            self._add_raw(raw)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Quintet",
                "version": "v1",
                "description": _DESCRIPTION,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "tags": self._tags,
            "paths": dict(sorted(self._paths.items())),
            "components": self._components(),
        }

    def _components(self) -> dict[str, Any]:
        status = self._schemas.message(self._source.message(STATUS))
        for detail in ERROR_DETAILS:
            self._schemas.message(self._source.message(detail))
        content = {"application/json": {"schema": status}}
        responses = {name: {"description": text, "content": content} for name, text in _ERRORS.values()}
        responses["Error"] = {"description": "Any other error.", "content": content}
        return {
            "schemas": self._schemas.all(),
            "responses": responses,
            "securitySchemes": {_BEARER: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        }

    def _add_method(self, method: MethodDescriptor) -> bool:
        access = self._source.access(method)
        routes = self._source.routes(method)
        hidden = access.internal or access.peer
        if hidden and routes:
            raise OpenApiError(f"{method.full_name} is internal or for peers and must have no REST route")
        if not routes and not hidden and not method.client_streaming:
            raise OpenApiError(f"{method.full_name} has no google.api.http route and is neither internal nor for peers")
        for index, route in enumerate(routes):
            self._add_route(method, access, route, "" if index == 0 else f"_{index + 1}")
        return bool(routes)

    def _add_route(self, method: MethodDescriptor, access: Access, route: Route, suffix: str) -> None:
        path = self._path(method, route.template)
        self._add(method, route.verb, path, self._operation(method, access, route, path, suffix))

    def _add_raw(self, raw: RawRoute) -> None:
        method = self._source.method(raw.method)
        path = self._path(method, raw.template)
        operation = _headed(method, raw.operation, raw.description)
        operation["parameters"] = [
            *_path_parameters(method, path),
            *(self._query_parameter(name, _field_at(method.input_type, name)) for name in raw.query),
            *({"name": name, "in": "header", **_header(name)} for name in raw.headers),
        ]
        if raw.body:
            operation["requestBody"] = {"required": True, "content": {raw.body: {"schema": dict(_BYTES)}}}
        access = self._source.access(method)
        answers = {answer.status: self._raw_answer(answer) for answer in raw.answers}
        operation["responses"] = dict(sorted((answers | _error_responses(access)).items()))
        operation["security"] = _security(access)
        operation.update(_access_notes(access))
        self._add(method, raw.verb, path, operation)

    def _raw_answer(self, answer: RawAnswer) -> dict[str, Any]:
        found: dict[str, Any] = {"description": answer.description}
        if answer.headers:
            found["headers"] = {name: _header(name) for name in answer.headers}
        if answer.message:
            schema = self._schemas.message(self._source.message(answer.message))
            found["content"] = {"application/json": {"schema": schema}}
        if answer.media_types:
            found["content"] = {media_type: {"schema": dict(_BYTES)} for media_type in answer.media_types}
        return found

    def _path(self, method: MethodDescriptor, template: str) -> paths.Path:
        return paths.expand(template, lambda field: self._source.rules(_field_at(method.input_type, field)))

    def _add(self, method: MethodDescriptor, verb: str, path: paths.Path, operation: dict[str, Any]) -> None:
        known = self._shapes.setdefault(path.shape, path.text)
        if known != path.text:
            raise OpenApiError(f"{method.full_name}: {path.text} and {known} are the same path under two names")
        operations = self._paths.setdefault(path.text, {})
        if verb in operations:
            raise OpenApiError(f"{method.full_name}: {verb} {path.text} is taken by another method")
        operations[verb] = operation

    def _operation(
        self, method: MethodDescriptor, access: Access, route: Route, path: paths.Path, suffix: str
    ) -> dict[str, Any]:
        operation = _headed(method, f"{method.name}{suffix}", self._source.comment(method.full_name))
        parameters = [*_path_parameters(method, path), *self._query_parameters(method, route, path)]
        if parameters:
            operation["parameters"] = parameters
        if route.body:
            schema = self._body(method, route, path)
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        operation["responses"] = self._responses(method, access, route)
        operation["security"] = _security(access)
        operation.update(_access_notes(access))
        return operation

    def _body(self, method: MethodDescriptor, route: Route, path: paths.Path) -> Schema:
        bound = frozenset(path.fields)
        if route.body == "*":
            if not bound:
                return self._schemas.message(method.input_type)
            return self._schemas.object(method.input_type, bound)
        field = _field_at(method.input_type, route.body)
        inner = frozenset(name.partition(".")[2] for name in bound if name.startswith(f"{route.body}."))
        if inner and field.message_type is not None:
            return self._schemas.object(field.message_type, inner)
        return self._schemas.field(field)

    def _query_parameters(self, method: MethodDescriptor, route: Route, path: paths.Path) -> Iterator[Schema]:
        if route.body == "*":
            return
        taken = {*path.fields, route.body}
        for name, field in _leaves(method.input_type, "", QUERY_DEPTH_MAX):
            if name in taken or name.partition(".")[0] == route.body:
                continue
            yield self._query_parameter(name, field)

    def _query_parameter(self, name: str, field: FieldDescriptor) -> Schema:
        schema = self._schemas.field(field)
        parameter: Schema = {"name": ".".join(paths.camel(part) for part in name.split(".")), "in": "query"}
        description = schema.pop("description", "")
        if description:
            parameter["description"] = description
        if self._source.rules(field).required and "." not in name:
            parameter["required"] = True
        return {**parameter, "schema": schema}

    def _responses(self, method: MethodDescriptor, access: Access, route: Route) -> dict[str, Any]:
        if route.response_body:
            schema = self._schemas.field(_field_at(method.output_type, route.response_body))
        else:
            schema = self._schemas.message(method.output_type)
        comment = self._source.comment(method.output_type.full_name)
        if method.server_streaming:
            # As the edge writes a stream, so that a reader can use each message as it comes.
            comment = f"{comment} One JSON object per line, as they come.".strip()
        responses: dict[str, Any] = {
            "200": {"description": comment or "Done.", "content": {"application/json": {"schema": schema}}}
        }
        return responses | _error_responses(access)


def build(source: Source, raw_routes: Iterable[RawRoute]) -> dict[str, Any]:
    """The OpenAPI document of all our services as plain JSON values; raises OpenApiError."""
    return _Document(source).build(raw_routes)


def _headed(method: MethodDescriptor, name: str, description: str) -> dict[str, Any]:
    """The beginning of an operation of a method's service."""
    service = method.containing_service.name
    return {
        "operationId": f"{service}_{name}",
        "tags": [service],
        "summary": description.partition(". ")[0].partition("\n")[0].removesuffix("."),
        "description": description,
    }


def _header(name: str) -> dict[str, Any]:
    return {"description": HEADERS[name], "schema": {"type": "string"}}


def _error_responses(access: Access) -> dict[str, Any]:
    codes = ["400"] if access.public else list(_ERRORS)
    found = {code: {"$ref": f"#/components/responses/{_ERRORS[code][0]}"} for code in codes}
    return {**found, "default": {"$ref": "#/components/responses/Error"}}


def _security(access: Access) -> list[dict[str, list[str]]]:
    return [] if access.public else [{_BEARER: []}]


def _access_notes(access: Access) -> dict[str, Any]:
    notes: dict[str, Any] = {}
    if access.permission:
        notes["x-permission"] = access.permission
    if access.zone_field:
        notes["x-permission-zone-field"] = access.zone_field
    if access.deadline_s:
        notes["x-deadline-s"] = access.deadline_s
    return notes


def _path_parameters(method: MethodDescriptor, path: paths.Path) -> Iterator[Schema]:
    for parameter in path.parameters:
        yield {
            "name": parameter.name,
            "in": "path",
            "required": True,
            "description": f"A part of `{parameter.field}` of {method.input_type.name}.",
            "schema": {"type": "string", "pattern": parameter.pattern},
        }


def _field_at(message: Descriptor, path: str) -> FieldDescriptor:
    """The field at a dotted path; raises OpenApiError when there is none."""
    head, _, rest = path.partition(".")
    field = message.fields_by_name.get(head)
    if field is None or (rest and field.message_type is None):
        raise OpenApiError(f"{message.full_name} has no field {path}, which a route names")
    return _field_at(field.message_type, rest) if rest and field.message_type is not None else field


def _leaves(message: Descriptor, prefix: str, depth: int) -> Iterator[tuple[str, FieldDescriptor]]:
    """The fields that a query can carry, by dotted path: messages give their own fields, maps cannot be carried."""
    for field in message.fields:
        name = f"{prefix}{field.name}"
        inner = field.message_type
        if inner is None or inner.full_name.startswith("google.protobuf."):
            yield name, field
        elif depth > 1 and not field.is_repeated:
            yield from _leaves(inner, f"{name}.", depth - 1)
