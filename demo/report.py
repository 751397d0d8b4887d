"""What a run came to: the table at the terminal, and build/demo/report.json for programs."""

import json
import os
import platform
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from demo.audits import AuditResult
from demo.evidence import NodeEvidence
from demo.exchange import ROWS_ASKED
from demo.filing import Filed
from demo.generated import LABEL
from demo.job import Job
from demo.nodes import Node
from demo.people import SHOWN, Accounts
from demo.reconcile import EXCHANGE, Check, RequestCounts, ZoneLine

FLAGGED_SHOWN_MAX = 12


@dataclass(slots=True)
class Result:
    """The reconciliation and all that was counted on the way."""

    checks: list[Check]
    counts: RequestCounts
    zones: list[ZoneLine]
    audits: dict[str, AuditResult]
    evidence: dict[str, NodeEvidence] = field(repr=False)

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)


def document(result: Result, job: Job, seconds: dict[str, float], *, real: bool, full: bool) -> dict[str, Any]:
    """The report as JSON."""
    flagged = flagged_requests(result, job.outcome.filed)
    requests = {**asdict(result.counts), "flagged": len(flagged)}
    total_s = seconds["total"]
    filing_s = job.outcome.seconds.get("filing", 0.0)
    return {
        "ok": result.ok,
        "data": "real" if real else LABEL,
        "full": full,
        "requests": requests,
        "zones": [asdict(line) for line in result.zones],
        "warnings": len(result.evidence["beijing"].warnings),
        "readings": asdict(job.stream.tally) if job.stream else {},
        "contract": _contract(result, job),
        "service_items": {"found": job.hall.found, "certificate": job.hall.certificate},
        "joint_disposals": {"events": job.joint.events, "messages": job.joint.messages, "tasks": job.joint.tasks},
        "audit": {
            "entries": sum(audit.entries for audit in result.audits.values()),
            "checkpoints": sum(audit.checkpoints for audit in result.audits.values()),
            "verified": all(audit.verified for audit in result.audits.values()),
        },
        "kills": [asdict(kill) for kill in job.outcome.kills],
        "seconds": round(total_s, 1),
        "phases": {name: round(value, 1) for name, value in {**seconds, **job.outcome.seconds}.items()},
        "rates": {
            "requests_filed_per_s": round(requests["filed"] / filing_s, 1) if filing_s else None,
            "steps_taken_per_s": round(job.outcome.steps / job.outcome.seconds.get("requests", total_s), 1),
        },
        "steps": job.outcome.steps,
        "reworked": job.outcome.reworked,
        "flag_reasons": dict(Counter(code for entry in flagged for code in entry["flags"])),
        "flagged": flagged,
        "checks": [
            {"name": check.name, "expected": check.expected, "seen": check.seen, "ok": check.ok, "detail": check.detail}
            for check in result.checks
        ],
        "machine": {"processors": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
    }


def _contract(result: Result, job: Job) -> dict[str, Any]:
    provider, consumer = (
        [contract for contract in result.evidence[node].contracts if contract.kind == EXCHANGE]
        for node in ("beijing", "sf")
    )
    return {
        "name": job.exchange.contract,
        "rows_asked": ROWS_ASKED,
        "rows_sent": sum(contract.rows_sent for contract in provider),
        "rows_received": sum(contract.rows_received for contract in consumer),
        "refused": sum(contract.refused for contract in (*consumer, *provider)),
        "refusal": job.exchange.refusal,
    }


def flagged_requests(result: Result, filed: Filed) -> list[dict[str, Any]]:
    """Requests in doubt, with the reasons that the nodes gave: at the city, and at the event that stands for them."""
    events = {event.name: event for found in result.evidence.values() for event in found.own_events}
    entries = []
    for request in result.evidence["sf"].requests:
        flags = dict(request.flags)
        event = events.get(request.event)
        record = filed.records.get(request.name)
        # What is in doubt about an event may come from another of its requests, but for the order of its times.
        if event is not None and record is not None and "CLOSED_BEFORE_CREATED" in record.dirt:
            flags |= {code: reason for code, reason in event.flags if code.startswith("TIME")}
        if flags:
            entries.append({"request": request.name, "record": request.external_id, "flags": flags})
    return entries


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n")


def show(console: Console, result: Result, content: dict[str, Any]) -> None:
    """Print the reconciliation and the figures."""
    table = Table(title="Reconciliation", title_justify="left")
    for column in ("check", "expected", "seen", "", "what is wrong"):
        table.add_column(column)
    for check in result.checks:
        mark = "[green]ok[/]" if check.ok else "[red]WRONG[/]"
        table.add_row(check.name, str(check.expected), str(check.seen), mark, "" if check.ok else check.detail)
    console.print(table)
    zones = Table(title="Events by zone", title_justify="left")
    for column in ("zone", "handled by", "there", "at the district", "at the city"):
        zones.add_column(column)
    for line in result.zones:
        district = "" if line.at_district is None else str(line.at_district)
        zones.add_row(line.zone, line.node, str(line.events), district, str(line.at_city))
    console.print(zones)
    requests = content["requests"]
    console.print(
        f"[b]{requests['filed']}[/] requests filed: {requests['opened']} opened an event, {requests['merged']} merged, "
        f"{requests['flagged']} flagged, {requests['lost']} lost, {requests['doubled']} doubled"
    )
    reasons = ", ".join(f"{code} {count}" for code, count in sorted(content["flag_reasons"].items()))
    console.print(f"flags: {reasons or 'none'} (each listed with its reason in the report)")
    rates = content["rates"]
    console.print(
        f"{content['warnings']} warnings; {content['audit']['entries']} audit entries verified; "
        f"{rates['requests_filed_per_s']} requests and {rates['steps_taken_per_s']} steps per second"
    )
    phases = ", ".join(f"{name} {value} s" for name, value in content["phases"].items())
    console.print(f"durations: {phases}")


def show_accounts(console: Console, nodes: dict[str, Node], accounts: Accounts, path: Path) -> None:
    """Print where to go and as whom."""
    table = Table(title="Where to go, and as whom", title_justify="left")
    for column in ("node", "URL", "login", "password"):
        table.add_column(column, overflow="fold")
    for name, node in nodes.items():
        for index, login in enumerate(_shown(accounts.logins(name))):
            first = (name, node.url) if index == 0 else ("", "")
            table.add_row(*first, login, accounts.password(name, login))
    console.print(table)
    console.print(f"All accounts are in {path}, readable by you alone. Each URL shows the node; /docs is its API.")


def _shown(logins: Iterable[str]) -> list[str]:
    """One login for each kind of post: a newcomer wants to see what each may do, not who all there is."""
    found = []
    for post in SHOWN:
        found += sorted(login for login in logins if login == post or login.startswith(f"{post}."))[:1]
    return found
