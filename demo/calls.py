"""Calls that are tried again for as long as a node may be away."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

from quintet_sdk import QuintetError

R = TypeVar("R")
T = TypeVar("T")

RETRY_DELAY_FIRST_S = 0.1
RETRY_DELAY_MAX_S = 2.0
# A killed node is back within seconds; one that is not back by then will not be.
PATIENCE_S = 180.0
_CODES = frozenset({
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
})  # fmt: skip
# Somebody else changed what the call is about: the same call cannot succeed.
ETAG_STALE = "ETAG_STALE"


class GaveUp(RuntimeError):
    """What was waited for did not come."""


async def patiently(call: Callable[[], Awaitable[T]], patience_s: float = PATIENCE_S) -> T:
    """Make the call until it succeeds or fails for good; it must carry a request_id when it changes anything."""
    deadline = time.monotonic() + patience_s
    delay_s = RETRY_DELAY_FIRST_S
    while True:
        try:
            return await call()
        except QuintetError as error:
            if error.code not in _CODES or error.reason == ETAG_STALE or time.monotonic() > deadline:
                raise
        await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - only to spread the attempts
        delay_s = min(delay_s * 2, RETRY_DELAY_MAX_S)


async def ask(call: Callable[[R], Awaitable[T]], request: R) -> T:
    """Patiently make one call of a service; a request that changes anything must carry a request_id."""
    return await patiently(lambda: call(request))


def first_failure(failures: BaseException) -> BaseException:
    """What went wrong first, taken out of the groups that it comes in."""
    while isinstance(failures, BaseExceptionGroup):
        failures = failures.exceptions[0]
    return failures


async def until(
    what: str, condition: Callable[[], Awaitable[bool]], timeout_s: float = PATIENCE_S, poll_s: float = 0.25
) -> None:
    """Wait until the condition holds. GaveUp, naming what was waited for, when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        if time.monotonic() > deadline:
            raise GaveUp(f"{what}: not within {timeout_s:.0f} s")
        await asyncio.sleep(poll_s)
