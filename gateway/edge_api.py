"""What the edge must know of the API, read from the descriptor set that is built from the protos."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ACCESS_OPTION = "quintet.options.v1.access"
ERROR_DETAILS = "google/rpc/error_details.proto"
# Callers of these have no valid token by nature, and may still send the one that has just expired.
SESSION_METHODS = frozenset({"SignIn", "RefreshSession"})
# Where passwords are tried.
PASSWORD_METHODS = frozenset({"SignIn"})


@dataclass(frozen=True, slots=True)
class EdgeApi:
    """services have REST routes; closed are gRPC paths that no client may call; the others hold paths of both kinds."""

    services: tuple[str, ...]
    closed: tuple[str, ...]
    session_paths: tuple[str, ...]
    password_paths: tuple[str, ...]


def read_api(descriptors: Path) -> EdgeApi:
    """Reads the set. ValueError when it cannot serve the edge: no REST route, or no types for the details of errors."""
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes())
    if ERROR_DETAILS not in {file.name for file in files.file}:
        raise ValueError(f"{descriptors} lacks {ERROR_DETAILS}: errors could not be told in JSON")
    services: list[str] = []
    closed: list[str] = []
    session_paths: list[str] = []
    password_paths: list[str] = []
    access = _AccessReader(files)
    for file in files.file:
        for service in file.service:
            name = f"{file.package}.{service.name}"
            if any(_http_rules(method) for method in service.method):
                services.append(name)
            for method in service.method:
                path = f"/{name}/{method.name}"
                if access.closed(method):
                    closed.append(path)
                if method.name in SESSION_METHODS:
                    session_paths += [path, *_rest_paths(method)]
                if method.name in PASSWORD_METHODS:
                    password_paths += [path, *_rest_paths(method)]
    if not services:
        raise ValueError(f"{descriptors} has no service with a REST route")
    return EdgeApi(tuple(services), tuple(closed), tuple(session_paths), tuple(password_paths))


class _AccessReader:
    """Reads our method option from the set itself, so that the edge follows it whatever generated code is installed."""

    def __init__(self, files: descriptor_pb2.FileDescriptorSet) -> None:
        pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            pool.Add(file)
        try:
            self._extension: Any = pool.FindExtensionByName(ACCESS_OPTION)
        except KeyError:
            self._extension = None  # a set without our options closes nothing
            return
        options = pool.FindMessageTypeByName("google.protobuf.MethodOptions")
        self._options: Any = message_factory.GetMessageClass(options)

    def closed(self, method: descriptor_pb2.MethodDescriptorProto) -> bool:
        """Whether only services of the node, or only peers on their own port, may call the method."""
        if self._extension is None:
            return False
        access = self._options.FromString(method.options.SerializeToString()).Extensions[self._extension]
        return any(getattr(access, kind, False) for kind in ("internal", "peer"))


def _rest_paths(method: descriptor_pb2.MethodDescriptorProto) -> list[str]:
    found = [str(getattr(rule, rule.WhichOneof("pattern") or "post")) for rule in _http_rules(method)]
    return [path for path in found if path and "{" not in path]


def _http_rules(method: descriptor_pb2.MethodDescriptorProto) -> list[http_pb2.HttpRule]:
    extension: Any = annotations_pb2.http  # its stub is of another make than the one for extensions
    if not method.options.HasExtension(extension):
        return []
    rule: http_pb2.HttpRule = method.options.Extensions[extension]
    return [rule, *rule.additional_bindings]
