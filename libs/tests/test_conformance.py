"""The checks of libs.conformance find what they look for: each is shown a server that does it wrong."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from libs.access import Grant, Scope
from libs.conformance import broken_by_bad_input, closed_to_people, open_without_permission
from libs.rpc import Server, TokenAuthenticator
from libs.tests import callers, sample
from libs.tests.sample import Response

ALL, NOBODY = "people/all", "people/nobody"
PERMISSIONS = ("sample.things.read", "sample.things.write", "sample.things.sync")
GRANTS = callers.StaticGrants(
    {ALL: callers.grants(ALL, *(Grant(p, Scope.ZONE) for p in PERMISSIONS)), NOBODY: callers.grants(NOBODY)}
)


class Good:
    """Keeps to its declarations: the interceptor does the rest."""

    async def Open(self, request: Any, context: Any) -> Any:
        return Response(text=request.name)

    Mine = Inside = Change = Read = Open

    async def Upload(self, requests: AsyncIterator[Any], context: Any) -> Any:
        return Response(text=str(len([request async for request in requests])))

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield Response()

    async def Talk(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for _ in requests:
            yield Response()


class Fragile(Good):
    """Fails on input that its declarations let through."""

    async def Read(self, request: Any, context: Any) -> Any:
        return Response(text=str(100 // request.level))


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Any], Any]]:
    servers: list[Any] = []

    async def start(servicer: Any, *, plain: bool = False) -> str:
        made: Any
        if plain:
            made = grpc.aio.server()
            sample.registrar(sample.SAMPLE)(servicer, made)
            port = made.add_insecure_port("127.0.0.1:0")
            await made.start()
        else:
            made = Server("sample", TokenAuthenticator(callers.verifier(), GRANTS))
            made.add(sample.registrar(sample.SAMPLE), servicer, sample.SAMPLE)
            port = await made.start()
        servers.append(made)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(0)


async def test_a_server_of_ours_passes(serve: Any) -> None:
    address = await serve(Good())
    assert await open_without_permission(address, [sample.SAMPLE], nobody=callers.token(NOBODY)) == []
    assert await closed_to_people(address, [sample.SAMPLE], everything=callers.token(ALL)) == []
    assert await broken_by_bad_input(address, [sample.SAMPLE], token=callers.token(ALL)) == []


async def test_methods_that_anybody_may_call_are_found(serve: Any) -> None:
    address = await serve(Good(), plain=True)
    faults = await open_without_permission(address, [sample.SAMPLE], nobody=callers.token(NOBODY))
    methods = {fault.partition(":")[0].rpartition("/")[2] for fault in faults}
    assert methods == {"Mine", "Inside", "Change", "Read", "Watch", "Upload", "Talk"}
    (fault,) = await closed_to_people(address, [sample.SAMPLE], everything=callers.token(ALL))
    assert fault.endswith("Inside: answers OK to a person")


async def test_a_method_that_fails_on_bad_input_is_found(serve: Any) -> None:
    address = await serve(Fragile())
    faults = await broken_by_bad_input(address, [sample.SAMPLE], token=callers.token(ALL))
    assert [fault.split(" to ")[0] for fault in faults] == [
        "/quintet.sample.v1.SampleService/Read: answers INTERNAL",
    ]


async def test_undeclared_methods_are_found(serve: Any) -> None:
    address = await serve(Good(), plain=True)
    faults = await open_without_permission(address, [sample.UNDECLARED], nobody="x")
    assert faults == ["/quintet.sample.v1.UndeclaredService/Forgotten: declares no access"]
