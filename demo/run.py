"""A run of the demo from the first node to the reconciliation."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from demo import reconcile, report, try_it
from demo.air import Air, read_air
from demo.audits import AuditResult, verify_audit
from demo.evidence import Database, open_databases
from demo.exchange import DAYS_UNTIL_END, ROWS_ASKED
from demo.expected import complete_days
from demo.generated import LABEL
from demo.items import items_folder
from demo.job import Job
from demo.nodes import DECLARED, Node, end_leftovers, make_nodes, remove_nodes
from demo.people import Accounts, Clients
from demo.records import Record, read_records
from demo.sample import choose
from demo.settings import Settings
from demo.setup import join_all, load_all, start_all
from deploy.runtime.leftovers import AlreadyRunning, FolderLock

SETTLE_TIMEOUT_S = 180.0
SETTLE_POLL_S = 2.0
EXIT_DONE = 0
EXIT_WRONG = 1
# What a shell says of a program that SIGINT ended: it did not get to a result.
EXIT_INTERRUPTED = 130


class Demo:
    """One run; phases and their durations in seconds."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._console = console
        self.seconds: dict[str, float] = {}
        self._nodes: dict[str, Node] = {}
        self._started = time.monotonic()

    async def run(self) -> int:
        """Do everything, stay up unless told otherwise, stop everything; the exit code."""
        try:
            lock = await FolderLock.take(self._settings.build)
        except AlreadyRunning:
            self._console.print(f"[red]another demo runs in {self._settings.build}[/]")
            return EXIT_WRONG
        try:
            return await self._run_alone()
        finally:
            lock.release()

    async def _run_alone(self) -> int:
        settings = self._settings
        records = read_records(settings.data)
        air = read_air(settings.data)
        if not (records.real and air.real):
            self._console.print(f"[b yellow]{LABEL}[/]: {settings.data} does not hold the real data")
        chosen = records.rows if settings.full else choose(records.rows, settings.sample)
        self._console.print(f"{len(chosen)} of {len(records.rows)} requests, {len(air.hours)} hours of air quality")
        if settings.keep:
            end_leftovers(settings.nodes)
        else:
            remove_nodes(settings.nodes)
            settings.accounts.unlink(missing_ok=True)
        self._nodes = make_nodes(settings.nodes)
        try:
            return await self._work(chosen, air, real=records.real and air.real)
        finally:
            await self._stop()

    async def _work(self, chosen: tuple[Record, ...], air: Air, *, real: bool) -> int:
        accounts = Accounts(self._settings.accounts)
        clients = Clients(self._nodes, accounts)
        async with contextlib.aclosing(clients):
            job = await self._do(clients, accounts, chosen, air)
            with self._phase("reconciliation"):
                result = await self._settled(job, chosen, air)
            self.seconds["total"] = time.monotonic() - self._started
            content = report.document(result, job, self.seconds, real=real, full=self._settings.full)
            report.write(self._settings.report, content)
            report.show(self._console, result, content)
            report.show_accounts(self._console, self._nodes, accounts, self._settings.accounts)
        verdict = "[green]everything reconciles[/]" if result.ok else "[red]it does not reconcile[/]"
        self._console.print(f"{verdict}; report in {self._settings.report}")
        if not self._settings.once:
            self._console.print("Everything stays up until Ctrl-C.")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return EXIT_DONE if result.ok else EXIT_WRONG

    async def _do(self, clients: Clients, accounts: Accounts, chosen: tuple[Record, ...], air: Air) -> Job:
        with self._phase("start of five nodes"):
            await start_all(self._nodes, self._tell)
        with self._phase("loading"), items_folder(self._settings.data) as data:
            await load_all(self._nodes, clients, accounts, data)
        with self._phase("joining"):
            await join_all(self._nodes, clients)
        accounts.write(self._nodes)
        columns = (TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with self._phase("main job"), Progress(*columns, console=self._console) as progress:
            job = Job(self._nodes, clients, accounts, chosen, air, progress, self._tell)
            await job.run()
        accounts.write(self._nodes)
        try_it.write(self._settings.build, self._nodes, accounts, job.hall)
        return job

    async def _settled(self, job: Job, chosen: tuple[Record, ...], air: Air) -> report.Result:
        """Compare until everything agrees, as what was done last is still on its way; bounded."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        async with open_databases(self._nodes) as databases:
            while True:
                result = await self._compare(databases, job, chosen, air)
                if result.ok or time.monotonic() > deadline:
                    break
                await asyncio.sleep(SETTLE_POLL_S)
            for name, database in databases.items():
                audit = await verify_audit(self._nodes[name], database)
                result.audits[name] = audit
                result.checks.append(_audit_check(name, audit))
        return result

    async def _compare(
        self, databases: dict[str, Database], job: Job, chosen: tuple[Record, ...], air: Air
    ) -> report.Result:
        evidence = {name: await database.evidence() for name, database in databases.items()}
        request_checks, counts = reconcile.check_requests(chosen, evidence)
        zone_checks, zones = reconcile.check_zones(evidence)
        expected = complete_days(air.between(0, DAYS_UNTIL_END))
        checks = [
            *request_checks,
            *reconcile.check_places(chosen, evidence),
            *reconcile.check_statuses(chosen, evidence),
            *reconcile.check_doubts(chosen, evidence),
            *reconcile.check_joint(evidence),
            *zone_checks,
            *reconcile.check_readings(len(air.hours), evidence),
            *reconcile.check_warnings(evidence, _rules_with_events()),
            *reconcile.check_contract(expected, job.exchange.refusal, job.exchange.held, evidence, asked=ROWS_ASKED),
            *reconcile.check_queues(evidence),
            reconcile.Check("certificate verifies offline", True, job.hall.verified),
            reconcile.Check("forged certificate is refused", True, job.hall.forgery_refused),
        ]
        return report.Result(checks, counts, zones, {}, evidence)

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started
        self._tell(f"{name}: {self.seconds[name]:.1f} s")

    def _tell(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._started:6.1f} s[/]  {text}")

    async def _stop(self) -> None:
        self._console.print("stopping the nodes")
        # Children before those above them, so that nobody calls into what is going away.
        await asyncio.gather(*(node.stop() for node in reversed(self._nodes.values())))


def _rules_with_events() -> frozenset[str]:
    declared = yaml.safe_load((DECLARED / "beijing" / "rules.yaml").read_text())
    return frozenset(f"rules/{rule['id']}" for rule in declared["rules"] if rule.get("event_type"))


def _audit_check(name: str, audit: AuditResult) -> reconcile.Check:
    return reconcile.Check(
        f"audit log of {name} ({audit.entries} entries)", True, audit.verified, "; ".join(audit.faults)
    )


async def until_interrupted(work: Callable[[], Awaitable[int]]) -> int:
    """Run until done; the first SIGINT or SIGTERM ends it in order, further ones change nothing."""
    task: asyncio.Future[Any] = asyncio.ensure_future(work())
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    try:
        return int(await task)
    except asyncio.CancelledError:
        if not interrupted:
            raise
        return EXIT_INTERRUPTED
