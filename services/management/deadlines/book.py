"""The calendars of the node in the memory of one process, so that no step of an event waits for them.

A process learns of a change by another one within CHECK_INTERVAL_S (the clock task looks at the revision). What was
reckoned by an older calendar in between is found and reckoned anew by the same task, as after any change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.management.deadlines import store_calendars
from services.management.deadlines.model_calendar import ALWAYS, ALWAYS_NAME, DEFAULT
from services.management.deadlines.model_time import WorkingTime

if TYPE_CHECKING:
    from libs.db import Connection

# No calendar ever has this revision: what is held is out of date.
STALE = -1


class Calendars:
    """The present calendars, as of one revision."""

    def __init__(self) -> None:
        self.revision = STALE
        self._by_name: dict[str, WorkingTime] = {}
        self._of_organisation: dict[str, str] = {}

    def drop(self) -> None:
        """Forget what is held: the next who asks reads anew."""
        self.revision = STALE

    async def ready(self, conn: Connection) -> None:
        """See to it that calendars are held. Asks the database only when none are, or when they were dropped."""
        if self.revision == STALE:
            await self._load(conn)

    async def refresh(self, conn: Connection) -> bool:
        """Read the calendars anew if there was a change; tell whether there was."""
        if self.revision == await store_calendars.revision(conn):
            return False
        await self._load(conn)
        return True

    def named(self, name: str) -> WorkingTime:
        """Return the calendar of a name; where it is not there, the default, and without one around the clock."""
        return self._by_name.get(name) or self._by_name.get(DEFAULT) or self._by_name[ALWAYS_NAME]

    def of(self, organisation: str, otherwise: WorkingTime) -> WorkingTime:
        """Return the calendar of an organisation; `otherwise` for one that no calendar lists."""
        name = self._of_organisation.get(organisation)
        return self._by_name[name] if name else otherwise

    async def _load(self, conn: Connection) -> None:
        # The revision first: a change in between makes the next look read again, never too seldom.
        revision = await store_calendars.revision(conn)
        kept = {time.calendar: time for time in self._by_name.values()}
        calendars = [ALWAYS, *await store_calendars.list_all(conn)]
        self._by_name = {calendar.name: kept.get(calendar) or WorkingTime(calendar) for calendar in calendars}
        self._of_organisation = {
            organisation: calendar.name for calendar in calendars for organisation in calendar.organisations
        }
        self.revision = revision
