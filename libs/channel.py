"""The channel with which a service calls another: deadline, trace and token go along, errors come back as ours.

    stub = DirectoryServiceStub(channel("127.0.0.1:9001", signer=signer, dependency="identity"))
    response = await stub.GetZone(request)              # or timeout=20 where 5 s are too short

A call with one response is awaited; one with many is iterated (or read and written). Raises DomainErrors only, apart
from RemoteFaultError: Away when the other does not answer, else what the other raised.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from math import inf
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from libs import telemetry
from libs.access import current_caller
from libs.context import deadline
from libs.errors import (
    DETAILS_KEY,
    Away,
    Exhausted,
    Forbidden,
    Reason,
    TooLate,
    Unauthenticated,
    from_status,
)
from libs.methods import MESSAGE_BYTES_MAX
from libs.tokens import ServiceSigner

CALL_CAP_S = 5.0
STREAM_CAP_S = 3600.0
RESOLVE_AGAIN_S = 1.0  # an address is looked up again at most this often
CLOSE_GRACE_S = 1.0
# A service that restarts is back within seconds; grpc's own default waits up to two minutes.
RECONNECT_DELAY_FIRST_S = 0.1
RECONNECT_DELAY_MAX_S = 2.0
# On a busy machine a service greets late.
CONNECT_TIMEOUT_S = 5.0

CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX + 1024),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", int(RECONNECT_DELAY_FIRST_S * 1000)),
    ("grpc.max_reconnect_backoff_ms", int(RECONNECT_DELAY_MAX_S * 1000)),
    # The name does not say it: how long an attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT_S * 1000)),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


class RemoteFaultError(Exception):
    """The other service failed in a way that is a fault of one of us: nothing that the caller could act on."""


def channel(
    address: str | Callable[[], str],
    *,
    signer: ServiceSigner | None = None,
    as_caller: bool = False,
    token: str = "",
    dependency: str = "",
    cap_s: float = CALL_CAP_S,
    credentials: grpc.ChannelCredentials | None = None,
) -> "Channel":
    """Return a channel; it connects with the first call. `close` it, or use it as an async context manager.

    `address` is host:port, or a function that is asked again when the other does not answer. Calls carry the
    service's own token (`signer`), or with `as_caller` the token of the caller being served, or this `token`, or none.
    `dependency` names the other in errors. `cap_s` bounds a call, in seconds, that asks for no other timeout; the
    deadline of the call being served bounds every call.
    """
    resolve = address if callable(address) else lambda: address
    connection = _Connection(resolve, dependency or "peer", credentials)
    return Channel(connection, signer, as_caller=as_caller, cap_s=cap_s, token=token)


class _Connection:
    """The connection that channels with different tokens share; moves to a new address when the other moved."""

    def __init__(
        self, resolve: Callable[[], str], dependency: str, credentials: grpc.ChannelCredentials | None
    ) -> None:
        self.dependency = dependency
        self._resolve = resolve
        self._credentials = credentials
        self._address = ""
        self._resolved_at = -inf
        self._inner: grpc.aio.Channel | None = None
        self._calls: dict[str, Any] = {}

    def multicallable(self, kind: str, method: str, serializer: Any, deserializer: Any) -> Any:
        """Return grpc's own callable of a method. Raises Away when the other's address is not known."""
        found = self._calls.get(method)
        if found is None:
            make = getattr(self.inner(), kind)
            found = self._calls[method] = make(
                method, request_serializer=serializer, response_deserializer=deserializer
            )
        return found

    def inner(self) -> grpc.aio.Channel:
        if self._inner is None:
            self._address = self._resolve()
            if not self._address:
                raise Away(Reason.DEPENDENCY_AWAY, f"{self.dependency} is not running", dependency=self.dependency)
            self._inner = self._connect(self._address)
        return self._inner

    async def failed(self) -> None:
        """The other does not answer: see whether it has moved, for the next call."""
        now = asyncio.get_running_loop().time()
        if now - self._resolved_at >= RESOLVE_AGAIN_S:
            self._resolved_at = now
            if self._resolve() not in {"", self._address}:
                await self.close()

    async def close(self) -> None:
        before, self._inner = self._inner, None
        self._calls.clear()
        if before is not None:
            await before.close(CLOSE_GRACE_S)

    def _connect(self, address: str) -> grpc.aio.Channel:
        if self._credentials is not None:
            return grpc.aio.secure_channel(address, self._credentials, list(CHANNEL_OPTIONS))
        return grpc.aio.insecure_channel(address, list(CHANNEL_OPTIONS))


class Channel(grpc.aio.Channel):
    """What generated stubs are made with."""

    def __init__(
        self,
        connection: _Connection,
        signer: ServiceSigner | None,
        *,
        as_caller: bool,
        cap_s: float,
        token: str = "",
    ) -> None:
        self.connection = connection
        self.cap_s = cap_s
        self.own = signer is not None and not as_caller
        self._signer = signer
        self._as_caller = as_caller
        self._token = token

    def as_caller(self) -> "Channel":
        """Return a channel over the same connection that forwards the token of the caller being served."""
        return Channel(self.connection, self._signer, as_caller=True, cap_s=self.cap_s)

    def metadata(self, given: Any) -> list[tuple[str, str | bytes]]:
        """Return the headers of a call."""
        headers: list[tuple[str, str | bytes]] = list(given or ())
        token = self._token
        if self._as_caller:
            token = current_caller().token
        elif self._signer is not None:
            token = self._signer.token()
        if token:
            headers.append(("authorization", f"Bearer {token}"))
        trace = telemetry.traceparent()
        if trace:
            headers.append(("traceparent", trace))
        return headers

    # grpc asks for these four when a stub is made; the last parameter is what newer generated code passes.
    def unary_unary(self, method: str, *codec: Any, _registered_method: bool | None = None, **codecs: Any) -> Any:
        return _OneResponse(self, "unary_unary", method, *codec, **codecs)

    def stream_unary(self, method: str, *codec: Any, _registered_method: bool | None = None, **codecs: Any) -> Any:
        return _OneResponse(self, "stream_unary", method, *codec, **codecs)

    def unary_stream(self, method: str, *codec: Any, _registered_method: bool | None = None, **codecs: Any) -> Any:
        return _ManyResponses(self, "unary_stream", method, *codec, **codecs)

    def stream_stream(self, method: str, *codec: Any, _registered_method: bool | None = None, **codecs: Any) -> Any:
        return _ManyResponses(self, "stream_stream", method, *codec, **codecs)

    async def close(self, grace: float | None = None) -> None:
        await self.connection.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self.connection.inner().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self.connection.inner().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.connection.inner().channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Method:
    """One method of a stub."""

    def __init__(
        self,
        channel: Channel,
        kind: str,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
    ) -> None:
        self.channel = channel
        self.name = method.removeprefix("/")
        self._arguments = (kind, method, request_serializer, response_deserializer)

    def callable(self) -> Any:
        return self.channel.connection.multicallable(*self._arguments)

    def timeout(self, asked_s: float | None, cap_s: float) -> float:
        """Return the seconds that the call may take. Raises TooLate when there are none left."""
        left_s = deadline.get() - asyncio.get_running_loop().time()
        if left_s <= 0:
            raise TooLate(Reason.DEADLINE, "no time is left for another call")
        return min(left_s, asked_s or cap_s)

    async def fail(self, error: grpc.aio.AioRpcError) -> NoReturn:
        """Raise what the failed call means to us."""
        connection = self.channel.connection
        # UNIMPLEMENTED: another service may have taken the port that this one had before.
        if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED}:
            await connection.failed()
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and deadline.get() <= asyncio.get_running_loop().time():
            raise TooLate(Reason.DEADLINE, f"the time ran out while {connection.dependency} was asked") from error
        raise _meaning(error, connection.dependency, own=self.channel.own, method=self.name) from error


class _OneResponse(_Method):
    async def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - grpc's signature
        metadata: Any = None,
        wait_for_ready: bool | None = None,
    ) -> Any:
        timeout_s = self.timeout(timeout, self.channel.cap_s)
        with telemetry.span(self.name, kind=telemetry.SpanKind.CLIENT) as span:
            try:
                return await self.callable()(
                    request, timeout=timeout_s, metadata=self.channel.metadata(metadata), wait_for_ready=wait_for_ready
                )
            except grpc.aio.AioRpcError as error:
                span.failed(error.code().name)
                await self.fail(error)


class _ManyResponses(_Method):
    def __call__(
        self,
        request: Any = None,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        wait_for_ready: bool | None = None,
    ) -> "_Stream":
        timeout_s = self.timeout(timeout, STREAM_CAP_S)
        with telemetry.span(self.name, kind=telemetry.SpanKind.CLIENT):
            call = self.callable()(
                request, timeout=timeout_s, metadata=self.channel.metadata(metadata), wait_for_ready=wait_for_ready
            )
        return _Stream(self, call)


class _Stream:
    """A call with many responses; everything not named here is grpc's own call."""

    def __init__(self, method: _Method, call: Any) -> None:
        self._method = method
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for response in self._call:
                yield response
        except grpc.aio.AioRpcError as error:
            await self._method.fail(error)
        finally:
            # A reader that stops early leaves nothing open; after the end this does nothing.
            self._call.cancel()

    async def read(self) -> Any:
        """Return the next response, or grpc.aio.EOF at the end."""
        try:
            return await self._call.read()
        except grpc.aio.AioRpcError as error:
            await self._method.fail(error)

    async def write(self, request: Any) -> None:
        try:
            await self._call.write(request)
        except grpc.aio.AioRpcError as error:
            await self._method.fail(error)

    async def done_writing(self) -> None:
        try:
            await self._call.done_writing()
        except grpc.aio.AioRpcError as error:
            await self._method.fail(error)


def _meaning(error: grpc.aio.AioRpcError, dependency: str, *, own: bool, method: str) -> Exception:
    code = error.code()
    raised = from_status(_status(error))
    if own and isinstance(raised, Unauthenticated | Forbidden):
        # We asked for ourselves, and lack a right: whoever called us cannot mend that.
        return RemoteFaultError(f"{method}: {raised.reason}: {raised.message}")
    if raised is not None:
        return raised
    about = {"dependency": dependency, "method": method}
    if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
        return Away(Reason.DEPENDENCY_AWAY, f"{dependency} does not answer", **about)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Away(Reason.DEPENDENCY_SLOW, f"{dependency} did not answer in time", **about)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Exhausted(Reason.MESSAGE_TOO_LARGE, f"{dependency} could not take or send the message", **about)
    return RemoteFaultError(f"{method}: {code.name}: {error.details()}")


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break
    return status_pb2.Status()
