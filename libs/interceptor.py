"""The one interceptor through which every call of a server goes. In order:

    deadline > trace > in flight > [ authenticate > permission > rules > zone > the method ] > errors > metrics

Who calls is settled before the request is read, so that without a token nothing is learnt but that one is needed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Protocol, Self

import grpc
import structlog
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from libs import telemetry
from libs.access import ANONYMOUS, Caller, GrantSource, Kind, current_caller, set_caller, set_renewal
from libs.context import deadline, rpc_method
from libs.errors import (
    DETAILS_KEY,
    DOMAIN,
    Away,
    DomainError,
    Exhausted,
    Forbidden,
    Reason,
    TooLate,
    Unauthenticated,
    to_status,
)
from libs.methods import MESSAGE_BYTES_MAX, Method
from libs.tokens import TokenVerifier

CALLS_IN_FLIGHT_MAX = 1000

log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]
# The stubs describe the handlers of the synchronous server only.
Handler = Any


class Authenticator(Protocol):
    """Says who calls: by token on a node's own ports, by certificate on federation's."""

    async def authenticate(self, method: Method, token: str, context: Context) -> Caller:
        """Return the caller; ANONYMOUS without credentials. Raises Unauthenticated for ones that do not hold, Away."""
        ...


class TokenAuthenticator:
    """Callers of the node's own ports: people, service accounts and services, by their tokens."""

    def __init__(self, verifier: TokenVerifier, grants: GrantSource) -> None:
        self._verifier = verifier
        self._grants = grants

    async def authenticate(self, method: Method, token: str, context: Context) -> Caller:
        if not token or method.standard:
            return ANONYMOUS
        try:
            claims = await self._verifier.verify(token)
            grants = await self._grants.grants(claims.subject, claims.session)
        except DomainError:
            # A method that is open to everybody stays open to those whose token has run out.
            if method.access.public:
                return ANONYMOUS
            raise
        if not grants.active:
            if method.access.public:
                return ANONYMOUS
            raise Unauthenticated(Reason.SESSION_ENDED, "the session has ended or the account is disabled")
        kind = Kind.SERVICE if claims.is_service else Kind.PERSON
        return Caller(claims.subject, kind, grants, token, claims.session)


def authorise(method: Method, caller: Caller) -> None:
    """Raise Unauthenticated or Forbidden unless `caller` may call the method at all."""
    access = method.access
    if access.public:
        return
    if access.peer:
        if caller.kind is not Kind.PEER:
            raise Forbidden(Reason.PEERS_ONLY, "only other nodes may call this")
        return
    if caller.kind is Kind.ANONYMOUS:
        raise Unauthenticated(Reason.TOKEN_MISSING, "a token is needed: authorization: Bearer <token>")
    if access.internal and caller.kind is not Kind.SERVICE:
        raise Forbidden(Reason.SERVICES_ONLY, "only services of this node may call this")
    if access.permission and not caller.grants.holds(access.permission):
        raise _forbidden(access.permission, "")


def authorise_zone(method: Method, caller: Caller, request: Message) -> None:
    """Raise Forbidden when the request names a zone in which the method's permission is not held in any scope."""
    zone = method.zone_of(request) if method.zone_of is not None else ""
    if zone and not caller.grants.holds(method.access.permission, zone):
        raise _forbidden(method.access.permission, zone)


def _forbidden(permission: str, zone: str) -> Forbidden:
    text = f"{permission} is not granted" + (f" in {zone}" if zone else "")
    return Forbidden(Reason.NOT_PERMITTED, text, permission=permission, zone=zone)


class Interceptor(grpc.aio.ServerInterceptor):
    """Wraps the handlers of the methods it knows; every other method is UNIMPLEMENTED."""

    def __init__(self, part: str, methods: Mapping[str, Method], authenticator: Authenticator) -> None:
        self.part = part
        self.in_flight = 0
        telemetry.RPC_IN_FLIGHT.labels(part).set_function(lambda: self.in_flight)
        self._seconds: dict[tuple[str, grpc.StatusCode], telemetry.Histogram] = {}
        self._methods = methods
        self._authenticator = authenticator
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        # Nothing here may raise: grpc would answer with the error's text. It answers None with UNIMPLEMENTED.
        path = handler_call_details.method
        wrapped = self._wrapped.get(path)
        if wrapped is None:
            method = self._methods.get(path)
            if method is None:
                return None
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            wrapped = self._wrapped[path] = self._wrap(method, handler)
        return wrapped

    def observe(self, method: Method, code: grpc.StatusCode, seconds: float) -> None:
        metric = self._seconds.get((method.name, code))
        if metric is None:
            metric = telemetry.RPC_SECONDS.labels(self.part, method.name, code.name)
            self._seconds[method.name, code] = metric
        metric.observe(seconds)

    def _wrap(self, method: Method, handler: Handler) -> Handler:
        """Return a handler that gets bytes, so that all decoding and encoding happens where errors are mapped."""

        async def unary_unary(data: bytes, context: Context) -> bytes:
            async with Call(self, method, context) as call:
                request = await self._admit(call, data)
                return call.encode(await handler.unary_unary(request, context))

        async def unary_stream(data: bytes, context: Context) -> None:
            async with Call(self, method, context) as call:
                request = await self._admit(call, data)
                await _write_all(handler.unary_stream(request, context), context)

        async def stream_unary(requests: AsyncIterator[Message], context: Context) -> bytes:
            async with Call(self, method, context) as call:
                await self._admit(call, None)
                return call.encode(await handler.stream_unary(requests, context))

        async def stream_stream(requests: AsyncIterator[Message], context: Context) -> None:
            async with Call(self, method, context) as call:
                await self._admit(call, None)
                await _write_all(handler.stream_stream(requests, context), context)

        def next_request(data: bytes) -> Message:
            # Runs when the method reads, inside of it: every message of a stream is checked as a single one would be.
            return _checked(method, current_caller(), data)

        make: Any = grpc
        if not handler.request_streaming and not handler.response_streaming:
            return make.unary_unary_rpc_method_handler(unary_unary)
        if not handler.request_streaming:
            return make.unary_stream_rpc_method_handler(unary_stream, None, method.encode)
        if not handler.response_streaming:
            return make.stream_unary_rpc_method_handler(stream_unary, next_request)
        return make.stream_stream_rpc_method_handler(stream_stream, next_request, method.encode)

    async def _admit(self, call: "Call", data: bytes | None) -> Message | None:
        """Settle who calls and whether they may, and return the checked request (None for a stream of them)."""
        method = call.method
        caller = await self._authenticator.authenticate(method, call.token, call.context)
        set_caller(caller)
        authorise(method, caller)
        request = None if data is None else _checked(method, caller, data)
        if method.streams:
            set_renewal(lambda: self._settle(call, request))
        return request

    async def _settle(self, call: "Call", request: Message | None) -> Caller:
        """Return who calls as they are now, if they may still."""
        caller = await self._authenticator.authenticate(call.method, call.token, call.context)
        authorise(call.method, caller)
        if request is not None:
            authorise_zone(call.method, caller, request)
        return caller


def _checked(method: Method, caller: Caller, data: bytes) -> Message:
    request = method.decode(data)
    authorise_zone(method, caller, request)
    return request


async def _write_all(responses: Any, context: Context) -> None:
    if not hasattr(responses, "__aiter__"):
        await responses  # a method that writes to the context itself
        return
    # Written here and not handed to grpc, so that the deadline also covers a client that does not read.
    async with aclosing(responses):
        async for response in responses:
            await context.write(response)


class Call:
    """One call from its headers to its status: what frames the method, on entry and on exit."""

    __slots__ = ("_code", "_owner", "_span", "_started", "_timeout", "context", "method", "token")

    def __init__(self, owner: Interceptor, method: Method, context: Context) -> None:
        self._owner = owner
        self._started = time.perf_counter()
        self._code = grpc.StatusCode.OK
        self.method = method
        self.context = context
        self.token = parent = ""
        for key, value in context.invocation_metadata() or ():
            if key == "authorization" and isinstance(value, str):
                self.token = value[7:].strip() if value[:7].lower() == "bearer " else "unreadable"
            elif key == "traceparent" and isinstance(value, str):
                parent = telemetry.extract(value)
        left_s: float | None = context.time_remaining()  # the stubs do not say None: without a deadline
        # grpc itself cancels at the client's deadline; a timer of ours is needed only where the method's is sooner.
        self._timeout = None
        if left_s is None or left_s > method.deadline_s:
            left_s = method.deadline_s
            self._timeout = asyncio.timeout(left_s)
        deadline.set(asyncio.get_running_loop().time() + left_s)
        rpc_method.set(method.name)
        self._span = telemetry.span(method.name, kind=telemetry.SpanKind.SERVER, parent=parent)

    async def __aenter__(self) -> Self:
        self._span.__enter__()
        self._owner.in_flight += 1
        if self._owner.in_flight > CALLS_IN_FLIGHT_MAX and not self.method.standard:
            error = Away(Reason.TOO_BUSY, f"more than {CALLS_IN_FLIGHT_MAX} calls at once")
            try:
                await self._abort(to_status(error), error.code)
            finally:
                self._finish()
        if self._timeout is not None:
            await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            error = await self._timed(kind, error, trace)
            if error is not None:
                await self._answer(error)
        finally:
            self._finish()

    async def _timed(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> BaseException | None:
        """Return what was raised, or in its place that the method's own time ran out."""
        try:
            if self._timeout is not None:
                await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            return TooLate(Reason.DEADLINE, f"the call took longer than {self.method.deadline_s:g} s")
        return error

    def encode(self, response: Message) -> bytes:
        data = self.method.encode(response)
        if len(data) > MESSAGE_BYTES_MAX:
            text = f"the answer has {len(data)} bytes; {MESSAGE_BYTES_MAX} are allowed: ask for smaller pages"
            raise Exhausted(Reason.MESSAGE_TOO_LARGE, text)
        return data

    async def _answer(self, error: BaseException) -> None:
        """Turn what the method raised into the status that the caller sees; return when it is to pass as it is."""
        if isinstance(error, asyncio.CancelledError):
            # The caller is gone or its time is up: nobody reads a status.
            late = self.context.time_remaining() == 0
            self._code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            return
        if isinstance(error, grpc.aio.AbortError):
            self._code = self.context.code()
            return
        error = _only_domain_errors(error)
        if isinstance(error, DomainError):
            await self._abort(to_status(error), error.code)
        elif isinstance(error, Exception):
            log.error("rpc.failed", part=self._owner.part, method=self.method.name, exc_info=error)
            await self._abort(_internal(), grpc.StatusCode.INTERNAL)

    async def _abort(self, status: status_pb2.Status, code: grpc.StatusCode) -> None:
        self._code = code
        await self.context.abort(code, status.message, ((DETAILS_KEY, status.SerializeToString()),))

    def _finish(self) -> None:
        if self._code is not grpc.StatusCode.OK:
            self._span.failed(self._code.name)
        self._span.__exit__(None, None, None)
        self._owner.in_flight -= 1
        self._owner.observe(self.method, self._code, time.perf_counter() - self._started)


def _internal() -> status_pb2.Status:
    """Return what is told of an unexpected error: nothing but the trace by which we find it in our logs."""
    info = error_details_pb2.ErrorInfo(domain=DOMAIN, reason="INTERNAL", metadata={"trace_id": telemetry.trace_id()})
    status = status_pb2.Status(code=grpc.StatusCode.INTERNAL.value[0], message="internal error")
    status.details.add().Pack(info)
    return status


def _only_domain_errors(error: BaseException) -> BaseException:
    """Return the first error of a task group when all that failed in it are domain errors."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_only_domain_errors(leaf) for leaf in error.exceptions]
    return leaves[0] if all(isinstance(leaf, DomainError) for leaf in leaves) else error
