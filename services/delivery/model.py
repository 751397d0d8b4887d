"""Requests and what becomes of them: pure rules, no I/O."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import zip_longest

from libs.errors import AlreadyExists, Invalid, NotFound, Reason, WrongState
from libs.zones import Doubt, Resolution
from services.delivery import texts

NAME = "zones/{zone}/requests/{request}"

# Crockford's alphabet in capitals: nothing that is misheard on the telephone. Six characters are a billion per day.
NUMBER_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
NUMBER_CHARS = 6
# Clocks of the reporters' devices may be ahead of ours by this much.
CLOCK_SKEW_MAX = timedelta(seconds=60)
# Below this, the zone of a request is a guess, and is flagged as one (see the confidences in libs.zones).
ZONE_CONFIDENCE_MIN = 0.6


class Status(StrEnum):
    """What the reporter sees; names and order as in the proto."""

    RECEIVED = "received"
    ACCEPTED = "accepted"
    IN_PROGRESS = "in_progress"
    ANSWERED = "answered"
    CLOSED = "closed"
    REJECTED = "rejected"


_STATUS_OF_EVENT = {
    "collected": Status.ACCEPTED,
    "filed": Status.ACCEPTED,
    "dispatched": Status.IN_PROGRESS,
    "disposed": Status.IN_PROGRESS,
    "fed_back": Status.ANSWERED,
    "closed": Status.CLOSED,
    "evaluated": Status.CLOSED,
    "voided": Status.REJECTED,
}
_RATABLE = frozenset({Status.ANSWERED, Status.CLOSED})


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is, as the reporter said it. Degrees in WGS 84; None when no point was given."""

    address: str = ""
    latitude: float | None = None
    longitude: float | None = None
    zone_hint: str = ""
    neighbourhood: str = ""


@dataclass(frozen=True, slots=True)
class Component:
    """The thing that the reporter named: its type (`componentTypes/{id}`), and its own code, "" when not known."""

    type: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A request before it is kept. `place` is None for a matter of the whole city."""

    type: str
    description: str
    place: Place | None
    channel: str
    contact: str
    reported_at: datetime | None
    external_id: str
    component: Component | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request as kept, with the newest that is known of its event."""

    id: str
    number: str
    zone: str
    type: str
    description: str
    place: Place | None
    channel: str
    reporter: str
    contact: str
    external_id: str
    reported_at: datetime
    filed_at: datetime
    flags: tuple[Doubt, ...] = ()
    status: Status = Status.RECEIVED
    event: str = ""
    merged: bool = False
    event_status: str = ""
    event_revision: int = 0
    organisation: str = ""
    due_at: datetime | None = None
    answer: str = ""
    linked_at: datetime | None = None
    linked_revision: int = 0
    linked_status: str = ""
    linked_event_status: str = ""
    linked_organisation: str = ""
    linked_moves: int = 0
    rating: int = 0
    rating_comment: str = ""
    component: Component | None = None

    @property
    def name(self) -> str:
        return NAME.format(zone=self.zone, request=self.id)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an event, or one of a request as its reporter sees it. `revision` is the event's after it.

    The reason, in both languages, says why a request was moved to another event.
    """

    revision: int
    status: Status
    event_status: str
    organisation: str
    note: str
    time: datetime
    reason_zh: str = ""
    reason_en: str = ""


@dataclass(frozen=True, slots=True)
class DeadlineChange:
    """That the deadline of an event moved, with the event's `revision` and the reason in both languages."""

    revision: int
    due_before: datetime
    due_after: datetime
    reason_zh: str
    reason_en: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Deadlines:
    """What is known of the deadlines of an event besides `due_at`, which stands with its requests."""

    first_due_at: datetime | None = None
    suspended_until: datetime | None = None
    reopen_until: datetime | None = None
    changes: tuple[DeadlineChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What a fact says of an event. `due_at` None and `answer` "" mean that the fact does not speak of them."""

    event: str
    revision: int
    event_status: str
    organisation: str
    due_at: datetime | None = None
    answer: str = ""

    @property
    def status(self) -> Status:
        return status_of(self.event_status)


@dataclass(frozen=True, slots=True)
class Asked:
    """A form, in which a reporter is asked whether a request is solved, that waits for an answer."""

    follow_up: str
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Closed:
    """Requests, by name, that an event stands for, with their type and the department that handled them."""

    requests: tuple[str, ...]
    type: str
    organisation: str


@dataclass(frozen=True, slots=True)
class Link:
    """That an event stands for a request, from `time` on.

    `moves` counts how often its report had been moved by hand until then; what was moved oftener is newer. The event
    `left_event` stood for it before, until its revision `left_revision`.
    """

    request: str
    merged: bool
    time: datetime
    moves: int = 0
    left_event: str = ""
    left_revision: int = 0


@dataclass(frozen=True, slots=True)
class Stay:
    """One event that stood for a request that was moved by hand: how it was when it came to, and from when on.

    The fields are those of the table request_links.
    """

    moves: int
    event: str
    merged: bool
    time: datetime
    revision: int
    status: Status
    event_status: str
    organisation: str
    left_event: str
    left_revision: int


def check_reopenable(request: Request, deadlines: Deadlines, now: datetime) -> None:
    """Raise WrongState when a request is not closed, cannot be reopened, or could be until a while ago."""
    until = deadlines.reopen_until
    if request.status is not Status.CLOSED or until is None:
        text = f"{request.name} is {request.status} and cannot be reopened"
        raise WrongState(Reason.WRONG_STATE, text, name=request.name, status=request.status)
    if now > until:
        text = f"{request.name} could be reopened until {until.isoformat(timespec='minutes')}"
        raise WrongState(Reason.REOPEN_WINDOW_OVER, text, name=request.name, ended=until.isoformat())


def status_of(event_status: str) -> Status:
    """Return what a reporter sees of an event. Of a state of an unknown loop: that there is an event, no more."""
    return _STATUS_OF_EVENT.get(event_status, Status.ACCEPTED)


def note_of(event_status: str, answer: str, reason: str) -> str:
    """Return what the reporters are told with a step.

    Reasons are talk between departments, but who voids a request owes its reporter one.
    """
    return answer or (reason if status_of(event_status) is Status.REJECTED else "")


def number_of(node: str, day: date, choose: Callable[[str], str]) -> str:
    """Return a number to quote, "SF-20261121-7K3F9Q". `day` is the node's own; `choose` picks one character."""
    tail = "".join(choose(NUMBER_ALPHABET) for _ in range(NUMBER_CHARS))
    return f"{node.upper()}-{day:%Y%m%d}-{tail}"


def reported_at(given: datetime | None, now: datetime) -> datetime:
    """Return when it was by the reporter's word, `now` without one. Raises Invalid for a time in the future."""
    if given is not None and given > now + CLOCK_SKEW_MAX:
        raise Invalid("reportedAt", "must not be in the future")
    return min(given or now, now)


def whole_city(zone: str) -> Resolution:
    """Return the resolution of a matter without a place: nothing was given, so nothing is in doubt."""
    return Resolution(zone, 1.0, "a matter of the whole zone")


def flags_of(resolution: Resolution) -> tuple[Doubt, ...]:
    """Return the doubts about a place: those of its resolution, and that the zone rests on too little."""
    if 0 < resolution.confidence < ZONE_CONFIDENCE_MIN:
        reason = f"{resolution.reason}; confidence {resolution.confidence:g}"
        return (*resolution.flags, Doubt("ZONE_UNCERTAIN", "place", reason))
    return resolution.flags


def steps_seen(request: Request, steps: Iterable[Step]) -> Sequence[Step]:
    """Return what the reporter sees, oldest first: the filing, the event standing for it, and the steps since then.

    `steps` are those of the event in any order; those from before the link belong to earlier reporters.
    """
    seen = [Step(0, Status.RECEIVED, "", "", "", request.filed_at)]
    if request.linked_at is not None:
        status, event_status = Status(request.linked_status), request.linked_event_status
        link = Step(request.linked_revision, status, event_status, request.linked_organisation, "", request.linked_at)
        later = (step for step in steps if step.revision > request.linked_revision)
        seen += [link, *sorted(later, key=lambda step: step.revision)]
    return seen


def moves_seen(request: Request, stays: Iterable[Stay], steps: Mapping[str, Sequence[Step]]) -> Sequence[Step]:
    """Return what the reporter of a request sees that was moved by hand: as `steps_seen`, of one event after the other.

    `steps` are those of the events, in any order.
    """
    seen = [Step(0, Status.RECEIVED, "", "", "", request.filed_at)]
    in_order = sorted(stays, key=lambda stay: stay.moves)
    for stay, later in zip_longest(in_order, in_order[1:]):
        why = (texts.MERGED if stay.merged else texts.SPLIT) if stay.moves else ("", "")
        seen.append(
            Step(stay.revision, stay.status, stay.event_status, stay.organisation, "", stay.time, *why)
        )  # fmt: skip
        if later is not None and later.left_event != stay.event:
            continue  # what lies between is not known yet
        own = [
            step
            for step in steps.get(stay.event, ())
            if step.revision > stay.revision and (later is None or step.revision < later.left_revision)
        ]
        seen += sorted(own, key=lambda step: step.revision)
    return seen


def missing(name: str) -> NotFound:
    """Return the error for a request that is not there, or not for the caller to know of."""
    return NotFound(Reason.REQUEST_NOT_FOUND, f"{name} does not exist", name=name)


def check_ratable(request: Request) -> None:
    """Raise AlreadyExists when it is rated, and WrongState while nobody has answered it."""
    if request.rating:
        raise AlreadyExists(Reason.ALREADY_RATED, f"{request.name} is rated already", name=request.name)
    if request.status not in _RATABLE:
        text = f"{request.name} is {request.status}; only answered and closed requests are rated"
        raise WrongState(Reason.WRONG_STATE, text, name=request.name, status=request.status)
