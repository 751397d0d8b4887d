"""Background work of a service: what crashes is logged, started again after growing delays, and makes it not ready."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from libs import telemetry
from libs.backoff import Backoff

RESTART_DELAY_FIRST_S = 0.5
RESTART_DELAY_MAX_S = 30.0
STABLE_S = 5.0  # a restarted task counts as healthy after this time

Work = Callable[[], Awaitable[None]]

log = structlog.get_logger()


class Supervisor:
    """Runs named endless work. Work that returns is done; work that raises is started again."""

    def __init__(self, part: str, changed: Callable[[], None]) -> None:
        """`changed` is called whenever what `unhealthy` returns may have changed."""
        self._part = part
        self._changed = changed
        self._unhealthy: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def unhealthy(self) -> frozenset[str]:
        """The names of the work that crashed and has not yet run well again."""
        return frozenset(self._unhealthy)

    def start(self, work: Mapping[str, Work]) -> None:
        for name, run in work.items():
            self._tasks.append(asyncio.create_task(self._keep_running(name, run), name=f"{self._part}.{name}"))

    async def stop(self) -> None:
        """Cancel everything, the last started first, and wait for its end."""
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _keep_running(self, name: str, run: Work) -> None:
        backoff = Backoff(RESTART_DELAY_FIRST_S, RESTART_DELAY_MAX_S)
        while True:
            settled = asyncio.get_running_loop().call_later(STABLE_S, self._settle, name, backoff)
            try:
                await run()
            except Exception:
                log.exception("task.crashed", part=self._part, task=name)
                telemetry.TASK_RESTARTS.labels(self._part, name).inc()
                self._unhealthy.add(name)
                self._changed()
            else:
                self._settle(name, backoff)
                return
            finally:
                settled.cancel()
            await backoff.wait()

    def _settle(self, name: str, backoff: Backoff) -> None:
        backoff.reset()
        if name in self._unhealthy:
            self._unhealthy.discard(name)
            self._changed()
