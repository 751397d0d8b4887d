"""Why an event is due when it is, in words."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from services.management.deadlines import texts
from services.management.deadlines.model_calendar import ALWAYS_NAME
from services.management.deadlines.model_exceptions import Entry, Kind
from services.management.deadlines.model_reading import minutes, working_pause
from services.management.model import Explanation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.management.deadlines.model_exceptions import Rules
    from services.management.deadlines.model_reading import Reading
    from services.management.deadlines.model_time import WorkingTime
    from services.management.model import Event


def explained(reading: Reading, event: Event, extensions: Sequence[Entry]) -> Explanation:
    """Return "due Tuesday 14:00 because ..." with the figures that it was reckoned from."""
    clock, time = reading.clock, reading.clock.time
    calendar = time.calendar
    always = calendar.name == ALWAYS_NAME
    paused = working_pause(clock, event, reading.due_at)
    pauses = ("", "")
    if paused:
        count = len(event.clocks.pauses)
        text = texts.PAUSES if count > 1 else texts.ONE_PAUSE
        pauses = texts.both(text, count=texts.plain(count), amount=texts.duration(paused))
    amount = texts.duration(timedelta(minutes=clock.allowance.minutes))
    promised = bool(event.clocks.promised_min) and reading.due_at == event.deadlines.due_at
    zh, en = texts.both(
        texts.DUE_PROMISED if promised else texts.DUE_AROUND_THE_CLOCK if always else texts.DUE,
        due=texts.moment(reading.due_at, time.zone),
        since=texts.moment(clock.since, time.zone),
        amount=amount if always else texts.both(texts.WORKING, amount=amount),
        calendar=(calendar.title_zh or calendar.name, calendar.title_en or calendar.name),
        version=texts.plain(calendar.version),
        skipped=texts.skipped(reading.skipped),
        pauses=pauses,
        extensions=_extensions(extensions),
    )
    inputs = {
        "since": clock.since.isoformat(),
        "due_at": reading.due_at.isoformat(),
        "allowance_min": str(clock.allowance.minutes),
        "calendar": calendar.name,
        "calendar_version": str(calendar.version),
        "extended_min": str(clock.extended_min),
        "paused_min": str(minutes(paused)),
        "type_version": str(event.type_version),
    }
    return Explanation(event.type, zh, en, inputs)


def _extensions(entries: Sequence[Entry]) -> tuple[str, str]:
    parts = [
        texts.both(
            texts.EXTENDED,
            amount=texts.duration(timedelta(minutes=entry.minutes)),
            by=texts.plain(entry.decided_by),
        )
        for entry in entries
    ]
    return "".join(zh for zh, _ in parts), "".join(en for _, en in parts)


def change_explained(entry: Entry, event: Event, rules: Rules) -> Explanation | None:
    """Return what an entry did to the deadline, for everybody who waits; None when it did nothing.

    It says nothing of the reason given: that is talk between departments.
    """
    if entry.due_before is None or entry.due_after is None or entry.due_before == entry.due_after:
        return None
    time = rules.calendars.named(rules.type.calendar)
    zh, en = texts.both(
        texts.CHANGED,
        before=texts.moment(entry.due_before, time.zone),
        after=texts.moment(entry.due_after, time.zone),
        cause=_cause(entry, time),
    )
    inputs = {
        "due_before": entry.due_before.isoformat(),
        "due_after": entry.due_after.isoformat(),
        "calendar": event.clocks.calendar,
        "calendar_version": str(event.clocks.calendar_version),
    }
    return Explanation(entry.name, zh, en, inputs)


def _cause(entry: Entry, time: WorkingTime) -> tuple[str, str]:
    match entry.kind:
        case Kind.EXTENSION:
            return texts.both(texts.BY_EXTENSION, amount=texts.duration(timedelta(minutes=entry.minutes)))
        case Kind.SUSPENSION:
            until = texts.moment(entry.until, time.zone) if entry.until else ("", "")
            return texts.both(texts.BY_SUSPENSION, until=until)
        case Kind.RESUMPTION:
            return texts.both(texts.BY_RESUMPTION)
        case Kind.REOPEN:
            return texts.both(texts.BY_REOPENING)
        case _:
            calendar = time.calendar
            title = calendar.title_zh or calendar.name, calendar.title_en or calendar.name
            return texts.both(texts.BY_CALENDAR, calendar=title, version=texts.plain(calendar.version))
