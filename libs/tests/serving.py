"""A server with the sample service over a real port, and channels to it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from libs.access import Grant, Scope, current_caller, renewed_caller
from libs.context import caller_subject, rpc_method
from libs.errors import NotFound, Reason, Stale
from libs.methods import MESSAGE_BYTES_MAX
from libs.rpc import Server, channel
from libs.tests import callers, sample
from libs.tests.sample import Response
from libs.tokens import ServiceSigner

OFFICER = "people/officer.d10"
RESIDENT = "people/resident.01"
READ = "sample.things.read"

GRANTS = callers.StaticGrants(
    {
        OFFICER: callers.grants(
            OFFICER,
            Grant("sample.things.write", Scope.ORGANISATION, "us-ca-sf-d10", "organisations/works"),
            Grant("sample.things.read", Scope.ZONE, "us-ca-sf-d10"),
            Grant("sample.things.sync", Scope.ZONE, "us-ca-sf"),
        ),
        RESIDENT: callers.grants(RESIDENT),
        "services/management": callers.grants(
            "services/management",
            Grant("sample.things.sync", Scope.ZONE),
            Grant("sample.things.read", Scope.ZONE),
        ),
    }
)


class Servicer:
    """Does what the request's name asks for."""

    def __init__(self) -> None:
        self.sleeping = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def Open(self, request: Any, context: Any) -> Any:
        if request.name == "raise":
            raise KeyError("the secret 42")
        if request.name == "missing":
            raise NotFound(Reason.EVENT_NOT_FOUND, "zones/a/events/1 没有", name="zones/a/events/1")
        if request.name == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(self._stale())
        if request.name == "wrong":
            return request
        if request.name == "large":
            return Response(text="x" * MESSAGE_BYTES_MAX)
        if request.name == "sleep":
            try:
                self.sleeping.set()
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return Response(text=rpc_method.get(), subject=caller_subject.get())

    async def _stale(self) -> None:
        raise Stale(Reason.ETAG_STALE)

    async def Mine(self, request: Any, context: Any) -> Any:
        return Response(subject=current_caller().subject)

    Inside = Change = Mine

    async def Read(self, request: Any, context: Any) -> Any:
        await asyncio.sleep(60 if request.name == "sleep" else 0)
        return Response(text=f"{context.time_remaining():.0f}" if context.time_remaining() else "none")

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for index in range(request.count):
            yield Response(text=str(index))
        if request.name == "raise":
            raise KeyError("the secret 42")
        if request.name == "wrong":
            yield request
        if request.name == "missing":
            raise NotFound(Reason.EVENT_NOT_FOUND)

    async def Upload(self, requests: AsyncIterator[Any], context: Any) -> Any:
        return Response(text=",".join([request.name async for request in requests]))

    async def Talk(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            if request.name == "again":
                yield Response(subject=(await renewed_caller()).subject, text=str(current_caller().allows(READ)))
            else:
                yield Response(text=request.name)


class Running:
    """A server with the sample service, and channels to it."""

    def __init__(self, server: Server, servicer: Servicer, address: str) -> None:
        self.server = server
        self.servicer = servicer
        self.address = address
        self.channels: list[grpc.aio.Channel] = []

    def stub(self, subject: str = "", **claims: Any) -> sample.Stub:
        """Return a plain grpc stub with an access token: what somebody outside uses."""
        self.channels.append(grpc.aio.insecure_channel(self.address))
        stub = sample.Stub(self.channels[-1], sample.SAMPLE)
        if subject:
            bearer = ("authorization", f"Bearer {callers.token(subject, **claims)}")
            for name, call in vars(stub).items():
                setattr(stub, name, _with_metadata(call, bearer))
        return stub

    def service_stub(self, part: str = "management", **options: Any) -> sample.Stub:
        """Return a stub over our own channel: what a service uses."""
        signer = ServiceSigner(part, callers.SERVICE_KEYS[part])
        self.channels.append(channel(self.address, signer=signer, dependency="sample", **options))
        return sample.Stub(self.channels[-1], sample.SAMPLE)


def _with_metadata(call: Any, header: tuple[str, str]) -> Any:
    return lambda request, metadata=(), **options: call(request, metadata=(*metadata, header), **options)
