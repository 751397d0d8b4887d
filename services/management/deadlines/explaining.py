"""Why an event is due when it is, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.management.deadlines import texts
from services.management.deadlines.model_calendar import ALWAYS_NAME
from services.management.deadlines.model_reading import minutes, working_pause
from services.management.model import Explanation

if TYPE_CHECKING:
    from services.management.deadlines.model_reading import Reading
    from services.management.model import Event


def explained(reading: Reading, event: Event) -> Explanation:
    """Return "due Tuesday 14:00 because ..." with the figures that it was reckoned from."""
    clock, time = reading.clock, reading.clock.time
    calendar = time.calendar
    always = calendar.name == ALWAYS_NAME
    paused = working_pause(clock, event, reading.due_at)
    pauses = ("", "")
    if paused:
        count = texts.plain(len(event.clocks.pauses))
        pauses = texts.both(texts.PAUSES, count=count, amount=texts.duration(paused))
    amount = texts.duration(clock.amount)
    zh, en = texts.both(
        texts.DUE_AROUND_THE_CLOCK if always else texts.DUE,
        due=texts.moment(reading.due_at, time.zone),
        since=texts.moment(clock.since, time.zone),
        amount=amount if always else texts.both(texts.WORKING, amount=amount),
        calendar=(calendar.title_zh or calendar.name, calendar.title_en or calendar.name),
        version=texts.plain(calendar.version),
        skipped=texts.skipped(reading.skipped),
        pauses=pauses,
        extensions=("", ""),
    )
    inputs = {
        "since": clock.since.isoformat(),
        "due_at": reading.due_at.isoformat(),
        "allowance_min": str(clock.allowance.minutes),
        "calendar": calendar.name,
        "calendar_version": str(calendar.version),
        "paused_min": str(minutes(paused)),
        "type_version": str(event.type_version),
    }
    return Explanation(event.type, zh, en, inputs)
