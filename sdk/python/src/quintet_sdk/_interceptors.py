from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

import grpc
import grpc.aio

from quintet_sdk._errors import QuintetError
from quintet_sdk._session import Session

# Called to get a token, so they carry none.
_WITHOUT_TOKEN = ("/quintet.identity.v1.IdentityService/SignIn", "/quintet.identity.v1.IdentityService/RefreshSession")

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


def _method(details: grpc.aio.ClientCallDetails) -> str:
    # grpc hands the name over as bytes, whatever its types say.
    name: str | bytes = details.method
    return name.decode() if isinstance(name, bytes) else name


def _prepared(details: grpc.aio.ClientCallDetails, token: str, timeout_s: float | None) -> grpc.aio.ClientCallDetails:
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    if token:
        metadata.add("authorization", f"Bearer {token}")
    timeout = timeout_s if details.timeout is None else details.timeout
    return grpc.aio.ClientCallDetails(details.method, timeout, metadata, details.credentials, details.wait_for_ready)


class UnaryCalls(grpc.aio.UnaryUnaryClientInterceptor):
    """Gives every call a deadline and the token, renews a refused token once, and raises QuintetError."""

    def __init__(self, session: Callable[[], Session], deadline_s: float) -> None:
        self._session = session
        self._deadline_s = deadline_s

    async def intercept_unary_unary(
        self,
        continuation: Callable[
            [grpc.aio.ClientCallDetails, _Request], Awaitable[grpc.aio.UnaryUnaryCall[_Request, _Response]]
        ],
        client_call_details: grpc.aio.ClientCallDetails,
        request: _Request,
    ) -> _Response:
        async def send(token: str) -> _Response:
            call = await continuation(_prepared(client_call_details, token, self._deadline_s), request)
            return await call

        with_token = _method(client_call_details) not in _WITHOUT_TOKEN
        token = await self._session().token() if with_token else ""
        try:
            return await send(token)
        except grpc.aio.AioRpcError as error:
            # The service did nothing yet, so the call may be sent again.
            refused = bool(token) and error.code() is grpc.StatusCode.UNAUTHENTICATED
            if not (refused and await self._session().renew(token)):
                raise QuintetError.of(error) from error
        try:
            return await send(await self._session().token())
        except grpc.aio.AioRpcError as error:
            raise QuintetError.of(error) from error


class StreamCalls(grpc.aio.StreamStreamClientInterceptor):
    """Gives a stream the token and raises QuintetError; the server sets the deadline of a stream."""

    def __init__(self, session: Callable[[], Session]) -> None:
        self._session = session

    async def intercept_stream_stream(
        self,
        continuation: Callable[
            [grpc.aio.ClientCallDetails, AsyncIterable[_Request] | Iterable[_Request]],
            Awaitable[grpc.aio.StreamStreamCall[_Request, _Response]],
        ],
        client_call_details: grpc.aio.ClientCallDetails,
        request_iterator: AsyncIterable[_Request] | Iterable[_Request],
    ) -> AsyncIterator[_Response]:
        token = await self._session().token()
        call = await continuation(_prepared(client_call_details, token, None), request_iterator)
        return _answers(call)


async def _answers(call: grpc.aio.StreamStreamCall[_Request, _Response]) -> AsyncIterator[_Response]:
    try:
        async for response in call:
            yield response
    except grpc.aio.AioRpcError as error:
        raise QuintetError.of(error) from error
