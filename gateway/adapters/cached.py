"""Answers that are asked for by anybody, and often: fetched by one, shared by all who ask meanwhile."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cached(Generic[T]):
    """What `fetch` gave less than fresh_s seconds ago. Errors are not kept: the next who asks tries again."""

    def __init__(
        self, fetch: Callable[[], Awaitable[T]], fresh_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._fresh_s = fresh_s
        self._clock = clock
        self._fetching = asyncio.Lock()
        self._found: tuple[float, T] | None = None

    async def get(self) -> T:
        """Raises what fetch raises."""
        async with self._fetching:
            if self._found is None or self._clock() - self._found[0] >= self._fresh_s:
                value = await self._fetch()
                self._found = (self._clock(), value)
            return self._found[1]

    def last(self) -> tuple[float, T] | None:
        """The last answer, however old, with its age in seconds."""
        return None if self._found is None else (self._clock() - self._found[0], self._found[1])
