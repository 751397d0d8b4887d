"""The services that a node runs in its own process."""

import asyncio
import importlib
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime

from deploy.runtime import ServerStatus, State
from libs import telemetry
from libs.config import PARTS, NodeConfig
from libs.host import Part, Running, run_part

READY_TIMEOUT_S = 60.0


def load_parts(names: Sequence[str]) -> list[Part]:
    """The parts by name, loaded only now: those that run elsewhere cost nothing here."""
    return [importlib.import_module(f"services.{name}.wiring").PART for name in names]


def parse_services(text: str) -> list[str]:
    """The names in "all", "none", or a list with commas. ValueError for a name that is no part."""
    names = {"all": list(PARTS), "none": []}.get(text)
    if names is None:
        names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: not a service; there are {', '.join(PARTS)}")
    return names


@dataclass
class _Hosted:
    part: Part
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    running: Running | None = None
    since: datetime = field(default_factory=lambda: datetime.now(UTC))


class Services:
    """Each listens on a port of its own, as it would in a process of its own, and keeps its background work running.

    Work that crashes is started again after growing delays (libs.supervisor); until it runs well its service is not
    ready, and so neither is the node.
    """

    def __init__(self, parts: Sequence[Part], config: NodeConfig) -> None:
        self._config = config
        self._hosted = [_Hosted(part) for part in parts]

    @property
    def names(self) -> list[str]:
        return [hosted.part.name for hosted in self._hosted]

    async def start(self) -> None:
        """Returns when all listen; raises what keeps the first from it (see libs.host.run_part). Then call stop."""
        # The others ask identity for zones and keys as soon as they run.
        first = [hosted for hosted in self._hosted if hosted.part.name == "identity"]
        for hosted in first:
            await self._start(hosted)
        try:
            async with asyncio.TaskGroup() as group:
                for hosted in self._hosted:
                    if hosted not in first:
                        group.create_task(self._start(hosted), name=f"start {hosted.part.name}")
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def until_ready(self) -> None:
        """Returns when the health of all says SERVING; TimeoutError naming those that do not within READY_TIMEOUT_S."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                for hosted in self._hosted:
                    if hosted.running is not None:
                        await hosted.running.until_ready()
        except TimeoutError:
            late = [status.name for status in self.status() if status.state is not State.RUNNING]
            raise TimeoutError(f"not ready within {READY_TIMEOUT_S:.0f} s: {', '.join(late)}") from None

    async def stop(self) -> None:
        """Ends calls in flight and background work, then connections. Safe to call at any time, and twice."""
        await asyncio.gather(*(hosted.stack.aclose() for hosted in self._hosted))
        for hosted in self._hosted:
            hosted.running = None

    def status(self) -> tuple[ServerStatus, ...]:
        return tuple(_status(hosted) for hosted in self._hosted)

    async def _start(self, hosted: _Hosted) -> None:
        hosted.running = await hosted.stack.enter_async_context(run_part(hosted.part, self._config))
        hosted.since = datetime.now(UTC)


def _status(hosted: _Hosted) -> ServerStatus:
    running, name = hosted.running, hosted.part.name
    if running is None:
        state, crashed = State.STOPPED, []
    else:
        crashed = sorted(running.supervisor.unhealthy)
        state = State.RESTARTING if crashed else State.RUNNING if running.ready else State.STARTING
    failure = f"crashed: {', '.join(crashed)}" if crashed else ""
    return ServerStatus(name, state, os.getpid(), _restarts(name), failure, hosted.since)


def _restarts(part: str) -> int:
    """How often background work of the part was started again since the process began."""
    samples = [sample for metric in telemetry.TASK_RESTARTS.collect() for sample in metric.samples]
    mine = [one.value for one in samples if one.labels.get("part") == part and one.name.endswith("_total")]
    return int(sum(mine))
