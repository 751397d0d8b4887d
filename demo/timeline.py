"""When things happen in the demo: the recorded times decide, counted by how far the filing has come. Pure."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from demo.records import Record

AFTER_ALL = datetime.max.replace(tzinfo=UTC)


class FilingPosition:
    """How far the filing has come: all requests created before `time` are filed. Filings may finish out of order."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._created = [record.created for record in records]
        self._done = [False] * len(records)
        self._first = 0
        self.filed = 0

    def filed_at(self, index: int) -> None:
        """Note that the request at this place of the order is filed. Repeating it changes nothing."""
        if not self._done[index]:
            self._done[index] = True
            self.filed += 1
        while self._first < len(self._done) and self._done[self._first]:
            self._first += 1

    @property
    def time(self) -> datetime:
        """Up to when the recorded past has happened; the end of time once everything is filed."""
        return self._created[self._first] if self._first < len(self._created) else AFTER_ALL

    @property
    def share(self) -> float:
        """The share of requests filed, 0 to 1."""
        return self.filed / len(self._done) if self._done else 1.0


def due(records: Iterable[Record]) -> datetime | None:
    """When an event that stands for these requests is closed: when the last of them was. None while one is open.

    A record that was closed before it was created happened at its creation at the earliest.
    """
    times: list[datetime] = []
    for record in records:
        if record.closed is None:
            return None
        times.append(max(record.closed, record.created))
    return max(times) if times else None


def recorded_closing(records: Iterable[Record]) -> datetime | None:
    """The closing time as recorded, also where it lies before the creation: what the node is told. None for none."""
    times = [record.closed for record in records if record.closed is not None]
    return max(times) if times else None


# The next action in each status of the seven-step loop, and the post that takes it.
STEPS = {
    "collected": ("file", "duty-officer"),
    "filed": ("dispatch", "dispatcher"),
    "dispatched": ("dispose", "handler"),
    "disposed": ("feed_back", "handler"),
    "fed_back": ("verify", "verifier"),
    "closed": ("evaluate", "supervisor"),
}
# These wait until the recorded closing times have passed.
WAITING_STATUS = "dispatched"
# In these a request may still join the event, so that it must be looked at again.
CHECKED_STATUSES = frozenset({"dispatched", "fed_back"})
