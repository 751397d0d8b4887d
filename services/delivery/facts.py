"""What delivery consumes: management's word on the events that stand for requests, own and peers' alike.

Each handler may run twice for a fact and in any order: see services/delivery/events_store.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import structlog

from quintet.management.v1.facts_pb2 import (
    EventAdvanced,
    EventOpened,
    ExceptionChanged,
    FollowUpFinished,
    FollowUpsAsked,
    ReportMerged,
)
from services.delivery import deadlines_store, events_store, follow_ups_store, messages
from services.delivery.messages import time_of
from services.delivery.model import DeadlineChange, Deadlines, Link, Report, Status, note_of, status_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from google.protobuf.message import Message

    from libs.inbox import Handler
    from libs.tx import Tx
    from quintet.fact.v1.fact_pb2 import Fact
    from quintet.management.v1.management_pb2 import Deadlines as EventDeadlines
    from quintet.management.v1.management_pb2 import Event

log = structlog.get_logger()


def handlers() -> Mapping[type[Message], Handler]:
    return {
        EventOpened: event_opened,
        ReportMerged: report_merged,
        EventAdvanced: event_advanced,
        ExceptionChanged: exception_changed,
        FollowUpsAsked: follow_ups_asked,
        FollowUpFinished: follow_up_finished,
    }


async def event_opened(tx: Tx, fact: Fact, message: Message) -> None:
    """Note the event, and tie the request for which it was opened to it."""
    opened = cast(EventOpened, message)
    event = opened.event
    report = Report(
        event=event.name,
        revision=event.revision,
        event_status=event.status,
        organisation=event.organisation,
        due_at=time_of(event.due_at) if event.HasField("due_at") else None,
        answer=event.answer,
    )
    await deadlines_store.note(tx.conn, event.name, event.revision, _deadlines(event))
    await _take(tx, report, _link(fact, opened, merged=False))


async def report_merged(tx: Tx, fact: Fact, message: Message) -> None:
    """Tie a further request to an event that is there already."""
    merged = cast(ReportMerged, message)
    report = Report(
        event=merged.event,
        revision=merged.revision,
        event_status=merged.status,
        organisation=merged.organisation,
        due_at=time_of(merged.due_at) if merged.HasField("due_at") else None,
    )
    await _take(tx, report, _link(fact, merged, merged=True))


async def event_advanced(tx: Tx, fact: Fact, message: Message) -> None:
    """Note a step, for all requests that the event stands for."""
    advanced = cast(EventAdvanced, message)
    note = note_of(advanced.status, advanced.answer, advanced.step.reason)
    before = getattr(advanced.step, "from")  # a keyword in Python
    due = advanced.deadlines
    due_at = time_of(due.due_at) if due.HasField("due_at") else None
    report = Report(advanced.event, advanced.revision, advanced.status, advanced.organisation, due_at, note)
    at = advanced.step.occurred_at if advanced.step.HasField("occurred_at") else fact.time
    deadlines = _deadlines(due) if advanced.HasField("deadlines") else None
    # What leaves the event where it was, such as an escalation, is no step to who waits for it.
    seen = bool(note) or before != advanced.status
    await events_store.advance(tx.conn, report, note, time_of(at), deadlines, seen=seen)
    if report.status is Status.CLOSED and status_of(before) is not Status.CLOSED:
        await _state_closed(tx, advanced, advanced.zone or fact.zone)


async def _state_closed(tx: Tx, advanced: EventAdvanced, zone: str) -> None:
    """State that requests of this node were closed with an answer, unless the event has moved on since."""
    closed = await follow_ups_store.closed(tx.conn, advanced.event)
    if closed is not None:
        told = messages.closed(closed, advanced.event, advanced.revision, zone, tx.now)
        tx.publish(told, zone=zone, key=advanced.event)


async def follow_ups_asked(tx: Tx, fact: Fact, message: Message) -> None:
    """Keep which reporters are asked whether their requests are solved."""
    if not fact.received_from:
        asked = cast(FollowUpsAsked, message)
        asks = [(ask.follow_up, ask.request) for ask in asked.asks]
        await follow_ups_store.ask(tx.conn, asks, time_of(asked.asked_at))


async def follow_up_finished(tx: Tx, fact: Fact, message: Message) -> None:
    """Wait for no answer any more: a person has asked, or nobody has in time, or the event was reopened."""
    if not fact.received_from:
        await follow_ups_store.end(tx.conn, cast(FollowUpFinished, message).follow_up, tx.now)


async def exception_changed(tx: Tx, fact: Fact, message: Message) -> None:
    """Keep why the deadline of an event moved; other entries of the ledger are not the reporters' affair."""
    entry = cast(ExceptionChanged, message).exception
    if not entry.HasField("explanation") or not entry.HasField("due_before") or not entry.HasField("due_after"):
        return
    change = DeadlineChange(
        revision=entry.revision,
        due_before=time_of(entry.due_before),
        due_after=time_of(entry.due_after),
        reason_zh=entry.explanation.text.zh,
        reason_en=entry.explanation.text.en,
        time=time_of(entry.decided_at if entry.HasField("decided_at") else fact.time),
    )
    await deadlines_store.add_change(tx.conn, entry.event, entry.name, change)


def _deadlines(message: Event | EventDeadlines) -> Deadlines:
    def time(field: Literal["first_due_at", "suspended_until", "reopen_until"]) -> datetime | None:
        return time_of(getattr(message, field)) if message.HasField(field) else None

    return Deadlines(time("first_due_at"), time("suspended_until"), time("reopen_until"))


def _link(fact: Fact, message: EventOpened | ReportMerged, *, merged: bool) -> Link:
    return Link(
        message.request, merged, time_of(fact.time), message.moves, message.from_event, message.from_revision
    )  # fmt: skip


async def _take(tx: Tx, report: Report, link: Link) -> None:
    await events_store.note(tx.conn, report)
    if not link.request:
        return
    if link.moves:
        await events_store.keep_present(tx.conn, link.request)
    tied = await events_store.link(tx.conn, link, report)
    if link.moves or tied.moves:
        await events_store.keep_link(tx.conn, link, report)
    if tied.event and tied.event != report.event and tied.moves == link.moves:
        # Two nodes, or one node twice, took the same request for their own. The first to say so keeps it.
        log.error("delivery.request_linked_twice", request=link.request, kept=tied.event, refused=report.event)
