"""What a server must know of each method before it serves one call, read from the descriptors.

A method that declares nothing, or something that contradicts itself, keeps the server from starting.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from libs import rules
from libs.errors import Invalid
from quintet.options.v1 import options_pb2
from quintet.options.v1.options_pb2 import Access

DEADLINE_DEFAULT_S = 10.0
STREAM_DEADLINE_DEFAULT_S = 3600.0
MESSAGE_BYTES_MAX = 4 * 1024 * 1024

# Services of the standard protos, which cannot carry our option: reachable inside the node only, and open there.
STANDARD_SERVICES = frozenset({"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"})

_PERMISSION = re.compile(r"[a-z_]+\.[a-z_]+\.[a-z_]+")


class PolicyError(ValueError):
    """Methods whose declaration does not allow to serve them; one line each."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method: `name` is "quintet.identity.v1.DirectoryService/PutZone", times are seconds.

    streams: it answers with a stream.
    """

    name: str
    access: Access
    request_type: type[Message]
    response_type: type[Message]
    deadline_s: float
    zone_of: Callable[[Message], str] | None
    standard: bool
    streams: bool = False

    @property
    def path(self) -> str:
        return "/" + self.name

    def decode(self, data: bytes) -> Message:
        """Return the request. Raises Invalid for bytes that are none (grpc would answer with the parser's words)."""
        try:
            request = self.request_type.FromString(data)
        except DecodeError as error:
            raise Invalid("", f"the request is not a {self.request_type.DESCRIPTOR.full_name}") from error
        if not self.standard:
            rules.validate(request)
        return request

    def encode(self, response: Message) -> bytes:
        """Return the bytes of a response. Raises TypeError for a message of another type."""
        if not isinstance(response, self.response_type):
            raise TypeError(f"{self.name} returned {type(response).__name__}")
        return response.SerializeToString()


def methods_of(services: Iterable[ServiceDescriptor]) -> dict[str, Method]:
    """Return every method by its path. Raises PolicyError naming all methods that cannot be served."""
    found: dict[str, Method] = {}
    faults: list[str] = []
    for service in services:
        for method in service.methods:
            try:
                made = _method(service, method)
            except ValueError as error:
                faults.append(f"{service.full_name}/{method.name}: {error}")
            else:
                found[made.path] = made
    if faults:
        raise PolicyError("\n".join(faults))
    return found


def access_of(method: MethodDescriptor) -> Access | None:
    """Return what the method declares, None when it declares nothing."""
    options = method.GetOptions()
    return options.Extensions[options_pb2.access] if options.HasExtension(options_pb2.access) else None


def _method(service: ServiceDescriptor, method: MethodDescriptor) -> Method:
    standard = service.full_name in STANDARD_SERVICES
    access = Access(public=True) if standard else access_of(method)
    if access is None:
        raise ValueError("declares no access")
    _check(access)
    if not standard:
        rules.compile_rules(method.input_type)
    default_s = STREAM_DEADLINE_DEFAULT_S if method.client_streaming or method.server_streaming else DEADLINE_DEFAULT_S
    return Method(
        name=f"{service.full_name}/{method.name}",
        access=access,
        request_type=GetMessageClass(method.input_type),
        response_type=GetMessageClass(method.output_type),
        deadline_s=float(access.deadline_s) or default_s,
        zone_of=_zone_reader(method.input_type, access.zone_field) if access.zone_field else None,
        standard=standard,
        streams=method.server_streaming,
    )


def _check(access: Access) -> None:
    ways = [bool(access.permission), access.public, access.signed_in, access.peer]
    if sum(ways) != 1:
        raise ValueError("must declare exactly one of permission, public, signed_in and peer")
    if access.permission and not _PERMISSION.fullmatch(access.permission):
        raise ValueError(f"{access.permission!r} is not a permission: <part>.<resource>.<verb>")
    if access.internal and not access.permission:
        raise ValueError("internal needs a permission")
    if access.zone_field and not access.permission:
        raise ValueError("zone_field needs a permission")


def _zone_reader(descriptor: Descriptor, path: str) -> Callable[[Message], str]:
    """Return what reads the zone code out of a request: the field holds a code or a name below "zones/"."""
    names = path.split(".")
    current: Descriptor | None = descriptor
    for index, name in enumerate(names):
        field = current.fields_by_name.get(name) if current is not None else None
        last = index == len(names) - 1
        if field is None or field.is_repeated or (last and field.type != FieldDescriptor.TYPE_STRING):
            raise ValueError(f"zone_field {path!r} is not a text field of {descriptor.full_name}")
        current = field.message_type

    def read(request: Message) -> str:
        value: Message | str = request
        for name in names:
            value = getattr(value, name)
        return str(value).removeprefix("zones/").partition("/")[0]

    return read
