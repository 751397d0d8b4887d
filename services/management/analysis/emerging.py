"""Emerging issues: counted, tested, put into words, and stated as facts by one replica."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from libs.duty import on_duty
from libs.errors import Away, DomainError
from quintet.management.v1 import analysis_pb2 as pb
from quintet.management.v1 import facts_pb2
from services.management.analysis import store_counts, texts
from services.management.analysis.model_gathering import gather
from services.management.analysis.model_rise import (
    EVENTS_MIN,
    FALSE_DISCOVERY_RATE,
    WEEK_H,
    Window,
    find,
    windows,
)
from services.management.analysis.places import title_pb
from services.management.convert import explanation_pb, time_pb
from services.management.deadlines.texts import moment
from services.management.model import Explanation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from quintet.common.v1 import common_pb2
    from services.management.analysis.model_gathering import Counted
    from services.management.analysis.model_rise import Cell, Findings, Rise, Windows
    from services.management.analysis.store_counts import Known

CHECK_INTERVAL_S = 3600.0
RETRY_INTERVAL_S = 60.0
ISSUES_MAX = 200
FIRST_EVENTS_MAX = 20
EXPLAINING_ZONES_MAX = 5
RULE = "analyses/emerging-issues"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a zone with those below it, a window that ends at `end`, and how sure to be."""

    zone: str
    end: datetime
    hours: int = WEEK_H
    rate: float = FALSE_DISCOVERY_RATE
    events_min: int = EVENTS_MIN


class Found(NamedTuple):
    """What was found: as figures, and as messages."""

    findings: Findings
    window: Window
    issues: list[pb.EmergingIssue]


class EmergingIssues:
    """Finds emerging issues among the events that a node knows."""

    def __init__(self, transactions: Transactions, zones: Callable[[], ZoneTree], zone: ZoneInfo) -> None:
        """`zones` gives the zones as they are at the moment of the question; `zone` is the time zone of the city."""
        self._transactions = transactions
        self._zones = zones
        self._zone = zone

    async def find(self, question: Question) -> Found:
        """Answer a question from what stands in the tables."""
        tree = self._zones()
        spans = windows(question.end, question.hours, self._zone)

        async def read(conn: Connection) -> tuple[dict[str, Known], list[Counted]]:
            known = await store_counts.types(conn)
            return known, await store_counts.count(conn, tree.codes(question.zone), spans.every())

        known, counted = await self._transactions.read(read)
        # Beside the loop: a city has many zones and types, and everybody else would wait.
        found = await asyncio.to_thread(tested, counted, spans, known, tree, question)
        issues = [self._issue(rise, found, question, spans.recent, known) for rise in found.rises[:ISSUES_MAX]]

        async def name(conn: Connection) -> list[list[str]]:
            return [
                await store_counts.names(
                    conn, store_counts.Selection(tree.codes(issue.zone), spans.recent, issue.type), FIRST_EVENTS_MAX
                )
                for issue in issues
            ]

        for issue, names in zip(issues, await self._transactions.read(name), strict=True):
            issue.first_events.extend(names)
        return Found(found, spans.recent, issues)

    def _issue(
        self, rise: Rise, findings: Findings, question: Question, window: Window, known: Mapping[str, Known]
    ) -> pb.EmergingIssue:
        zone, kind = rise.cell
        title = title_pb(kind, known)
        selection = pb.EventSelection(
            parent=f"zones/{zone}", occurred_from=time_pb(window.start), occurred_to=time_pb(window.end), type=kind
        )
        return pb.EmergingIssue(
            zone=zone,
            type=kind,
            title=title,
            observed=rise.counts.recent,
            expected=rise.expected,
            baseline=rise.counts.baseline,
            season=rise.season,
            dispersion=rise.dispersion,
            p_value=rise.p_value,
            q_value=rise.q_value,
            explained_by=rise.explained_by,
            explanation=explanation_pb(self._explanation(rise, findings, question, window, title)),
            events=selection,
        )

    def _explanation(
        self, rise: Rise, findings: Findings, question: Question, window: Window, title: common_pb2.LocalText
    ) -> Explanation:
        inputs = {
            "zone": rise.cell.zone,
            "observed": str(rise.counts.recent),
            "expected": texts.number(rise.expected),
            "windows": str(len(rise.counts.baseline)),
            "hours": str(question.hours),
            "season": texts.number(rise.season),
            "dispersion": texts.number(rise.dispersion),
            "p": texts.number(rise.p_value),
            "q": texts.number(rise.q_value),
            "tested": str(findings.tested),
            "rate": texts.number(question.rate),
        }
        starts, ends = moment(window.start, self._zone), moment(window.end, self._zone)
        names = rise.explained_by[:EXPLAINING_ZONES_MAX]
        zh_below, en_below = texts.EXPLAINED.fill(zones=", ".join(names)) if names else ("", "")
        zh = texts.RISE.zh.format(start=starts[0], end=ends[0], type=title.zh, explained=zh_below, **inputs)
        en = texts.RISE.en.format(start=starts[1], end=ends[1], type=title.en, explained=en_below, **inputs)
        return Explanation(RULE, zh, en, inputs)


class EmergingTask:
    """States what rises in the node's zone, once for as long as the window is. One replica at a time does it."""

    def __init__(self, transactions: Transactions, emerging: EmergingIssues, zone: str) -> None:
        self._transactions = transactions
        self._emerging = emerging
        self._zone = zone

    async def run(self) -> None:
        """Take a turn every CHECK_INTERVAL_S until cancelled."""
        while True:
            with suppress(Away):
                async with on_duty(self._transactions.pool, "emerging") as duty:
                    while True:
                        duty.check()
                        pause_s = CHECK_INTERVAL_S
                        try:
                            await self.turn()
                        except DomainError as error:
                            log.warning("emerging.turn_failed", error=str(error))
                            pause_s = RETRY_INTERVAL_S
                        await duty.wait(pause_s)
            await asyncio.sleep(RETRY_INTERVAL_S)

    async def turn(self) -> None:
        """Look at the week that ends with the last full hour, and state what is new."""
        question = Question(self._zone, hour_of(self._transactions.clock.now()))
        found = await self._emerging.find(question)
        for rise, issue in zip(found.findings.rises, found.issues, strict=False):
            if not rise.explained_by:
                await self._transactions.run(partial(self._state, rise.cell, issue, found.window))

    async def _state(self, cell: Cell, issue: pb.EmergingIssue, window: Window, tx: Tx) -> None:
        if not await store_counts.note_stated(tx.conn, cell, window):
            return
        fact = facts_pb2.EmergingIssueFound(
            issue=issue,
            window_start=time_pb(window.start),
            window_end=time_pb(window.end),
            node=self._transactions.node,
        )
        tx.publish(fact, zone=cell.zone, key=f"{cell.zone}/{cell.type}")


def tested(
    counted: Sequence[Counted], spans: Windows, known: Mapping[str, Known], tree: ZoneTree, question: Question
) -> Findings:
    """Gather what was counted, and test it."""

    def above(zone: str) -> list[str]:
        return [each for each in tree.path(zone) if tree.covers(question.zone, each)]

    cells, seasons = gather(counted, spans, {name: each.since for name, each in known.items()}, above)
    paths = {cell.zone: above(cell.zone)[:-1] for cell in cells}
    return find(cells, seasons, paths, rate=question.rate, events_min=question.events_min)


def hour_of(at: datetime) -> datetime:
    """Return the beginning of the hour that a moment lies in."""
    return at.replace(minute=0, second=0, microsecond=0)
