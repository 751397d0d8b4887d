"""Background work of a service: what crashes is logged, started again after growing delays, and makes it not ready."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog

from libs import telemetry
from libs.backoff import Backoff

RESTART_DELAY_FIRST_S = 0.5
RESTART_DELAY_MAX_S = 30.0
STABLE_S = 5.0  # a restarted task counts as healthy after this time
# Longer than tidying up takes: servers are given libs.rpc.STOP_GRACE_S.
CANCEL_AGAIN_S = 12.0
CANCELS_MAX = 3

Work = Callable[[], Awaitable[None]]

log = structlog.get_logger()


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks in their order and wait for their end, however they end.

    One that has lost its cancellation, as code of others may let happen, is cancelled again, CANCELS_MAX times in all.
    """
    left = list(tasks)
    for _ in range(CANCELS_MAX):
        for task in left:
            task.cancel()
        if not left:
            return
        done, waiting = await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # seen
        left = [task for task in left if task in waiting]
    if left:
        log.error("tasks.do_not_end", tasks=[task.get_name() for task in left])


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
        await end(reversed(self._tasks))
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
