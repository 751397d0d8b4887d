"""Calendars and versions of types in the memory of one process, so that no step of an event waits for them.

A version of a type never changes. The calendars do: this process learns of its own changes at once, and of those by
others within clockwork.CHECK_INTERVAL_S. What was reckoned by an older calendar in between is found and reckoned anew
by the clock task, as after any change.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from services.management import store_types
from services.management.deadlines import store_calendars
from services.management.deadlines.model_calendar import ALWAYS_NAME
from services.management.deadlines.model_clocks import (
    AROUND_THE_CLOCK,
    EVERY_HOUR,
    CalendarSet,
    reckoned,
    step_reckoned,
    stepped,
)
from services.management.deadlines.model_time import WorkingTime
from services.management.model_report import unknown_type

if TYPE_CHECKING:
    from libs.db import Connection
    from services.management.model import Event, EventType
    from services.management.model_loop import Loop

# No set of calendars ever has this revision: what is held is out of date.
STALE = -1
TYPES_KEPT_MAX = 2_000


class Book:
    """What deadlines go by, as this process knows it."""

    def __init__(self) -> None:
        self.revision = STALE
        self._calendars = EVERY_HOUR
        self._types: OrderedDict[tuple[str, int], EventType] = OrderedDict()

    def drop_calendars(self) -> None:
        """Forget the calendars: the next who asks reads them anew."""
        self.revision = STALE

    async def calendars(self, conn: Connection) -> CalendarSet:
        """Return the calendars. Asks the database only when none are held, or when they were dropped."""
        if self.revision == STALE:
            await self._load(conn)
        return self._calendars

    async def refresh(self, conn: Connection) -> bool:
        """Read the calendars anew if there was a change; tell whether there was."""
        if self.revision == await store_calendars.revision(conn):
            return False
        await self._load(conn)
        return True

    async def version(self, conn: Connection, name: str, version: int) -> WorkingTime:
        """Return a calendar in the version by which something was reckoned."""
        present = (await self.calendars(conn)).named(name)
        if (present.calendar.name, present.calendar.version) == (name, version) or name == ALWAYS_NAME:
            return present if name != ALWAYS_NAME else AROUND_THE_CLOCK
        found = await store_calendars.get(conn, name, version)
        return WorkingTime(found) if found else present

    async def type_of(self, conn: Connection, event: Event) -> EventType:
        """Return the type of an event in the version with which it was opened."""
        if not event.type_version:
            return unknown_type(event.type, event.loop)
        key = (event.type, event.type_version)
        found = self._types.get(key) or await store_types.get_version(conn, *key)
        if found is None:
            return unknown_type(event.type, event.loop)
        self.keep(found)
        return found

    def keep(self, event_type: EventType) -> None:
        """Hold a version that was read anyway."""
        if event_type.version:
            self._types[event_type.name, event_type.version] = event_type
            if len(self._types) > TYPES_KEPT_MAX:
                self._types.popitem(last=False)

    async def opened(self, conn: Connection, event: Event) -> Event:
        """Return a new event of this node with its deadlines."""
        return reckoned(event, await self.type_of(conn, event), await self.calendars(conn))

    async def advanced(self, conn: Connection, before: Event, after: Event, loop: Loop) -> Event:
        """Return an event of this node after a step of its loop, with the deadline of the step that it came to."""
        event_type, calendars = await self.type_of(conn, after), await self.calendars(conn)
        return step_reckoned(stepped(before, after, event_type, loop), event_type, calendars)

    async def handed(self, conn: Connection, event: Event) -> Event:
        """Return an event of this node that another organisation has from now on, in the middle of its step."""
        return step_reckoned(event, await self.type_of(conn, event), await self.calendars(conn))

    async def _load(self, conn: Connection) -> None:
        # The revision first: a change in between makes the next look read again, never too seldom.
        revision = await store_calendars.revision(conn)
        calendars = await store_calendars.list_all(conn)
        by_name = {ALWAYS_NAME: AROUND_THE_CLOCK}
        for calendar in calendars:
            held = self._calendars.by_name.get(calendar.name)
            by_name[calendar.name] = held if held and held.calendar == calendar else WorkingTime(calendar)
        of_organisation = {name: calendar.name for calendar in calendars for name in calendar.organisations}
        self._calendars = CalendarSet(by_name, of_organisation)
        self.revision = revision
