"""The main job: residents file, offices work, a district dies and comes back, Beijing measures and shares."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from rich.progress import Progress, TaskID

from demo.air import Air, AirStream
from demo.calls import GaveUp, ask, first_failure, until
from demo.exchange import Exchange
from demo.filing import Filed, Filing
from demo.hall import Hall
from demo.joint import JointDisposal
from demo.nodes import CITY_NODES, Node
from demo.office import Office
from demo.people import Accounts, Clients
from demo.records import Record
from demo.timeline import FilingPosition
from quintet.delivery.v1.delivery_pb2 import REQUEST_STATUS_RECEIVED, ListRequestsRequest

KILLED = "sf-d10"
KILL_AT = 0.40
BACK_AT = 0.52
DOWN_MAX_S = 20.0
GATEWAY_ACCOUNT = "serviceAccounts/air-gateway"
BACKLOG_MAX = 150
ADMIT_POLL_S = 0.05
SHARE_POLL_S = 0.1
FINISH_TIMEOUT_S = 900.0


@dataclass(slots=True)
class Kill:
    """One SIGKILL of a whole node."""

    node: str
    processes: int = 0
    filed_meanwhile: int = 0
    down_s: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What the main job did, for the report."""

    filed: Filed = field(default_factory=Filed)
    kills: list[Kill] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    reworked: int = 0


class Job:
    """All of it, in parallel where it is so in life."""

    def __init__(
        self,
        nodes: dict[str, Node],
        clients: Clients,
        accounts: Accounts,
        records: Sequence[Record],
        air: Air,
        progress: Progress,
        tell: Callable[[str], None],
    ) -> None:
        self._nodes = nodes
        self._clients = clients
        self._records = records
        self._air = air
        self._progress = progress
        self._tell = tell
        self._accounts = accounts
        self._position = FilingPosition(records)
        self.outcome = Outcome()
        self.exchange = Exchange(clients)
        self.hall = Hall.of(clients)
        self.joint = JointDisposal(clients)
        self.stream: AirStream | None = None
        self._offices: list[Office] = []
        self._down: set[str] = set()

    async def run(self) -> Outcome:
        """Do the job; raises what went wrong first."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._timed("requests", self._requests()))
                group.create_task(self._timed("air and contract", self._beijing()))
                group.create_task(self._timed("service hall", self.hall.run()))
        except BaseExceptionGroup as failures:
            raise first_failure(failures) from None
        return self.outcome

    async def _timed(self, name: str, work: Coroutine[object, object, object]) -> None:
        started = time.monotonic()
        await work
        self.outcome.seconds[name] = time.monotonic() - started

    async def _requests(self) -> None:
        filing_bar = self._progress.add_task("requests filed", total=len(self._records))
        office_bar = self._progress.add_task("events finished", total=None)
        filing = Filing(
            self._nodes["sf"].url,
            self._accounts,
            self._records,
            self._position,
            admit=self._admit,
            told=lambda: self._progress.advance(filing_bar),
        )
        self.outcome.filed = filing.filed
        self._offices = [
            Office(
                spec.id,
                spec.zone,
                self._clients,
                filing.filed.records,
                self._position,
                joint=self.joint,
                told=lambda: self._progress.advance(office_bar),
            )
            for spec in CITY_NODES
        ]
        async with asyncio.TaskGroup() as group:
            working = [group.create_task(office.run()) for office in self._offices]
            chaos = group.create_task(self._kill())
            await self._timed("filing", filing.run())
            await chaos
            await self._finish(office_bar)
            for task in working:
                task.cancel()

    async def _admit(self) -> None:
        """Residents file no faster than the offices work, so that reports meet the events that were open in life."""
        if not await self._keeping_up():
            await until("the offices to catch up", self._keeping_up, FINISH_TIMEOUT_S, ADMIT_POLL_S)

    async def _keeping_up(self) -> bool:
        return sum(office.backlog for office in self._offices if office.node not in self._down) <= BACKLOG_MAX

    async def _finish(self, bar: TaskID) -> None:
        """Wait until each request's event was found at its node, and nothing is left to do."""
        started = time.monotonic()
        supervisor = await self._clients.staff("sf", "supervisor")
        received = ListRequestsRequest(status=REQUEST_STATUS_RECEIVED, page_size=1)

        async def done() -> bool:
            self._progress.update(bar, total=sum(office.tally.events for office in self._offices))
            answer = await ask(supervisor.requests.ListRequests, received)
            if answer.requests:
                return False
            for office in self._offices:
                await office.look()
            return all(office.idle for office in self._offices)

        await until("the offices to finish", done, FINISH_TIMEOUT_S, poll_s=0.5)
        self._progress.update(bar, completed=sum(office.tally.finished for office in self._offices))
        self.outcome.steps = sum(office.tally.steps for office in self._offices)
        self.outcome.reworked = sum(office.tally.reworked for office in self._offices)
        self.outcome.seconds["after the last filing"] = time.monotonic() - started

    async def _kill(self) -> None:
        """A district dies in the middle, with everything it runs, and comes back after more was filed for it."""
        await self._until_filed(KILL_AT)
        node, kill = self._nodes[KILLED], Kill(KILLED)
        self._down.add(KILLED)
        before, started = self._position.filed, time.monotonic()
        kill.processes = node.kill()
        self._tell(f"{KILLED}: {kill.processes} processes killed with SIGKILL")
        with suppress(GaveUp):  # then it comes back earlier: a slow machine must not make it stay away for minutes
            await self._until_filed(BACK_AT, DOWN_MAX_S)
        kill.filed_meanwhile = self._position.filed - before
        await node.start()
        kill.down_s = time.monotonic() - started
        self._down.discard(KILLED)
        self.outcome.kills.append(kill)
        self._tell(f"{KILLED} is back after {kill.down_s:.1f} s; {kill.filed_meanwhile} requests were filed meanwhile")

    async def _until_filed(self, share: float, timeout_s: float = FINISH_TIMEOUT_S) -> None:
        async def filed() -> bool:
            return self._position.share >= share

        await until(f"{share:.0%} of the requests to be filed", filed, timeout_s, SHARE_POLL_S)

    async def _beijing(self) -> None:
        node = self._nodes["beijing"]
        runtime = node.runtime()
        self.stream = AirStream(
            await self._clients.get("beijing", GATEWAY_ACCOUNT),
            await self._clients.staff("beijing", "data-steward"),
            runtime.mqtt,
            node.secrets.read("mqtt"),
        )
        bar = self._progress.add_task("readings sent", total=len(self._air.hours))
        office = Office("beijing", node.spec.zone, self._clients, {}, FilingPosition(()))
        working = asyncio.create_task(office.run())
        watching = asyncio.create_task(self._watch_air(bar))
        try:
            await self.exchange.run(self._air, self.stream)
        finally:
            watching.cancel()
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
        self._progress.update(bar, completed=len(self._air.hours))

    async def _watch_air(self, bar: TaskID) -> None:
        while self.stream is not None:
            tally = self.stream.tally
            self._progress.update(bar, completed=tally.streamed + tally.published)
            await asyncio.sleep(SHARE_POLL_S)
