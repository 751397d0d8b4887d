"""The messages and services of sample.proto, compiled when the tests start."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import any_pb2, descriptor_pool, duration_pb2, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

from quintet.options.v1 import options_pb2

_HERE = Path(__file__).parent
_PROTOS = _HERE.parents[1] / "proto"
_GOOGLE = Path(protoc.__file__).parent / "_proto"


# Importing them loads what sample.proto imports into the pool.
_IMPORTED = (any_pb2, duration_pb2, struct_pb2, timestamp_pb2, options_pb2)


def _compile() -> Any:
    with tempfile.NamedTemporaryFile(suffix=".binpb") as out:
        arguments = [
            "",
            f"-I{_HERE}",
            f"-I{_PROTOS}",
            f"-I{_GOOGLE}",
            f"--descriptor_set_out={out.name}",
            "sample.proto",
        ]
        assert protoc.main(arguments) == 0
        files = FileDescriptorSet.FromString(Path(out.name).read_bytes())
    descriptor_pool.Default().Add(files.file[0])
    return descriptor_pool.Default().FindFileByName("sample.proto")


_file = _compile()
Request: Any = GetMessageClass(_file.message_types_by_name["Request"])
Required: Any = GetMessageClass(_file.message_types_by_name["Required"])
Response: Any = GetMessageClass(_file.message_types_by_name["Response"])
Thing: Any = GetMessageClass(_file.message_types_by_name["Thing"])
SAMPLE: ServiceDescriptor = _file.services_by_name["SampleService"]
UNDECLARED: ServiceDescriptor = _file.services_by_name["UndeclaredService"]
PEER: ServiceDescriptor = _file.services_by_name["PeerService"]


def registrar(service: ServiceDescriptor) -> Callable[[Any, Any], None]:
    """Return what generated code calls add_..._to_server."""

    def register(servicer: Any, server: Any) -> None:
        handlers = {}
        for method in service.methods:
            make = getattr(grpc, f"{_arity(method)}_rpc_method_handler")
            request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
            handlers[method.name] = make(
                getattr(servicer, method.name),
                request_deserializer=request.FromString,
                response_serializer=response.SerializeToString,
            )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        server.add_registered_method_handlers(service.full_name, handlers)

    return register


class Stub:
    """What generated code calls ...Stub; its methods are `stub.Open(request)`."""

    def __init__(self, channel: Any, service: ServiceDescriptor) -> None:
        for method in service.methods:
            call = getattr(channel, _arity(method))(
                f"/{service.full_name}/{method.name}",
                request_serializer=GetMessageClass(method.input_type).SerializeToString,
                response_deserializer=GetMessageClass(method.output_type).FromString,
                _registered_method=True,
            )
            setattr(self, method.name, call)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def _arity(method: MethodDescriptor) -> str:
    return f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
