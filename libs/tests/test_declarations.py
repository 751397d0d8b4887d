"""Every method of every proto declares who may call it, and rules that hold together. A server would not start else."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import ServiceDescriptor

import quintet
from libs.methods import access_of, methods_of

SHARED = {"audit": "identity", "deadletter": "identity"}  # services of every part, whose permissions are those of one


def services() -> Iterator[ServiceDescriptor]:
    for module in pkgutil.walk_packages(quintet.__path__, "quintet."):
        if module.name.endswith("_pb2"):
            yield from importlib.import_module(module.name).DESCRIPTOR.services_by_name.values()


ALL = list(services())


def test_there_are_services() -> None:
    assert len(ALL) >= 7


@pytest.mark.parametrize("service", ALL, ids=lambda service: str(service.full_name))
def test_every_method_can_be_served(service: ServiceDescriptor) -> None:
    methods = methods_of([service])
    assert len(methods) == len(service.methods)
    part = service.full_name.split(".")[1]
    for method in methods.values():
        permission = method.access.permission
        assert not permission or permission.startswith(f"{SHARED.get(part, part)}."), method.name


@pytest.mark.parametrize("service", ALL, ids=lambda service: str(service.full_name))
def test_internal_and_peer_methods_have_no_rest_route(service: ServiceDescriptor) -> None:
    for method in service.methods:
        access = access_of(method)
        assert access is not None
        routes = [option.name for option, _ in method.GetOptions().ListFields() if option.name == "http"]
        assert not routes or not (access.internal or access.peer), method.name
